package failover

import (
	"net/netip"
	"slices"

	"baremetal.cloud/ccm/pkg/announcer/plan"
)

// maxGuesses bounds the addresses of a family at which a peer is looked for that is not heard.
const maxGuesses = 4

// searches is for how many packets a peer that was late is looked for at all addresses.
const searches = 300

// Path is how a peer is reached: through which interface of this node, and where.
type Path struct {
	Interface string
	To        netip.AddrPort
}

// Reach returns the paths by which a peer may be reached, the best first, all through one
// interface. Those that carry addresses shared with it come first, then those on a prefix that
// both have; on one interface IPv4 comes before link-local IPv6, which no DHCP server changes. Of
// several addresses there the Node's own comes first: others may be ones that move from node to node.
func Reach(own []plan.Interface, carries func(name string) bool, peer plan.Peer) []Path {
	var best []netip.Addr
	name, most := "", -1
	for _, mine := range own {
		if mine.Down {
			continue // What a peer last said of its own may have changed since.
		}
		for _, its := range peer.Interfaces {
			to, score := pairAddresses(mine, its, peer.Addresses)
			if score < 0 {
				continue
			}
			if carries(mine.Name) {
				score += 8
			}
			if score > most {
				best, name, most = to, mine.Name, score
			}
		}
	}
	var paths []Path
	for _, to := range best {
		paths = append(paths, Path{name, netip.AddrPortFrom(to, Port)})
	}
	return paths
}

// pairAddresses returns the addresses of its that mine reaches on link, the best one and the best
// of the other family first, and how good they are; less than zero is not at all.
func pairAddresses(mine, its plan.Interface, preferred []netip.Addr) ([]netip.Addr, int) {
	score := 0
	if mine.Name == its.Name {
		score = 1
	}
	var v4, local []netip.Addr
	shared := false
	for _, m := range mine.Prefixes {
		for _, i := range its.Prefixes {
			if m.Addr() == i.Addr() || !m.Contains(i.Addr()) || !i.Contains(m.Addr()) {
				continue
			}
			switch {
			case m.Addr().Is4():
				v4, shared = append(v4, i.Addr()), true
			case m.Addr().IsLinkLocalUnicast():
				local = append(local, i.Addr().WithZone(mine.Name))
			default:
				shared = true
			}
		}
	}
	if shared {
		score += 4
	}
	v4, local = preferAddresses(v4, preferred), preferAddresses(local, preferred)
	switch {
	case len(v4) > 0:
		return slices.Concat(v4[:1], local, v4[1:]), score + 2
	case len(local) > 0:
		return local, score
	default:
		return nil, -1
	}
}

// preferAddresses returns addresses, each once, as far as they are looked at, those in preferred before
// the others.
func preferAddresses(addresses, preferred []netip.Addr) []netip.Addr {
	var out []netip.Addr
	for _, want := range []bool{true, false} {
		for _, a := range addresses {
			if slices.Contains(preferred, a) == want && !slices.Contains(out, a) && len(out) < maxGuesses {
				out = append(out, a)
			}
		}
	}
	return out
}

// OnLink reports whether from, the source of a datagram that i received, is an address of
// another machine on a prefix that the machine and i share.
func OnLink(i plan.Interface, from netip.Addr) bool {
	if from.Is6() && !from.IsLinkLocalUnicast() {
		return false // No machine is reached there.
	}
	shared := false
	for _, p := range i.Prefixes {
		if p.Addr() == from.WithZone("") {
			return false
		}
		shared = shared || p.Contains(from.WithZone("")) && from.IsValid() && p.Bits() < from.BitLen()
	}
	return shared
}

// Destinations are where to send what goes to one peer. The zero value knows nowhere.
type Destinations struct {
	// guesses are what plan and interfaces say, the best first.
	guesses []Path
	// heard is where the last packet that counted came from, and unproven where one did that
	// may be of a new life of the peer and may be a recording.
	heard, unproven Path
	turn            int
	// search is for how many packets more the peer is looked for elsewhere, too.
	search int
}

// Guess takes what Reach returned. What was heard through another interface no longer counts: the
// addresses are carried elsewhere. Nor does IPv4 where the node has lost its own.
func (d *Destinations) Guess(paths []Path) {
	d.guesses = paths
	if len(paths) == 0 {
		return
	}
	for _, p := range []*Path{&d.heard, &d.unproven} {
		if p.Interface != paths[0].Interface || p.To.Addr().Is4() && !paths[0].To.Addr().Is4() {
			*p = Path{}
		}
	}
}

// Heard takes where a packet that counted came from, which has to be on link.
func (d *Destinations) Heard(from Path) {
	if d.mayAnswerBy(from) {
		d.heard, d.unproven = from, Path{}
	}
}

// Unproven takes where a packet came from that did not count yet, and has to be answered for
// that; it has to be on link.
func (d *Destinations) Unproven(from Path) {
	if d.mayAnswerBy(from) {
		d.unproven = from
	}
}

// mayAnswerBy reports whether the peer may be answered by the way that it came: two nodes with two
// segments in common might else go back and forth between them.
func (d *Destinations) mayAnswerBy(from Path) bool {
	return len(d.guesses) == 0 || from.Interface == d.guesses[0].Interface
}

// Next returns the destinations of the next packet, each once. A peer is where it was heard. One
// that is late is looked for there, where the best guess is, and at each of the other guesses in
// turn, and for a while afterwards: packets may come from where none arrive.
func (d *Destinations) Next(late bool) []Path {
	if d.search = max(0, d.search-1); late {
		d.search = searches
	}
	out := make([]Path, 0, 4)
	add := func(p Path) {
		if p != (Path{}) && !slices.Contains(out, p) {
			out = append(out, p)
		}
	}
	add(d.heard)
	add(d.unproven)
	if len(d.guesses) > 0 && (d.search > 0 || len(out) == 0) {
		add(d.guesses[0])
		if others := d.guesses[1:]; len(others) > 0 {
			add(others[d.turn%len(others)])
			d.turn++
		}
	}
	return out
}
