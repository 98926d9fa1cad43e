package announcer

import (
	"maps"
	"net"
	"net/netip"
	"sync"
	"time"

	"golang.org/x/time/rate"
)

const (
	// claimPause is the least time between two claims of one address by one machine that the
	// owner hears of, and nodePause that by one node of the cluster: of two that do not hear each
	// other's heartbeats each has to learn whether the other answers what it announces.
	claimPause = time.Second
	nodePause  = 100 * time.Millisecond
	// strangerRate and nodeRate are how many claims a second it hears of in all, from strangers
	// and from nodes of the cluster, and claimBurst how many at once. A flood of the one kind
	// leaves the other alone: what nodes announce tells which of two answers (insist).
	strangerRate = 100
	nodeRate     = 400
	claimBurst   = 256
)

// claimLimit bounds the claims that reach the owner. The readers of all sockets share it.
type claimLimit struct {
	mu sync.Mutex
	// nodes are the hardware addresses of the cluster's nodes, which is guarded by mu as is
	// everything below. It is not written to.
	nodes map[string]string
	// strangers and known are what is left for each kind.
	strangers, known *rate.Limiter
	// last is when a machine's claim of an address passed; it has no more entries than may pass
	// in claimPause, twice.
	last   map[claimant]time.Time
	pruned time.Time
}

type claimant struct {
	address netip.Addr
	mac     [6]byte
}

func newClaimLimit() *claimLimit {
	return &claimLimit{
		strangers: rate.NewLimiter(strangerRate, claimBurst), known: rate.NewLimiter(nodeRate, claimBurst),
		last: map[claimant]time.Time{},
	}
}

// setNodes makes nodes, by hardware address, those of the cluster.
func (l *claimLimit) setNodes(nodes map[string]string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.nodes = nodes
}

// allowsClaim reports whether the owner hears that the machine with mac claims address.
func (l *claimLimit) allowsClaim(now time.Time, address netip.Addr, mac net.HardwareAddr) bool {
	key := claimant{address: address}
	copy(key.mac[:], mac)
	l.mu.Lock()
	defer l.mu.Unlock()
	limit, pause := l.strangers, claimPause
	if _, ok := l.nodes[mac.String()]; ok {
		limit, pause = l.known, nodePause
	}
	if last, ok := l.last[key]; ok && now.Sub(last) < pause {
		return false
	}
	if !limit.AllowN(now, 1) {
		return false
	}
	if now.Sub(l.pruned) >= claimPause {
		maps.DeleteFunc(l.last, func(_ claimant, last time.Time) bool { return now.Sub(last) >= claimPause })
		l.pruned = now
	}
	l.last[key] = now
	return true
}
