//go:build e2e

package e2e

import (
	"context"
	"math"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"baremetal.cloud/ccm/pkg/announcer/control"
	"baremetal.cloud/ccm/pkg/announcer/plan"
	"baremetal.cloud/ccm/pkg/announcer/planfile"
	"baremetal.cloud/ccm/test/e2e/observer"
	"baremetal.cloud/ccm/test/e2e/testbed/netns"
)

const (
	// untold is for how long a node that does not tell what it claims may hold up others
	// (docs/security.md, "Bounds").
	untold = 2 * time.Second
	// lieInterval is the time between two reports of a hostile announcer.
	lieInterval = 200 * time.Millisecond
)

// hostile is the effect of an announcer that lies: it answers for nothing, and no other node
// ends to answer, or begins to, because of it. Where another one dies meanwhile, one that hears
// the liar may wait for what that claims.
func hostile(_ *chaos, node string) observer.Effect {
	return observer.Effect{Out: []string{node}, Stays: true, Slower: untold, Recovery: recovery}
}

// lie has the announcer of a node end and another program take its place, which has its token
// and its keys: it claims all addresses under lists that there are not, says that it hears
// others and that it does not, and reports that all is wrong.
func (c *chaos) lie(node string) func() {
	c.Helper()
	// That the announcer ends moves addresses by itself.
	begun, ended := c.observer.Begin("its announcer ends, "+node, observer.Effect{Out: []string{node}, Recovery: settling})
	c.stop("announcer:" + node)
	begun()
	time.Sleep(2 * settling)
	ended()
	time.Sleep(settling)

	l := c.newLiar(node)
	ctx, cancel := context.WithCancel(c.Context())
	var running sync.WaitGroup
	running.Go(func() { assert.NoError(c, l.heartbeats(ctx)) })
	running.Go(func() { assert.NoError(c, l.client.Run(ctx)) })
	running.Go(func() { l.reports(ctx) })
	return func() {
		cancel()
		running.Wait()
		c.observer.Note("    the liar on %s sent %d heartbeats, heard %d, and got %d plans", node, l.sent.Load(), l.opened.Load(), l.plans.Load())
		c.start("announcer:" + node)
	}
}

// lieAsAnotherDies has another node be lost while an announcer lies. Of two nodes none would be left.
func (c *chaos) lieAsAnotherDies(node string) func() {
	c.Helper()
	others, kind := c.others(node), seconds[c.random.IntN(len(seconds))]
	other, delay := others[c.random.IntN(len(others))], c.draw(2*time.Second)
	heal := c.lie(node)
	if len(others) < 2 {
		return heal
	}
	time.Sleep(delay)
	end := c.inject(c.kindCalled(kind), other)
	return func() {
		end()
		heal()
	}
}

// newLiar returns a liar in place of the announcer of node, with its last plan and its credentials.
func (c *chaos) newLiar(node string) *liar {
	c.Helper()
	data, err := os.ReadFile(c.c.HostPath(node, planFile))
	require.NoError(c, err)
	kept, err := planfile.Decode(data)
	require.NoError(c, err)
	n, ok := c.c.Layout().Node(node)
	require.True(c, ok)
	l := &liar{
		node: n, mac: c.c.NodeMAC(node), addresses: slices.SortedFunc(slices.Values(c.addresses), netip.Addr.Compare), others: c.others(node),
		random: rand.New(rand.NewPCG(c.seed, uint64(c.rounds))),
		boot:   c.random.Uint64() | 1,
	}
	l.plan.Store(&kept.Plan)
	var replicas []string
	for _, name := range []string{"node1", "node2"} {
		replicas = append(replicas, netip.AddrPortFrom(c.c.Address(name).V4, controlPort).String())
	}
	dir := c.TempDir()
	l.client = control.NewClient(control.ClientOptions{
		Node: node, Software: "liar", Controllers: replicas, ServerName: "baremetal-ccm",
		CAFile: filepath.Join(dir, "ca"), TokenFile: filepath.Join(dir, "token"),
		Dial: func(ctx context.Context, address string) (net.Conn, error) {
			return netns.Dialer(n.NetNS)(ctx, "tcp", address)
		},
		OnPlan: func(_ string, set plan.NodePlan) {
			l.plans.Add(1)
			l.plan.Store(&set)
		},
	})
	require.NoError(c, os.WriteFile(filepath.Join(dir, "ca"), []byte(c.authority()), 0o600))
	require.NoError(c, os.WriteFile(filepath.Join(dir, "token"), []byte(c.tokenOf(node)), 0o600))
	l.client.SetReport(l.report())
	return l
}

// others returns all nodes but one.
func (c *chaos) others(node string) []string {
	return slices.DeleteFunc(slices.Clone(c.nodes()), func(n string) bool { return n == node })
}

// authority returns the certificates by which announcers know replicas.
func (c *chaos) authority() string {
	c.Helper()
	config, err := c.client.CoreV1().ConfigMaps(system).Get(c.Context(), "baremetal-ccm-ca", metav1.GetOptions{})
	require.NoError(c, err)
	return config.Data["ca.crt"]
}

// tokenOf returns a token of the announcer's Pod on a node.
func (c *chaos) tokenOf(node string) string {
	c.Helper()
	var pod *corev1.Pod
	c.eventually(func(t *assert.CollectT) {
		pods, err := c.client.CoreV1().Pods(system).List(c.Context(), metav1.ListOptions{
			LabelSelector: "app.kubernetes.io/name=baremetal-announcer", FieldSelector: "spec.nodeName=" + node,
		})
		require.NoError(t, err)
		require.Len(t, pods.Items, 1)
		pod = &pods.Items[0]
	})
	seconds := int64(3600)
	answer, err := c.client.CoreV1().ServiceAccounts(system).CreateToken(c.Context(), "baremetal-announcer", &authenticationv1.TokenRequest{
		Spec: authenticationv1.TokenRequestSpec{
			Audiences: []string{"baremetal.cloud/announcer"}, ExpirationSeconds: &seconds,
			BoundObjectRef: &authenticationv1.BoundObjectReference{APIVersion: "v1", Kind: "Pod", Name: pod.Name, UID: pod.UID},
		},
	}, metav1.CreateOptions{})
	require.NoError(c, err)
	return answer.Status.Token
}

// reports tells replicas something new again and again, until ctx ends.
func (l *liar) reports(ctx context.Context) {
	for ctx.Err() == nil {
		l.client.SetReport(l.report())
		select {
		case <-time.After(lieInterval):
		case <-ctx.Done():
		}
	}
}

// report makes up a report: some of all that a node can say about itself and others.
func (l *liar) report() plan.Report {
	l.mu.Lock()
	defer l.mu.Unlock()
	nodePlan := l.plan.Load()
	r := plan.Report{Plan: nodePlan.Version, Highest: nodePlan.Version, Cluster: nodePlan.Cluster, Interfaces: []plan.Interface{l.port()}}
	if l.chance() {
		var claims []plan.Claim
		for _, a := range l.addresses {
			claims = append(claims, plan.Claim{Address: a, Version: l.far()})
		}
		r.Claims = plan.NewIndex(claims...)
	}
	if l.chance() {
		r.Down = l.others
	}
	if l.chance() {
		r.Highest, r.Implausible = l.far(), l.far()
	}
	r.Unhealthy = l.chance()
	for i, a := range l.addresses {
		if l.chance() {
			r.Problems = append(r.Problems, plan.Problem{Address: a, Reason: "AddressIsLocal", Message: "it is mine"})
		}
		if l.chance() {
			r.Findings = append(r.Findings, plan.Finding{Address: a, MAC: observer.Forged(i).String(), Interface: "eth0", Since: time.Now().Unix()})
		}
	}
	return r
}

// port is its interface on the LAN, on which it says to have all addresses of Services.
func (l *liar) port() plan.Interface {
	v4, v6 := netip.PrefixFrom(l.node.LAN.V4, 24), netip.PrefixFrom(l.node.LAN.V6, 64)
	p := plan.Interface{Name: "eth0", MAC: l.mac, Prefixes: []netip.Prefix{v4, v6}}
	for _, prefix := range p.Prefixes {
		p.Destinations = append(p.Destinations, plan.Destination{Prefix: prefix.Masked(), OnLink: true})
	}
	for _, a := range l.addresses {
		if l.chance() {
			p.Prefixes = append(p.Prefixes, netip.PrefixFrom(a, a.BitLen()))
		}
	}
	return p
}

// far returns a stamp of a list that there is not: of the next revision, of the next term, of
// one that a leader may believe, or the highest there is.
func (l *liar) far() plan.Version {
	now := l.plan.Load().Version
	switch l.random.IntN(4) {
	case 0:
		return plan.Version{Term: now.Term, Revision: now.Revision + 1 + l.random.Uint64N(100)}
	case 1:
		return plan.Version{Term: now.Term + 1, Revision: 1}
	case 2:
		return plan.Version{Term: now.Term + 1<<18, Revision: 1}
	}
	return plan.Version{Term: math.MaxUint64, Revision: math.MaxUint64}
}

func (l *liar) chance() bool { return l.random.IntN(2) == 0 }
