//go:build e2e

package e2e

import (
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/stretchr/testify/require"

	"baremetal.cloud/ccm/test/e2e/observer"
	"baremetal.cloud/ccm/test/e2e/testbed"
	"baremetal.cloud/ccm/test/e2e/testbed/lan"
	"baremetal.cloud/ccm/test/e2e/testbed/netns"
)

// losing takes addresses of a node's own away from its interface on the LAN, and gives them back.
func losing(commands ...func(lan.Pair) string) func(*chaos, string) func() {
	return func(c *chaos, node string) func() {
		c.Helper()
		local := c.linkLocal(node)
		var script strings.Builder
		for _, command := range commands {
			script.WriteString(command(c.c.Address(node)))
		}
		require.NoError(c, netns.Batch(c.Context(), c.c.NetNS(node), script.String()))
		return func() {
			require.NoError(c, c.c.Restore(c.Context(), node))
			require.NoError(c, netns.Batch(c.Context(), c.c.NetNS(node), fmt.Sprintf("addr replace %s/64 dev eth0 nodad\n", local)))
		}
	}
}

// unable is the effect on a node that cannot send a family: others answer for the addresses of
// that family, and find no way to the node's web server. The other family has no part in it.
func unable(family func(netip.Addr) bool) func(*chaos, string) observer.Effect {
	return func(c *chaos, node string) observer.Effect {
		e := lost(c, node)
		for _, a := range c.addresses {
			if family(a) {
				e.Addresses = append(e.Addresses, a)
			}
		}
		elsewhere := stays(c, node)
		e.Elsewhere = &elsewhere
		return e
	}
}

// floating is an address that wanders from node to node, as those of keepalived and kube-vip
// do. It has the mask of the LAN and is below all addresses of the nodes.
type floating struct {
	prefix netip.Prefix
	// options are of `ip addr add`. Those of IPv6 keep the kernel from sending by it, as
	// keepalived does too.
	options string
}

// floatingAddresses returns one of each family.
func (c *chaos) floatingAddresses() []floating {
	v4, v6 := c.c.Layout().Segment()
	return []floating{
		{netip.PrefixFrom(plus(v4.Masked().Addr(), 5), v4.Bits()), ""},
		{netip.PrefixFrom(plus(v6.Masked().Addr(), 5), v6.Bits()), "nodad preferred_lft 0"},
	}
}

// wander has an address of each family appear on a node and move to others, some times.
func (c *chaos) wander(node string) func() {
	c.Helper()
	at := ""
	move := func(to string) {
		c.Helper()
		for _, f := range c.floatingAddresses() {
			if at != "" {
				require.NoError(c, netns.Batch(c.Context(), c.c.NetNS(at), fmt.Sprintf("addr del %s dev eth0\n", f.prefix)))
			}
			if to != "" {
				require.NoError(c, netns.Batch(c.Context(), c.c.NetNS(to), fmt.Sprintf("addr add %s dev eth0 %s\n", f.prefix, f.options)))
				c.announce(to, f.prefix.Addr())
			}
		}
		c.observer.Note("    the floating addresses are on %q", to)
		at = to
	}
	move(node)
	nodes := c.nodes()
	for range 1 + c.random.IntN(4) {
		time.Sleep(c.draw(2 * time.Second))
		move(nodes[(slices.Index(nodes, at)+1+c.random.IntN(len(nodes)-1))%len(nodes)])
	}
	return func() { move("") }
}

// announce has a host tell the LAN that it has an address.
func (c *chaos) announce(host string, address netip.Addr) {
	c.Helper()
	mac, err := net.ParseMAC(c.c.NodeMAC(host))
	require.NoError(c, err)
	frame, err := testbed.Question{Address: address, Form: testbed.Claim}.Frame(mac, address)
	require.NoError(c, err)
	n, ok := c.c.Layout().Node(host)
	require.True(c, ok)
	conn, _, err := testbed.Listen(n.Host, "eth0", 0)
	require.NoError(c, err)
	defer conn.Close()
	require.NoError(c, testbed.Send(conn, frame))
}
