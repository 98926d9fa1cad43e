package announcer

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"baremetal.cloud/ccm/pkg/announcer/netstate"
	"baremetal.cloud/ccm/pkg/announcer/plan"
	"baremetal.cloud/ccm/pkg/reason"
)

// option is what this node could do about one address of a plan.
type option struct {
	plan.Assignment
	// interfaces are where it would answer, sorted by name; none if problem says why not.
	interfaces []netstate.Interface
	problem    *plan.Problem
	// mute says why peers cannot hear that the node claims the address, if that is so.
	mute *plan.Problem
}

// subnets are what options follow from beside the plan's addresses: the node's
// interfaces, and what it is never to answer for.
type subnets struct {
	links  netstate.Snapshot
	report []plan.Interface
	own    netstate.Own
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
	interfaces []netstate.Interface
	err        error
}

func newSubnets(node string, links netstate.Snapshot, peers []plan.Peer, routers []plan.BGPPeer) *subnets {
	s := &subnets{links: links, report: links.Report(), own: links.Own(), nodes: map[string]string{}, chosen: map[selection]choice{}}
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

// optionFor says where the node would answer for a, or why not.
func (s *subnets) optionFor(a plan.Assignment) option {
	o := option{Assignment: a}
	if whose, ok := s.own[a.Address]; ok {
		o.problem = &plan.Problem{Address: a.Address, Reason: reason.AddressIsLocal, Message: fmt.Sprintf("%s is %s", a.Address, whose)}
	} else if chosen, err := s.interfacesFor(a.Interface, a.Address); err != nil {
		o.problem = &plan.Problem{Address: a.Address, Reason: plan.SelectionReason(err), Message: err.Error()}
	} else {
		o.interfaces = chosen
	}
	return o
}

func (s *subnets) interfacesFor(selector string, address netip.Addr) ([]netstate.Interface, error) {
	if selector == "" || selector == plan.OnLinkOnly {
		return s.chooseInterfaces(selector, address)
	}
	key := selection{selector, familyOf(address)}
	known, ok := s.chosen[key]
	if !ok {
		known.interfaces, known.err = s.chooseInterfaces(selector, address)
		s.chosen[key] = known
	}
	return known.interfaces, known.err
}

// chooseInterfaces applies the rule that the cluster applies too, to what the cluster gets in
// reports.
func (s *subnets) chooseInterfaces(selector string, address netip.Addr) ([]netstate.Interface, error) {
	selected, err := plan.SelectInterfaces(selector, address, s.report)
	if err != nil {
		// The rule sees only interfaces that can carry addresses; say more of one that cannot.
		if named, ok := s.links.Find(selector); ok && named.Carries() != nil {
			return nil, named.Carries()
		}
		return nil, err
	}
	var out []netstate.Interface
	for _, i := range selected {
		if found, ok := s.links.Find(i.Name); ok {
			out = append(out, found)
		}
	}
	return out, nil
}

// answer is one address that the node must answer for, and where.
type answer struct {
	claim plan.Claim
	// interfaces are sorted by name and not empty.
	interfaces []netstate.Interface
}

// placeText returns the names of a's interfaces, and a text that changes when one of them is
// another or has another hardware address.
func (a answer) placeText() (where, hardware string) {
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

// equalFailures reports whether f and g say the same.
func (f failures) equalFailures(g failures) bool {
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

// reachedOf returns a after f: an address is answered where a socket is open, and is a
// problem where none is.
func (f failures) reachedOf(a answer) (answer, *plan.Problem) {
	byIndex := f[familyOf(a.claim.Address)]
	if len(byIndex) == 0 {
		return a, nil
	}
	var cause error
	working := slices.DeleteFunc(slices.Clone(a.interfaces), func(i netstate.Interface) bool {
		err := byIndex[i.Index]
		if err != nil {
			cause = err
		}
		return err != nil
	})
	if len(working) == 0 {
		return answer{}, &plan.Problem{Address: a.claim.Address, Reason: reason.SocketFailed, Message: cause.Error()}
	}
	return answer{a.claim, working}, nil
}
