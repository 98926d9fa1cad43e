//go:build e2e

package e2e

import (
	"context"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"baremetal.cloud/ccm/test/e2e/observer"
)

// togetherAllowed is how long two may answer while a deleted Node's addresses move.
const togetherAllowed = 100 * time.Millisecond

// TestFault_K2_3_NodeDeletedWhileItRuns: its addresses move as planned, whatever the leader does
// meanwhile, and no router keeps a path to it. Of a thousand connections a second, directly and
// by a router, none is refused or takes long; of a hundred where `make test` runs it, which is to
// find what is broken on whatever machine. The deleted one is told, and answers for nothing
// afterwards.
func TestFault_K2_3_NodeDeletedWhileItRuns(t *testing.T) {
	b := upBGP(t, 3)
	b.create("web", of(dual, false))
	onLAN := b.addresses("web", 2)
	routed := b.service("routed", nil)
	b.routed(routed, bothRouters, b.nodes()...)
	b.served(routed)
	for _, address := range routed {
		b.through("frr", address)
	}
	for _, address := range onLAN {
		b.requested(address)
	}
	t.Run("the owner", func(t *testing.T) { b.with(t).deleteOwner(onLAN, routed, func(bgp) {}) })
	t.Run("the owner, while the leader changes", func(t *testing.T) {
		b.with(t).deleteOwner(onLAN, routed, func(b bgp) {
			require.NoError(b, b.c.Restart(b.Context(), "ccm:"+b.nodeOfReplica(b.leader(""))))
		})
	})
}

// deleteOwner deletes the Node that answers for the first address.
func (b bgp) deleteOwner(onLAN, routed []netip.Addr, meanwhile func(bgp)) {
	b.Helper()
	owner := b.nodeOf(b.addressOwner(onLAN[0]))
	others := slices.DeleteFunc(slices.Clone(b.nodes()), func(node string) bool { return node == owner })
	o := b.observe(slices.Concat(onLAN, routed))
	time.Sleep(time.Second)
	begun, ended := o.Begin("Node deleted", observer.Effect{})
	began := time.Now()
	require.NoError(b, b.client.CoreV1().Nodes().Delete(b.Context(), owner, metav1.DeleteOptions{}))
	begun()
	meanwhile(b)
	for _, address := range onLAN {
		b.eventuallyAnsweredByAnother(address, owner)
	}
	b.Logf("Node %s deleted: others answer after %s", owner, time.Since(began).Round(time.Millisecond))
	b.routed(routed, bothRouters, others...)
	b.Logf("and routers have no path to it after %s", time.Since(began).Round(time.Millisecond))
	b.noPaths(routed, owner)
	require.Less(b, time.Since(began), lasting(10*time.Second, 30*time.Second), "105 s was seen")
	now := b.addressOwner(onLAN[0])
	b.stays(onLAN[0], now)
	b.toldOf("default", owner, "NodeDeleting", "answers for no address any longer")
	ended()
	b.start("kubelet:" + owner)
	b.unnoticed(o, onLAN, routed)
	b.stays(onLAN[0], now)
	b.routed(routed, bothRouters, b.nodes()...)
	b.served(routed)
	for _, address := range routed {
		b.through("frr", address)
	}
}

// observed is an Observer that runs.
type observed struct {
	*observer.Observer
	stop func() error
}

// observe watches addresses under requests.
func (l *lab) observe(addresses []netip.Addr) observed {
	l.Helper()
	o, err := observer.New(l.c, addresses, nil)
	require.NoError(l, err)
	if long() {
		o.RequestEvery(time.Millisecond)
	}
	ctx, cancel := context.WithCancel(l.Context())
	ended := make(chan error, 1)
	go func() { ended <- o.Run(ctx) }()
	return observed{o, func() error {
		cancel()
		return <-ended
	}}
}

// unnoticed stops observing, and checks that two answered for a moment at most, and that no
// connection was refused or slow.
func (b bgp) unnoticed(o observed, onLAN, routed []netip.Addr) {
	b.Helper()
	time.Sleep(2 * settling)
	o.Recovered()
	require.NoError(b, o.stop())
	h := o.History()
	rules := observer.Rules{Bound: chaosBound, Delay: chaosDelay, Nodes: map[netip.Addr][]string{}, Routed: routed}
	together := togetherAllowed
	if !long() {
		rules.Bound, rules.Delay, together = shortBound, shortDelay, shortBound
	}
	for _, address := range onLAN {
		rules.Nodes[address] = b.nodes()
	}
	complaints, worst := h.Judge(rules)
	for _, c := range complaints {
		b.Errorf("%s\n%s", c, h.Timeline(c.Address, c.From, c.Until, rules.Delay))
	}
	b.Logf("%d requests; two answered for %s, the slowest connection took %s; %d open ones broke",
		len(h.Requests), ms(worst.Together), ms(worst.Request), worst.Broken)
	require.Less(b, worst.Together, together)
}

// noPaths checks that FRR holds no path by a node, stale ones included.
func (b bgp) noPaths(addresses []netip.Addr, node string) {
	b.Helper()
	for _, address := range addresses {
		prefix := netip.PrefixFrom(address, address.BitLen())
		for hop := range b.frrPaths(prefix) {
			require.NotContains(b, b.hopsOf(prefix, []string{node}), hop)
		}
	}
}
