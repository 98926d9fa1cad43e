package netstate_test

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/vishvananda/netlink"

	"baremetal.cloud/ccm/pkg/announcer/internal/testlan"
	"baremetal.cloud/ccm/pkg/announcer/netstate"
	"baremetal.cloud/ccm/pkg/announcer/plan"
)

// patience is how long a test waits for what comes within milliseconds when all is well.
const patience = 2 * time.Minute

// watch runs a Watcher in the namespace and returns what it hands out.
func watch(t *testing.T, n *testlan.Namespace) <-chan netstate.Snapshot {
	t.Helper()
	snapshots := make(chan netstate.Snapshot, 1000)
	watcher := netstate.NewWatcher(netstate.Options{OnSnapshot: func(s netstate.Snapshot) { snapshots <- s }})
	ctx, cancel := context.WithCancel(context.Background())
	var err error
	done := n.Go(func() { err = watcher.Run(ctx) })
	t.Cleanup(func() {
		cancel()
		select {
		case <-done:
			require.NoError(t, err)
		case <-time.After(patience):
			t.Error("Run did not end with its context")
		}
	})
	return snapshots
}

// await returns the first snapshot that has what is asked for.
func await(t *testing.T, snapshots <-chan netstate.Snapshot, what string, is func(netstate.Snapshot) bool) netstate.Snapshot {
	t.Helper()
	deadline := time.After(patience)
	for {
		select {
		case s := <-snapshots:
			if is(s) {
				return s
			}
		case <-deadline:
			require.FailNow(t, "no snapshot shows: "+what)
		}
	}
}

func carries(name string) func(netstate.Snapshot) bool {
	return func(s netstate.Snapshot) bool {
		i, ok := s.Find(name)
		return ok && i.Carries() == nil
	}
}

func broken(name, why string) func(netstate.Snapshot) bool {
	return func(s netstate.Snapshot) bool {
		i, ok := s.Find(name)
		return ok && i.Carries() != nil && i.Carries().Error() == why
	}
}

// TestWatcherFollows is behaviour L8: what happens to an interface is seen without a restart.
func TestWatcherFollows(t *testing.T) {
	node, lan := testlan.New(t), testlan.New(t)
	snapshots := watch(t, node)
	await(t, snapshots, "loopback", broken("lo", "lo is a loopback interface"))

	testlan.Veth(t, node, "eth0", lan, "port0")
	await(t, snapshots, "new interface", carries("eth0"))

	node.Address(t, "eth0", "192.0.2.10/24")
	node.Address(t, "eth0", "2001:db8::10/64")
	s := await(t, snapshots, "addresses", func(s netstate.Snapshot) bool {
		i, _ := s.Find("eth0")
		return len(i.Prefixes) == 2
	})
	require.Equal(t, "this node's own address on eth0", s.Own()[netip.MustParseAddr("2001:db8::10")])

	var err error
	node.Do(func() {
		err = netlink.RouteAdd(&netlink.Route{Gw: net.IPv4(192, 0, 2, 1)})
	})
	require.NoError(t, err)
	s = await(t, snapshots, "default route", func(s netstate.Snapshot) bool {
		i, _ := s.Find("eth0")
		return slices.Contains(i.Destinations, plan.Destination{Prefix: netip.MustParsePrefix("0.0.0.0/0")})
	})
	require.Equal(t, []netip.Addr{netip.MustParseAddr("192.0.2.1")}, s.Gateways)
	require.Equal(t, "a gateway of this node", s.Own()[netip.MustParseAddr("192.0.2.1")])
	require.Equal(t, []plan.DefaultRoute{{Gateway: netip.MustParseAddr("192.0.2.1"), Interface: "eth0"}}, s.Defaults)
	eth0, _ := s.Find("eth0")
	node.Do(func() {
		err = errors.Join(
			netlink.RouteAdd(&netlink.Route{Gw: net.IPv4(192, 0, 2, 2), Priority: 100}),
			netlink.RouteAdd(&netlink.Route{Gw: net.ParseIP("fe80::1"), LinkIndex: eth0.Index, Priority: 50}),
		)
	})
	require.NoError(t, err)
	await(t, snapshots, "default routes by preference", func(s netstate.Snapshot) bool {
		return slices.Equal(s.Defaults, []plan.DefaultRoute{
			{Gateway: netip.MustParseAddr("192.0.2.1"), Interface: "eth0"},
			{Gateway: netip.MustParseAddr("fe80::1%eth0"), Interface: "eth0"},
			{Gateway: netip.MustParseAddr("192.0.2.2"), Interface: "eth0"},
		})
	})

	mac := net.HardwareAddr{2, 0, 0, 0, 0, 9}
	node.Change(t, "eth0", func(l netlink.Link) error { return netlink.LinkSetHardwareAddr(l, mac) })
	await(t, snapshots, "another MAC", func(s netstate.Snapshot) bool {
		i, _ := s.Find("eth0")
		return i.MAC.String() == mac.String()
	})

	lan.Change(t, "port0", netlink.LinkSetDown)
	await(t, snapshots, "no carrier", broken("eth0", "eth0 has no carrier"))
	lan.Change(t, "port0", netlink.LinkSetUp)
	await(t, snapshots, "carrier", carries("eth0"))

	node.Change(t, "eth0", netlink.LinkSetARPOff)
	await(t, snapshots, "NOARP", broken("eth0", "eth0 does no ARP"))
	node.Change(t, "eth0", netlink.LinkSetARPOn)
	await(t, snapshots, "ARP", carries("eth0"))

	node.Do(func() { err = netlink.LinkAdd(&netlink.Bridge{LinkAttrs: netlink.LinkAttrs{Name: "br0"}}) })
	require.NoError(t, err)
	node.Change(t, "br0", func(bridge netlink.Link) error {
		port, err := netlink.LinkByName("eth0")
		if err != nil {
			return err
		}
		return netlink.LinkSetMaster(port, bridge)
	})
	await(t, snapshots, "enslaved", broken("eth0", "eth0 is a port of another interface; use that one"))
	node.Change(t, "eth0", netlink.LinkSetNoMaster)
	await(t, snapshots, "freed", carries("eth0"))

	node.Change(t, "eth0", netlink.LinkSetDown)
	await(t, snapshots, "down", broken("eth0", "eth0 is down"))
	node.Change(t, "eth0", func(l netlink.Link) error { return netlink.LinkSetName(l, "lan0") })
	node.Change(t, "lan0", netlink.LinkSetUp)
	s = await(t, snapshots, "renamed", carries("lan0"))
	_, ok := s.Find("eth0")
	require.False(t, ok)

	before, _ := s.Find("lan0")
	node.Change(t, "lan0", netlink.LinkDel)
	await(t, snapshots, "deleted", func(s netstate.Snapshot) bool { _, ok := s.Find("lan0"); return !ok })
	testlan.Veth(t, node, "lan0", lan, "port0")
	s = await(t, snapshots, "made again", carries("lan0"))
	again, _ := s.Find("lan0")
	require.NotEqual(t, before.Index, again.Index)
}

// TestWatcherIsQuiet shows that notifications that change nothing wake nobody.
func TestWatcherIsQuiet(t *testing.T) {
	node, lan := testlan.New(t), testlan.New(t)
	testlan.Veth(t, node, "eth0", lan, "port0")
	snapshots := watch(t, node)
	await(t, snapshots, "interface", carries("eth0"))
	for range 5 {
		node.Change(t, "eth0", func(l netlink.Link) error { return netlink.LinkSetAlias(l, "same to us") })
	}
	node.Address(t, "eth0", "192.0.2.10/24")
	s := <-snapshots
	i, _ := s.Find("eth0")
	require.Len(t, i.Prefixes, 1, "the first snapshot after changes that mean nothing is that of the address")
}
