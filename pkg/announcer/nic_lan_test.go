package announcer_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/vishvananda/netlink"

	"baremetal.cloud/ccm/pkg/announcer/internal/testlan"
	"baremetal.cloud/ccm/pkg/reason"
)

// second joins the node to another segment by its interface eth1, and returns the host there.
func (l *lan) second() *testlan.Namespace {
	l.t.Helper()
	other := testlan.New(l.t)
	testlan.Veth(l.t, l.node, "eth1", other, "host0")
	l.node.Address(l.t, "eth1", "203.0.113.9/24")
	l.node.Address(l.t, "eth1", "2001:db8:8::9/64")
	other.Address(l.t, "host0", "192.0.2.2/24")
	other.Address(l.t, "host0", "2001:db8::2/64")
	return other
}

// TestRenamedInterface is behaviour L8: the selector is applied to the new name.
func TestRenamedInterface(t *testing.T) {
	l := newLAN(t)
	l.plan(1, "/(eth|lan)[0-9]/", vip4, vip6)
	l.resolve(vip4, l.mac())
	rename := func(from, to string) {
		l.node.Change(t, from, netlink.LinkSetDown)
		l.node.Change(t, from, func(i netlink.Link) error { return netlink.LinkSetName(i, to) })
		l.node.Change(t, to, netlink.LinkSetUp)
	}
	rename("eth0", "lan0")
	mac := l.node.Interface(t, "lan0").HardwareAddr
	l.resolve(vip4, mac)
	l.resolve(vip6, mac)
	require.Eventually(t, func() bool {
		claims := l.announcer.Status().Claims
		return claims.Len() > 0 && claims.Nth(0).Interfaces == "lan0"
	}, patience, time.Millisecond)

	rename("lan0", "other0")
	l.problem(vip4, reason.NodeNoInterface, "no interface matches /(eth|lan)[0-9]/")
	l.resolve(vip4, nil)
	l.resolve(vip6, nil)
}

// TestOtherInterfaceIsSilent is behaviour L5: an address is answered on the interfaces that
// are chosen for it and on no other, for both families.
func TestOtherInterfaceIsSilent(t *testing.T) {
	l := newLAN(t)
	other := l.second()
	l.plan(1, "eth0", vip4, vip6)
	for _, vip := range []string{vip4, vip6} {
		l.resolve(vip, l.mac())
		require.Nil(t, other.Resolve("host0", vip))
	}
	eth1 := l.node.Interface(t, "eth1").HardwareAddr
	l.plan(2, "/eth[01]/", vip4, vip6)
	for _, vip := range []string{vip4, vip6} {
		l.resolve(vip, l.mac())
		require.Eventually(t, func() bool { return other.Resolve("host0", vip).String() == eth1.String() }, patience, 20*time.Millisecond)
	}
}

// TestSegmentIsDown is behaviour L4 as the node sees it: while the interface on the
// address's segment has no carrier, nobody answers on the default route's instead.
func TestSegmentIsDown(t *testing.T) {
	l := newLAN(t)
	other := l.second()
	l.node.Address(t, "eth0", "198.51.100.10/24")
	l.node.Address(t, "eth1", "192.0.2.10/24")
	var err error
	l.node.Do(func() {
		err = netlink.RouteAdd(&netlink.Route{Gw: []byte{198, 51, 100, 1}})
	})
	require.NoError(t, err)
	l.plan(1, "", vip4)
	eth1 := l.node.Interface(t, "eth1").HardwareAddr
	answers := func() bool { return other.Resolve("host0", vip4).String() == eth1.String() }
	require.Eventually(t, answers, patience, 20*time.Millisecond)

	other.Change(t, "host0", netlink.LinkSetDown)
	l.problem(vip4, reason.NodeNoInterface, "eth1, through which "+vip4+" is reached, is down")
	require.Nil(t, l.neighbour(vip4), "on the segment of the default route")
	other.Change(t, "host0", netlink.LinkSetUp)
	require.Eventually(t, answers, patience, 20*time.Millisecond)
}
