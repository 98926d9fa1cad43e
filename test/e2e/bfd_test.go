//go:build e2e

package e2e

import (
	"fmt"
	"net/netip"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"

	"baremetal.cloud/ccm/test/e2e/testbed"
)

const (
	// watch is what the test adds to each peer. Such a machine keeps it: the router misses a node
	// after 1.5 s.
	watch = "bfd: {transmitInterval: 300ms, receiveInterval: 300ms, detectMultiplier: 5}"
	// bfdBound is how long routers may keep the routes of a node that is gone: far less than the
	// hold time of 9 s, let alone the restart time of a minute.
	bfdBound = 4 * time.Second
)

// TestBFD shows row R10 with FRR and BIRD, over IPv4 and IPv6: what becomes of sessions and
// routes when a path fails, and when it does not.
func TestBFD(t *testing.T) {
	b := upBGP(t, 2)
	// Every node announces the addresses, and what answers is on the node that stays.
	addresses := b.service("watched", func(svc *corev1.Service) { svc.Spec.Selector["node"] = "node1" })
	b.routed(addresses, bothRouters, b.nodes()...)
	for _, c := range []struct {
		name string
		play func(bgp, []netip.Addr)
	}{
		{"R10 paths are watched", bgp.watched},
		{"R10 a silent node", bgp.cutOff},
		{"R10 a path that is broken one way", bgp.oneWay},
		{"R10 administratively down", bgp.adminDown},
		{"R2 R10 announcers restart", bgp.restarted},
		{"R10 a link-local gateway", bgp.watchedGateway},
	} {
		if !t.Run(c.name, func(t *testing.T) { c.play(b.with(t), addresses) }) {
			break // what comes next would begin from another state
		}
	}
}

// watched has all paths watched, which ends no BGP session.
func (b bgp) watched([]netip.Addr) {
	before := b.establishments()
	b.configure(strings.ReplaceAll(b.config, "holdTime: 9s", "holdTime: 9s, "+watch))
	b.pathsUp(b.nodes(), allPeers...)
	b.goOn(before)
	out, err := b.c.FRR(b.Context(), "show bfd peers brief")
	require.NoError(b, err)
	require.Equal(b, 4, strings.Count(out, " up"), out)
	out, err = b.c.BIRD(b.Context(), "show", "bfd", "sessions")
	require.NoError(b, err)
	require.Equal(b, 4, strings.Count(out, " Up "), out)
}

// pathsUp waits until BFD is up between nodes and peers.
func (b bgp) pathsUp(nodes []string, peers ...string) {
	b.Helper()
	b.measured(nodes, peers, "baremetal_announcer_bfd_session_up{peer=%q} 1\n")
}

// recovered waits until everything is as it was.
func (b bgp) recovered(addresses []netip.Addr) {
	b.Helper()
	b.established(b.nodes(), allPeers...)
	b.pathsUp(b.nodes(), allPeers...)
	b.routed(addresses, bothRouters, b.nodes()...)
}

// dropped waits until none of routers holds a route by the node, and returns how long that took
// since the fault.
func (b bgp) dropped(addresses []netip.Addr, routers []string, node string, fault time.Time) time.Duration {
	b.Helper()
	for _, router := range routers {
		for _, address := range addresses {
			prefix := netip.PrefixFrom(address, address.BitLen())
			gone := b.hopsOf(prefix, []string{node})[0]
			b.until(func() bool {
				hops, err := b.nextHops(router, prefix)
				require.NoError(b, err)
				return !strings.Contains(strings.Join(hops, " ")+" ", gone+" ")
			}, "%s still sends %s to %s", router, address, node)
		}
	}
	return time.Since(fault)
}

// cutOff loses every frame of a node: routers drop its routes in time, requests succeed by the
// other node, and the node ends its sessions, too. All is well again when the node is back.
func (b bgp) cutOff(addresses []netip.Addr) {
	fault := time.Now()
	require.NoError(b, b.c.Cut(b.Context(), "node2", testbed.Silent))
	took := b.dropped(addresses, bothRouters, "node2", fault)
	b.Logf("routes were dropped within %s", took)
	require.Less(b, took, bfdBound)
	for _, router := range bothRouters {
		for _, address := range addresses {
			b.through(router, address)
		}
	}
	b.broken("node2", allPeers...)
	require.NoError(b, b.c.Heal(b.Context(), "node2"))
	b.recovered(addresses)
}

// broken waits until the paths of node to peers have failed, and its sessions with them.
func (b bgp) broken(node string, peers ...string) {
	b.Helper()
	for _, peer := range peers {
		b.eventually(func(t *assert.CollectT) {
			text := b.metrics(node)
			require.NotContains(t, text, fmt.Sprintf("baremetal_announcer_bfd_failures_total{peer=%q} 0\n", peer))
			require.Contains(t, text, fmt.Sprintf("baremetal_announcer_bgp_session{peer=%q,state=\"established\"} 0\n", peer))
		}, "%s to %s", node, peer)
	}
}

// oneWay keeps the packets of one router from a node: the node ends the session, which the router
// does not take for a restart, an Event tells, and BGP comes back without BFD.
func (b bgp) oneWay(addresses []netip.Addr) {
	frr := b.c.Address("frr").V4
	rules := fmt.Sprintf("add table inet oneway; add chain inet oneway input { type filter hook input priority -10; }; add rule inet oneway input ip saddr %s udp dport 3784 drop", frr)
	_, err := b.c.In(b.Context(), "node1", "nft", rules)
	require.NoError(b, err)
	b.told("node1", "BGPSessionLost", "the BGP session to frr was lost: BFDDown: BFD: nothing was heard of the router for the detection time")
	b.established(b.nodes(), allPeers...)
	b.routed(addresses, bothRouters, b.nodes()...)
	require.Contains(b, b.metrics("node1"), "baremetal_announcer_bfd_session_up{peer=\"frr\"} 0\n", "BGP does not wait for BFD")
	_, err = b.c.In(b.Context(), "node1", "nft", "delete table inet oneway")
	require.NoError(b, err)
	b.recovered(addresses)
}

// adminDown has FRR take its BFD sessions down on purpose: that is no failure.
func (b bgp) adminDown(addresses []netip.Addr) {
	before := b.establishments()
	_, err := b.c.FRR(b.Context(), "configure terminal", "bfd", "profile nodes", "shutdown")
	require.NoError(b, err)
	for _, node := range b.nodes() {
		for _, peer := range []string{"frr", "frr-v6"} {
			b.eventually(func(t *assert.CollectT) {
				out, err := b.c.In(b.Context(), node, "curl", "-s", "-m", "2", "http://127.0.0.1:10271/healthz")
				require.NoError(t, err)
				require.Regexp(t, "BGP session to "+peer+": established, .* BFD admindown\n", out)
			}, "%s of %s", peer, node)
		}
	}
	b.routed(addresses, bothRouters, b.nodes()...)
	b.goOn(before)
	_, err = b.c.FRR(b.Context(), "configure terminal", "bfd", "profile nodes", "no shutdown")
	require.NoError(b, err)
	b.recovered(addresses)
}

// restarted ends an announcer in order and starts it again: FRR has taken the end of the session
// for a restart before it hears that BFD ends, too, and keeps the routes. BIRD 2.0 does not. Of
// one that is killed both find out by silence, and may drop the routes; everything comes back.
func (b bgp) restarted(addresses []netip.Addr) {
	held := b.holds(addresses, []string{"frr"}, b.nodes()...)
	b.stop("announcer:node2")
	b.start("announcer:node2")
	b.recovered(addresses)
	held()
	require.NoError(b, syscall.Kill(b.announcerPID("node2"), syscall.SIGKILL))
	b.recovered(addresses)
}

// watchedGateway has node1 follow FRR as its IPv6 gateway and node2 BIRD, by their link-local
// addresses: BFD comes up between link-local addresses, and the router drops the routes of a node
// that is silent in time, and that node ends the session.
func (b bgp) watchedGateway(addresses []netip.Addr) {
	v6 := addresses[1:]
	gateways := map[string]string{"node1": "frr", "node2": "bird"}
	b.linkLocalNeighbours("node1")
	change := []string{"holdTime: 9s", "holdTime: 9s, " + watch}
	for node, router := range gateways {
		b.defaultRoute(node, b.linkLocal(router))
		change = append(change, fmt.Sprintf("name: %s-v6, address: %q,", router, b.c.Address(router).V6),
			fmt.Sprintf("name: %s-v6, address: gateway-v6, nodeSelectors: [{matchLabels: {kubernetes.io/hostname: %s}}],", router, node))
	}
	b.configure(strings.NewReplacer(change...).Replace(b.config))
	for node, router := range gateways {
		b.established([]string{node}, router+"-v6")
		b.pathsUp([]string{node}, router+"-v6")
		b.routed(v6, []string{router}, node)
	}
	b.eventually(func(t *assert.CollectT) { // A router may learn a packet later than the node that both are up.
		out, err := b.c.FRR(b.Context(), "show bfd peers brief")
		require.NoError(t, err)
		require.Regexp(t, b.linkLocal("frr").String()+` +`+b.linkLocal("node1").String()+` +up`, out)
		out, err = b.c.BIRD(b.Context(), "show", "bfd", "sessions")
		require.NoError(t, err)
		require.Regexp(t, b.linkLocal("node2").String()+` +eth0 +Up `, out)
	}, "BFD between link-local addresses")
	for node, router := range gateways {
		fault := time.Now()
		require.NoError(b, b.c.Cut(b.Context(), node, testbed.Silent))
		took := b.dropped(v6, []string{router}, node, fault)
		b.Logf("%s dropped the routes of %s within %s", router, node, took)
		require.Less(b, took, bfdBound)
		b.broken(node, router+"-v6")
		require.NoError(b, b.c.Heal(b.Context(), node))
		b.established([]string{node}, router+"-v6")
		b.pathsUp([]string{node}, router+"-v6")
		b.routed(v6, []string{router}, node)
	}
	for _, node := range b.nodes() {
		b.defaultRoute(node, b.c.Address("frr").V6)
	}
	b.configure(strings.ReplaceAll(b.config, "holdTime: 9s", "holdTime: 9s, "+watch))
	b.recovered(addresses)
}
