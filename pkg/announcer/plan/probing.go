package plan

import (
	"cmp"
	"net/netip"
	"slices"
	"strings"
	"time"
)

// Probing is what a node asks its network for again and again: addresses that may be given
// out soon, and those that another machine was found to use. The zero Probing is nothing.
type Probing struct {
	// Version is the (term, revision) that last changed it.
	Version Version
	// Interval is the time between two times that an address is asked for.
	Interval time.Duration
	// Probes are sorted by address, each once.
	Probes []Probe
}

// Probe is an address to ask for, and where: Interface is as in Announcement.
type Probe struct {
	Address   netip.Addr
	Interface string
}

// Equal reports whether p and q say the same.
func (p Probing) Equal(q Probing) bool {
	return p.Version == q.Version && p.Interval == q.Interval && slices.Equal(p.Probes, q.Probes)
}

// Finding reports whether a machine which is not the node itself has an address that the node was
// told to probe, or answers for.
type Finding struct {
	Address netip.Addr
	// MAC is the machine's hardware address in its canonical text form, and Interface the
	// node's own on which it was heard.
	MAC, Interface string
	// Since is when it was first heard, by the node's clock, in seconds since 1970.
	Since int64
}

// Compare orders by address, then MAC, then interface.
func (f Finding) Compare(g Finding) int {
	return cmp.Or(f.Address.Compare(g.Address), strings.Compare(f.MAC, g.MAC), strings.Compare(f.Interface, g.Interface))
}
