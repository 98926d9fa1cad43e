//go:build e2e

package e2e

import (
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"baremetal.cloud/ccm/test/e2e/testbed"
)

// internalPeer makes BIRD an internal peer, which hears LOCAL_PREF, and resets nothing but
// the sessions to it.
func (b bgp) internalPeer(addresses []netip.Addr) {
	b.Helper()
	before := b.establishments()
	from, to := fmt.Sprintf("local as %d;", testbed.BIRDASN), fmt.Sprintf("local as %d;", testbed.NodeASN)
	// To internal peers BIRD has BFD over several hops, which needs an address of its own.
	there := strings.NewReplacer(from, to, "bfd on;", "bfd off;")
	back := strings.NewReplacer(to, from, "bfd off;", "bfd on;")
	require.NoError(b, b.c.ConfigureBIRD(b.Context(), there.Replace))
	internal := strings.ReplaceAll(b.config, fmt.Sprintf("peerASN: %d", testbed.BIRDASN), fmt.Sprintf("peerASN: %d", testbed.NodeASN))
	b.configure(strings.Replace(internal, "  bgp: [{}]\n", "  bgp: [{localPref: 250}]\n", 1))
	for _, address := range addresses {
		prefix := netip.PrefixFrom(address, address.BitLen())
		b.eventually(func(t *assert.CollectT) {
			require.Equal(t, 3, strings.Count(b.birdRoute(prefix), "BGP.local_pref: 250"))
		}, "what BIRD heard of %s", prefix)
		for _, p := range b.frrPaths(prefix) {
			require.Zero(b, p.localPref, "FRR is no internal peer")
		}
	}
	// BIRD looks for the next hops of internal peers in a table that has no direct routes here.
	b.routed(addresses, []string{"frr"}, b.nodes()...)
	b.goOnWith("frr ", before)
	require.NoError(b, b.c.ConfigureBIRD(b.Context(), back.Replace))
	b.configure(b.config)
	b.established(b.nodes(), allPeers...)
	b.routed(addresses, bothRouters, b.nodes()...)
}

// refused is R7: a cloud-config that cannot work is refused with position and cure, and what
// was announced stays announced.
func (b bgp) refused() {
	addresses := b.service("kept", nil)
	b.routed(addresses, bothRouters, b.nodes()...)
	before := b.establishments()
	for advertisements, cure := range map[string]string{
		"[{aggregationLength: 16, aggregationLengthV6: 128}]":                    "give a longer prefix",
		"[{localPref: 100, peers: [frr]}, {localPref: 200, peers: [frr, bird]}]": "give both the same",
		"[{communities: [no-exprot]}]":                                           "did you mean no-export?",
		"[{peers: [fr]}]":                                                        "did you mean frr?",
	} {
		b.lab.configure(strings.Replace(b.config, "  bgp: [{}]\n", "  bgp: "+advertisements+"\n", 1))
		b.eventually(func(t *assert.CollectT) {
			events, err := b.client.CoreV1().Events(system).List(b.Context(), metav1.ListOptions{FieldSelector: "reason=CloudConfigRefused"})
			require.NoError(t, err)
			require.True(t, slices.ContainsFunc(events.Items, func(e corev1.Event) bool {
				return strings.Contains(e.Message, cure) && strings.Contains(e.Message, ".bgp[")
			}), "no Event says %q", cure)
		})
	}
	b.routed(addresses, bothRouters, b.nodes()...)
	b.goOn(before)
	b.configure(b.config)
	b.delete("kept")
}

// learnsNothing is R8: what a router announces reaches no table of a node, also where it is
// the node's own prefix with a better preference; and one that floods is named, and has its session.
func (b bgp) learnsNothing() {
	addresses := b.service("own", nil)
	b.routed(addresses, bothRouters, b.nodes()...)
	tables := func(node string) string {
		v4, err := b.c.In(b.Context(), node, "ip", "-4", "route", "show", "table", "all")
		require.NoError(b, err)
		v6, err := b.c.In(b.Context(), node, "ip", "-6", "route", "show", "table", "all")
		require.NoError(b, err)
		return v4 + v6
	}
	before := tables("node1")
	announce := func(prefixes ...string) func(string) string {
		return func(config string) string {
			config, _, _ = strings.Cut(config, "# added\n")
			config = strings.ReplaceAll(config, "export where source = RTS_STATIC;", "export none;")
			if len(prefixes) == 0 {
				return config
			}
			var b strings.Builder
			b.WriteString(strings.ReplaceAll(config, "import all; export none;", "import all; export where source = RTS_STATIC;"))
			b.WriteString("# added\nprotocol static flood { ipv4 { preference 1; }; \n")
			for _, p := range prefixes {
				fmt.Fprintf(&b, "route %s blackhole;\n", p)
			}
			b.WriteString("}\n")
			return b.String()
		}
	}
	require.NoError(b, b.c.ConfigureBIRD(b.Context(), announce("10.99.0.0/16", addresses[0].String()+"/32")))
	b.eventually(func(t *assert.CollectT) {
		require.Contains(t, b.metrics("node1"), "baremetal_announcer_bgp_routes_received{peer=\"bird\"} 1\n")
	}, "the router's routes are counted")
	require.Equal(b, before, tables("node1"))
	b.routed(addresses[1:], bothRouters, b.nodes()...)
	b.prefixRouted(netip.PrefixFrom(addresses[0], 32), []string{"frr"}, b.nodes()...)

	var flood []string
	for i := range 10001 {
		flood = append(flood, fmt.Sprintf("10.%d.%d.0/24", 100+i/256, i%256))
	}
	require.NoError(b, b.c.ConfigureBIRD(b.Context(), announce(flood...)))
	for _, node := range b.nodes() { // BIRD itself may be silent for a while, so busy is it.
		b.problem(node, "bird", "TooManyRoutes")
	}
	b.told("node1", "TooManyRoutes", "the BGP session to bird: the router has sent more than 10000 routes, none of which is used")
	require.Equal(b, before, tables("node1"))
	b.established(b.nodes(), allPeers...)
	require.NoError(b, b.c.ConfigureBIRD(b.Context(), announce()))
	b.routed(addresses, bothRouters, b.nodes()...)
	b.delete("own")
}

// badPeers is R9: each is named, and the others go on.
func (b bgp) badPeers() {
	addresses := b.service("well", nil)
	b.routed(addresses, bothRouters, b.nodes()...)
	_, err := b.c.FRR(b.Context(), "configure terminal", fmt.Sprintf("router bgp %d", testbed.FRRASN), "neighbor nodes password right")
	require.NoError(b, err)
	secret := func(password string) {
		_, err := b.client.CoreV1().Secrets(system).Create(b.Context(), &corev1.Secret{
			ObjectMeta: metav1.ObjectMeta{Name: "baremetal-bgp-passwords"}, StringData: map[string]string{"frr": password},
		}, metav1.CreateOptions{})
		if err != nil {
			secret, err := b.client.CoreV1().Secrets(system).Get(b.Context(), "baremetal-bgp-passwords", metav1.GetOptions{})
			require.NoError(b, err)
			secret.Data["frr"] = []byte(password)
			_, err = b.client.CoreV1().Secrets(system).Update(b.Context(), secret, metav1.UpdateOptions{})
			require.NoError(b, err)
		}
	}
	// The client closes what connects to it, and is silent on another port.
	silent, err := b.c.Listen("client", "0.0.0.0:1790")
	require.NoError(b, err)
	defer silent.Close()
	bad := strings.Replace(b.config, "name: frr,", "name: frr, passwordFile: frr,", 1)
	wrong := strings.LastIndex(bad, fmt.Sprintf("peerASN: %d", testbed.BIRDASN)) // of bird-v6
	bad = bad[:wrong] + strings.Replace(bad[wrong:], fmt.Sprint(testbed.BIRDASN), "65001", 1)
	b.lab.configure(strings.Replace(bad, "\n  peers:\n", "\n  peers:\n"+fmt.Sprintf(`  - {name: closed, address: %s, port: 1791, localASN: 64512, peerASN: 65001, connectRetryTime: 1s}
  - {name: silent, address: %[1]s, port: 1790, localASN: 64512, peerASN: 65001, connectRetryTime: 1s, holdTime: 3s}
`, b.c.Address("client").V4), 1))
	b.problem("node1", "bird-v6", "NotificationSent")
	b.problem("node1", "frr", "PasswordMissing")
	secret("wrong")
	b.problem("node1", "frr", "PeerUnreachable")
	b.problem("node1", "closed", "PeerUnreachable")
	b.eventually(func(t *assert.CollectT) {
		require.Contains(t, b.metrics("node1"), "baremetal_announcer_bgp_session{peer=\"silent\",state=\"opensent\"} 1\n")
	}, "a peer that says nothing")
	b.established(b.nodes(), "frr-v6", "bird")
	b.routed(addresses[:1], []string{"bird"}, b.nodes()...)
	b.routed(addresses[1:], []string{"frr"}, b.nodes()...)
	secret("right")
	b.established(b.nodes(), "frr", "frr-v6", "bird")
	b.routed(addresses[:1], bothRouters, b.nodes()...)
	_, err = b.c.FRR(b.Context(), "configure terminal", fmt.Sprintf("router bgp %d", testbed.FRRASN), "no neighbor nodes password")
	require.NoError(b, err)
	b.configure(b.config)
	b.established(b.nodes(), allPeers...)
	b.delete("well")
}

// restart is R10: an announcer that is killed, and one that is asked to end, change no route,
// and no request fails.
func (b bgp) restart() {
	addresses := b.service("restart", nil)
	b.routed(addresses, bothRouters, b.nodes()...)
	b.served(addresses)
	b.through("frr", addresses[0])
	b.through("bird", addresses[1])
	s := b.stream(addresses)
	held := b.holds(addresses, bothRouters, b.nodes()...)
	b.stop("announcer:node1")
	b.start("announcer:node1")
	b.established([]string{"node1"}, allPeers...)
	held()
	s.end(b.lab)
	b.delete("restart")
}

// holds watches the routes of addresses; the function that it returns ends that, and fails
// where routers had them ever by other nodes.
func (b bgp) holds(addresses []netip.Addr, routers []string, nodes ...string) (end func()) {
	b.Helper()
	ended, broken := make(chan struct{}), make(chan string, 1)
	go func() {
		defer close(broken)
		for {
			for _, router := range routers {
				for _, address := range addresses {
					prefix := netip.PrefixFrom(address, address.BitLen())
					got, err := b.nextHops(router, prefix)
					if want := b.hopsOf(prefix, nodes); err != nil || !slices.Equal(got, want) {
						broken <- fmt.Sprintf("%s holds %s by %v, not by %v (%v)", router, address, got, want, err)
						return
					}
				}
			}
			select {
			case <-ended:
				return
			case <-time.After(pause):
			}
		}
	}()
	return func() {
		b.Helper()
		close(ended)
		require.Empty(b, <-broken)
	}
}

// processEnds: the process that speaks BGP is killed, as a panic would end it. Routers keep
// the routes, and the announcer goes on.
func (b bgp) processEnds() {
	addresses := b.service("panic", nil)
	b.routed(addresses, bothRouters, b.nodes()...)
	held := b.holds(addresses, bothRouters, b.nodes()...)
	require.NoError(b, syscall.Kill(b.speakerPID("node1"), syscall.SIGKILL))
	b.eventually(func(t *assert.CollectT) {
		require.Contains(t, b.metrics("node1"), "baremetal_announcer_bgp_process_failures_total 1\n")
	})
	b.established([]string{"node1"}, allPeers...)
	held()
	b.eventually(func(t *assert.CollectT) {
		events, err := b.client.CoreV1().Events("").List(b.Context(), metav1.ListOptions{FieldSelector: "involvedObject.kind=Node,involvedObject.name=node1"})
		require.NoError(t, err)
		var told []string
		for _, e := range events.Items {
			told = append(told, e.Reason)
		}
		require.Contains(t, told, "BGPSessionLost")
		require.Contains(t, told, "BGPSessionEstablished")
	}, "Events on the Node")
	b.delete("panic")
}

// speakerPID returns the process of a node that speaks BGP.
func (b bgp) speakerPID(node string) int {
	b.Helper()
	out, err := exec.CommandContext(b.Context(), "ip", "netns", "pids", b.c.NetNS(node)).Output()
	require.NoError(b, err)
	for pid := range strings.FieldsSeq(string(out)) {
		command, _ := os.ReadFile(filepath.Join("/proc", pid, "cmdline")) // it may have ended
		if strings.HasSuffix(string(command), "\x00bgp-speaker\x00") {
			n, err := strconv.Atoi(pid)
			require.NoError(b, err)
			return n
		}
	}
	require.Fail(b, "no process speaks BGP on "+node)
	return 0
}

// leaves is R2: without graceful restart an announcer that ends withdraws its routes.
func (b bgp) leaves() {
	addresses := b.service("leaves", nil)
	b.configure(strings.ReplaceAll(b.config, ", gracefulRestart: {}", ""))
	b.established(b.nodes(), allPeers...)
	b.routed(addresses, bothRouters, b.nodes()...)
	b.stop("announcer:node2")
	b.routed(addresses, bothRouters, "node1", "node3")
	b.start("announcer:node2")
	b.routed(addresses, bothRouters, b.nodes()...)
	b.configure(b.config)
	b.established(b.nodes(), allPeers...)
	b.delete("leaves")
}

// nodeByNode is K5.3: without graceful restart another hold time takes away the routes of one node at a
// time, after an Event on the Node. Another time of KEEPALIVEs ends no session.
func (b bgp) nodeByNode() {
	addresses := b.service("turns", nil)
	plain := strings.ReplaceAll(b.config, ", gracefulRestart: {}", "")
	b.configure(plain)
	b.established(b.nodes(), allPeers...)
	b.routed(addresses, bothRouters, b.nodes()...)
	before := b.establishments()
	b.configure(strings.ReplaceAll(plain, "holdTime: 9s", "holdTime: 9s, keepaliveTime: 2s"))
	b.goOn(before)

	few := b.fewest(addresses)
	b.configure(strings.ReplaceAll(plain, "holdTime: 9s", "holdTime: 12s"))
	b.established(b.nodes(), allPeers...)
	b.routed(addresses, bothRouters, b.nodes()...)
	for route, hops := range few() {
		require.Len(b, hops, 2, "%s was by that many nodes at least", route)
	}
	for _, node := range b.nodes() {
		b.told(node, "BGPSessionRestarting", "BGP sessions end and begin anew, as holdTime changed, to bird, bird-v6, frr, frr-v6")
	}
	b.configure(b.config)
	b.established(b.nodes(), allPeers...)
	b.delete("turns")
}

// fewest watches the routes of addresses; the function that it returns ends that, and returns by
// how few next hops each router had each of them meanwhile.
func (b bgp) fewest(addresses []netip.Addr) (end func() map[string][]string) {
	b.Helper()
	ended, result := make(chan struct{}), make(chan map[string][]string)
	go func() {
		least := map[string][]string{}
		for {
			for _, router := range bothRouters {
				for _, address := range addresses {
					route := router + " " + address.String()
					hops, err := b.nextHops(router, netip.PrefixFrom(address, address.BitLen()))
					if have, ok := least[route]; err == nil && (!ok || len(hops) < len(have)) {
						least[route] = hops
					}
				}
			}
			select {
			case <-ended:
				result <- least
				return
			case <-time.After(pause):
			}
		}
	}()
	return func() map[string][]string {
		close(ended)
		return <-result
	}
}

// silentNode is R10: the routes of a node that is not heard any more go when the hold time
// is over, where no graceful restart is asked for, and come back with it.
func (b bgp) silentNode() {
	addresses := b.service("silent", nil)
	b.configure(strings.ReplaceAll(strings.ReplaceAll(b.config, ", gracefulRestart: {}", ""), "holdTime: 9s", "holdTime: 3s"))
	b.established(b.nodes(), allPeers...)
	b.routed(addresses, bothRouters, b.nodes()...)
	require.NoError(b, b.c.Cut(b.Context(), "node3", testbed.Silent))
	began := time.Now()
	b.routed(addresses, bothRouters, "node1", "node2")
	b.Logf("routes by the node that was cut off were gone after %s with a hold time of 3s", time.Since(began).Round(100*time.Millisecond))
	require.NoError(b, b.c.Heal(b.Context(), "node3"))
	b.routed(addresses, bothRouters, b.nodes()...)
	b.configure(b.config)
	b.established(b.nodes(), allPeers...)
	b.delete("silent")
}

// onceServed is R11: a node announces an address once its kube-proxy serves it, and one whose
// kube-proxy does not work announces nothing while others can.
func (b bgp) onceServed() {
	b.configure(b.config + "nodeHealth: {unwellAfter: 3s}\n")
	before := b.service("before", nil)
	b.routed(before, bothRouters, b.nodes()...)
	b.stop("kube-proxy:node2")
	local := b.service("local", func(svc *corev1.Service) { svc.Spec.ExternalTrafficPolicy = corev1.ServiceExternalTrafficPolicyLocal })
	b.routed(local, bothRouters, "node1", "node3")
	b.routed(before, bothRouters, "node1", "node3")
	b.start("kube-proxy:node2")
	b.routed(append(local, before...), bothRouters, b.nodes()...)
	b.through("node2", local[0])

	for _, node := range b.nodes() {
		b.stop("kube-proxy:" + node)
	}
	b.eventually(func(t *assert.CollectT) {
		for _, node := range b.nodes() {
			require.True(t, strings.Contains(b.metrics(node), "baremetal_announcer_kube_proxy_unhealthy 1\n"), node)
		}
	})
	b.routed(append(local, before...), bothRouters, b.nodes()...)
	for _, node := range b.nodes() {
		b.start("kube-proxy:" + node)
	}
	b.configure(b.config)
	b.delete("before")
	b.delete("local")
}

// controlPlaneGone: what is announced stays announced without CCM and API server, also when an
// announcer restarts meanwhile.
func (b bgp) controlPlaneGone() {
	addresses := b.service("alone", nil)
	b.routed(addresses, bothRouters, b.nodes()...)
	b.stop("ccm")
	b.stop("apiserver")
	held := b.holds(addresses, bothRouters, b.nodes()...)
	for _, router := range bothRouters {
		b.through(router, addresses[0])
	}
	b.stop("announcer:node1")
	b.start("announcer:node1")
	b.established([]string{"node1"}, allPeers...)
	held()
	b.start("apiserver")
	b.start("ccm")
	b.leader("")
	b.routed(addresses, bothRouters, b.nodes()...)
	b.delete("alone")
}
