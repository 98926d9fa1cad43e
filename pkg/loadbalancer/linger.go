package loadbalancer

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"baremetal.cloud/ccm/pkg/ipam"
)

// An address is released in three steps, on every path: the status of the Service stops
// showing it, the nodes acknowledge that they answer for it no more, and then it is free.
// The addresses that wait for the first step linger; withdrawal.go has the second.

// keepShown keeps what the status of a Service shows and the Service does not hold from being
// given to another one.
func (b *Balancer) keepShown(holder ipam.Holder, shown []netip.Addr) {
	held := b.addresses.Held(holder.UID)
	for _, address := range shown {
		if !slices.ContainsFunc(held, func(a ipam.Assignment) bool { return a.Address == address }) {
			b.addresses.Linger(address, holder)
		}
	}
}

// StatusShows takes over which addresses the status of a Service shows now, as the API
// server has just said. What a cache says may be older than what the Balancer knows.
func (b *Balancer) StatusShows(uid string, shown []netip.Addr) {
	for _, address := range b.addresses.Lingering(uid) {
		if !slices.Contains(shown, address) && b.addresses.Cleared(address, uid) {
			b.offers.addresses[address] = true
		}
	}
}

// Lingers reports whether the status of a Service may show what the Service does not hold.
func (b *Balancer) Lingers(uid string) bool { return len(b.addresses.Lingering(uid)) > 0 }

// Shown returns the addresses that the Service holds and that its status may show: all that
// has to leave its status before it is released.
func (b *Balancer) Shown(uid string) []netip.Addr {
	out := b.addresses.Lingering(uid)
	for _, a := range b.addresses.Held(uid) {
		out = append(out, a.Address)
	}
	if s, ok := b.services[uid]; ok {
		out = append(out, s.Published...)
	}
	slices.SortFunc(out, netip.Addr.Compare)
	return slices.Compact(out)
}

// adoptableOf returns what of the addresses in a status that is new a Service may go on with:
// no Service gets an address of a node or a router anew.
func (b *Balancer) adoptableOf(shown []netip.Addr) []netip.Addr {
	return slices.DeleteFunc(slices.Clone(shown), func(address netip.Addr) bool {
		m, used := b.conflicts.userOf(address)
		return used && m.Owner != ""
	})
}

// StrandedClassError means that a configuration would no longer serve Services that hold
// addresses.
type StrandedClassError struct {
	// Services are those concerned, sorted, with their class.
	Services []string
	// Key is the key of the cloud-config that leaves them out.
	Key string
}

// Error names the Services.
func (e *StrandedClassError) Error() string {
	const most = 5
	named := e.Services[:min(most, len(e.Services))]
	more := ""
	if n := len(e.Services) - len(named); n > 0 {
		more = fmt.Sprintf(" and %d more", n)
	}
	keep := "keep the class"
	if e.Key == keyUnclassed {
		keep = "keep true"
	}
	return e.Key + ": Services that hold addresses would not be served any longer: " + strings.Join(named, ", ") + more +
		"; " + keep + ", delete these Services, or set onShrink: Reassign to have their addresses taken back"
}

// strandedByClass returns an error if config leaves out a class that is served now and that
// a Service with an address has, or the Services without a class.
func (b *Balancer) strandedByClass(config Config) error {
	if config.Reassign {
		return nil
	}
	var out []string
	key := keyClasses
	for uid, s := range b.services {
		if len(b.addresses.Held(uid)) == 0 {
			continue
		}
		switch {
		case s.Class == "" && b.servesUnclassed && !config.ServicesWithoutClass:
			key = keyUnclassed
			out = append(out, s.Key()+" without a class")
		case s.Class != "" && slices.Contains(b.classes, s.Class) && !slices.Contains(config.Classes, s.Class):
			out = append(out, fmt.Sprintf("%s of class %s", s.Key(), s.Class))
		}
	}
	if len(out) == 0 {
		return nil
	}
	slices.Sort(out)
	return &StrandedClassError{Services: out, Key: key}
}

// Keys of the cloud-config that decide which Services are served.
const (
	keyClasses   = "loadBalancerClasses"
	keyUnclassed = "servicesWithoutClass"
)
