package testbed

import (
	"context"

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
