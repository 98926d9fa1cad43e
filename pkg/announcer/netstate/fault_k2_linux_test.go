package netstate_test

import (
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"baremetal.cloud/ccm/pkg/announcer/internal/testlan"
	"baremetal.cloud/ccm/pkg/announcer/netstate"
	"baremetal.cloud/ccm/pkg/announcer/plan"
)

// view is what a watcher has handed out.
type view struct {
	snapshots <-chan netstate.Snapshot
	last      *netstate.Snapshot
}

func (v *view) await(t *testing.T, what string, is func(netstate.Snapshot) bool) netstate.Snapshot {
	t.Helper()
	if v.last == nil || !is(*v.last) {
		s := await(t, v.snapshots, what, func(s netstate.Snapshot) bool { v.last = &s; return is(s) })
		v.last = &s
	}
	return *v.last
}

// selects waits until the interfaces that are chosen for address are those, or, without any,
// until the choice fails because no reply could leave.
func selects(t *testing.T, v *view, selector, address string, want ...string) {
	t.Helper()
	v.await(t, selector+" for "+address+" is "+joined(want), func(s netstate.Snapshot) bool {
		chosen, err := plan.SelectInterfaces(selector, netip.MustParseAddr(address), s.Report())
		if len(want) == 0 {
			_, ok := err.(*plan.NoRouteBackError)
			return ok
		}
		var names []string
		for _, i := range chosen {
			names = append(names, i.Name)
		}
		return slices.Equal(names, want)
	})
}

func joined(names []string) string {
	if len(names) == 0 {
		return "none"
	}
	out := names[0]
	for _, name := range names[1:] {
		out += ", " + name
	}
	return out
}

// twoPorts is a node with the interfaces eth0 and eth1, which have no address yet.
func twoPorts(t *testing.T) (*testlan.Namespace, *view) {
	t.Helper()
	node, lan := testlan.New(t), testlan.New(t)
	testlan.Veth(t, node, "eth0", lan, "port0")
	testlan.Veth(t, node, "eth1", lan, "port1")
	return node, &view{snapshots: watch(t, node)}
}

// TestFault_K2_1_LostAddress: an interface that lost its only address of a family, or has one
// that another machine has too, sends nothing of that family, and goes on with the other.
func TestFault_K2_1_LostAddress(t *testing.T) {
	node, snapshots := twoPorts(t)
	node.Address(t, "eth0", "192.0.2.10/24")
	node.Address(t, "eth0", "2001:db8::10/64")
	node.Via(t, "eth0", "::/0", "2001:db8::1", 0)
	selects(t, snapshots, "eth0", "192.0.2.200", "eth0")
	selects(t, snapshots, "eth0", "2001:db8::200", "eth0")

	node.RemoveAddress(t, "eth0", "192.0.2.10/24")
	selects(t, snapshots, "eth0", "192.0.2.200")
	node.Address(t, "eth0", "192.0.2.10/24")
	selects(t, snapshots, "eth0", "192.0.2.200", "eth0")

	// What keepalived or kube-vip leaves there makes no segment.
	node.Address(t, "eth0", "192.0.2.77/32")
	node.RemoveAddress(t, "eth0", "192.0.2.10/24")
	selects(t, snapshots, "eth0", "192.0.2.200")

	// The default route by a gateway that is not on a segment any longer stays, and is useless.
	node.RemoveAddress(t, "eth0", "2001:db8::10/64")
	selects(t, snapshots, "eth0", "2001:db8::200")
}

// TestFault_K2_1_TentativeAddress: an IPv6 address counts once the kernel has found that no
// other machine has it, and never if one has. Its route is there all the same.
func TestFault_K2_1_TentativeAddress(t *testing.T) {
	node, lan := testlan.New(t), testlan.New(t)
	node.DetectDuplicates(t, 1)
	testlan.Veth(t, node, "eth0", lan, "port0")
	lan.Address(t, "port0", "2001:db8::10/64")
	lan.AwaitUp(t, "port0")
	snapshots := &view{snapshots: watch(t, node)}
	node.Change(t, "eth0", func(l netlink.Link) error {
		address, err := netlink.ParseAddr("2001:db8::10/64")
		if err != nil {
			return err
		}
		return netlink.AddrAdd(l, address)
	})
	unusable := func(s netstate.Snapshot) bool {
		i, _ := s.Find("eth0")
		return slices.Contains(i.Unusable, netip.MustParsePrefix("2001:db8::10/64"))
	}
	s := snapshots.await(t, "tentative", unusable)
	eth0, _ := s.Find("eth0")
	require.True(t, eth0.NoIPv6)
	require.Contains(t, s.Own(), netip.MustParseAddr("2001:db8::10"), "never to be answered for all the same")
	require.Eventually(t, func() bool {
		failed := false
		node.Change(t, "eth0", func(l netlink.Link) error {
			list, err := netlink.AddrList(l, netlink.FAMILY_V6)
			failed = slices.ContainsFunc(list, func(a netlink.Addr) bool { return a.Flags&unix.IFA_F_DADFAILED != 0 })
			return err
		})
		return failed
	}, patience, 5*time.Millisecond)
	node.Address(t, "eth0", "2001:db8:1::10/64")
	s = snapshots.await(t, "another address", func(s netstate.Snapshot) bool { i, _ := s.Find("eth0"); return len(i.Prefixes) == 1 })
	require.True(t, unusable(s), "dadfailed")
	selects(t, snapshots, "eth0", "2001:db8::200", "eth0")
}

// TestFault_K2_5_TwoPortsOnOneSegment: of two interfaces with one prefix the one is chosen
// whose route the kernel uses, for both families, and the other one once that has gone.
func TestFault_K2_5_TwoPortsOnOneSegment(t *testing.T) {
	node, snapshots := twoPorts(t)
	for _, of := range []struct{ first, second, segment, vip string }{
		{"192.0.2.10/24", "192.0.2.11/24", "192.0.2.0/24", "192.0.2.200"},
		{"2001:db8::10/64", "2001:db8::11/64", "2001:db8::/64", "2001:db8::200"},
	} {
		node.Address(t, "eth1", of.second)
		node.Address(t, "eth0", of.first)
		for _, selector := range []string{"", "/eth[01]/", "can_reach:" + of.vip} {
			selects(t, snapshots, selector, of.vip, "eth1") // The kernel uses the first of equal routes.
		}
		node.Route(t, "eth0", of.segment, 1)
		node.Change(t, "eth1", func(l netlink.Link) error {
			return netlink.RouteDel(&netlink.Route{LinkIndex: l.Attrs().Index, Dst: must(netlink.ParseIPNet(of.segment)), Scope: netlink.SCOPE_LINK})
		})
		selects(t, snapshots, "/eth[01]/", of.vip, "eth0")
		node.Route(t, "eth1", of.segment, 5000)
		selects(t, snapshots, "", of.vip, "eth0")
		node.RemoveAddress(t, "eth0", of.first)
		node.Change(t, "eth0", func(l netlink.Link) error {
			_ = netlink.RouteDel(&netlink.Route{LinkIndex: l.Attrs().Index, Dst: must(netlink.ParseIPNet(of.segment)), Scope: netlink.SCOPE_LINK})
			return nil
		})
		selects(t, snapshots, "", of.vip, "eth1")
	}
}

// TestFault_K2_6_RoutesAsTheKernel: a default route of the other family, one with a worse
// metric and a static route lead where the kernel would send a packet.
func TestFault_K2_6_RoutesAsTheKernel(t *testing.T) {
	node, snapshots := twoPorts(t)
	for name, prefixes := range map[string][]string{"eth0": {"192.0.2.10/24", "2001:db8::10/64"}, "eth1": {"198.51.100.10/24", "2001:db8:1::10/64"}} {
		for _, prefix := range prefixes {
			node.Address(t, name, prefix)
		}
	}
	node.Via(t, "eth0", "0.0.0.0/0", "192.0.2.1", 100)
	node.Via(t, "eth1", "0.0.0.0/0", "198.51.100.1", 200)
	node.Via(t, "eth1", "::/0", "2001:db8:1::1", 100)
	node.Via(t, "eth0", "::/0", "2001:db8::1", 200)
	selects(t, snapshots, "", "203.0.113.1", "eth0")
	selects(t, snapshots, "", "2001:db8:2::1", "eth1")
	node.Via(t, "eth1", "203.0.113.0/24", "198.51.100.1", 0)
	node.Via(t, "eth0", "2001:db8:2::/48", "2001:db8::1", 0)
	for _, selector := range []string{"", "can_reach:203.0.113.9"} {
		selects(t, snapshots, selector, "203.0.113.1", "eth1")
	}
	for _, selector := range []string{"", "can_reach:2001:db8:2::9"} {
		selects(t, snapshots, selector, "2001:db8:2::1", "eth0")
	}
}

// TestFault_K2_9_NoRouteBack: an interface without an address answers for nothing, unless a
// route leads there; neither does one whose family is missing. A node whose address has no
// segment answers where its default route leaves.
func TestFault_K2_9_NoRouteBack(t *testing.T) {
	node, snapshots := twoPorts(t)
	node.Address(t, "eth0", "192.0.2.10/32")
	node.Change(t, "eth0", func(l netlink.Link) error {
		return netlink.RouteAdd(&netlink.Route{
			LinkIndex: l.Attrs().Index, Gw: []byte{192, 0, 2, 1}, Flags: int(netlink.FLAG_ONLINK),
			Dst: must(netlink.ParseIPNet("0.0.0.0/0")),
		})
	})
	selects(t, snapshots, "", "192.0.2.200", "eth0")
	selects(t, snapshots, "eth0", "2001:db8::200")
	selects(t, snapshots, "eth1", "192.0.2.200")
	node.Route(t, "eth1", "192.0.2.0/24", 0)
	selects(t, snapshots, "eth1", "192.0.2.200", "eth1")
	selects(t, snapshots, "eth1", "2001:db8::200")
	node.Route(t, "eth1", "2001:db8::/64", 0)
	selects(t, snapshots, "eth1", "2001:db8::200", "eth1")
}

func must[T any](value T, err error) T {
	if err != nil {
		panic(err)
	}
	return value
}
