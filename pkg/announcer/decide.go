package announcer

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"

	"baremetal.cloud/ccm/pkg/announcer/announcement"
	"baremetal.cloud/ccm/pkg/announcer/link"
	"baremetal.cloud/ccm/pkg/announcer/responder"
	"baremetal.cloud/ccm/pkg/reason"
)

// answer is one address that is to be answered, and where.
type answer struct {
	claim announcement.Claim
	// interfaces are sorted by name and not empty.
	interfaces []link.Interface
}

// decision is what a plan and the state of the interfaces come to.
type decision struct {
	// answers and problems are sorted by address; no address is in both.
	answers  []answer
	problems []announcement.Problem
	// standby is how many addresses of the plan others answer for.
	standby int
}

// option is what this node could do about one address of a plan.
type option struct {
	announcement.Announcement
	// interfaces are where it would answer, sorted by name; none if problem says why not.
	interfaces []link.Interface
	problem    *announcement.Problem
}

// options says for each address of set where the node would answer for it, or why not.
func options(set announcement.Set, links link.Snapshot) []option {
	choose := newChooser(links)
	own := links.Own()
	for _, peer := range set.Sight.Peers {
		for _, i := range peer.Interfaces {
			for _, p := range i.Prefixes {
				own[p.Addr()] = cmp.Or(own[p.Addr()], fmt.Sprintf("the address of %s on %s", peer.Node, i.Name))
			}
		}
	}
	out := make([]option, 0, len(set.Announcements))
	for _, a := range set.Announcements {
		o := option{Announcement: a}
		if whose, ok := own[a.Address]; ok {
			o.problem = &announcement.Problem{Address: a.Address, Reason: reason.AddressIsLocal, Message: fmt.Sprintf("%s is %s", a.Address, whose)}
		} else if chosen, err := choose.interfaces(a.Interface, a.Address); err != nil {
			o.problem = &announcement.Problem{Address: a.Address, Reason: reason.NodeNoInterface, Message: err.Error()}
		} else {
			o.interfaces = chosen
		}
		out = append(out, o)
	}
	return out
}

// decide says for each option whether node answers, given the stamps of what it claims, or
// why it does not though the plan names it first.
func decide(node string, options []option, claim func(netip.Addr) announcement.Stamp) decision {
	var d decision
	for _, o := range options {
		stamp := claim(o.Address)
		switch {
		case !stamp.IsZero():
			d.answers = append(d.answers, answer{announcement.Claim{Address: o.Address, Stamp: stamp}, o.interfaces})
		case o.problem != nil && len(o.Candidates) > 0 && o.Candidates[0] == node:
			d.problems = append(d.problems, *o.problem)
		default:
			d.standby++
		}
	}
	return d
}

// chooser selects interfaces, and remembers the choice of a selector that does not
// depend on the address.
type chooser struct {
	links  link.Snapshot
	report []announcement.Interface
	chosen map[string]choice
}

type choice struct {
	interfaces []link.Interface
	err        error
}

func newChooser(links link.Snapshot) *chooser {
	return &chooser{links: links, report: links.Report(), chosen: map[string]choice{}}
}

func (c *chooser) interfaces(selector string, address netip.Addr) ([]link.Interface, error) {
	if selector == "" {
		return c.choose(selector, address)
	}
	known, ok := c.chosen[selector]
	if !ok {
		known.interfaces, known.err = c.choose(selector, address)
		c.chosen[selector] = known
	}
	return known.interfaces, known.err
}

// choose applies the rule that the cluster applies too, to what the cluster is told.
func (c *chooser) choose(selector string, address netip.Addr) ([]link.Interface, error) {
	selected, err := announcement.SelectInterfaces(selector, address, c.report)
	if err != nil {
		// The rule sees only interfaces that can carry addresses; say more of one that cannot.
		if named, ok := c.links.Find(selector); ok && named.Carries() != nil {
			return nil, named.Carries()
		}
		return nil, err
	}
	var out []link.Interface
	for _, s := range selected {
		if found, ok := c.links.Find(s.Name); ok {
			out = append(out, found)
		}
	}
	return out, nil
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

// ports turns answers around: for each interface, sorted by index, the addresses of f
// that are answered on it.
func ports(answers []answer, f family) []*responder.Port {
	byIndex := map[int]*responder.Port{}
	var out []*responder.Port
	for _, a := range answers {
		if familyOf(a.claim.Address) != f {
			continue
		}
		for _, i := range a.interfaces {
			p := byIndex[i.Index]
			if p == nil {
				p = &responder.Port{Index: i.Index, Name: i.Name, MAC: i.MAC}
				byIndex[i.Index] = p
				out = append(out, p)
			}
			p.Addresses = append(p.Addresses, a.claim.Address)
		}
	}
	slices.SortFunc(out, func(a, b *responder.Port) int { return a.Index - b.Index })
	return out
}

// failures says which interfaces of which family cannot be answered on, and why.
type failures map[family]map[int]error

// without returns d after failed: an address is answered where a socket is open, and is
// a problem where none is.
func (d decision) without(failed failures) decision {
	out := decision{standby: d.standby, problems: slices.Clone(d.problems)}
	for _, a := range d.answers {
		var cause error
		working := slices.DeleteFunc(slices.Clone(a.interfaces), func(i link.Interface) bool {
			err := failed[familyOf(a.claim.Address)][i.Index]
			if err != nil {
				cause = err
			}
			return err != nil
		})
		if len(working) == 0 {
			out.problems = append(out.problems, announcement.Problem{
				Address: a.claim.Address, Reason: reason.SocketFailed, Message: cause.Error(),
			})
			continue
		}
		out.answers = append(out.answers, answer{a.claim, working})
	}
	slices.SortFunc(out.problems, func(a, b announcement.Problem) int { return a.Address.Compare(b.Address) })
	return out
}
