package announcer_test

import (
	"bytes"
	"context"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/vishvananda/netlink"
	"golang.org/x/sync/errgroup"

	"baremetal.cloud/ccm/pkg/announcer"
	"baremetal.cloud/ccm/pkg/announcer/internal/testlan"
	"baremetal.cloud/ccm/pkg/announcer/l2/arp"
	"baremetal.cloud/ccm/pkg/announcer/l2/ndp"
	"baremetal.cloud/ccm/pkg/announcer/l2/responder"
	"baremetal.cloud/ccm/pkg/announcer/netstate"
	"baremetal.cloud/ccm/pkg/announcer/plan"
	"baremetal.cloud/ccm/pkg/reason"
)

const (
	patience = 2 * time.Minute

	vip4 = "192.0.2.200"
	vip6 = "2001:db8::200"
)

// lan is a node that runs an announcer as the program does, and a host whose kernel
// resolves addresses.
type lan struct {
	t          *testing.T
	node, host *testlan.Namespace
	announcer  *announcer.Announcer
	running    running

	mu      sync.Mutex
	reports []plan.Report
	log     bytes.Buffer
}

func newLAN(t *testing.T) *lan {
	t.Helper()
	l := &lan{t: t, node: testlan.New(t), host: testlan.New(t)}
	l.join()
	l.announcer = announcer.New(announcer.Options{
		Node: "node1", Logger: slog.New(slog.NewTextHandler(&l.log, nil)),
		IPv4:       newResponder(arp.Protocol{}),
		IPv6:       newResponder(ndp.Protocol{}),
		ListenIPv4: newListener(arp.Claims{}), ListenIPv6: newListener(ndp.Claims{}),
		Report: l.report,
	})
	l.running = run(l.node, l.announcer)
	t.Cleanup(l.end)
	return l
}

func newResponder(p responder.Protocol) func(func(), func() bool) announcer.Responder {
	return func(failed func(), allowed func() bool) announcer.Responder {
		return responder.New(responder.Options{Protocol: p, OnFailure: failed, Allowed: allowed})
	}
}

func newListener(p responder.Protocol) func(func(), func(*responder.Port, []byte)) announcer.Listener {
	return func(failed func(), heard func(*responder.Port, []byte)) announcer.Listener {
		return responder.New(responder.Options{Protocol: p, OnFailure: failed, OnConflict: heard})
	}
}

// join connects node and host. Either end has an address of each family; they share no prefix.
func (l *lan) join() {
	l.t.Helper()
	testlan.Veth(l.t, l.node, "eth0", l.host, "host0")
	l.node.Address(l.t, "eth0", "198.51.100.9/24")
	l.node.Address(l.t, "eth0", "2001:db8:9::9/64")
	l.host.Address(l.t, "host0", "192.0.2.1/24")
	l.host.Address(l.t, "host0", "2001:db8::1/64")
}

func (l *lan) end() { l.running.end(l.t) }

// running is an announcer with what watches its interfaces, as the program runs them.
type running struct {
	stop  context.CancelFunc
	ended <-chan struct{}
}

// run starts an announcer in a namespace. Sockets are opened by the two goroutines that
// call Run: each is in it.
func run(space *testlan.Namespace, a *announcer.Announcer) running {
	watcher := netstate.NewWatcher(netstate.Options{OnSnapshot: a.OnLinks})
	ctx, cancel := context.WithCancel(context.Background())
	group, ctx := errgroup.WithContext(ctx)
	in := func(run func(context.Context) error) func() error {
		return func() (err error) {
			<-space.Go(func() { err = run(ctx) })
			return err
		}
	}
	group.Go(in(a.Run))
	group.Go(in(watcher.Run))
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_ = group.Wait()
	}()
	return running{cancel, ended}
}

// end stops the announcer and waits until it has ended.
func (r running) end(t *testing.T) {
	t.Helper()
	r.stop()
	select {
	case <-r.ended:
	case <-time.After(patience):
		t.Error("Run did not end with its context")
	}
}

func (l *lan) report(r plan.Report) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.reports = append(l.reports, r)
}

// lastReport returns the newest report.
func (l *lan) lastReport() plan.Report {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.reports) == 0 {
		return plan.Report{}
	}
	return l.reports[len(l.reports)-1]
}

// plan gives addresses to node1 as revision r of term 1, on interfaces chosen by selector.
func (l *lan) plan(r uint64, selector string, addresses ...string) {
	set := plan.NodePlan{Cluster: "c", Version: plan.Version{Term: 1, Revision: r}}
	for _, a := range addresses {
		set.Assignments = set.Assignments.With(plan.Assignment{
			Address: netip.MustParseAddr(a), Version: set.Version, Candidates: []string{"node1"}, Interface: selector,
		})
	}
	l.announcer.OnPlan("replica", set)
}

// resolve asks from the host, by the kernel's own ARP or NDP, who has address, until the
// answer is as wanted; nil wants nobody.
func (l *lan) resolve(address string, want net.HardwareAddr) {
	l.t.Helper()
	require.Eventually(l.t, func() bool { return bytes.Equal(l.neighbour(address), want) }, patience, 20*time.Millisecond,
		"%s is not at %v", address, want)
}

// neighbour makes the host forget address, ask for it, and returns who answered within a
// short time.
func (l *lan) neighbour(address string) net.HardwareAddr { return l.host.Resolve("host0", address) }

func (l *lan) mac() net.HardwareAddr {
	l.t.Helper()
	return l.node.Interface(l.t, "eth0").HardwareAddr
}

// TestAnswersOnTheWire asks from outside, for both families: what is planned is answered,
// what is withdrawn is not, and the end of the program ends all of it.
func TestAnswersOnTheWire(t *testing.T) {
	l := newLAN(t)
	l.plan(1, "", vip4, vip6)
	l.resolve(vip4, l.mac())
	l.resolve(vip6, l.mac())
	r := l.lastReport()
	require.Equal(t, 2, r.Claims.Len())
	require.Equal(t, plan.Version{Term: 1, Revision: 1}, r.Plan)

	l.plan(2, "", vip6)
	l.resolve(vip4, nil)
	l.resolve(vip6, l.mac())

	l.announcer.OnStream("replica", false)
	l.plan(1, "", vip4) // A plan that is older changes nothing.
	require.Eventually(t, func() bool { return l.announcer.Status().Refused["stale"] == 1 }, patience, time.Millisecond)
	l.resolve(vip6, l.mac())
	require.Nil(t, l.neighbour(vip4))

	l.end()
	require.Nil(t, l.neighbour(vip6))
	require.Zero(t, l.lastReport().Claims.Len())
	require.Contains(t, l.log.String(), "stopped answering for "+vip6+": the announcer ends (plan 1.2)")
}

// TestFollowsInterfaces is behaviour L8 end to end: no restart, whatever happens.
func TestFollowsInterfaces(t *testing.T) {
	l := newLAN(t)
	l.plan(1, "eth0", vip4, vip6)
	l.resolve(vip4, l.mac())
	l.resolve(vip6, l.mac())

	mac := net.HardwareAddr{2, 0, 0, 0, 0, 0x99}
	l.node.Change(t, "eth0", func(i netlink.Link) error { return netlink.LinkSetHardwareAddr(i, mac) })
	l.resolve(vip4, mac)
	l.resolve(vip6, mac)

	l.node.Change(t, "eth0", netlink.LinkSetDown)
	l.problem(vip4, reason.NodeNoInterface, "eth0 is down")
	l.node.Change(t, "eth0", netlink.LinkSetUp)
	l.resolve(vip4, mac)
	l.resolve(vip6, mac)

	var err error
	l.node.Do(func() { err = netlink.LinkAdd(&netlink.Bridge{LinkAttrs: netlink.LinkAttrs{Name: "br0"}}) })
	require.NoError(t, err)
	l.node.Change(t, "br0", netlink.LinkSetUp)
	l.node.Address(t, "br0", "198.51.100.8/24")
	l.node.Address(t, "br0", "2001:db8:9::8/64")
	l.node.Change(t, "br0", func(bridge netlink.Link) error {
		port, err := netlink.LinkByName("eth0")
		if err != nil {
			return err
		}
		return netlink.LinkSetMaster(port, bridge)
	})
	l.problem(vip4, reason.NodeNoInterface, "eth0 is a port of another interface; use that one")
	l.plan(2, "br0", vip4, vip6)
	bridge := l.node.Interface(t, "br0").HardwareAddr
	l.resolve(vip4, bridge)
	l.resolve(vip6, bridge)

	l.node.Change(t, "br0", netlink.LinkDel)
	l.plan(3, "/eth.*/", vip4, vip6)
	l.resolve(vip4, mac)

	l.node.Change(t, "eth0", netlink.LinkDel)
	l.problem(vip4, reason.NodeNoInterface, "the node has no interface that can carry an address")
	l.join()
	l.resolve(vip4, l.mac())
	l.resolve(vip6, l.mac())
}

// TestOwnAddresses: what the node or its gateway has is never answered for, whatever the
// plan says, and is when it is free again.
func TestOwnAddresses(t *testing.T) {
	l := newLAN(t)
	l.node.Address(t, "eth0", vip4+"/24")
	l.plan(1, "", vip4)
	l.problem(vip4, reason.AddressIsLocal, vip4+" is this node's own address on eth0")
	l.node.Change(t, "eth0", func(i netlink.Link) error {
		address, err := netlink.ParseAddr(vip4 + "/24")
		if err != nil {
			return err
		}
		return netlink.AddrDel(i, address)
	})
	require.Eventually(t, func() bool { return l.lastReport().Claims.Len() == 1 }, patience, 10*time.Millisecond)
}

// problem waits until the report has the problem, and no claim to address.
func (l *lan) problem(address string, why reason.Reason, message string) {
	l.t.Helper()
	want := plan.Problem{Address: netip.MustParseAddr(address), Reason: why, Message: message}
	require.EventuallyWithT(l.t, func(c *assert.CollectT) {
		r := l.lastReport()
		require.Contains(c, r.Problems, want)
		require.False(c, r.Claims.Has(want.Address))
	}, patience, 10*time.Millisecond)
}
