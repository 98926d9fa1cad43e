package probe_test

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"os"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/net/bpf"

	"baremetal.cloud/ccm/pkg/announcer/l2/arp"
	"baremetal.cloud/ccm/pkg/announcer/l2/probe"
	"baremetal.cloud/ccm/pkg/announcer/l2/responder"
)

var (
	ours, theirs = net.HardwareAddr{2, 0, 0, 0, 0, 1}, net.HardwareAddr{2, 0, 0, 0, 0, 2}
	held         = netip.MustParseAddr("192.0.2.200")
	free         = netip.MustParseAddr("192.0.2.201")
	mine         = netip.MustParseAddr("192.0.2.202")
)

// segment is a socket on which each probe is answered by whoever has the address.
type segment struct {
	holders map[netip.Addr]net.HardwareAddr
	answers chan []byte
	// over is closed at the deadline.
	over   chan struct{}
	sent   int
	broken error
	// slow is how long each frame takes.
	slow   time.Duration
	closed bool
	once   sync.Once
}

func (s *segment) Send([]byte) error { return errors.ErrUnsupported }

func (s *segment) WriteTo(frame []byte, _ net.Addr) (int, error) {
	s.sent++
	time.Sleep(s.slow)
	select {
	case <-s.over:
		return 0, os.ErrDeadlineExceeded
	default:
	}
	for address, mac := range s.holders {
		port := &responder.Port{MAC: mac, Addresses: responder.NewAddresses(address)}
		// A host does not answer itself; what comes back is what others make of it.
		frame := append([]byte{}, frame...)
		copy(frame[6:12], net.HardwareAddr{2, 9, 9, 9, 9, 9})
		copy(frame[22:28], net.HardwareAddr{2, 9, 9, 9, 9, 9})
		if reply, _ := (arp.Protocol{}).Decide(frame, port); reply != nil {
			s.answers <- reply
		}
	}
	return len(frame), s.broken
}

func (s *segment) ReadFrom(frame []byte) (int, net.Addr, error) {
	select {
	case answer := <-s.answers:
		return copy(frame, answer), nil, nil
	case <-s.over:
		return 0, nil, os.ErrDeadlineExceeded
	}
}

func (s *segment) SetDeadline(t time.Time) error {
	time.AfterFunc(time.Until(t), func() { s.once.Do(func() { close(s.over) }) })
	return nil
}
func (s *segment) SetWriteDeadline(time.Time) error  { return nil }
func (s *segment) SetBPF([]bpf.RawInstruction) error { return nil }
func (s *segment) Close() error                      { s.closed = true; return nil }
func (s *segment) open(err error) responder.ListenFunc {
	return func(*responder.Port, int, []bpf.RawInstruction) (responder.Conn, error) { return s, err }
}

func ports() []*responder.Port {
	return []*responder.Port{{Index: 2, Name: "eth0", MAC: ours, Addresses: responder.NewAddresses(held, free, mine)}}
}

// TestRun asks three times for each address, and does not take itself for another machine.
func TestRun(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &segment{holders: map[netip.Addr]net.HardwareAddr{held: theirs, mine: ours}, answers: make(chan []byte, 100), over: make(chan struct{})}
		q, err := probe.New(arp.Protocol{}, s.open(nil), ports())
		require.NoError(t, err)
		began := time.Now()
		found, err := q.Run(t.Context(), probe.Quick)
		require.NoError(t, err)
		require.Equal(t, []probe.Holder{{Address: held, MAC: theirs.String(), Interface: "eth0"}}, found)
		require.Equal(t, probe.Duration(probe.Quick), time.Since(began))
		require.Equal(t, 9, s.sent)
		require.True(t, s.closed)
	})
}

// TestHeldUp is a machine that lets the program wait: it asks as often, and listens after that.
func TestHeldUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &segment{
			holders: map[netip.Addr]net.HardwareAddr{held: theirs}, answers: make(chan []byte, 100), over: make(chan struct{}),
			slow: probe.Duration(probe.Quick) / 2,
		}
		q, err := probe.New(arp.Protocol{}, s.open(nil), ports())
		require.NoError(t, err)
		began := time.Now()
		found, err := q.Run(t.Context(), probe.Quick)
		require.NoError(t, err)
		require.Equal(t, []probe.Holder{{Address: held, MAC: theirs.String(), Interface: "eth0"}}, found)
		require.Greater(t, time.Since(began), 9*s.slow)
		require.Equal(t, 9, s.sent)
	})
}

// TestEnd: asking ends with its context, whether it asks or listens.
func TestEnd(t *testing.T) {
	for name, after := range map[string]time.Duration{"asking": probe.Patient / 2, "listening": 5 * probe.Patient / 2} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := &segment{holders: map[netip.Addr]net.HardwareAddr{held: theirs}, answers: make(chan []byte, 100), over: make(chan struct{})}
				q, err := probe.New(arp.Protocol{}, s.open(nil), ports())
				require.NoError(t, err)
				ctx, cancel := context.WithTimeout(t.Context(), after)
				defer cancel()
				began := time.Now()
				_, err = q.Run(ctx, probe.Patient)
				require.ErrorIs(t, err, context.DeadlineExceeded)
				require.Equal(t, after, time.Since(began))
				require.True(t, s.closed)
			})
		})
	}
}

// TestEndWhileHeldUp: asking for very many ends soon too, where frames leave slowly.
func TestEndWhileHeldUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &segment{answers: make(chan []byte, 100), over: make(chan struct{}), slow: time.Second / 2}
		var many []netip.Addr
		for i := range 200 {
			many = append(many, netip.AddrFrom4([4]byte{10, 0, 0, byte(i)}))
		}
		q, err := probe.New(arp.Protocol{}, s.open(nil), []*responder.Port{{Index: 2, Name: "eth0", MAC: ours, Addresses: responder.NewAddresses(many...)}})
		require.NoError(t, err)
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		began := time.Now()
		_, err = q.Run(ctx, probe.Quick)
		require.ErrorIs(t, err, context.DeadlineExceeded)
		require.Less(t, time.Since(began), 10*time.Second)
	})
}

// TestManyHolders: however many machines say that they have an address, it is told of few.
func TestManyHolders(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &segment{answers: make(chan []byte, 100), over: make(chan struct{})}
		for i := range 20 {
			frame := arp.Protocol{}.Announcement(&responder.Port{MAC: net.HardwareAddr{2, 0, 0, 0, 1, byte(i)}}, held)[0]
			s.answers <- frame
			s.answers <- frame
		}
		q, err := probe.New(arp.Protocol{}, s.open(nil), ports())
		require.NoError(t, err)
		found, err := q.Run(t.Context(), probe.Quick)
		require.NoError(t, err)
		require.Len(t, found, 4)
		require.Equal(t, probe.Holder{Address: held, MAC: "02:00:00:00:01:00", Interface: "eth0"}, found[0])
	})
}

// TestWhatCannotBeAsked is an error and not an answer.
func TestWhatCannotBeAsked(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, err := probe.New(arp.Protocol{}, (&segment{}).open(errors.New("no buffers")), ports())
		require.EqualError(t, err, "ask on eth0: no buffers")
		s := &segment{broken: errors.New("network is down"), over: make(chan struct{})}
		q, err := probe.New(arp.Protocol{}, s.open(nil), ports())
		require.NoError(t, err)
		_, err = q.Run(t.Context(), probe.Quick)
		require.ErrorIs(t, err, s.broken)
		require.True(t, s.closed)
	})
}
