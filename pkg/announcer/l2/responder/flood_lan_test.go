package responder_test

import (
	"encoding/binary"
	"net"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	codec "github.com/mdlayher/arp"
	ndpcodec "github.com/mdlayher/ndp"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"baremetal.cloud/ccm/pkg/announcer/l2/arp"
	"baremetal.cloud/ccm/pkg/announcer/l2/ndp"
	"baremetal.cloud/ccm/pkg/announcer/l2/responder"
	"baremetal.cloud/ccm/pkg/announcer/realtime"
)

// crowd returns what host i of very many sends to ask for target.
func crowd(t testing.TB, target netip.Addr) func(i int) []byte {
	t.Helper()
	if target.Is4() {
		p, err := codec.NewPacket(codec.OperationRequest, askerMAC, askerIP, make(net.HardwareAddr, 6), target)
		require.NoError(t, err)
		body, err := p.MarshalBinary()
		require.NoError(t, err)
		frame := append(append(append([]byte{}, broadcast...), askerMAC...), 8, 6)
		frame = append(frame, body...)
		return func(i int) []byte {
			binary.BigEndian.PutUint32(frame[8:], uint32(i))
			copy(frame[22:28], frame[6:12])
			binary.BigEndian.PutUint32(frame[28:], 0x0a000000+uint32(i))
			return frame
		}
	}
	group, err := ndpcodec.SolicitedNodeMulticast(target)
	require.NoError(t, err)
	probe := ndp.Protocol{}.Probe(askerMAC, target)
	frames := make([][]byte, 4096)
	for i := range frames {
		source := netip.AddrFrom16([16]byte{0xfe, 0x80, 12: byte(i >> 8), 15: byte(i)})
		body, err := ndpcodec.MarshalMessageChecksum(&ndpcodec.NeighborSolicitation{TargetAddress: target}, source, group)
		require.NoError(t, err)
		frame := append(slices.Clone(probe[:54]), body...)
		binary.BigEndian.PutUint32(frame[8:], uint32(i))
		copy(frame[22:], source.AsSlice())
		frames[i] = frame
	}
	return func(i int) []byte { return frames[i%len(frames)] }
}

// answered counts the hosts that an answer was sent to.
func (l *realLAN) answered(t testing.TB, etherType int) func() int {
	t.Helper()
	peer := l.host.Interface(t, "host0")
	var conn responder.Conn
	var err error
	l.host.Do(func() {
		conn, err = responder.Listen(&responder.Port{Index: peer.Index, Name: peer.Name, MAC: peer.HardwareAddr}, etherType, nil)
	})
	require.NoError(t, err)
	t.Cleanup(func() { _ = conn.Close() })
	var mu sync.Mutex
	hosts := map[[6]byte]bool{}
	go func() {
		for frame := make([]byte, 2048); ; {
			if _, _, err := conn.ReadFrom(frame); err != nil {
				return
			}
			mu.Lock()
			hosts[[6]byte(frame)] = true
			mu.Unlock()
		}
	}()
	return func() int {
		mu.Lock()
		defer mu.Unlock()
		return len(hosts)
	}
}

// answering starts a responder for address: read by goroutines of its own, or by the thread that
// goes before others.
func (l *realLAN) answering(t testing.TB, p responder.Protocol, address string, polled bool) *responder.Responder {
	t.Helper()
	options := responder.Options{Protocol: p}
	if !polled {
		r := responder.New(options)
		t.Cleanup(r.Close)
		l.apply(r, l.with(address))
		return r
	}
	loop, err := realtime.NewLoop(realtime.NewThread(false, nil))
	require.NoError(t, err)
	t.Cleanup(loop.Close)
	options.Poller = loop
	r := responder.New(options)
	t.Cleanup(r.Close)
	l.apply(r, l.with(address))
	var over atomic.Bool
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		for !over.Load() {
			loop.Wait(-1)
		}
	}()
	t.Cleanup(func() {
		over.Store(true)
		loop.Wake()
		<-ended
	})
	return r
}

// TestFault_K1_4_AThousandHostsAskAtOnce: each of them asks once, and is answered.
func TestFault_K1_4_AThousandHostsAskAtOnce(t *testing.T) {
	for name, test := range map[string]struct {
		protocol  responder.Protocol
		address   string
		etherType int
		polled    bool
	}{
		"IPv4": {arp.Protocol{}, vip, unix.ETH_P_ARP, true}, "IPv6": {ndp.Protocol{}, "2001:db8::200", unix.ETH_P_IPV6, true},
		"IPv4 by goroutines": {arp.Protocol{}, vip, unix.ETH_P_ARP, false},
	} {
		t.Run(name, func(t *testing.T) {
			l := vethLAN(t)
			r := l.answering(t, test.protocol, test.address, test.polled)
			answered := l.answered(t, test.etherType)
			sender, ask := l.host.Sender(t, "host0"), crowd(t, netip.MustParseAddr(test.address))
			const hosts = 1000
			began := time.Now()
			for i := range hosts {
				sender.Send(ask(i))
			}
			asked := time.Since(began)
			require.Eventually(t, func() bool { return answered() >= hosts }, patience, time.Millisecond)
			t.Logf("%d hosts asked within %s and were answered within %s", hosts, asked, time.Since(began))
			require.Zero(t, r.Counts().Failed)
		})
	}
}

// TestFault_K1_4_AFloodOfRequests: fifty thousand requests a second for an address, from one host
// or from ever new ones, are read and answered at a bounded rate. What that costs of a core is for
// `make bench ONLY=runaway`; here other tests and the race detector take part in it.
func TestFault_K1_4_AFloodOfRequests(t *testing.T) {
	for name, test := range map[string]struct {
		protocol   responder.Protocol
		address    string
		one        bool
		goroutines bool
	}{
		"IPv4 from many": {arp.Protocol{}, vip, false, false}, "IPv6 from many": {ndp.Protocol{}, "2001:db8::200", false, false},
		"IPv4 from one": {arp.Protocol{}, vip, true, false}, "IPv6 from one": {ndp.Protocol{}, "2001:db8::200", true, false},
		"IPv4 from many, by goroutines": {arp.Protocol{}, vip, false, true},
	} {
		t.Run(name, func(t *testing.T) {
			l := vethLAN(t)
			r := l.answering(t, test.protocol, test.address, !test.goroutines)
			ask := crowd(t, netip.MustParseAddr(test.address))
			began := time.Now()
			asked, core := l.host.Sender(t, "host0").Flood(2*time.Second, 50000, func(i int) []byte {
				if test.one {
					i = 0
				}
				return ask(i)
			})
			counts := r.Counts()
			t.Logf("%d asked, %d answered, %d limited, %.1f %% of a core", asked, counts.Outcomes[responder.Answered], counts.Outcomes[responder.Limited], 100*core)
			took := time.Since(began).Seconds() + 1 // what is read after the last was sent
			require.LessOrEqual(t, float64(counts.Outcomes[responder.Answered]), 5000+5000*took)
			require.LessOrEqual(t, float64(counts.Outcomes[responder.Answered]+counts.Outcomes[responder.Limited]), 4096+20000*took)
			require.Positive(t, counts.Outcomes[responder.Answered])
		})
	}
}
