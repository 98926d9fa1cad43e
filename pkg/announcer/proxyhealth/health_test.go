package proxyhealth

import (
	"context"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

var (
	port4 = Port{Number: 30123}
	port6 = Port{Number: 30123, IPv6: true}
)

func asking(ports ...Port) Targets {
	t := Targets{Proxy: "http://127.0.0.1:10256/healthz", Ports: map[Port]bool{}}
	for _, p := range ports {
		t.Ports[p] = true
	}
	return t
}

// TestNothingToAsk: a node that no address may come to asks nothing and is well.
func TestNothingToAsk(t *testing.T) {
	s := newState()
	s.setTargets(0, Targets{Ports: map[Port]bool{port4: true}})
	proxy, ports := s.nextDue(time.Hour)
	require.False(t, proxy)
	require.Empty(t, ports)
	require.True(t, s.result.Ready(Port{}))
	_, ever := s.result.UnhealthyAt(time.Second)
	require.False(t, ever)
}

// TestHowOften: at once when there is something new, seldom while all is well, and not more
// often than each quarter of a second in any case.
func TestHowOften(t *testing.T) {
	s := newState()
	at := time.Hour
	s.setTargets(at, asking())
	proxy, _ := s.nextDue(at)
	require.True(t, proxy)
	require.False(t, s.result.Ready(Port{}), "nothing is known yet")
	s.takeAnswers(at, true, nil)
	require.Equal(t, at+steady, s.next)

	s.setTargets(at+time.Millisecond, asking(port4, port6))
	require.Equal(t, at+soon, s.next)
	at += soon
	_, ports := s.nextDue(at)
	require.Equal(t, []Port{port4, port6}, ports)
	s.takeAnswers(at, true, []Port{port6})
	require.Equal(t, at+soon, s.next)
	require.False(t, s.result.Ready(port4))
	require.True(t, s.result.Ready(port6))
	require.True(t, s.result.Ready(Port{}))

	at += fresh
	_, ports = s.nextDue(at)
	require.Equal(t, []Port{port4}, ports, "one that has answered is not asked again")
	s.takeAnswers(at, true, nil)
	require.Equal(t, at+eager, s.next)
	s.takeAnswers(at, true, []Port{port4})
	require.Equal(t, at+steady, s.next)
}

// TestFault_K2_11_AskedAnew: a node that is about to decide by what is known has it asked again, and is
// told of the answer that is no older, be it the same.
func TestFault_K2_11_AskedAnew(t *testing.T) {
	s := newState()
	at := time.Hour
	s.setTargets(at, asking())
	s.nextDue(at)
	s.takeAnswers(at, true, nil)
	require.Equal(t, at, s.result.Asked)
	at += time.Second
	anew := asking()
	anew.After = at
	s.setTargets(at, anew)
	require.True(t, s.isLate())
	proxy, _ := s.nextDue(at)
	require.True(t, proxy)
	s.takeAnswers(at+time.Millisecond, true, nil)
	require.False(t, s.isLate())
	require.Equal(t, at, s.result.Asked)
	s.setTargets(at, anew)
	require.Equal(t, at+time.Millisecond+steady, s.next, "once")

	anew.After = at + 2*time.Millisecond
	s.setTargets(at+2*time.Millisecond, anew)
	require.Equal(t, at+time.Millisecond+soon, s.next, "no more often than each quarter of a second")
}

// TestUnhealthy: from the first answer that was not 200, which nothing but 200 ends.
func TestUnhealthy(t *testing.T) {
	s := newState()
	s.setTargets(0, asking(port4))
	s.takeAnswers(0, true, []Port{port4})
	s.takeAnswers(5*time.Second, false, nil)
	require.Equal(t, 6*time.Second, s.next)
	s.takeAnswers(6*time.Second, false, nil)
	at, ever := s.result.UnhealthyAt(30 * time.Second)
	require.True(t, ever)
	require.Equal(t, 35*time.Second, at)
	require.False(t, s.result.Ready(port4), "what served before does not count now")
	s.setTargets(6*time.Second, asking(port4, port6))
	at, _ = s.result.UnhealthyAt(30 * time.Second)
	require.Equal(t, 35*time.Second, at, "other ports are no news of the proxy")
	s.takeAnswers(7*time.Second, true, nil)
	require.True(t, s.result.Ready(port4))
	s.setTargets(8*time.Second, asking(port6))
	s.setTargets(9*time.Second, asking(port4, port6))
	require.False(t, s.result.Ready(port4), "it was gone meanwhile, so its rules may be old")
}

// TestChecker asks real servers on loopback: for the proxy, and for a port on the addresses
// on which there is somebody.
func TestChecker(t *testing.T) {
	var proxyWell, portWell atomic.Bool
	answer := func(well *atomic.Bool) *httptest.Server {
		return httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			if !well.Load() {
				w.WriteHeader(http.StatusServiceUnavailable)
			}
		}))
	}
	proxy, port := answer(&proxyWell), answer(&portWell)
	defer proxy.Close()
	defer port.Close()
	results := make(chan Result, 100)
	began := time.Now()
	c := NewChecker(Options{Now: func() time.Duration { return time.Since(began) }, OnResult: func(r Result) { results <- r }})
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- c.Run(ctx) }()
	number := netip.MustParseAddrPort(strings.TrimPrefix(port.URL, "http://")).Port()
	target := Port{Number: number}
	c.Set(Targets{
		Proxy: proxy.URL + "/healthz", Ports: map[Port]bool{target: true},
		// Nobody listens on the first of them; the second is of the other family.
		Own: []netip.Addr{netip.MustParseAddr("127.0.0.2"), netip.IPv6Loopback(), netip.MustParseAddr("127.0.0.1")},
	})
	r := <-results
	require.False(t, r.Works)
	proxyWell.Store(true)
	r = <-results
	require.True(t, r.Works)
	require.False(t, r.Ready(target))
	portWell.Store(true)
	r = <-results
	require.True(t, r.Ready(target))
	// Set in a row, and perhaps seen only the last of them, which is nothing new then.
	targets := c.targets
	for range 100 {
		c.Set(Targets{})
		c.Set(targets)
		for r = <-results; !r.Ready(target); r = <-results {
		}
	}
	targets.After = c.options.Now()
	c.Set(targets)
	for r = <-results; r.Asked < targets.After; r = <-results {
	}
	require.True(t, r.Ready(target))
	cancel()
	require.NoError(t, <-ended)
}

// TestAsksOnlyTheNode: no plan and no answer can send a question elsewhere.
func TestAsksOnlyTheNode(t *testing.T) {
	for _, u := range []string{
		"http://192.0.2.1:80/", "http://localhost:80/", "https://127.0.0.1:80/", "file:///etc/passwd", "127.0.0.1:80", "http://127.0.0.1/", "http://[::ffff:192.0.2.1]:80/", "::",
	} {
		require.False(t, isLoopback(u), u)
	}
	require.True(t, isLoopback("http://127.0.0.1:10256/healthz"))
	require.True(t, isLoopback("http://[::1]:10256/healthz"))

	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer listener.Close()
	sender := httptest.NewServer(http.RedirectHandler("http://"+listener.Addr().String(), http.StatusFound))
	defer sender.Close()
	c := NewChecker(Options{})
	require.ErrorIs(t, c.getURL(t.Context(), sender.URL), errUnhealthy)
}
