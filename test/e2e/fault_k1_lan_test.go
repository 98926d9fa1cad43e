//go:build e2e

package e2e

import (
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"baremetal.cloud/ccm/test/e2e/testbed"
	"baremetal.cloud/ccm/test/e2e/testbed/netns"
)

// TestFault_K1_1_AFloodOnTheLAN: a machine on the LAN claims the addresses of a Service under ever
// new hardware addresses, slowly and as fast as it can, then asks for them fifty thousand times
// a second, and sends forged heartbeats (K1.4); a user of the node asks for metrics without pause
// (K1.3). No program of ours takes more than a fifth of a core, or much memory, or writes many log
// lines, and the addresses stay where they are.
func TestFault_K1_1_AFloodOnTheLAN(t *testing.T) {
	w := up(t, testbed.Options{Nodes: 2, Proxy: "nftables", Mgmt: "lan"}).witness()
	w.create("web", of(dual, false))
	addresses := w.addresses("web", 2)
	ours := w.ours(w.nodes()...)
	for _, address := range addresses {
		owner := w.addressOwner(address)
		under := func(name string, input func(context.Context)) {
			t.Run(fmt.Sprintf("%s of %s", name, address), func(t *testing.T) {
				w := w.with(t)
				w.costs(ours, lasting(time.Minute, 5*time.Second), input)
				w.stays(address, owner)
			})
		}
		question := func(form testbed.Form, perSecond int) func(context.Context) {
			return func(ctx context.Context) { w.flood(ctx, testbed.Question{Address: address, Form: form}, perSecond) }
		}
		under("claims, slowly", question(testbed.Claim, 300))
		under("claims", question(testbed.Claim, 20000))
		under("requests", question(testbed.Plain, 50000))
		node := w.c.Address(w.nodeOf(owner))
		to := node.V4
		if address.Is6() {
			to = node.V6
		}
		under("K1.4 forged heartbeats to the owner", func(ctx context.Context) { w.datagrams(ctx, netip.AddrPortFrom(to, 10272), 40000) })
	}
	t.Run("K1.3 metrics are asked for without pause", func(t *testing.T) {
		w := w.with(t)
		w.costs(ours, lasting(time.Minute, 5*time.Second), func(ctx context.Context) { w.scrape(ctx, "node1", 24) })
	})
	require.Equal(t, ours, w.ours(w.nodes()...), "no program was started again")
}

// datagrams has the client send to a port, from ever new ports of its own, until ctx ends.
func (l *lab) datagrams(ctx context.Context, to netip.AddrPort, perSecond int) {
	l.Helper()
	dial := netns.Dialer(l.c.NetNS("client"))
	var conns []net.Conn
	for range 16 {
		conn, err := dial(ctx, "udp", to.String())
		require.NoError(l, err)
		defer conn.Close()
		raw, err := conn.(syscall.Conn).SyscallConn()
		require.NoError(l, err)
		require.NoError(l, raw.Control(func(fd uintptr) {
			// As heartbeats have it (RFC 5082); one of the two is refused, by the family.
			_ = unix.SetsockoptInt(int(fd), unix.IPPROTO_IP, unix.IP_TTL, 255)
			_ = unix.SetsockoptInt(int(fd), unix.IPPROTO_IPV6, unix.IPV6_UNICAST_HOPS, 255)
		}))
		conns = append(conns, conn)
	}
	datagram := make([]byte, 120)
	steadily(ctx, perSecond, func(i int) {
		binary.BigEndian.PutUint64(datagram[8:], uint64(i))
		_, _ = conns[i%len(conns)].Write(datagram) // a full buffer is a loss, too
	})
}

// scrape has a user of a node ask its announcer for metrics on so many connections, until ctx ends.
func (l *lab) scrape(ctx context.Context, node string, connections int) {
	client := &http.Client{Transport: &http.Transport{DialContext: netns.Dialer(l.c.NetNS(node)), MaxIdleConnsPerHost: connections}}
	defer client.CloseIdleConnections()
	var asking sync.WaitGroup
	for range connections {
		asking.Go(func() {
			for ctx.Err() == nil {
				request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://127.0.0.1:10271/metrics", nil)
				if err != nil {
					return
				}
				if response, err := client.Do(request); err == nil {
					_, _ = io.Copy(io.Discard, response.Body)
					_ = response.Body.Close()
				}
			}
		})
	}
	asking.Wait()
}

// flood has ever new machines on the client host's port put q, until ctx ends.
func (l *lab) flood(ctx context.Context, q testbed.Question, perSecond int) {
	l.Helper()
	host := l.c.Layout().Client
	conn, _, err := testbed.Listen(host, "eth0", 0)
	require.NoError(l, err)
	defer conn.Close()
	frames := make([][]byte, 4096)
	for i := range frames {
		mac := net.HardwareAddr{6, 0, 0, 0, byte(i >> 8), byte(i)}
		from := netip.AddrFrom4([4]byte{198, 18, byte(i >> 8), byte(i)})
		if q.Address.Is6() {
			from = netip.AddrFrom16([16]byte{0xfe, 0x80, 14: byte(i >> 8), 15: byte(i)})
		}
		frames[i], err = q.Frame(mac, from)
		require.NoError(l, err)
	}
	steadily(ctx, perSecond, func(i int) {
		if err := testbed.Send(conn, frames[i%len(frames)]); err != nil {
			l.Errorf("flood: %v", err)
		}
	})
}
