//go:build e2e

package e2e

import (
	"context"
	"crypto/rand"
	"fmt"
	"net"
	"net/netip"
	"os/exec"
	"strings"
	"sync"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/net/ipv4"
	"golang.org/x/sys/unix"

	"baremetal.cloud/ccm/test/e2e/testbed/netns"
)

const (
	heartbeatPort = 10272
	controlPort   = 10270
	// ownTable is the table of what is dropped, apart from those of kube-proxy.
	ownTable = "chaos"
)

// nft runs a script in the namespace of a host.
func (c *chaos) nft(host, script string) {
	c.Helper()
	_, err := c.c.In(c.Context(), host, "nft", script)
	require.NoError(c, err)
}

// dropping has the switch do something with frames of a node's port. The observer sees
// what enters the switch before that, and what leaves it after.
func dropping(rule string) func(*chaos, string) func() {
	return func(c *chaos, node string) func() {
		c.Helper()
		c.nft("lan", fmt.Sprintf("add table bridge %[1]s; add chain bridge %[1]s forward { type filter hook forward priority 0; }; add rule bridge %[1]s forward %[2]s",
			ownTable, fmt.Sprintf(rule, node)))
		return func() { c.nft("lan", "delete table bridge "+ownTable) }
	}
}

func (c *chaos) loseFrom(node string) func() { return dropping("iifname %s "+c.sometimes())(c, node) }
func (c *chaos) loseTo(node string) func()   { return dropping("oifname %s "+c.sometimes())(c, node) }

// sometimes draws what part of all frames is dropped.
func (c *chaos) sometimes() string {
	return fmt.Sprintf("numgen random mod 100 < %d drop", 5+c.random.IntN(56))
}

// block has a node drop what it sends to, and with both what it gets at, a port.
func (c *chaos) block(node, protocol string, port int, both bool) (unblock func()) {
	c.Helper()
	script := fmt.Sprintf("add table inet %[1]s; add chain inet %[1]s output { type filter hook output priority 0; }; add rule inet %[1]s output %[2]s dport %[3]d drop",
		ownTable, protocol, port)
	if both {
		script += fmt.Sprintf("; add chain inet %[1]s input { type filter hook input priority 0; }; add rule inet %[1]s input %[2]s dport %[3]d drop", ownTable, protocol, port)
	}
	c.nft(node, script)
	return func() { c.nft(node, "delete table inet "+ownTable) }
}

func (c *chaos) blockHeartbeats(node string) func() { return c.block(node, "udp", heartbeatPort, true) }

func (c *chaos) blockHeartbeatsAndRestart(node string) func() {
	c.stop("announcer:" + node)
	unblock := c.blockHeartbeats(node)
	c.start("announcer:" + node)
	return unblock
}

func (c *chaos) cutOffCCM(node string) func() { return c.block(node, "tcp", controlPort, false) }

// flap takes a node's interface down and up again. The kernel forgets routes and IPv6
// addresses by that; whatever configures a real node brings them back.
func (c *chaos) flap(node string) func() {
	require.NoError(c, netns.Batch(c.Context(), c.c.NetNS(node), "link set eth0 down\n"))
	return func() {
		for _, s := range c.c.Layout().Scripts() {
			if s.NetNS != c.c.NetNS(node) {
				continue
			}
			cmd := exec.CommandContext(c.Context(), "ip", "-force", "-n", s.NetNS, "-batch", "-")
			cmd.Stdin = strings.NewReader("link set eth0 up\n" + s.Commands)
			// What is still there is refused.
			_, _ = cmd.CombinedOutput()
		}
	}
}

// spoof sends to announcers what is none of their peers': noise, and recordings of what
// peers said, from the client and in a node's name.
func (c *chaos) spoof(node string) func() {
	recorded := c.record(node)
	require.NotEmpty(c, recorded, "what peers say to %s", node)
	refused := c.refused(node)
	ctx, cancel := context.WithCancel(c.Context())
	var running sync.WaitGroup
	running.Go(func() {
		conns := map[netip.Addr]net.Conn{}
		for _, n := range c.c.Layout().Nodes {
			conn, err := netns.Dialer(c.c.Layout().Client.NetNS)(ctx, "udp", netip.AddrPortFrom(n.LAN.V4, heartbeatPort).String())
			if err != nil {
				return
			}
			defer conn.Close()
			if ipv4.NewConn(conn).SetTTL(255) != nil { // With less none is looked at.
				return
			}
			conns[n.LAN.V4] = conn
		}
		noise := make([]byte, 200)
		for ctx.Err() == nil {
			_, _ = rand.Read(noise) // Never fails.
			for _, conn := range conns {
				_, _ = conn.Write(noise) // Refused where nobody listens.
				for _, packet := range recorded {
					_, _ = conn.Write(packet)
				}
			}
			time.Sleep(time.Millisecond)
		}
	})
	return func() {
		cancel()
		running.Wait()
		require.Greater(c, c.refused(node), refused, "packets that %s did not believe", node)
	}
}

// refused returns how many packets a node's announcer did not believe.
func (c *chaos) refused(node string) (sum float64) {
	c.Helper()
	c.eventually(func(t *assert.CollectT) {
		m, err := c.metrics(node)
		require.NoError(t, err)
		sum = 0
		for name, value := range m {
			if strings.HasPrefix(name, "baremetal_announcer_heartbeats_dropped_total") {
				sum += value
			}
		}
	})
	return sum
}

// record returns some of what peers say to a node.
func (c *chaos) record(node string) [][]byte {
	c.Helper()
	var fd int
	require.NoError(c, netns.Do(c.c.NetNS(node), func() (err error) {
		fd, err = unix.Socket(unix.AF_INET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.IPPROTO_UDP)
		return err
	}))
	defer unix.Close(fd)
	patience := unix.NsecToTimeval((100 * time.Millisecond).Nanoseconds())
	require.NoError(c, unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &patience))
	var out [][]byte
	buffer := make([]byte, 2048)
	for end := time.Now().Add(time.Second); time.Now().Before(end) && len(out) < 10; {
		n, _, err := unix.Recvfrom(fd, buffer, 0)
		if err != nil {
			continue
		}
		header := int(buffer[0]&0x0f) * 4
		if n > header+8 && int(buffer[header+2])<<8|int(buffer[header+3]) == heartbeatPort {
			out = append(out, append([]byte(nil), buffer[header+8:n]...))
		}
	}
	return out
}
