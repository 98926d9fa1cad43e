package announcer_test

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/mdlayher/packet"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/vishvananda/netlink"
	"golang.org/x/net/ipv4"
	"golang.org/x/sys/unix"

	"baremetal.cloud/ccm/pkg/announcer"
	"baremetal.cloud/ccm/pkg/announcer/failover"
	"baremetal.cloud/ccm/pkg/announcer/internal/testlan"
	"baremetal.cloud/ccm/pkg/announcer/l2/arp"
	"baremetal.cloud/ccm/pkg/announcer/l2/ndp"
	"baremetal.cloud/ccm/pkg/announcer/l2/responder"
	"baremetal.cloud/ccm/pkg/announcer/plan"
)

// fast and slow are how nodes watch each other: fast is fast enough to wait for and lets a
// busy machine be late by seconds without anybody being taken for down, and with slow nobody is
// missed while a test lasts.
var (
	fast = plan.Failover{TransmitInterval: 100 * time.Millisecond, DetectMultiplier: 50}
	slow = plan.Failover{TransmitInterval: time.Second, DetectMultiplier: 60}
)

// bridged is a bridge with nodes that run announcers, and a host that resolves addresses.
type bridged struct {
	*lan
	bridge *testlan.Namespace
	nodes  []*member
	// proofs has plans carry proofs for claims.
	proofs bool
}

// member is a node on the bridge; its port there is called as it is.
type member struct {
	name      string
	space     *testlan.Namespace
	announcer *announcer.Announcer
	running   running
	// keeper takes the node's plans, and kept is what the announcer finds at its start.
	keeper *keeper
	kept   plan.NodePlan

	mu     sync.Mutex
	report plan.Report
	// block, while locked, stops the announcer's loop when it next reports something.
	block sync.Mutex
}

// newBridged starts announcers on n nodes, each with an IPv4 address if numbered.
func newBridged(t *testing.T, n int, numbered bool) *bridged {
	t.Helper()
	b := &bridged{lan: &lan{t: t, host: testlan.New(t)}, bridge: testlan.New(t)}
	b.bridge.Do(func() {
		attrs := netlink.NewLinkAttrs()
		attrs.Name = "br0"
		_ = netlink.LinkAdd(&netlink.Bridge{LinkAttrs: attrs}) // What it is for would fail.
	})
	b.bridge.Change(t, "br0", netlink.LinkSetUp)
	testlan.Veth(t, b.host, "host0", b.bridge, "host")
	b.host.Address(t, "host0", "192.0.2.1/24")
	b.host.Address(t, "host0", "2001:db8::1/64")
	b.plug("host")
	for i := range n {
		b.add(fmt.Sprintf("node%d", i+1), numbered, i)
	}
	b.host.AwaitUp(t, "host0")
	return b
}

func (b *bridged) add(name string, numbered bool, i int) {
	b.t.Helper()
	m := &member{name: name, space: testlan.New(b.t), keeper: newKeeper()}
	testlan.Veth(b.t, m.space, "eth0", b.bridge, name)
	if numbered {
		m.space.Address(b.t, "eth0", fmt.Sprintf("192.0.2.%d/24", 10+i))
	} else {
		m.space.Route(b.t, "eth0", "192.0.2.0/24", 0)
	}
	m.space.Address(b.t, "eth0", fmt.Sprintf("2001:db8::%d/64", 10+i))
	b.plug(name)
	m.space.AwaitUp(b.t, "eth0")
	b.nodes = append(b.nodes, m)
	b.start(m)
}

// start runs an announcer as the program does.
func (b *bridged) start(m *member) {
	m.announcer = announcer.New(announcer.Options{
		Node: m.name, IPv4: newResponder(arp.Protocol{}), IPv6: newResponder(ndp.Protocol{}),
		ListenIPv4: newListener(arp.Claims{}), ListenIPv6: newListener(ndp.Claims{}),
		Report: func(r plan.Report) {
			m.mu.Lock()
			m.report = r
			m.mu.Unlock()
			m.block.Lock()
			defer m.block.Unlock()
		},
		PersistedPlan: m.kept, Keeper: m.keeper,
	})
	m.running = run(m.space, m.announcer)
	b.t.Cleanup(func() { b.end(m) })
}

func (b *bridged) end(m *member) { m.running.end(b.t) }

// plug makes the port part of the bridge, and cut takes it out: frames are lost, and the
// node keeps its carrier.
func (b *bridged) plug(port string) {
	b.bridge.Change(b.t, port, func(l netlink.Link) error {
		br, err := netlink.LinkByName("br0")
		if err != nil {
			return err
		}
		return netlink.LinkSetMaster(l, br)
	})
}

func (b *bridged) cut(port string) { b.bridge.Change(b.t, port, netlink.LinkSetNoMaster) }

// key is what two nodes share.
func key(a, b string) plan.Key {
	names := []string{a, b}
	slices.Sort(names)
	var k plan.Key
	copy(k[:], fmt.Sprint(names))
	return k
}

// plan gives addresses to all nodes, the first one first, as revision r of term 1.
func (b *bridged) plan(r uint64, s plan.Failover, addresses ...string) {
	b.t.Helper()
	for _, m := range b.nodes {
		b.planFor(m, r, s, addresses...)
	}
}

// begin has the first node answer for addresses, as revision 1, before the others know of
// them by revision 2. Where all know of them at once the first has its turn of 200 ms, and a
// busy machine may let it pass: then the second one has the addresses, and keeps them.
func (b *bridged) begin(s plan.Failover, addresses ...string) {
	b.t.Helper()
	alone := &bridged{lan: b.lan, bridge: b.bridge, nodes: b.nodes[:1], proofs: b.proofs}
	alone.plan(1, plan.Failover{}, addresses...)
	b.awaitClaims(b.nodes[0], len(addresses))
	b.plan(2, s, addresses...)
}

func (b *bridged) planFor(m *member, r uint64, s plan.Failover, addresses ...string) {
	set := plan.NodePlan{Cluster: "c", Version: plan.Version{Term: 1, Revision: r}, Failover: s}
	var names []string
	for _, other := range b.nodes {
		names = append(names, other.name)
		if other != m {
			require.Eventually(b.t, func() bool { return len(other.lastReport().Interfaces) > 0 || len(b.carriers(other)) > 0 }, patience, time.Millisecond)
			set.Failover.Peers = append(set.Failover.Peers, plan.Peer{Node: other.name, Interfaces: b.carriers(other), Key: key(m.name, other.name)})
		}
	}
	for _, address := range addresses {
		a := plan.Assignment{Address: netip.MustParseAddr(address), Version: set.Version, Candidates: names}
		if b.proofs {
			set.Failover.ProofKey = key("proofs of", m.name)
			a = a.Proven(m.name, func(checker string) *plan.Prover { return plan.NewProver(key("proofs of", checker)) })
		}
		set.Assignments = set.Assignments.With(a)
	}
	m.announcer.OnPlan("replica", set)
}

// carriers returns the interface of a node as it reports it.
func (b *bridged) carriers(m *member) []plan.Interface {
	i := plan.Interface{Name: "eth0"}
	m.space.Do(func() {
		if l, err := netlink.LinkByName("eth0"); err == nil {
			found, _ := netlink.AddrList(l, netlink.FAMILY_ALL)
			for _, a := range found {
				p := netip.MustParsePrefix(a.IPNet.String())
				i.Prefixes = append(i.Prefixes, p)
			}
		}
	})
	return []plan.Interface{i}
}

func (m *member) lastReport() plan.Report {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.report
}

func (b *bridged) macOf(m *member) net.HardwareAddr {
	b.t.Helper()
	return m.space.Interface(b.t, "eth0").HardwareAddr
}

// awaitPeers waits until the node finds so many peers up.
func (b *bridged) awaitPeers(m *member, up int) {
	b.t.Helper()
	require.Eventually(b.t, func() bool { return m.announcer.Status().Peers[failover.Up] == up }, patience, 5*time.Millisecond,
		"%s: %v", m.name, m.announcer.Status())
}

func (b *bridged) awaitClaims(m *member, n int) {
	b.t.Helper()
	require.Eventually(b.t, func() bool { return m.lastReport().Claims.Len() == n }, patience, time.Millisecond)
}

// TestTakeover: a node that is cut off without noticing is replaced, over IPv4 and over
// IPv6 link-local, and when it is back it takes nothing back. Rows L1 and L10.
func TestTakeover(t *testing.T) {
	for name, numbered := range map[string]bool{"IPv4": true, "link-local": false} {
		t.Run(name, func(t *testing.T) {
			b := newBridged(t, 3, numbered)
			b.begin(fast, vip4, vip6)
			for _, m := range b.nodes {
				b.awaitPeers(m, 2)
			}
			first, second := b.nodes[0], b.nodes[1]
			b.awaitClaims(first, 2)
			b.resolve(vip4, b.macOf(first))
			b.resolve(vip6, b.macOf(first))

			cut := time.Now()
			b.cut(first.name)
			b.awaitClaims(second, 2)
			t.Logf("taken over after %s", time.Since(cut))
			b.resolve(vip4, b.macOf(second))
			b.resolve(vip6, b.macOf(second))
			require.Equal(t, []string{first.name}, second.lastReport().Down)
			require.Equal(t, uint64(2), second.announcer.Status().ClaimsStarted["takeover"])

			healed := time.Now()
			b.plug(first.name)
			b.awaitClaims(first, 0)
			t.Logf("settled %s after the heal", time.Since(healed))
			b.awaitPeers(second, 2)
			require.Eventually(t, func() bool { return len(second.lastReport().Down) == 0 }, patience, time.Millisecond)
			for range 5 {
				b.resolve(vip4, b.macOf(second))
			}
			require.Equal(t, 2, second.lastReport().Claims.Len())
			require.Zero(t, first.lastReport().Claims.Len())
			require.Zero(t, b.nodes[2].lastReport().Claims.Len())
		})
	}
}

// TestAThousandAddresses move at once.
func TestAThousandAddresses(t *testing.T) {
	b := newBridged(t, 2, true)
	var addresses []string
	for i := range 500 {
		addresses = append(addresses, fmt.Sprintf("192.0.%d.%d", 3+i/250, 1+i%250), fmt.Sprintf("2001:db8::1:%x", i+1))
	}
	b.begin(fast, addresses...)
	first, second := b.nodes[0], b.nodes[1]
	b.awaitPeers(first, 1)
	b.awaitPeers(second, 1)
	b.awaitClaims(first, 1000)
	cut := time.Now()
	b.cut(first.name)
	b.awaitClaims(second, 1000)
	b.resolve(addresses[1], b.macOf(second))
	require.Eventually(t, func() bool {
		s := second.announcer.Status().Responders
		return s["ipv4"].Announced >= 1000 && s["ipv6"].Announced >= 500
	}, patience, time.Millisecond)
	t.Logf("all are announced after %s", time.Since(cut))
	require.Zero(t, second.announcer.Status().Dropped[failover.ErrOverflow.Error()])
}

// TestLeaveIsHeard: who ends says so, and the next one answers without waiting for silence.
func TestLeaveIsHeard(t *testing.T) {
	b := newBridged(t, 2, true)
	b.begin(slow, vip4)
	b.awaitPeers(b.nodes[0], 1)
	b.awaitPeers(b.nodes[1], 1)
	b.awaitClaims(b.nodes[0], 1)
	b.end(b.nodes[0])
	require.Empty(t, b.nodes[0].lastReport().Interfaces)
	b.awaitClaims(b.nodes[1], 1)
	b.resolve(vip4, b.macOf(b.nodes[1]))
}

// TestMoveByPlan: under a newer list the new owner claims, and the old one stops when it
// hears so, whether it has the plan or not.
func TestMoveByPlan(t *testing.T) {
	b := newBridged(t, 2, true)
	b.begin(slow, vip4)
	b.awaitPeers(b.nodes[0], 1)
	b.awaitPeers(b.nodes[1], 1)
	b.awaitClaims(b.nodes[0], 1)
	slices.Reverse(b.nodes)
	b.planFor(b.nodes[0], 3, slow, vip4)
	b.awaitClaims(b.nodes[0], 1)
	b.awaitClaims(b.nodes[1], 0)
	b.resolve(vip4, b.macOf(b.nodes[0]))
}

// TestAStuckLoopAnswersNothing: while the loop that speaks with peers does not run, nothing
// is answered, and a peer takes over; afterwards the node begins anew.
func TestAStuckLoopAnswersNothing(t *testing.T) {
	b := newBridged(t, 2, true)
	b.begin(fast, vip4)
	first, second := b.nodes[0], b.nodes[1]
	b.awaitPeers(first, 1)
	b.awaitPeers(second, 1)
	b.resolve(vip4, b.macOf(first))
	first.block.Lock()
	b.planFor(first, 3, fast, vip4, vip6) // Something to report.
	b.awaitClaims(second, 1)
	b.resolve(vip4, b.macOf(second))
	require.Equal(t, 1, first.lastReport().Claims.Len(), "it never knew")
	b.resolve(vip6, nil)
	first.block.Unlock()
	b.awaitPeers(first, 1)
	b.awaitPeers(second, 1)
	b.resolve(vip6, b.macOf(first))
}

// TestOnlyPeersAreHeard: datagrams of strangers, forgeries and recordings are dropped, and
// counted by cause.
func TestOnlyPeersAreHeard(t *testing.T) {
	b := newBridged(t, 2, true)
	first, second := b.nodes[0], b.nodes[1]
	records := b.record(second.name, 10)
	b.begin(slow, vip4)
	b.awaitPeers(first, 1)
	b.awaitPeers(second, 1)
	b.awaitClaims(first, 1)

	leave := failover.Packet{From: first.name, Incarnation: 1, Seq: 1 << 60, Leave: true, Detect: time.Second}
	stranger := leave
	stranger.From = "mallory"
	real := failover.NewSealer(key(first.name, second.name), first.name, second.name).Seal(leave)
	forged := bytes.Clone(real)
	forged[len(forged)-1] ^= 1
	b.inject(second, forged)
	b.inject(second, failover.NewSealer(key("some", "body"), stranger.From, second.name).Seal(stranger))
	b.inject(second, real)
	b.inject(second, <-records)
	b.injectFrom(second, 254, real)
	b.inject(second, []byte{3, 2, 3})
	b.inject(second, []byte("GET / HTTP/1.1\r\n"))
	for _, cause := range []error{failover.ErrHopLimit, failover.ErrForged, failover.ErrStranger, failover.ErrUnproven, failover.ErrReplayed, failover.ErrMalformed, failover.ErrVersion} {
		require.Eventually(t, func() bool { return second.announcer.Status().Dropped[cause.Error()] > 0 }, patience, 5*time.Millisecond, cause)
	}
	require.Equal(t, 1, second.announcer.Status().Peers[failover.Up])
	assert.Zero(t, second.lastReport().Claims.Len())
}

// inject sends a datagram to a node from the host, as a machine on the segment does.
func (b *bridged) inject(m *member, datagram []byte) { b.injectFrom(m, 255, datagram) }

func (b *bridged) injectFrom(m *member, hops int, datagram []byte) {
	b.t.Helper()
	to := b.carriers(m)[0].Prefixes
	at := slices.IndexFunc(to, func(p netip.Prefix) bool { return p.Addr().Is4() })
	var err error
	b.host.Do(func() {
		var conn *net.UDPConn
		if conn, err = net.DialUDP("udp4", nil, net.UDPAddrFromAddrPort(netip.AddrPortFrom(to[at].Addr(), failover.Port))); err == nil {
			err = errors.Join(ipv4.NewConn(conn).SetTTL(hops), write(conn, datagram), conn.Close())
		}
	})
	require.NoError(b.t, err)
}

func write(c net.Conn, datagram []byte) error {
	_, err := c.Write(datagram)
	return err
}

// record returns the datagrams of the protocol that go to the node behind port, from other nodes.
func (b *bridged) record(port string, from ...byte) <-chan []byte {
	b.t.Helper()
	ifi := b.bridge.Interface(b.t, port)
	var conn *packet.Conn
	var err error
	b.bridge.Do(func() { conn, err = packet.Listen(ifi, packet.Raw, unix.ETH_P_ALL, nil) })
	require.NoError(b.t, err)
	out := make(chan []byte, 1000)
	b.t.Cleanup(func() { _ = conn.Close() })
	go func() {
		frame := make([]byte, 2048)
		for {
			n, _, err := conn.ReadFrom(frame)
			if err != nil {
				return
			}
			// IPv4 without options, UDP to the port, and an address that ends in one of from.
			const payload = 14 + 20 + 8
			if n > payload && frame[23] == unix.IPPROTO_UDP && bytes.Equal(frame[36:38], []byte{failover.Port >> 8, failover.Port & 0xff}) &&
				slices.Contains(from, frame[29]) && len(out) < cap(out) {
				out <- bytes.Clone(frame[payload:n])
			}
		}
	}()
	return out
}

// TestANodeThatWasNeverHeard: a backup that has just begun, and never heard the owner,
// takes the address over only where nobody answers for it.
func TestANodeThatWasNeverHeard(t *testing.T) {
	b := newBridged(t, 2, true)
	first, second := b.nodes[0], b.nodes[1]
	// The owner does as the plan says and speaks with nobody.
	b.planFor(first, 1, plan.Failover{}, vip4, vip6)
	b.awaitClaims(first, 2)
	b.planFor(second, 1, fast, vip4, vip6)
	require.Eventually(t, func() bool {
		// It has asked twice, three times each.
		s := first.announcer.Status().Responders
		return s["ipv4"].Outcomes[responder.Answered] >= 6 && s["ipv6"].Outcomes[responder.Answered] >= 6
	}, patience, 5*time.Millisecond)
	require.Zero(t, second.lastReport().Claims.Len())
	b.end(first)
	b.awaitClaims(second, 2)
	b.resolve(vip4, b.macOf(second))
	b.resolve(vip6, b.macOf(second))
}
