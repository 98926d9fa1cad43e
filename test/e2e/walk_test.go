//go:build e2e

package e2e

import (
	"context"
	"flag"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"baremetal.cloud/ccm/pkg/reason"
	"baremetal.cloud/ccm/test/e2e/testbed"
)

var rewriteWalk = flag.Bool("rewrite", false, "write what an operator is told into testdata/walk instead of comparing it")

// walkPatience bounds how long one situation takes to be told: the grace for new Services
// without endpoints is the longest.
const walkPatience = 50 * time.Second

// situation is something that an operator comes upon. What kubectl describe and the logs at
// default verbosity tell of it is a golden file; wrong, why and cure are in that file and mark
// which object it is about, why in names and numbers, and what to do.
type situation struct {
	name string
	// objects are described, as kubectl describe names them.
	objects []string
	// said is waited for in what they show, and logged in the log.
	said, logged string
	// wrong, why and cure are in the golden file; cure is "" where there is nothing to do.
	wrong, why, cure string
	// play brings it about, before anything is waited for, and undo ends it.
	play, undo func(*walk)
}

// walk is an operator's walk through one testbed.
type walk struct {
	*witness
	config string
	// base is the first of the node network's addresses that pools have.
	base netip.Addr
	// before are the lines of nodes and the ConfigMap that were there before the situation.
	before map[string]map[string]bool
	// logs are how many lines each log had.
	logs map[string]int
}

// TestFault_K6_Walk is the operator's walk: each situation is told on the object that is wrong,
// with names and numbers and what to do.
func TestFault_K6_Walk(t *testing.T) {
	w := &walk{witness: up(t, testbed.Options{Nodes: 3, Proxy: "nftables", Mgmt: "lan", Routers: true}).witness()}
	w.startsShort()
	w.prepare()
	all := slices.Concat(refusedSituations(), announcedSituations(), nodeSituations(), clusterSituations())
	for _, s := range all {
		if s.play != nil && s.undo == nil {
			s.play(w) // these stand beside each other
		}
	}
	for _, s := range all {
		t.Run(s.name, func(t *testing.T) { w.with(t).meets(s) })
	}
}

func (w *walk) with(t *testing.T) *walk {
	again := *w
	again.witness = w.witness.with(t)
	return &again
}

// startsShort checks that a start writes less than 40 lines and no flags (K6.2).
func (w *walk) startsShort() {
	w.Helper()
	logs, err := filepath.Glob(filepath.Join(w.c.Logs(), system+"_baremetal-ccm-*.log"))
	require.NoError(w, err)
	require.Len(w, logs, 2)
	for _, log := range logs {
		text, err := os.ReadFile(log)
		require.NoError(w, err)
		require.Less(w, strings.Count(string(text), "\n"), 40, "%s:\n%s", log, text)
		require.NotContains(w, string(text), "FLAG")
		require.NotContains(w, string(text), "--leader-elect")
	}
}

// prepare adds the pools that the situations need.
func (w *walk) prepare() {
	w.Helper()
	node := w.c.Address("node1").V4.As4()
	node[3] = 200
	w.base = netip.AddrFrom4(node)
	pool := func(name string, first, last int, rest string) string {
		return fmt.Sprintf("- {name: %s, addresses: [%s-%s], autoAssign: false%s}\n", name, plus(w.base, first), plus(w.base, last), rest)
	}
	pools := "pools:\n" + pool("tiny", 0, 0, "") +
		pool("zoned", 1, 1, ", l2: [{nodeSelectors: [{matchLabels: {zone: z9}}]}]") +
		pool("bonded", 2, 2, ", l2: [{interface: bond7}]") +
		pool("second", 3, 3, ", l2: [{nodeSelectors: [{matchLabels: {kubernetes.io/hostname: node2}}]}]") +
		pool("third", 4, 4, ", l2: [{nodeSelectors: [{matchLabels: {kubernetes.io/hostname: node3}}]}]") +
		pool("contested", 5, 5, "") + pool("drained", 6, 6, "") + pool("unhealthy", 7, 7, "") +
		"- {name: frr-only, addresses: [203.0.113.0/29], autoAssign: false, bgp: [{peers: [frr]}]}\n" +
		fmt.Sprintf("- {name: own, addresses: [%s-%s], autoAssign: false}\n", w.c.Address("node1").V4, plus(w.c.Address("node1").V4, 19))
	asks("clash-a", map[string]string{sharingKey: "c"})(w) // clearly the older one
	w.address("clash-a")
	w.editConfig(func(text string) string {
		w.config = strings.Replace(text, "pools:\n", pools, 1) + "nodeHealth: {unwellAfter: 1s, drainOnCordon: true}\n"
		return w.config
	})
	w.configured(func(t require.TestingT, text string) { require.Equal(t, w.config, text) })
}

// asks creates a Service with annotations.
func asks(name string, annotations map[string]string, more ...func(*corev1.Service)) func(*walk) {
	return func(w *walk) {
		w.Helper()
		w.create(name, func(svc *corev1.Service) {
			svc.Annotations = annotations
			for _, change := range more {
				change(svc)
			}
		})
	}
}

const (
	poolKey    = "baremetal.cloud/pool"
	addressKey = "baremetal.cloud/addresses"
	sharingKey = "baremetal.cloud/sharing-key"
)

// in returns the annotation for a pool.
func in(pool string) map[string]string { return map[string]string{poolKey: pool} }

// port has a Service another port.
func port(n int32) func(*corev1.Service) {
	return func(svc *corev1.Service) { svc.Spec.Ports[0].Port = n }
}

func refusedSituations() []situation {
	return []situation{
		{"01-exhausted", []string{"service/exhausted"}, "PoolExhausted", "", "Name: exhausted", `pool "tiny" has no free IPv4 address`, "free one, or add addresses to the pool",
			func(w *walk) { asks("tiny", in("tiny"))(w); w.address("tiny"); asks("exhausted", in("tiny"))(w) }, nil},
		{"02-unknown-pool", []string{"service/unknown"}, "PoolUnknown", "", "Name: unknown", `there is no pool "nowhere"`, "correct baremetal.cloud/pool",
			asks("unknown", in("nowhere")), nil},
		{"03-typo", []string{"service/typo"}, "AnnotationUnknown", "", "Name: typo", "baremetal.cloud/adresses is no annotation that is read", "did you mean baremetal.cloud/addresses?",
			asks("typo", map[string]string{"baremetal.cloud/adresses": "192.0.2.1"}), nil},
		{"04-bad-address", []string{"service/bad"}, "RequestInvalid", "", "Name: bad", `"192.0.2.300" is not an IP address`, "correct the annotation",
			asks("bad", map[string]string{addressKey: "192.0.2.300"}), nil},
		{"05-outside-pools", []string{"service/outside"}, "AddressOutsidePools", "", "Name: outside", "is in no pool", "add this one to a pool",
			asks("outside", map[string]string{addressKey: "192.0.2.7"}), nil},
		{"06-in-use", []string{"service/second"}, "AddressInUse", "", "Name: second", "is held by Service default/first", "share it by baremetal.cloud/sharing-key",
			func(w *walk) {
				asks("first", nil)(w)
				asks("second", map[string]string{addressKey: w.address("first").String()})(w)
			}, nil},
		{"07-shared", []string{"service/shared-a", "service/shared-b"}, "Announced", "", "Name: shared-b", "from pool default", "",
			func(w *walk) {
				asks("shared-a", map[string]string{sharingKey: "k"})(w)
				w.address("shared-a")
				asks("shared-b", map[string]string{sharingKey: "k"}, port(81))(w)
			}, nil},
		{"08-clash", []string{"service/clash-b"}, "SharingClash", "", "Name: clash-b", "clashes with Service default/clash-a", "undo the edit",
			func(w *walk) {
				older := w.get("clash-a").CreationTimestamp.Unix() // whole seconds decide
				w.until(func() bool { return time.Now().Unix() > older }, "clash-a is no second old")
				asks("clash-b", map[string]string{sharingKey: "c"}, port(81))(w)
				w.address("clash-b")
				w.change("clash-b", port(80))
			}, nil},
		{"19-other-class", []string{"service/other"}, "example.com/lb", "", "Name: other", "Class: example.com/lb", "",
			asks("other", nil, func(svc *corev1.Service) { class := "example.com/lb"; svc.Spec.LoadBalancerClass = &class }), nil},
		{"20-node-address", []string{"service/own"}, "AddressQuarantined", "", "Name: own", "node node1", "take it out of the pool",
			func(w *walk) { asks("own", map[string]string{addressKey: w.c.Address("node1").V4.String()})(w) }, nil},
	}
}

func announcedSituations() []situation {
	return []situation{
		{"09-no-endpoints", []string{"service/empty"}, "NoEndpoints", "", "Name: empty", "the Service has no usable endpoint", "start Pods that match the selector",
			asks("empty", nil, func(svc *corev1.Service) { svc.Spec.Selector = map[string]string{"app": "nothing"} }), nil},
		{"10-no-local-endpoints", []string{"service/local"}, "NoLocalEndpoints", "", "Name: local", "node node2 has no usable endpoint", "run its Pods on nodes of the pool",
			asks("local", in("second"), func(svc *corev1.Service) {
				svc.Spec.ExternalTrafficPolicy = corev1.ServiceExternalTrafficPolicyLocal
				svc.Spec.Selector = map[string]string{"app": "web", "node": "node1"}
			}), nil},
		{"11-node-not-selected", []string{"service/zoned"}, "NoEligibleNode", "", "Name: zoned", "3 nodes (node1, node2, node3) do not match nodeSelector zone=z9", "correct l2, bgp or nodeSelectors of the pool",
			asks("zoned", in("zoned")), nil},
		{"12-no-interface", []string{"service/bonded"}, "NoEligibleNode", "", "Name: bonded", "no interface bond7 on 3 nodes (node1, node2, node3)", "correct l2, bgp or nodeSelectors of the pool",
			asks("bonded", in("bonded")), nil},
	}
}

func nodeSituations() []situation {
	frr := func(command string) func(*walk) {
		return func(w *walk) {
			w.Helper()
			_, err := w.c.FRR(w.Context(), "configure terminal", fmt.Sprintf("router bgp %d", testbed.FRRASN), command)
			require.NoError(w, err)
		}
	}
	kubectl := func(args ...string) func(*walk) {
		return func(w *walk) {
			w.Helper()
			_, err := w.c.Kubectl(w.Context(), args...)
			require.NoError(w, err)
		}
	}
	return []situation{
		{"13-no-announcer", []string{"service/third"}, "NoEligibleNode", "", "Name: third", "no announcer of node node3 is connected to the leader", "or the nodes",
			func(w *walk) { w.stop("announcer:node3"); asks("third", in("third"))(w) },
			func(w *walk) { w.start("announcer:node3"); w.told("third", "Announced", "node node3 answers for") }},
		{"14-peer-down", []string{"service/routed", "node/node1"}, "NoBGPSession", "BGP session lost", "Name: routed", "3 of 3 BGP sessions of 3 nodes (node1, node2, node3) do not carry it: lost 3", "see the router",
			func(w *walk) {
				asks("routed", in("frr-only"))(w)
				w.eventually(func(t *assert.CollectT) { // each node has its session
					c := meta.FindStatusCondition(w.get("routed").Status.Conditions, "baremetal.cloud/Announced")
					require.NotNil(t, c)
					require.Contains(t, c.Message, "announced by BGP from 3 nodes (node1, node2, node3)")
				})
				frr("neighbor nodes shutdown")(w)
			}, func(*walk) {}},
		{"15-peer-back", []string{"service/routed", "node/node1"}, "BGPSessionEstablished", `BGP session established" peer=frr `, "Name: routed", "the BGP session to frr is established again", "",
			func(w *walk) {
				frr("no neighbor nodes shutdown")(w)
				w.says("routed", "baremetal.cloud/Announced", "Announced")
			}, func(*walk) {}},
		{"16-cordon", []string{"service/drained"}, "NodeCordoned", "address moved", "Name: drained", "NodeCordoned: it is cordoned", "",
			func(w *walk) {
				asks("drained", in("drained"))(w)
				kubectl("cordon", w.nodeOf(w.addressOwner(w.address("drained"))))(w)
			}, kubectl("uncordon", "node1", "node2", "node3")},
		{"17-kube-proxy-dead", []string{"service/unhealthy"}, "KubeProxyUnhealthy", "kube-proxy of this node does not work", "Name: unhealthy", "KubeProxyUnhealthy: its kube-proxy does not work", "",
			func(w *walk) {
				asks("unhealthy", in("unhealthy"))(w)
				node := w.nodeOf(w.addressOwner(w.address("unhealthy")))
				w.stop("kube-proxy:" + node)
			},
			func(w *walk) {
				for _, node := range w.nodes() {
					_ = w.c.Start(w.Context(), "kube-proxy:"+node)
				}
			}},
		{"18-foreign-machine", []string{"service/contested"}, "AddressConflict", "another machine", "Name: contested", "another machine on the network uses", "some clients may reach that one",
			func(w *walk) {
				asks("contested", in("contested"))(w)
				address := w.address("contested")
				w.says("contested", "baremetal.cloud/Announced", "Announced")
				w.lab.has("add", address)
				require.NoError(w, w.c.Claim(w.Context(), address))
			},
			func(w *walk) { w.lab.has("del", w.published("contested")) }},
	}
}

func clusterSituations() []situation {
	configMap := []string{"configmap/baremetal-cloud-config"}
	return []situation{
		{"21-config-refused", configMap, "CloudConfigRefused", "cloud-config refused", "Name: baremetal-cloud-config", "the last good one stays in use", "did you mean pools",
			func(w *walk) { w.configure(strings.Replace(w.config, "pools:", "pool:", 1)) }, func(*walk) {}},
		{"22-config-accepted", configMap, "CloudConfigAccepted", "cloud-config in use", "Name: baremetal-cloud-config", "in use: pools 12, BGP peers 4, sha256", "",
			func(w *walk) { w.configure(w.config + "# mended\n") }, func(*walk) {}},
		{"23-no-dns", nil, "", "cannot find the replicas of baremetal-ccm", "baremetal-ccm.baremetal-ccm.svc", "lookup baremetal-ccm.baremetal-ccm.svc", "",
			func(w *walk) { w.announcerWithoutDNS() }, func(*walk) {}},
		{"25-status-contested", []string{"service/rewritten"}, "StatusContested", "another controller rewrites", "Name: rewritten", `field manager "other-lb"`, "have that controller leave this Service alone",
			func(w *walk) { w.rewritesStatus() }, func(*walk) {}},
		{"24-leader-change", []string{"service/first"}, "Announced", "this replica leads", "Name: first", "this replica leads", "",
			func(w *walk) {
				before := w.leader("")
				node := w.nodeOfReplica(before)
				w.stop("ccm:" + node)
				w.leader(before)
				w.start("ccm:" + node)
			}, func(*walk) {}},
	}
}

// rewritesStatus plays another controller, which puts its own address into the status as often as
// ours is put back, until it is told of.
func (w *walk) rewritesStatus() {
	w.Helper()
	asks("rewritten", nil)(w)
	ours := w.address("rewritten")
	services := w.client.CoreV1().Services("default")
	theirs := []byte(`{"status":{"loadBalancer":{"ingress":[{"ip":"192.0.2.99"}]}}}`)
	for range 3 {
		w.eventually(func(t *assert.CollectT) { require.Equal(t, ours, w.published("rewritten")) })
		_, err := services.Patch(w.Context(), "rewritten", types.MergePatchType, theirs, metav1.PatchOptions{FieldManager: "other-lb"}, "status")
		require.NoError(w, err)
	}
}

// announcerWithoutDNS runs an announcer whose replicas have a name that is not resolved, for as
// long as it takes to write so.
func (w *walk) announcerWithoutDNS() {
	w.Helper()
	log := filepath.Join(w.c.Logs(), system+"_no-dns_baremetal-announcer.log")
	dir := w.TempDir()
	trusted, err := w.client.CoreV1().ConfigMaps(system).Get(w.Context(), "baremetal-ccm-ca", metav1.GetOptions{})
	require.NoError(w, err)
	for name, text := range map[string]string{"ca.crt": trusted.Data["ca.crt"], "token": "x"} {
		require.NoError(w, os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600))
	}
	resolv, err := os.ReadFile("/etc/resolv.conf")
	require.NoError(w, err)
	for _, found := range nameserverText.FindAllStringSubmatch(string(resolv), -1) {
		server := netip.MustParseAddr(found[1])
		if server.IsLoopback() {
			continue // nothing answers there on the client
		}
		_, err := w.c.In(w.Context(), "client", "ip", "route", "replace", "unreachable", server.String()) // or each look-up takes ten seconds
		require.NoError(w, err)
		defer func() { _, _ = w.c.In(w.Context(), "client", "ip", "route", "del", "unreachable", server.String()) }()
	}
	ctx, end := context.WithTimeout(w.Context(), 5*time.Second)
	defer end()
	out, _ := w.c.In(ctx, "client", w.c.Binary("baremetal-announcer"), "--node=node3", "--realtime=false",
		"--controllers=baremetal-ccm.baremetal-ccm.svc:10270", "--ca-file="+filepath.Join(dir, "ca.crt"), "--token-file="+filepath.Join(dir, "token"))
	require.NoError(w, os.WriteFile(log, []byte(out), 0o600))
}

// meets plays a situation and compares what is told of it with its golden file.
func (w *walk) meets(s situation) {
	w.Helper()
	w.before, w.logs = map[string]map[string]bool{}, map[string]int{}
	if s.undo != nil {
		w.remember(s)
		s.play(w)
		defer s.undo(w)
	}
	var got string
	require.EventuallyWithT(w, func(t *assert.CollectT) {
		got = w.tells(t, s)
		require.Contains(t, got, s.said)
		require.Contains(t, got, s.why)
		if s.logged != "" {
			require.Contains(t, got[strings.Index(got, "$ logs"):], s.logged)
		}
	}, walkPatience, pause, "%s", s.name)
	golden := filepath.Join("testdata", "walk", s.name+".txt")
	if *rewriteWalk {
		require.NoError(w, os.MkdirAll(filepath.Dir(golden), 0o755))
		require.NoError(w, os.WriteFile(golden, []byte(got), 0o644))
	}
	want, err := os.ReadFile(golden)
	require.NoError(w, err)
	require.Equal(w, string(want), got)
	for what, text := range map[string]string{"the object that is wrong": s.wrong, "why": s.why, "what to do": s.cure} {
		require.Contains(w, string(want), text, what)
	}
	readable(w, string(want))
}

// readable checks that a text has no Reason in place of words, no empty reason and no UID.
func readable(t require.TestingT, text string) {
	require.NotRegexp(t, `[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}`, text, "a UID")
	require.NotRegexp(t, `reason=(""|\s|$)|: :|\(\)`, text, "an empty reason")
	for _, e := range reason.Table() {
		if e.Scope != reason.ScopeNode {
			continue
		}
		// A Reason of a node stands with its words, NodeDown: …, or as the value of a log line's key.
		bare := regexp.MustCompile(`(^|[^=])\b` + string(e.Reason) + `\b([^:]|$)`)
		require.NotRegexp(t, bare, text, "a code without its count")
	}
}

// remember notes what was there before a situation.
func (w *walk) remember(s situation) {
	w.Helper()
	for _, object := range s.objects {
		w.before[object] = map[string]bool{}
		if strings.HasPrefix(object, "service/") {
			continue
		}
		for _, line := range eventLines(w.describe(w, object)) {
			w.before[object][line] = true
		}
	}
	for _, log := range w.logFiles() {
		text, _ := os.ReadFile(log)
		w.logs[log] = strings.Count(string(text), "\n")
	}
}

func (w *walk) logFiles() []string {
	logs, _ := filepath.Glob(filepath.Join(w.c.Logs(), system+"_*.log"))
	return logs
}

func (w *walk) describe(t require.TestingT, object string) string {
	args := []string{"describe"}
	if strings.HasPrefix(object, "configmap/") {
		args = append(args, "-n", system)
	}
	kind, name, _ := strings.Cut(object, "/")
	out, err := w.c.Kubectl(w.Context(), append(args, kind, name)...)
	require.NoError(t, err)
	return out
}

// tells returns what is told of a situation, without what differs from run to run.
func (w *walk) tells(t require.TestingT, s situation) string {
	var b strings.Builder
	for _, object := range s.objects {
		fmt.Fprintf(&b, "$ kubectl describe %s\n", strings.Replace(object, "/", " ", 1))
		text := w.describe(t, object)
		for _, line := range fieldLines(object, text) {
			b.WriteString(line + "\n")
		}
		if name, ok := strings.CutPrefix(object, "service/"); ok { // kubectl describe does not show it
			if class := w.get(name).Spec.LoadBalancerClass; class != nil {
				fmt.Fprintf(&b, "Class: %s\n", *class)
			}
		}
		b.WriteString("Events:\n")
		for _, line := range eventLines(text) {
			if !w.before[object][line] {
				b.WriteString("  " + line + "\n")
			}
		}
	}
	b.WriteString("$ logs\n")
	for _, line := range w.logLines(s) {
		b.WriteString(line + "\n")
	}
	return w.normal(s, b.String())
}

var columns = regexp.MustCompile(` {2,}`)

// fieldLines returns what kubectl describe shows of an object beside its Events, as far as it
// is the same in each run.
func fieldLines(object, text string) (out []string) {
	above, _, _ := strings.Cut(text, "\nEvents:")
	for line := range strings.Lines(above) {
		key, value, ok := strings.Cut(line, ":")
		switch key {
		case "Name", "Namespace", "Annotations", "LoadBalancer Class", "LoadBalancer Ingress", "External Traffic Policy":
			if ok && (strings.HasPrefix(object, "service/") || key == "Name") {
				out = append(out, key+": "+strings.TrimSpace(value))
			}
		}
	}
	return out
}

// eventLines returns our Events of what kubectl describe shows, once each.
func eventLines(text string) []string {
	_, events, _ := strings.Cut(text, "\nEvents:")
	var out []string
	for line := range strings.Lines(events) {
		parts := columns.Split(strings.TrimSpace(line), 5)
		if len(parts) == 5 && parts[3] == "baremetal-ccm" {
			out = append(out, strings.Join([]string{parts[0], parts[1], parts[4]}, "  "))
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// logLines returns the lines that name the Service or what is waited for, once each.
func (w *walk) logLines(s situation) []string {
	var out []string
	for _, log := range w.logFiles() {
		text, _ := os.ReadFile(log)
		for i, line := range strings.Split(string(text), "\n") {
			_, line, _ = strings.Cut(line, " ") // its time
			if i < w.logs[log] || line == "" || strings.Contains(line, "error processing service") {
				continue // the last is what the stock service controller makes of a refusal
			}
			named := slices.ContainsFunc(s.objects, func(object string) bool {
				name, ok := strings.CutPrefix(object, "service/")
				return ok && regexp.MustCompile(`default/`+name+`\b`).MatchString(line)
			})
			if (named && s.undo == nil) || s.logged != "" && strings.Contains(line, s.logged) {
				out = append(out, line)
			}
		}
	}
	return out
}

var (
	ipv4Text = regexp.MustCompile(`\b\d{1,3}(\.\d{1,3}){3}\b(/32)?`)
	macText  = regexp.MustCompile(`\b[0-9a-f]{2}(:[0-9a-f]{2}){5}\b`)
	hashText = regexp.MustCompile(`\b[0-9a-f]{64}\b`)
	nodeText = regexp.MustCompile(`\bnode[123]\b`)
	// announcedText tells of the node that answers, which is another one in each run.
	announcedText  = regexp.MustCompile(`Normal  Announced .*`)
	planText       = regexp.MustCompile(`\(plan [0-9.]+\)`)
	routedText     = regexp.MustCompile(`announced by BGP from [^:]*:`)
	nameserverText = regexp.MustCompile(`(?m)^nameserver\s+([0-9a-f.:]+)`)
	lookupText     = regexp.MustCompile(`(lookup [a-z.-]+)[^"]*`)
	numberText     = regexp.MustCompile(`(resourceVersion|term|routes)=\d+`)
)

// normal replaces what differs from run to run, and sorts the Events and lines of each part.
func (w *walk) normal(s situation, text string) string {
	addresses := map[string]string{}
	text = ipv4Text.ReplaceAllStringFunc(text, func(found string) string {
		if strings.HasPrefix(found, "192.0.2.") {
			return found // what the situation wrote itself
		}
		if addresses[found] == "" {
			addresses[found] = fmt.Sprintf("ADDRESS%d", len(addresses)+1)
		}
		return addresses[found]
	})
	text = macText.ReplaceAllString(text, "MAC")
	text = hashText.ReplaceAllString(text, "SHA256")
	text = planText.ReplaceAllString(text, "(plan N)")
	text = lookupText.ReplaceAllString(text, "$1 …")
	text = numberText.ReplaceAllString(text, "$1=N")
	text = routedText.ReplaceAllString(text, "announced by BGP from NODES:")
	text = announcedText.ReplaceAllStringFunc(text, func(line string) string { return nodeText.ReplaceAllString(line, "NODE") })
	if !strings.Contains(s.why, "node1") && !strings.Contains(s.why, "node2") && !strings.Contains(s.why, "node3") {
		text = nodeText.ReplaceAllStringFunc(text, func(string) string { return "NODE" })
	}
	var out []string
	var part []string
	flush := func() {
		slices.Sort(part)
		out = append(out, slices.Compact(part)...)
		part = nil
	}
	for line := range strings.Lines(text) {
		line = strings.TrimRight(line, "\n")
		if strings.HasPrefix(line, "$ ") || line == "Events:" {
			flush()
			out = append(out, line)
			continue
		}
		part = append(part, line)
	}
	flush()
	return strings.Join(out, "\n") + "\n"
}
