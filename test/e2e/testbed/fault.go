package testbed

import (
	"context"
	"fmt"

	"baremetal.cloud/ccm/test/e2e/testbed/lan"
	"baremetal.cloud/ccm/test/e2e/testbed/netns"
)

// Cut is how a cable fails.
type Cut int

const (
	// Loud takes the carrier away: the node notices.
	Loud Cut = iota
	// Silent loses every frame while the link looks fine.
	Silent
)

// Cut disconnects a node from the LAN. A management network of its own stays.
func (c *Cluster) Cut(ctx context.Context, node string, how Cut) error {
	if how == Silent {
		return netns.Batch(ctx, c.layout.LAN, "link set "+node+" nomaster\n")
	}
	return netns.Batch(ctx, c.layout.LAN, "link set "+node+" down\n")
}

// Heal connects a node again, however it was cut.
func (c *Cluster) Heal(ctx context.Context, node string) error {
	return netns.Batch(ctx, c.layout.LAN, "link set "+node+" master br0 up\n")
}

// Unplug takes a node's interface on the LAN out of the machine.
func (c *Cluster) Unplug(ctx context.Context, node string) error {
	return netns.Batch(ctx, c.layout.LAN, "link delete "+node+"\n")
}

// Plug puts another one in its place, which has another hardware address.
func (c *Cluster) Plug(ctx context.Context, node string) error {
	n, err := c.node(node)
	if err != nil {
		return err
	}
	wire := c.layout.Rewire(n)
	if err := netns.Batch(ctx, wire.NetNS, wire.Commands); err != nil {
		return err
	}
	return c.Restore(ctx, node)
}

// Restore gives a node's interfaces back the addresses and routes that they lose when they
// are set down.
func (c *Cluster) Restore(ctx context.Context, node string) error {
	n, err := c.node(node)
	if err != nil {
		return err
	}
	script := c.layout.Restore(n)
	return netns.Batch(ctx, script.NetNS, script.Commands)
}

func (c *Cluster) node(name string) (lan.Node, error) {
	n, ok := c.layout.Node(name)
	if !ok {
		return n, fmt.Errorf("no node is called %q", name)
	}
	return n, nil
}
