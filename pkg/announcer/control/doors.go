package control

import (
	"context"
	"sync"
)

// doors knows by which address each replica is reached. A replica with an IPv4 and an
// IPv6 address in DNS is one replica with two doors; since it keeps one stream per node,
// two followers of it would throw each other out for ever.
type doors struct {
	mu      sync.Mutex
	open    map[string]string // replica (Welcome.replica) → address
	changed chan struct{}
}

func newDoors() *doors {
	return &doors{open: map[string]string{}, changed: make(chan struct{})}
}

// enter notes that replica is reached by address.
func (d *doors) enter(replica, address string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.open[replica] = address
}

// leave notes that the stream to replica by address ended.
func (d *doors) leave(replica, address string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.open[replica] != address {
		return
	}
	delete(d.open, replica)
	close(d.changed)
	d.changed = make(chan struct{})
}

// await waits until replica is not reached by another address than this one.
func (d *doors) await(ctx context.Context, replica, address string) {
	for {
		d.mu.Lock()
		other, ok := d.open[replica]
		changed := d.changed
		d.mu.Unlock()
		if !ok || other == address || replica == "" {
			return
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return
		}
	}
}
