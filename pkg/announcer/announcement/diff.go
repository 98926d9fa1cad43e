package announcement

import (
	"cmp"
	"net/netip"
	"slices"
)

// Verb is what an Action does to a claim.
type Verb uint8

// The verbs, in the order in which Diff returns them.
const (
	// Stop ends a claim.
	Stop Verb = iota
	// Restamp keeps a claim and puts another list's stamp on it.
	Restamp
	// Start begins a claim.
	Start
)

// String returns the verb in lower case.
func (v Verb) String() string {
	switch v {
	case Stop:
		return "stop"
	case Restamp:
		return "restamp"
	default:
		return "start"
	}
}

// Action is one step from the claims that a node holds to those that it wants.
type Action struct {
	Verb Verb
	// Claim is the one that ends for Stop, else the one that holds afterwards.
	Claim Claim
}

// Diff returns the steps from have to want: every Stop, then every Restamp, then every
// Start, each kind sorted by address. Stops come first so that no step leaves a node
// with more than it is to have. Neither argument needs to be sorted; of several claims
// to one address the newest counts.
func Diff(have, want []Claim) []Action {
	from, to := byAddress(have), byAddress(want)
	var actions []Action
	for address, claim := range from {
		if _, ok := to[address]; !ok {
			actions = append(actions, Action{Stop, claim})
		}
	}
	for address, claim := range to {
		held, ok := from[address]
		switch {
		case !ok:
			actions = append(actions, Action{Start, claim})
		case held.Stamp != claim.Stamp:
			actions = append(actions, Action{Restamp, claim})
		}
	}
	slices.SortFunc(actions, func(a, b Action) int {
		return cmp.Or(cmp.Compare(a.Verb, b.Verb), a.Claim.Address.Compare(b.Claim.Address))
	})
	return actions
}

// byAddress indexes claims by address.
func byAddress(claims []Claim) map[netip.Addr]Claim {
	index := make(map[netip.Addr]Claim, len(claims))
	for _, c := range claims {
		if held, ok := index[c.Address]; !ok || held.Stamp.Compare(c.Stamp) < 0 {
			index[c.Address] = c
		}
	}
	return index
}
