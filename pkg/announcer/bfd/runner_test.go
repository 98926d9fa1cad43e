package bfd

import (
	"context"
	"errors"
	"maps"
	"net/netip"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"baremetal.cloud/ccm/pkg/announcer/bfd/protocol"
)

var (
	addressA = netip.MustParseAddr("192.0.2.1")
	addressB = netip.MustParseAddr("192.0.2.2")
)

// segment joins the wires of Runners in one process.
type segment struct {
	// source, if valid, is what those who run from now on have at first instead of their address.
	source netip.Addr

	mu    sync.Mutex
	wires map[netip.Addr]*memory
}

// memory is a wire without a network.
type memory struct {
	*segment
	address netip.Addr
	wake    func()
	// Guarded by the segment's lock.
	waiting []datagram
	deaf    bool
	// unread says that nothing is read until everything is asked for.
	unread bool
	refuse error
	opened int
	// source, if valid, is what the kernel has instead of address.
	source netip.Addr
	sent   []protocol.Packet
}

var _ wire = (*memory)(nil)

func (m *memory) Open(map[socket][]admission) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.opened++
	return m.refuse
}

func (m *memory) Broken() bool { return false }

func (m *memory) Receive(everything bool) []datagram {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.unread && !everything {
		return nil
	}
	m.unread = false
	waiting := m.waiting
	m.waiting = nil
	return waiting
}

func (m *memory) Send(o outgoing) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.refuse != nil {
		return m.refuse
	}
	p, err := protocol.Parse(o.octets)
	if err != nil {
		return err
	}
	m.sent = append(m.sent, p)
	if to := m.wires[o.to]; to != nil && !to.deaf {
		to.waiting = append(to.waiting, datagram{socket: o.socket, from: o.from, to: o.to, ttl: 255, at: clock(), octets: o.octets})
		to.wake()
	}
	return nil
}

func (m *memory) Index(name string) (int, error) {
	if name != "eth0" {
		return 0, errors.New("no such interface")
	}
	return 1, nil
}

func (m *memory) Source(netip.Addr, int) (netip.Addr, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.source.IsValid() {
		return m.source, nil
	}
	return m.address, nil
}

func (m *memory) Close() {}

// change changes what the segment's lock guards.
func (m *memory) change(f func()) {
	m.mu.Lock()
	defer m.mu.Unlock()
	f()
}

// pulse is a Loop without sockets, in the bubble's time.
type pulse struct{ woken chan struct{} }

var _ Loop = pulse{}

func newPulse() pulse { return pulse{make(chan struct{}, 1)} }

func (pulse) Begin()                   {}
func (pulse) Hasten()                  {}
func (pulse) Relax()                   {}
func (pulse) Add(int, func()) error    { return nil }
func (pulse) Pause(int, time.Duration) {}
func (pulse) Remove(int)               {}
func (pulse) Nap(how time.Duration)    { time.Sleep(how) }
func (pulse) Close()                   {}
func (p pulse) Wait(pause time.Duration) {
	select {
	case <-p.woken:
	case <-time.After(pause):
	}
}
func (p pulse) Wake() {
	select {
	case p.woken <- struct{}{}:
	default:
	}
}

// clock is the bubble's.
func clock() time.Duration { return time.Since(time.Unix(0, 0)) }

// alias gives one wire a further address.
func (s *segment) alias(further, address netip.Addr) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.wires[further] = s.wires[address]
}

// node is a Runner, and what it has said.
type node struct {
	*Runner
	wire   *memory
	cancel context.CancelFunc
	ended  chan struct{}

	mu     sync.Mutex
	events []Event
}

// run starts a Runner on the segment that ends with the test.
func (s *segment) run(t *testing.T, address netip.Addr, options Options, configs ...SessionConfig) *node {
	t.Helper()
	n := &node{wire: &memory{segment: s, address: address, source: s.source}, ended: make(chan struct{})}
	hear := options.OnEvent
	options.OnEvent = func(e Event) {
		n.mu.Lock()
		n.events = append(n.events, e)
		n.mu.Unlock()
		if hear != nil {
			hear(e)
		}
	}
	options.Loop = newPulse()
	n.Runner = newRunner(options, n.wire, clock)
	n.wire.wake = n.wakeOwner
	s.mu.Lock()
	s.wires[address] = n.wire
	s.mu.Unlock()
	require.NoError(t, n.Set(configs))
	ctx, cancel := context.WithCancel(t.Context())
	n.cancel = cancel
	go func() {
		defer close(n.ended)
		_ = n.Run(ctx)
	}()
	t.Cleanup(n.end)
	return n
}

func (n *node) end() {
	n.cancel()
	<-n.ended
}

// heard returns the events so far and forgets them.
func (n *node) heard() []Event {
	n.mu.Lock()
	defer n.mu.Unlock()
	events := n.events
	n.events = nil
	return events
}

func (n *node) session(t *testing.T) Status {
	t.Helper()
	all := n.Sessions()
	require.Len(t, all, 1)
	return all[0]
}

func with(peer netip.Addr) SessionConfig {
	return SessionConfig{Key: Key{Peer: peer}, TransmitInterval: 50 * time.Millisecond, ReceiveInterval: 50 * time.Millisecond, DetectMultiplier: 3}
}

// bubble runs f on a false clock with a segment.
func bubble(t *testing.T, f func(t *testing.T, s *segment)) {
	synctest.Test(t, func(t *testing.T) { f(t, &segment{wires: map[netip.Addr]*memory{}}) })
}

// pair runs two Runners until both sessions are Up.
func (s *segment) pair(t *testing.T, options Options) (a, b *node) {
	t.Helper()
	a = s.run(t, addressA, options, with(addressB))
	b = s.run(t, addressB, options, with(addressA))
	time.Sleep(10 * time.Second)
	for _, n := range []*node{a, b} {
		require.Equal(t, Up, n.session(t).State)
		require.Equal(t, 50*time.Millisecond, n.session(t).Interval)
		require.Equal(t, 150*time.Millisecond, n.session(t).DetectionTime)
		events := n.heard()
		require.Equal(t, Up, events[len(events)-1].State)
		require.False(t, events[len(events)-1].Failure())
	}
	return a, b
}

func TestFailureIsHeard(t *testing.T) {
	bubble(t, func(t *testing.T, s *segment) {
		a, b := s.pair(t, Options{})
		began := time.Now()
		a.wire.change(func() { a.wire.deaf = true })
		time.Sleep(time.Second)
		events := a.heard()
		require.Len(t, events, 1)
		require.True(t, events[0].Failure())
		require.Equal(t, Key{Peer: addressB}, events[0].Key)
		require.Equal(t, protocol.DetectionTimeExpired, events[0].Diagnostic)
		require.InDelta(t, 125*time.Millisecond, events[0].Since.Sub(began), float64(25*time.Millisecond))

		events = b.heard()
		require.True(t, events[0].Failure())
		require.Equal(t, protocol.NeighborSignaledDown, events[0].Diagnostic)
		require.Equal(t, protocol.DetectionTimeExpired, events[0].RemoteDiagnostic)
		require.Equal(t, uint64(1), b.session(t).Downs)

		a.wire.change(func() { a.wire.deaf = false })
		time.Sleep(10 * time.Second)
		require.Equal(t, Up, a.session(t).State)
		require.Equal(t, uint64(2), b.session(t).Ups)
	})
}

// TestSetKeepsWhatStays: an entry that is there again, or with other timers, keeps its session.
func TestSetKeepsWhatStays(t *testing.T) {
	bubble(t, func(t *testing.T, s *segment) {
		a, b := s.pair(t, Options{})
		slower := with(addressB)
		slower.TransmitInterval, slower.DetectMultiplier = 200*time.Millisecond, 5
		other := with(netip.MustParseAddr("192.0.2.3"))
		require.NoError(t, a.Set([]SessionConfig{other, slower}))
		time.Sleep(10 * time.Second)
		all := a.Sessions()
		require.Len(t, all, 2)
		require.Equal(t, []State{Up, Down}, []State{all[0].State, all[1].State})
		require.Equal(t, 200*time.Millisecond, all[0].Interval)
		require.Equal(t, time.Second, b.session(t).DetectionTime)

		require.NoError(t, a.Set([]SessionConfig{with(addressB)}))
		time.Sleep(10 * time.Second)
		require.Equal(t, 50*time.Millisecond, a.session(t).Interval)
		require.Equal(t, 150*time.Millisecond, b.session(t).DetectionTime)
		require.Empty(t, a.heard())
		require.Empty(t, b.heard())

		before := a.session(t).Received
		time.Sleep(time.Second)
		require.InDelta(t, 50*time.Millisecond, a.session(t).LongestGap, float64(5*time.Millisecond))
		require.InDelta(t, 1000/(50*0.875), float64(a.session(t).Received-before), 5, "jitter takes an eighth off")
	})
}

// TestAdminDown: a session that ends on purpose is not a failure, where the peer is told.
func TestAdminDown(t *testing.T) {
	for _, told := range []bool{true, false} {
		for name, end := range map[string]func(*node){
			"Set":  func(n *node) { _ = n.Set(nil) },
			"Run":  (*node).end,
			"both": func(n *node) { _ = n.Set(nil); n.end() },
		} {
			t.Run(name, func(t *testing.T) {
				bubble(t, func(t *testing.T, s *segment) {
					a, b := s.pair(t, Options{AdminDown: told})
					a.wire.change(func() { a.wire.sent = nil })
					end(a)
					time.Sleep(time.Second)
					require.Empty(t, a.heard(), "who ended it need not be told")
					require.Empty(t, a.Sessions())
					events := b.heard()
					require.Len(t, events, 1)
					require.Equal(t, Down, events[0].State)
					require.Equal(t, !told, events[0].Failure())
					time.Sleep(10 * time.Second)
					require.Empty(t, b.heard())
					a.wire.change(func() {
						require.Len(t, a.wire.sent, map[bool]int{true: 3, false: 0}[told])
						for _, p := range a.wire.sent {
							require.Equal(t, AdminDown, p.State)
						}
					})
				})
			})
		}
	}
}

// TestReturn: a session that is wanted again while it still says goodbye does so at once.
func TestReturn(t *testing.T) {
	bubble(t, func(t *testing.T, s *segment) {
		a, b := s.pair(t, Options{AdminDown: true})
		require.NoError(t, a.Set(nil))
		time.Sleep(time.Millisecond)
		require.NoError(t, a.Set([]SessionConfig{with(addressB)}))
		time.Sleep(10 * time.Second)
		require.Equal(t, Up, a.session(t).State)
		require.Equal(t, uint64(1), b.session(t).Downs)
		for _, e := range b.heard() {
			require.False(t, e.Failure())
		}
	})
}

// TestOversleep: an owner that did not run for longer than the detection time reads what has
// come before it calls anybody gone.
func TestOversleep(t *testing.T) {
	bubble(t, func(t *testing.T, s *segment) {
		var sleep time.Duration // Of a's goroutine only.
		third := netip.MustParseAddr("192.0.2.3")
		patient := with(addressB)
		patient.DetectMultiplier = 100
		var a *node
		a = s.run(t, addressA, Options{OnEvent: func(e Event) {
			if e.Peer == third && e.State == Up {
				time.Sleep(sleep)
				a.wire.change(func() { a.wire.unread = true })
			}
		}}, patient, with(third))
		sleep = time.Second
		b := s.run(t, addressB, Options{}, with(addressA))
		time.Sleep(10 * time.Second)
		require.Equal(t, Up, b.session(t).State)
		c := s.run(t, third, Options{}, with(addressA)) // Its coming up puts a to sleep.
		time.Sleep(10 * time.Second)
		require.Equal(t, Up, a.Sessions()[0].State)
		require.Zero(t, a.Sessions()[0].Downs)
		require.Zero(t, b.session(t).Downs)
		require.NotZero(t, c.session(t).Downs, "c was not that patient: a has slept")
	})
}

// TestSocketsAreTriedAgain: what cannot be opened is tried each second, and what cannot be
// sent is told.
func TestSocketsAreTriedAgain(t *testing.T) {
	bubble(t, func(t *testing.T, s *segment) {
		taken := errors.New("address already in use")
		a := s.run(t, addressA, Options{}, with(addressB))
		a.wire.change(func() { a.wire.refuse = taken })
		require.NoError(t, a.Set([]SessionConfig{with(addressB), {
			Key: Key{Peer: addressB, Multihop: true}, TransmitInterval: time.Second, ReceiveInterval: time.Second, DetectMultiplier: 3,
		}}))
		time.Sleep(10500 * time.Millisecond)
		require.Equal(t, taken, a.Sessions()[0].Problem)
		a.wire.change(func() {
			require.InDelta(t, 12, a.wire.opened, 1)
			a.wire.refuse = nil
		})
		time.Sleep(5 * time.Second)
		require.NoError(t, a.Sessions()[0].Problem)
		a.wire.change(func() { require.InDelta(t, 13, a.wire.opened, 1) })
	})
}

// TestScopeOfTheSource: while the only address that may be used is of another scope, nothing is
// sent; and a session that is not Down keeps the address that it came up with.
func TestScopeOfTheSource(t *testing.T) {
	bubble(t, func(t *testing.T, s *segment) {
		global, peer, other := netip.MustParseAddr("2001:db8::1"), netip.MustParseAddr("2001:db8::2"), netip.MustParseAddr("2001:db8::9")
		s.source = netip.MustParseAddr("fe80::1")
		a := s.run(t, global, Options{}, with(peer))
		s.source = netip.Addr{}
		b := s.run(t, peer, Options{}, with(global))
		time.Sleep(10 * time.Second)
		require.Equal(t, errScope, a.session(t).Problem)
		require.Zero(t, a.session(t).Sent)
		require.Zero(t, b.session(t).Received)
		a.wire.change(func() { a.wire.source = netip.Addr{} })
		time.Sleep(10 * time.Second)
		require.NoError(t, a.session(t).Problem)
		require.Equal(t, Up, a.session(t).State)

		a.wire.change(func() { a.wire.source = other })
		time.Sleep(10 * time.Second)
		require.Equal(t, uint64(1), a.session(t).Ups)
		require.Empty(t, b.Dropped())
		b.end()
		time.Sleep(10 * time.Second)
		b = s.run(t, peer, Options{}, with(other))
		s.alias(other, global)
		time.Sleep(10 * time.Second)
		require.Equal(t, Up, b.session(t).State, "it comes up from the address that there is now")
	})
}

// TestDemultiplex is RFC 5880 §6.3, RFC 5881 §3 and §5, and RFC 5883 §3 and §5: which session
// a packet is for, and why it is for none.
func TestDemultiplex(t *testing.T) {
	bubble(t, func(t *testing.T, s *segment) {
		local, far := netip.MustParseAddr("192.0.2.9"), netip.MustParseAddr("198.51.100.1")
		bound := with(netip.MustParseAddr("192.0.2.4"))
		bound.Interface = "eth0"
		from := with(netip.MustParseAddr("192.0.2.5"))
		from.Local = local
		hops := with(far)
		hops.Multihop, hops.MinimumTTL = true, 250
		precise := with(from.Peer)
		precise.Local, precise.Interface = local, "eth0"
		global, linkLocal := with(netip.MustParseAddr("2001:db8::2")), with(netip.MustParseAddr("fe80::2"))
		linkLocal.Interface = "eth0"
		r := newRunner(Options{}, &memory{segment: s, address: addressA}, clock)
		require.NoError(t, r.Set([]SessionConfig{with(addressB), bound, from, precise, hops, global, linkLocal}))
		r.stepAll()
		number := func(c SessionConfig) uint32 {
			x := r.sessions[c.Key].machine.Status()
			return x.Discriminator
		}

		single, multi, six := socket{}, socket{multihop: true}, socket{ipv6: true}
		for name, c := range map[string]struct {
			datagram
			your uint32
			want any // a SessionConfig or an error
		}{
			"by address":                         {datagram{socket: single, from: addressB, ttl: 255}, 0, with(addressB)},
			"forwarded":                          {datagram{socket: single, from: addressB, ttl: 254}, 0, errTTL},
			"without a TTL":                      {datagram{socket: single, from: addressB, ttl: -1}, 0, errTTL},
			"forwarded, with the discriminator":  {datagram{socket: single, from: addressB, ttl: 254}, number(with(addressB)), errTTL},
			"by discriminator":                   {datagram{socket: single, from: addressB, ttl: 255}, number(with(addressB)), with(addressB)},
			"by discriminator from anywhere":     {datagram{socket: single, from: far, ttl: 255}, number(with(addressB)), with(addressB)},
			"to the port that checks no TTL":     {datagram{socket: multi, from: addressB, ttl: 64}, number(with(addressB)), errDiscriminator},
			"by a discriminator of nobody":       {datagram{socket: single, from: addressB, ttl: 255}, 1, errDiscriminator},
			"from a stranger":                    {datagram{socket: single, from: far, ttl: 255}, 0, errStranger},
			"by interface":                       {datagram{socket: single, from: bound.Peer, index: 1, ttl: 255}, 0, bound},
			"from another interface":             {datagram{socket: single, from: bound.Peer, index: 2, ttl: 255}, 0, errStranger},
			"to the local address":               {datagram{socket: single, from: from.Peer, to: local, ttl: 255}, 0, from},
			"to another address":                 {datagram{socket: single, from: from.Peer, to: addressA, ttl: 255}, 0, errStranger},
			"to the local address, by interface": {datagram{socket: single, from: from.Peer, to: local, index: 1, ttl: 255}, 0, precise},
			"global to global":                   {datagram{socket: six, from: global.Peer, to: netip.MustParseAddr("2001:db8::1"), index: 1, ttl: 255}, 0, global},
			"global to link-local":               {datagram{socket: six, from: global.Peer, to: netip.MustParseAddr("fe80::1"), index: 1, ttl: 255}, 0, errStranger},
			"link-local to link-local":           {datagram{socket: six, from: linkLocal.Peer, to: netip.MustParseAddr("fe80::1"), index: 1, ttl: 255}, 0, linkLocal},
			"link-local to global":               {datagram{socket: six, from: linkLocal.Peer, to: netip.MustParseAddr("2001:db8::1"), index: 1, ttl: 255}, 0, errStranger},
			"over several hops":                  {datagram{socket: multi, from: far, ttl: 250}, 0, hops},
			"several hops to the other port":     {datagram{socket: single, from: far, ttl: 255}, 0, errStranger},
		} {
			p := protocol.Packet{State: Down, DetectMultiplier: 3, MyDiscriminator: 7, YourDiscriminator: c.your, DesiredMinTx: time.Second, RequiredMinRx: time.Second}
			c.octets = p.Encode("")
			found, _, err := r.demultiplex(c.datagram)
			if want, isError := c.want.(error); isError {
				require.Equal(t, want, err, name)
				continue
			}
			require.NoError(t, err, name)
			require.Equal(t, c.want.(SessionConfig).Key, found.config.Key, name)
		}

		// What reaches no session is counted apart from what its session does not count.
		down := protocol.Packet{State: Down, DetectMultiplier: 3, MyDiscriminator: 7}.Encode("")
		signed := protocol.Packet{State: Down, DetectMultiplier: 3, MyDiscriminator: 7, Authentication: protocol.Authentication{Type: KeyedSHA1}}.Encode("k")
		r.receiveDatagram(datagram{socket: single, from: far, ttl: 255, octets: down}, clock())
		r.receiveDatagram(datagram{socket: single, from: far, ttl: 255, octets: down[:10]}, clock())
		r.receiveDatagram(datagram{socket: multi, from: far, ttl: 249, octets: down}, clock())
		r.receiveDatagram(datagram{socket: multi, from: far, ttl: 255, octets: signed}, clock())
		require.Equal(t, map[string]uint64{errStranger.Error(): 1, protocol.ErrTruncated.Error(): 1}, r.Dropped())
		require.Equal(t, map[string]uint64{errTTL.Error(): 1, protocol.ErrAuthType.Error(): 1}, r.sessions[hops.Key].dropped)
		require.Equal(t, Down, r.sessions[hops.Key].machine.Status().State)
	})
}

func TestConfigsThatCannotWork(t *testing.T) {
	r := newRunner(Options{}, &memory{}, clock)
	change := func(f func(*SessionConfig)) SessionConfig {
		c := with(addressB)
		f(&c)
		return c
	}
	for want, c := range map[string]SessionConfig{
		"no address of one system":                  change(func(c *SessionConfig) { c.Peer = netip.Addr{} }),
		"192.0.2.2 from 2001:db8::1: local address": change(func(c *SessionConfig) { c.Local = netip.MustParseAddr("2001:db8::1") }),
		"only one is link-local": change(func(c *SessionConfig) {
			c.Peer, c.Interface, c.Local = netip.MustParseAddr("fe80::2"), "eth0", netip.MustParseAddr("2001:db8::1")
		}),
		"bound to interface eth0":        change(func(c *SessionConfig) { c.Multihop, c.Interface = true, "eth0" }),
		"multihop to a link-local":       change(func(c *SessionConfig) { c.Multihop, c.Peer = true, netip.MustParseAddr("fe80::1") }),
		"no interface given":             change(func(c *SessionConfig) { c.Peer = netip.MustParseAddr("fe80::1") }),
		"minimum TTL 254":                change(func(c *SessionConfig) { c.MinimumTTL = 254 }),
		"transmit interval 9ms is not":   change(func(c *SessionConfig) { c.TransmitInterval = 9 * time.Millisecond }),
		"receive interval 2h0m0s is not": change(func(c *SessionConfig) { c.ReceiveInterval = 2 * time.Hour }),
		"detect multiplier 0":            change(func(c *SessionConfig) { c.DetectMultiplier = 0 }),
		"key of 0 octets":                change(func(c *SessionConfig) { c.Auth = &Auth{Type: KeyedSHA1} }),
	} {
		other := with(addressA)
		require.ErrorContains(t, r.Set([]SessionConfig{c, other}), want)
		require.Equal(t, map[Key]SessionConfig{other.Key: other}, r.wanted, "the others are there")
	}
	require.ErrorContains(t, r.Set([]SessionConfig{with(addressB), change(func(c *SessionConfig) { c.Peer = netip.MustParseAddr("::ffff:192.0.2.2") })}), "there twice")

	zoned := with(netip.MustParseAddr("fe80::1%eth0"))
	require.NoError(t, r.Set([]SessionConfig{zoned, with(addressB)}))
	require.ElementsMatch(t, []Key{{Peer: netip.MustParseAddr("fe80::1"), Interface: "eth0"}, {Peer: addressB}}, keys(maps.Clone(r.wanted)))
}

func keys(m map[Key]SessionConfig) []Key {
	var all []Key
	for k := range m {
		all = append(all, k)
	}
	return all
}
