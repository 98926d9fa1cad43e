package responder_test

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"sync/atomic"
	"testing"

	codec "github.com/mdlayher/arp"
	"github.com/stretchr/testify/require"
	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"

	"baremetal.cloud/ccm/internal/need"
	"baremetal.cloud/ccm/pkg/announcer/l2/ndp"
	"baremetal.cloud/ccm/pkg/announcer/l2/responder"
)

// TestFilterGivesWayToMemory: where the kernel has no room for an exact filter, a coarser
// one does, and nothing is lost.
func TestFilterGivesWayToMemory(t *testing.T) {
	l := memoryLAN(t)
	inner := l.listen
	var sizes []int
	l.listen = func(p *responder.Port, etherType int, filter []bpf.RawInstruction) (responder.Conn, error) {
		sizes = append(sizes, len(filter))
		if len(filter) > 200 {
			return nil, os.NewSyscallError("setsockopt", unix.ENOMEM)
		}
		return inner(p, etherType, filter)
	}
	var addresses []string
	for i := range 120 {
		addresses = append(addresses, fmt.Sprintf("192.0.2.%d", 2*i))
	}
	slices.SortFunc(addresses, func(a, b string) int { return netip.MustParseAddr(a).Compare(netip.MustParseAddr(b)) })
	r := newResponder(t, l, nil)
	l.apply(r, l.with(addresses...))
	require.Greater(t, len(sizes), 1)
	require.Equal(t, l.port.MAC, l.ask("192.0.2.0", "192.0.2.238"))
	require.Nil(t, l.ask("192.0.2.3", "192.0.2.238"), "what the coarser filter lets through is still decided")
}

// TestSilentForOthers shows that questions for others' addresses wake nobody, also those
// between two of ours.
func TestSilentForOthers(t *testing.T) {
	l := vethLAN(t)
	r := newResponder(t, l.lan, nil)
	l.apply(r, l.with(vip, "192.0.2.202", control))
	for i := range 200 {
		l.request(fmt.Sprintf("192.0.2.%d", i%190))
	}
	l.request(vip2)
	require.Equal(t, l.port.MAC, l.ask(vip, control))
	require.EqualValues(t, 2, r.Counts().Outcomes[responder.Answered])
	requireOnlyAnswers(t, r)
}

// TestTwoThousandAddresses on a real socket, where the kernel has to take the filter: of
// any number no question for another address wakes the process, and beyond what fits into
// the filter every address is still answered.
func TestTwoThousandAddresses(t *testing.T) {
	for name, test := range map[string]struct {
		addresses int
		exact     bool
	}{"exactly": {2000, true}, "coarsely": {2400, false}} {
		t.Run(name, func(t *testing.T) {
			l := vethLAN(t)
			r := newResponder(t, l.lan, nil)
			p := l.port
			for i := range test.addresses {
				p.Addresses = p.Addresses.With(responder.Address(netip.AddrFrom4([4]byte{10, 1, byte(i / 100), byte(2 * (i % 100))})))
			}
			l.apply(r, &p)
			last := p.Addresses.Nth(p.Addresses.Len() - 1).At().String()
			for i := range 50 {
				require.Equal(t, p.MAC, l.ask(p.Addresses.Nth(i*p.Addresses.Len()/50).At().String(), last))
				require.Nil(t, l.ask(fmt.Sprintf("10.1.%d.%d", i/3, 4*i+1), last))
			}
			if test.exact {
				requireOnlyAnswers(t, r)
			}
		})
	}
}

// TestLittleKernelMemory: with the net.core.optmem_max that kernels had until Linux 6.9,
// every address is answered too, of both families, and goes on to be while others come.
func TestLittleKernelMemory(t *testing.T) {
	const old = "20480"
	l := vethLAN(t)
	var err error
	l.node.Do(func() { err = os.WriteFile("/proc/sys/net/core/optmem_max", []byte(old), 0o644) })
	if errors.Is(err, os.ErrNotExist) {
		need.Missing(t, "before Linux 6.9 there is one optmem_max for the whole machine, which a test leaves alone")
	}
	require.NoError(t, err)
	arps := newResponder(t, l.lan, nil)
	ndps := responder.New(responder.Options{Protocol: ndp.Protocol{}})
	t.Cleanup(ndps.Close)
	four, six := l.port, l.port
	for i := range 2000 {
		four.Addresses = four.Addresses.With(responder.Address(netip.AddrFrom4([4]byte{10, 1, byte(i / 100), byte(2 * (i % 100))})))
		six.Addresses = six.Addresses.With(responder.Address(netip.AddrFrom16([16]byte{0x20, 1, 0xd, 0xb8, 13: byte(i / 100), 15: byte(2 * (i % 100))})))
	}
	l.host.Address(t, "host0", "2001:db8::1/64")
	for _, count := range []int{300, 1900, 1901, 2000} {
		some4, some6 := four, six
		some4.Addresses, some6.Addresses = first(four.Addresses, count), first(six.Addresses, count)
		l.apply(arps, &some4)
		l.apply(ndps, &some6)
		for _, i := range []int{1, count / 2, count - 1} {
			require.Equal(t, l.port.MAC, l.ask(four.Addresses.Nth(i).At().String(), "10.1.0.0"))
			l.resolves(six.Addresses.Nth(i).At().String())
		}
	}
	for i := range 100 {
		require.Nil(t, l.ask(fmt.Sprintf("10.1.%d.1", i), "10.1.0.0"))
	}
	require.NotZero(t, arps.Counts().Outcomes[responder.NotOurs], "there was no memory for an exact filter")
}

// requireOnlyAnswers says that nothing came through the filter that was not answered.
func requireOnlyAnswers(t *testing.T, r *responder.Responder) {
	t.Helper()
	counts := r.Counts()
	for o := responder.Malformed; o <= responder.OwnFrame; o++ {
		require.Zero(t, counts.Outcomes[o], o.String())
	}
}

// TestNothingIsLostWhileFiltersChange: a request for an address that stays is answered
// every time, however often the set around it changes.
func TestNothingIsLostWhileFiltersChange(t *testing.T) {
	l := vethLAN(t)
	r := newResponder(t, l.lan, nil)
	l.apply(r, l.with(control))
	stop, ended := make(chan struct{}), make(chan struct{})
	var changes atomic.Int64
	var failures map[int]error
	go func() {
		defer close(ended)
		for len(failures) == 0 {
			select {
			case <-stop:
				return
			default:
			}
			p := l.port
			for i := range changes.Load() % 300 {
				p.Addresses = p.Addresses.With(responder.Address(netip.AddrFrom4([4]byte{10, 1, byte(i / 100), byte(2 * (i % 100))})))
			}
			p.Addresses = p.Addresses.With(responder.Address(netip.MustParseAddr(control)))
			failures = l.applyFails(r, &p)
			changes.Add(1)
		}
	}()
	enough := func() bool {
		select {
		case <-ended:
			return true
		default:
			return changes.Load() > 10
		}
	}
	for asked := 0; asked < 2000 || !enough(); asked++ {
		l.request(control)
		for l.receive().Operation != codec.OperationReply {
		}
	}
	close(stop)
	<-ended
	require.Empty(t, failures)
}
