package dialer

import (
	"bufio"
	"bytes"
	"context"
	"net"
	"net/netip"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"baremetal.cloud/ccm/pkg/announcer/plan"
	"baremetal.cloud/ccm/pkg/reason"
)

// sink is a connection that only takes.
type sink struct {
	net.Conn
	*bytes.Buffer
}

func (s sink) Write(b []byte) (int, error)      { return s.Buffer.Write(b) }
func (s sink) Read([]byte) (int, error)         { return 0, net.ErrClosed }
func (s sink) SetWriteDeadline(time.Time) error { return nil }

// deaf returns a relay of an established session, and what gobgp is told.
func deaf(t *testing.T) (*relay, *bytes.Buffer) {
	t.Helper()
	told := &bytes.Buffer{}
	c := settings()
	ctx, cancel := context.WithCancel(t.Context())
	t.Cleanup(cancel)
	return &relay{
		dialer: &Dialer{config: c, options: Options{OnState: func() {}}}, config: c, inner: sink{Buffer: told}, ctx: ctx, cancel: cancel,
		router: theirs, phase: plan.BGPEstablished,
	}, told
}

// settings are those of a session to a router that offers theirs.
func settings() Config {
	return Config{Router: addrPortOf("192.0.2.1:179"), ConnectRetry: time.Second, Keepalive: 3 * time.Second, PeerASN: theirs.ASN, Open: ours}
}

// heard is a message with when it came.
type heard struct {
	frame
	at time.Time
}

// end is one end of a connection, which reads all that comes.
type end struct {
	net.Conn
	mu     sync.Mutex
	frames []heard
	closed bool
}

func newEnd(conn net.Conn) *end {
	e := &end{Conn: conn}
	go func() {
		in := bufio.NewReaderSize(conn, buffer)
		for {
			f, err := readFrame(in)
			e.mu.Lock()
			if err != nil {
				e.closed = true
				e.mu.Unlock()
				return
			}
			e.frames = append(e.frames, heard{bytes.Clone(f), time.Now()})
			e.mu.Unlock()
		}
	}()
	return e
}

// take returns what has come since it was called last.
func (e *end) take() []heard {
	synctest.Wait()
	e.mu.Lock()
	defer e.mu.Unlock()
	out := e.frames
	e.frames = nil
	return out
}

// kinds returns what has come as types of messages.
func (e *end) kinds() []kind {
	out := []kind{}
	for _, f := range e.take() {
		out = append(out, f.kind())
	}
	return out
}

func (e *end) isClosed() bool {
	synctest.Wait()
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.closed
}

// lab is a Dialer between a gobgp and a router that do what the test says.
type lab struct {
	*Dialer
	t             *testing.T
	gobgp, router *end
	over          chan struct{}
}

// newLab returns one that has connected to the router. It has to be called in a bubble.
func newLab(t *testing.T, c Config) *lab {
	t.Helper()
	l := &lab{t: t, Dialer: &Dialer{config: c, options: Options{OnState: func() {}, OnConnected: func(context.Context, netip.Addr) {}}}}
	l.reconnect()
	return l
}

// reconnect has gobgp connect, and the router after it.
func (l *lab) reconnect() {
	l.t.Helper()
	routers := make(chan net.Conn, 1)
	l.dial = func(context.Context, Config) (net.Conn, error) {
		near, far := net.Pipe()
		routers <- far
		return near, nil
	}
	near, far := net.Pipe()
	l.gobgp, l.over = newEnd(far), make(chan struct{})
	go func() {
		defer close(l.over)
		l.serve(context.Background(), near)
	}()
	l.say(l.gobgp, open())
	l.router = newEnd(<-routers)
	l.t.Cleanup(func() {
		_ = l.gobgp.Close()
		_ = l.router.Close()
		<-l.over
	})
}

// addrPortOf returns the address that s is.
func addrPortOf(s string) netip.AddrPort { return netip.MustParseAddrPort(s) }

func (l *lab) say(from *end, frames ...frame) {
	l.t.Helper()
	for _, f := range frames {
		_, err := from.Write(f)
		require.NoError(l.t, err)
	}
	synctest.Wait()
}

// establish goes through the beginning of a session to a router that offers o.
func (l *lab) establish(o Open) {
	l.t.Helper()
	l.say(l.router, o.frame())
	l.say(l.gobgp, keepalive())
	l.say(l.router, keepalive())
	require.Equal(l.t, plan.BGPEstablished, l.State().Phase)
	require.Equal(l.t, []kind{kindOpen, kindKeepalive}, l.router.kinds())
	require.Equal(l.t, []kind{kindOpen, kindKeepalive}, l.gobgp.kinds())
}

// TestFault_K5_6_OpensAreWrittenAnew: each side reads an OPEN of this package, and no capability
// that it does not know.
func TestFault_K5_6_OpensAreWrittenAnew(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLab(t, settings())
		sent := l.router.take()
		require.Len(t, sent, 1)
		require.Equal(t, ours.frame(), sent[0].frame)
		// A host name, a software version without one, ADD-PATH, long-lived graceful restart.
		capabilities := append([]byte{73, 3, 1, 'x', 0, 75, 1, 0, 69, 4, 0, 1, 1, 3, 71, 0}, theirs.capabilities()...)
		l.say(l.router, open(capabilities...))
		told := l.gobgp.take()
		require.Len(t, told, 1)
		require.Equal(t, Open{
			ASN: 64513, HoldTime: 9, Identifier: theirs.Identifier, MultiProtocol: true, Families: both, FourOctet: true, RouteRefresh: true,
			GracefulRestart: GracefulRestart{Offered: true, Time: 90, Families: both},
		}.frame(), told[0].frame)
	})
}

// TestFault_K5_6_Advisories: of no message of a published advisory does gobgp read a byte.
func TestFault_K5_6_Advisories(t *testing.T) {
	for _, shape := range advisories() {
		t.Run(shape.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				l := newLab(t, settings())
				l.establish(theirs)
				time.Sleep(aliveInterval)
				l.say(l.router, shape.f)
				require.Equal(t, []kind{kindKeepalive}, l.gobgp.kinds())
				require.Empty(t, l.router.kinds())
			})
		})
	}
	t.Run("GHSA-gjrg-jjr3-56cm a capability of another length", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			l := newLab(t, settings())
			require.Equal(t, []kind{kindOpen}, l.router.kinds())
			l.say(l.router, open(65, 0, 1, 4, 0, 1, 0, 1))
			require.Equal(t, []kind{kindNotification}, l.gobgp.kinds())
			require.Equal(t, []kind{kindNotification}, l.router.kinds())
			require.Equal(t, End{reason.NotificationSent, "the router is not what it should be: OPEN Message Error (2/0)"}, l.State().End)
		})
	})
}

// TestFault_K5_6_MillionPrefixes: a router that sends a million prefixes within a minute keeps
// its session with a hold time of 9 s, also where it sends no KEEPALIVE meanwhile.
func TestFault_K5_6_MillionPrefixes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLab(t, settings())
		l.establish(theirs)
		prefixes := bytes.Repeat([]byte{24, 10, 1, 2}, 500)
		f := update(nil, []byte{0x40, 1, 1, 0, 0x40, 2, 6, 2, 1, 0, 0, 0xfc, 1, 0x40, 3, 4, 192, 0, 2, 1}, prefixes)
		began := time.Now()
		for range 2000 {
			l.say(l.router, f)
			time.Sleep(30 * time.Millisecond)
		}
		require.Equal(t, time.Minute, time.Since(began))
		require.EqualValues(t, 1_000_000, l.State().Received)
		require.Equal(t, plan.BGPEstablished, l.State().Phase)
		told := l.gobgp.take()
		require.InDelta(t, 60, len(told), 2)
		for _, f := range told {
			require.Equal(t, kindKeepalive, f.kind())
			require.Less(t, f.at.Sub(began), 2*aliveInterval)
			began = f.at
		}
	})
}

// TestFault_K5_6_UpdatesCostNoMemory: to read and count an UPDATE takes none that is kept.
func TestFault_K5_6_UpdatesCostNoMemory(t *testing.T) {
	r, _ := deaf(t)
	f := update(nil, []byte{0x40, 1, 1, 0}, bytes.Repeat([]byte{24, 10, 1, 2}, 500))
	now := time.Now()
	r.alive = now
	require.Zero(t, testing.AllocsPerRun(1000, func() {
		if _, over := r.hear(f, now); over {
			panic("the session has ended")
		}
	}))
}

// TestFault_K5_6_RefreshFlood: of the ROUTE-REFRESHes of a router gobgp reads one of a family in
// ten seconds, and the last one in any case.
func TestFault_K5_6_RefreshFlood(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLab(t, settings())
		l.establish(theirs)
		for range 250 {
			l.say(l.router, refresh(Families{IPv4: true}), refresh(Families{IPv6: true}))
			time.Sleep(100 * time.Millisecond)
		}
		count := func() (n int) {
			for _, k := range l.gobgp.kinds() {
				if k == kindRefresh {
					n++
				}
			}
			return n
		}
		require.Equal(t, 2*3, count())
		time.Sleep(refreshInterval + upkeep)
		require.Equal(t, 2, count(), "the last ones, which had to wait")
		time.Sleep(time.Minute)
		require.Zero(t, count())
	})
}

// Reading has a rate, after a burst.
func TestPace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		began := time.Now()
		p := &paced{Reader: endless{}}
		b := make([]byte, buffer)
		for total := 0; total < 10*readRate; total += len(b) {
			_, err := p.Read(b)
			require.NoError(t, err)
		}
		require.InDelta(t, 10-float64(readBurst)/readRate, time.Since(began).Seconds(), 0.1)
	})
}

// endless can be read from for ever.
type endless struct{}

func (endless) Read(b []byte) (int, error) { return len(b), nil }

// What the router sends before its time ends the session, and gobgp reads none of it.
func TestUnexpectedMessages(t *testing.T) {
	for name, tt := range map[string]struct {
		before []frame
		f      frame
		want   Notification
	}{
		"UPDATE before OPEN":      {nil, endOfRIB(Families{IPv4: true}), Notification{5, 1, []byte{2}}},
		"UPDATE before KEEPALIVE": {[]frame{theirs.frame()}, endOfRIB(Families{IPv4: true}), Notification{5, 2, []byte{2}}},
		"another OPEN":            {[]frame{theirs.frame(), keepalive()}, theirs.frame(), Notification{5, 3, []byte{1}}},
		"no BGP":                  {nil, frame("GET / HTTP/1.1\r\nHost: router\r\n\r\n"), Notification{1, 1, nil}},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				l := newLab(t, settings())
				l.say(l.router, tt.before...)
				l.gobgp.take()
				l.router.take()
				l.say(l.router, tt.f)
				require.Equal(t, []kind{kindNotification}, l.gobgp.kinds())
				sent := l.router.take()
				require.Len(t, sent, 1)
				require.Equal(t, tt.want.frame(), sent[0].frame)
				require.True(t, l.router.isClosed())
				require.Equal(t, reason.NotificationSent, l.State().End.Reason)
			})
		})
	}
}
