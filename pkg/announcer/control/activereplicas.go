package control

import (
	"context"
	"sync"
)

// activeReplicas knows by which address each replica is reached. A replica with an IPv4 and an
// IPv6 address in DNS is one replica with two doors; since it keeps one stream per node,
// two followers of it would throw each other out for ever.
type activeReplicas struct {
	mu      sync.Mutex
	open    map[string]string // replica (Welcome.replica) → address
	changed chan struct{}
}

func newActiveReplicas() *activeReplicas {
	return &activeReplicas{open: map[string]string{}, changed: make(chan struct{})}
}

// enterReplica notes that replica is reached by address.
func (d *activeReplicas) enterReplica(replica, address string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.open[replica] = address
}

// leaveReplica notes that the stream to replica by address ended.
func (d *activeReplicas) leaveReplica(replica, address string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.open[replica] != address {
		return
	}
	delete(d.open, replica)
	close(d.changed)
	d.changed = make(chan struct{})
}

// awaitReplica waits until replica is not reached by another address than this one.
func (d *activeReplicas) awaitReplica(ctx context.Context, replica, address string) {
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
