package announcer

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"baremetal.cloud/ccm/pkg/announcer/announcement"
	"baremetal.cloud/ccm/pkg/announcer/link"
	"baremetal.cloud/ccm/pkg/reason"
)

// option is what this node could do about one address of a plan.
type option struct {
	announcement.Announcement
	// interfaces are where it would answer, sorted by name; none if problem says why not.
	interfaces []link.Interface
	problem    *announcement.Problem
	// mute says why peers cannot hear that the node claims the address, if that is so.
	mute *announcement.Problem
}

// segments are what options follow from beside the plan's addresses: the node's
// interfaces, and what it is never to answer for.
type segments struct {
	links  link.Snapshot
	report []announcement.Interface
	own    link.Own
	// nodes are this node and those that it knows, by their hardware addresses.
	nodes map[string]string
	// chosen is the choice of selectors that do not depend on the address but for its family.
	chosen map[selection]choice
}

type selection struct {
	selector string
	family   family
}

type choice struct {
	interfaces []link.Interface
	err        error
}

func newSegments(node string, links link.Snapshot, peers []announcement.Peer, routers []announcement.BGPPeer) *segments {
	s := &segments{links: links, report: links.Report(), own: links.Own(), nodes: map[string]string{}, chosen: map[selection]choice{}}
	for _, peer := range peers {
		for _, i := range peer.Interfaces {
			s.nodes[i.MAC] = peer.Node
			for _, mac := range i.Ports {
				s.nodes[mac] = peer.Node
			}
		}
	}
	for _, i := range links.Interfaces {
		s.nodes[i.MAC.String()] = node
	}
	for _, router := range routers {
		s.own[router.Address] = cmp.Or(s.own[router.Address], "the address of the BGP peer "+router.Name)
	}
	return s
}

// option says where the node would answer for a, or why not.
func (s *segments) option(a announcement.Announcement) option {
	o := option{Announcement: a}
	if whose, ok := s.own[a.Address]; ok {
		o.problem = &announcement.Problem{Address: a.Address, Reason: reason.AddressIsLocal, Message: fmt.Sprintf("%s is %s", a.Address, whose)}
	} else if chosen, err := s.interfaces(a.Interface, a.Address); err != nil {
		o.problem = &announcement.Problem{Address: a.Address, Reason: announcement.SelectionReason(err), Message: err.Error()}
	} else {
		o.interfaces = chosen
	}
	return o
}

func (s *segments) interfaces(selector string, address netip.Addr) ([]link.Interface, error) {
	if selector == "" || selector == announcement.OnLinkOnly {
		return s.choose(selector, address)
	}
	key := selection{selector, familyOf(address)}
	known, ok := s.chosen[key]
	if !ok {
		known.interfaces, known.err = s.choose(selector, address)
		s.chosen[key] = known
	}
	return known.interfaces, known.err
}

// choose applies the rule that the cluster applies too, to what the cluster is told.
func (s *segments) choose(selector string, address netip.Addr) ([]link.Interface, error) {
	selected, err := announcement.SelectInterfaces(selector, address, s.report)
	if err != nil {
		// The rule sees only interfaces that can carry addresses; say more of one that cannot.
		if named, ok := s.links.Find(selector); ok && named.Carries() != nil {
			return nil, named.Carries()
		}
		return nil, err
	}
	var out []link.Interface
	for _, i := range selected {
		if found, ok := s.links.Find(i.Name); ok {
			out = append(out, found)
		}
	}
	return out, nil
}

// answer is one address that is to be answered, and where.
type answer struct {
	claim announcement.Claim
	// interfaces are sorted by name and not empty.
	interfaces []link.Interface
}

// place returns the names of a's interfaces, and a text that changes when one of them is
// another or has another hardware address.
func (a answer) place() (where, hardware string) {
	var names, details []string
	for _, i := range a.interfaces {
		names = append(names, i.Name)
		details = append(details, fmt.Sprint(i.Index, " ", i.MAC))
	}
	return strings.Join(names, ", "), strings.Join(details, ",")
}

// family is an address family: the unit that a responder answers for.
type family string

const (
	ipv4 family = "ipv4"
	ipv6 family = "ipv6"
)

func familyOf(address netip.Addr) family {
	if address.Is4() {
		return ipv4
	}
	return ipv6
}

// failures says which interfaces of which family cannot be answered on, and why.
type failures map[family]map[int]error

// equal reports whether f and g say the same.
func (f failures) equal(g failures) bool {
	for _, of := range []family{ipv4, ipv6} {
		if len(f[of]) != len(g[of]) {
			return false
		}
		for index, err := range f[of] {
			if other := g[of][index]; other == nil || other.Error() != err.Error() {
				return false
			}
		}
	}
	return true
}

// reached returns a after f: an address is answered where a socket is open, and is a
// problem where none is.
func (f failures) reached(a answer) (answer, *announcement.Problem) {
	byIndex := f[familyOf(a.claim.Address)]
	if len(byIndex) == 0 {
		return a, nil
	}
	var cause error
	working := slices.DeleteFunc(slices.Clone(a.interfaces), func(i link.Interface) bool {
		err := byIndex[i.Index]
		if err != nil {
			cause = err
		}
		return err != nil
	})
	if len(working) == 0 {
		return answer{}, &announcement.Problem{Address: a.claim.Address, Reason: reason.SocketFailed, Message: cause.Error()}
	}
	return answer{a.claim, working}, nil
}
