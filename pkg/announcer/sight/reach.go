package sight

import (
	"net/netip"

	"baremetal.cloud/ccm/pkg/announcer/announcement"
)

// Path is how a peer is reached: through which interface of this node, and where.
type Path struct {
	Interface string
	To        netip.AddrPort
}

// Reach returns the path to a peer. The interfaces that carry addresses shared with it
// come first, then those on a prefix that both have; on one interface IPv4 comes before
// link-local IPv6. False says that there is none.
func Reach(own []announcement.Interface, carries func(name string) bool, peer announcement.Peer) (Path, bool) {
	var best Path
	most := -1
	for _, mine := range own {
		if mine.Down {
			continue // What a peer last said of its own may have changed since.
		}
		for _, its := range peer.Interfaces {
			to, score := pair(mine, its)
			if score < 0 {
				continue
			}
			if carries(mine.Name) {
				score += 8
			}
			if score > most {
				best, most = Path{mine.Name, netip.AddrPortFrom(to, Port)}, score
			}
		}
	}
	return best, most >= 0
}

// pair returns an address of its that mine reaches on link, and how good it is; less than
// zero is not at all.
func pair(mine, its announcement.Interface) (netip.Addr, int) {
	score := 0
	if mine.Name == its.Name {
		score = 1
	}
	var v4, local netip.Addr
	shared := false
	for _, m := range mine.Prefixes {
		for _, i := range its.Prefixes {
			if m.Addr() == i.Addr() || !m.Contains(i.Addr()) || !i.Contains(m.Addr()) {
				continue
			}
			switch {
			case m.Addr().Is4() && !v4.IsValid():
				v4, shared = i.Addr(), true
			case m.Addr().IsLinkLocalUnicast() && !local.IsValid():
				local = i.Addr()
			case !m.Addr().IsLinkLocalUnicast():
				shared = true
			}
		}
	}
	if shared {
		score += 4
	}
	switch {
	case v4.IsValid():
		return v4, score + 2
	case local.IsValid():
		return local.WithZone(mine.Name), score
	default:
		return netip.Addr{}, -1
	}
}
