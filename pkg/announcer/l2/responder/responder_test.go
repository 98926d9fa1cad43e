package responder_test

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"runtime"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	codec "github.com/mdlayher/arp"
	"github.com/stretchr/testify/require"
	"github.com/vishvananda/netlink"
	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"

	"baremetal.cloud/ccm/pkg/announcer/l2/arp"
	"baremetal.cloud/ccm/pkg/announcer/l2/responder"
)

const (
	vip     = "192.0.2.200"
	vip2    = "192.0.2.201"
	control = "192.0.2.250"
)

func setMAC(mac net.HardwareAddr) func(netlink.Link) error {
	return func(l netlink.Link) error { return netlink.LinkSetHardwareAddr(l, mac) }
}

func newResponder(t testing.TB, l *lan, onFailure func()) *responder.Responder {
	t.Helper()
	r := responder.New(responder.Options{Protocol: arp.Protocol{}, Listen: l.listen, OnFailure: onFailure})
	t.Cleanup(r.Close)
	return r
}

func TestAnswersWhatIsApplied(t *testing.T) {
	onBoth(t, func(t *testing.T, l *lan) {
		r := newResponder(t, l, nil)
		l.apply(r, l.with(vip, control))
		require.Equal(t, l.port.MAC, l.ask(vip, control))
		require.Nil(t, l.ask(vip2, control), "not applied")

		l.apply(r, l.with(vip2, control))
		require.Nil(t, l.ask(vip, control), "no longer applied")
		require.Equal(t, l.port.MAC, l.ask(vip2, control))
	})
}

// TestFenced: nothing is sent, asked or unasked, while that is not allowed.
func TestFenced(t *testing.T) {
	onBoth(t, func(t *testing.T, l *lan) {
		var fenced atomic.Bool
		r := responder.New(responder.Options{
			Protocol: arp.Protocol{}, Listen: l.listen, Allowed: func() bool { return !fenced.Load() },
		})
		t.Cleanup(r.Close)
		l.apply(r, l.with(vip, control))
		require.Equal(t, l.port.MAC, l.ask(vip, control))
		fenced.Store(true)
		l.request(vip)
		require.Eventually(t, func() bool { return r.Counts().Outcomes[responder.Fenced] == 1 }, patience, time.Millisecond)
		before := r.Counts().Announced
		_, err := r.Announce([]netip.Addr{netip.MustParseAddr(vip)})
		require.Error(t, err)
		require.Equal(t, before, r.Counts().Announced)
		fenced.Store(false)
		require.Equal(t, l.port.MAC, l.ask(vip, control))
	})
}

// TestHowItIsAsked is behaviour L5 on the wire: asked by broadcast or at our hardware
// address it is answered, and neither where the frame is for another machine nor where it
// asks nothing.
func TestHowItIsAsked(t *testing.T) {
	onBoth(t, func(t *testing.T, l *lan) {
		r := newResponder(t, l, nil)
		l.apply(r, l.with(vip, control))
		other := net.HardwareAddr{2, 0, 0, 0, 0, 0xcc}
		for name, test := range map[string]struct {
			to        net.HardwareAddr
			operation codec.Operation
			answered  bool
		}{
			"broadcast":           {broadcast, codec.OperationRequest, true},
			"our address":         {l.port.MAC, codec.OperationRequest, true},
			"another's":           {other, codec.OperationRequest, false},
			"a group":             {net.HardwareAddr{1, 0, 0x5e, 0, 0, 1}, codec.OperationRequest, false},
			"a reply":             {broadcast, codec.OperationReply, false},
			"a reply straight to": {l.port.MAC, codec.OperationReply, false},
		} {
			l.sendTo(test.to, test.operation, vip)
			l.request(control)
			var answered []string
			for !slices.Contains(answered, control) {
				if p := l.receive(); p.Operation == codec.OperationReply {
					answered = append(answered, p.SenderIP.String())
				}
			}
			require.Equal(t, test.answered, slices.Contains(answered, vip), name)
		}
	})
}

// TestMalformedIsNotFatal: whatever a host on the LAN sends, the next question is answered.
func TestMalformedIsNotFatal(t *testing.T) {
	onBoth(t, func(t *testing.T, l *lan) {
		r := newResponder(t, l, nil)
		l.apply(r, l.with(vip, control))
		good := append(append(append([]byte{}, broadcast...), askerMAC...), 8, 6)
		random := rand.New(rand.NewPCG(1, 2))
		for range 60 {
			frame := slices.Clone(good)
			for range random.IntN(60) {
				frame = append(frame, byte(random.Uint32()))
			}
			l.send(frame)
		}
		require.Equal(t, l.port.MAC, l.ask(vip, control))
	})
}

func TestAnnounce(t *testing.T) {
	onBoth(t, func(t *testing.T, l *lan) {
		r := newResponder(t, l, nil)
		l.apply(r, l.with(vip, vip2))
		addresses := []netip.Addr{netip.MustParseAddr(vip), netip.MustParseAddr("192.0.2.9")}
		_, err := r.Announce(addresses)
		require.NoError(t, err)
		require.EqualValues(t, 1, r.Counts().Announced)
		require.NoError(t, r.AnnounceOtherwise(addresses))
		var got []string
		for range 2 {
			p := l.receive()
			got = append(got, fmt.Sprint(p.Operation, " ", p.SenderIP, " ", p.TargetIP, " ", p.SenderHardwareAddr))
		}
		mac := l.port.MAC.String()
		require.Equal(t, []string{
			codec.OperationRequest.String() + " " + vip + " " + vip + " " + mac,
			codec.OperationReply.String() + " " + vip + " " + vip + " " + mac,
		}, got)
		require.EqualValues(t, 2, r.Counts().Announced)
	})
}

// TestFailedSocketIsOpenedAnew: a socket that fails says so once and is replaced.
func TestFailedSocketIsOpenedAnew(t *testing.T) {
	l := memoryLAN(t)
	first := newMemoryConn()
	second, _ := l.listen(nil, 0, nil)
	conns := []responder.Conn{first, second}
	l.listen = func(*responder.Port, int, []bpf.RawInstruction) (responder.Conn, error) {
		c := conns[0]
		conns = conns[1:]
		return c, nil
	}
	failed := make(chan struct{}, 10)
	r := newResponder(t, l, func() { failed <- struct{}{} })
	l.apply(r, l.with(vip, control))
	first.fail(unix.ENETDOWN)
	<-failed
	l.apply(r, l.with(vip, control))
	require.Equal(t, l.port.MAC, l.ask(vip, control))
	require.Empty(t, failed)
}

func TestFailureToOpenIsReported(t *testing.T) {
	l := memoryLAN(t)
	l.listen = func(*responder.Port, int, []bpf.RawInstruction) (responder.Conn, error) {
		return nil, os.NewSyscallError("socket", unix.EPERM)
	}
	r := newResponder(t, l, nil)
	failures := r.Apply([]*responder.Port{l.with(vip)})
	require.Len(t, failures, 1)
	require.EqualError(t, failures[3], "arp on eth0: open packet socket: socket: operation not permitted")
	require.ErrorIs(t, failures[3], unix.EPERM)
}

// TestFollowsTheInterface is behaviour L8 on a real one, without an IPv4 address of its own.
func TestFollowsTheInterface(t *testing.T) {
	l := vethLAN(t)
	failed := make(chan struct{}, 10)
	r := newResponder(t, l.lan, func() { failed <- struct{}{} })
	l.apply(r, l.with(vip, control))
	require.Equal(t, l.port.MAC, l.ask(vip, control))

	t.Run("another MAC", func(t *testing.T) {
		mac := net.HardwareAddr{2, 0, 0, 0, 0, 0x77}
		l.node.Change(t, "eth0", setMAC(mac))
		l.port.MAC = mac
		l.apply(r, l.with(vip, control))
		require.Equal(t, mac, l.ask(vip, control))
	})
	t.Run("down and up", func(t *testing.T) {
		l.node.Change(t, "eth0", netlink.LinkSetDown)
		<-failed
		l.node.Change(t, "eth0", netlink.LinkSetUp)
		l.apply(r, l.with(vip, control))
		require.Equal(t, l.port.MAC, l.askAgain(vip))
	})
	t.Run("deleted and made again", func(t *testing.T) {
		old := l.port.Index
		l.node.Change(t, "eth0", netlink.LinkDel)
		<-failed
		require.Len(t, l.applyFails(r, l.with(vip)), 1, "gone")
		again := vethAgain(t, l)
		require.NotEqual(t, old, again.port.Index)
		again.apply(r, again.with(vip, control))
		require.Equal(t, again.port.MAC, again.askAgain(vip))
	})
}

// TestCloseLeavesNothing: no goroutine and no descriptor outlives Close.
func TestCloseLeavesNothing(t *testing.T) {
	l := vethLAN(t)
	before := sockets(t)
	r := responder.New(responder.Options{Protocol: arp.Protocol{}})
	l.apply(r, l.with(vip, control))
	require.Equal(t, l.port.MAC, l.ask(vip, control))
	require.NotEmpty(t, newSockets(t, before))
	r.Close()
	require.Empty(t, newSockets(t, before))
	stacks := make([]byte, 1<<20)
	stacks = stacks[:runtime.Stack(stacks, true)]
	require.NotContains(t, string(stacks), "responder.(*Responder).read")
}

// sockets returns the sockets of this process.
func sockets(t testing.TB) map[string]bool {
	t.Helper()
	entries, err := os.ReadDir("/proc/self/fd")
	require.NoError(t, err)
	found := map[string]bool{}
	for _, e := range entries {
		if target, err := os.Readlink("/proc/self/fd/" + e.Name()); err == nil && strings.HasPrefix(target, "socket:") {
			found[target] = true
		}
	}
	return found
}

// newSockets returns those that were not there before. Others may have gone meanwhile: what
// an earlier test left to the garbage collector.
func newSockets(t testing.TB, before map[string]bool) []string {
	t.Helper()
	found := sockets(t)
	maps.DeleteFunc(found, func(name string, _ bool) bool { return before[name] })
	return slices.Collect(maps.Keys(found))
}
