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
	// standby are the addresses of the plan that others answer for. Sockets are open where
	// they would be answered, so that it is known whether they could be.
	standby []answer
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

// decide says for each option whether the node answers, given the stamps of what it claims,
// or stands by, or why it can do neither. With trying it stands by for those too whose
// sockets could not be opened of late: to see whether they can be now.
func decide(options []option, claim func(netip.Addr) announcement.Stamp, trying bool) decision {
	var d decision
	for _, o := range options {
		stamp := claim(o.Address)
		switch {
		case !stamp.IsZero():
			d.answers = append(d.answers, answer{announcement.Claim{Address: o.Address, Stamp: stamp}, o.interfaces})
		case o.problem != nil && !(trying && o.problem.Reason == reason.SocketFailed):
			d.problems = append(d.problems, *o.problem)
		default:
			d.standby = append(d.standby, answer{announcement.Claim{Address: o.Address}, o.interfaces})
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

// ports turns answers around: for each interface, sorted by index, the addresses of f that
// are answered on it, none where only those of standby would be.
func ports(answers, standby []answer, f family) []*responder.Port {
	byIndex := map[int]*responder.Port{}
	var out []*responder.Port
	port := func(i link.Interface) *responder.Port {
		p := byIndex[i.Index]
		if p == nil {
			p = &responder.Port{Index: i.Index, Name: i.Name, MAC: i.MAC}
			byIndex[i.Index] = p
			out = append(out, p)
		}
		return p
	}
	for _, a := range answers {
		if familyOf(a.claim.Address) != f {
			continue
		}
		for _, i := range a.interfaces {
			p := port(i)
			p.Addresses = append(p.Addresses, a.claim.Address)
		}
	}
	for _, a := range standby {
		if familyOf(a.claim.Address) == f {
			for _, i := range a.interfaces {
				port(i)
			}
		}
	}
	slices.SortFunc(out, func(a, b *responder.Port) int { return a.Index - b.Index })
	return out
}

// failures says which interfaces of which family cannot be answered on, and why.
type failures map[family]map[int]error

// without returns d after failed: an address is answered, or could be, where a socket is
// open, and is a problem where none is.
func (d decision) without(failed failures) decision {
	out := decision{problems: slices.Clone(d.problems)}
	keep := func(answers []answer) (kept []answer) {
		for _, a := range answers {
			working, cause := a.without(failed)
			if cause == nil {
				kept = append(kept, working)
				continue
			}
			out.problems = append(out.problems, announcement.Problem{
				Address: a.claim.Address, Reason: reason.SocketFailed, Message: cause.Error(),
			})
		}
		return kept
	}
	out.answers, out.standby = keep(d.answers), keep(d.standby)
	slices.SortFunc(out.problems, func(a, b announcement.Problem) int { return a.Address.Compare(b.Address) })
	return out
}

// without returns a on those of its interfaces that have a socket, or why none has.
func (a answer) without(failed failures) (answer, error) {
	var cause error
	working := slices.DeleteFunc(slices.Clone(a.interfaces), func(i link.Interface) bool {
		err := failed[familyOf(a.claim.Address)][i.Index]
		if err != nil {
			cause = err
		}
		return err != nil
	})
	if len(working) > 0 {
		cause = nil
	}
	return answer{a.claim, working}, cause
}
