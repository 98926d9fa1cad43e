package ipam

import (
	"cmp"
	"net/netip"
	"slices"
	"time"

	"baremetal.cloud/ccm/pkg/reason"
)

// Family is an address family.
type Family uint8

// The two families; the values are the IP version numbers.
const (
	IPv4 Family = 4
	IPv6 Family = 6
)

// FamilyOf returns the family of a.
func FamilyOf(a netip.Addr) Family {
	if a.Is4() {
		return IPv4
	}
	return IPv6
}

// String returns "IPv4" or "IPv6", as the Kubernetes API spells them.
func (f Family) String() string {
	if f == IPv4 {
		return "IPv4"
	}
	return "IPv6"
}

// Holder is a Service that holds addresses. Two Holders with the same UID are the same.
type Holder struct {
	UID             string
	Namespace, Name string
	// Created orders Services that contend for one address: the older one wins.
	Created time.Time
}

// String returns "namespace/name".
func (h Holder) String() string { return h.Namespace + "/" + h.Name }

// Compare orders holders by age, then by UID.
func (h Holder) Compare(o Holder) int {
	return cmp.Or(h.Created.Compare(o.Created), cmp.Compare(h.UID, o.UID))
}

// Port is a Service port as far as it matters for sharing an address.
type Port struct {
	// Protocol is "TCP", "UDP" or "SCTP".
	Protocol string
	Number   uint16
}

// Sharing is what a Service says about sharing its addresses.
type Sharing struct {
	// Key is the sharing key; "" shares with no Service.
	Key string
	// ForeignKey is the sharing key that another controller reads. It decides nothing; it is a
	// good Key where that is missing.
	ForeignKey string
	// Ports are the Service's own.
	Ports []Port
	// Local reports whether externalTrafficPolicy is Local.
	Local bool
	// Selector is the canonical text of the Pod selector.
	Selector string
}

// Equal reports whether s and o say the same; the order of the ports says nothing.
func (s Sharing) Equal(o Sharing) bool {
	return s.Key == o.Key && s.Local == o.Local && s.Selector == o.Selector && len(s.Ports) == len(o.Ports) &&
		!slices.ContainsFunc(s.Ports, func(p Port) bool { return !slices.Contains(o.Ports, p) })
}

// Request is everything the allocator has to know of a Service.
type Request struct {
	Holder Holder
	// Labels and NamespaceLabels are those of the Service and of its namespace.
	Labels, NamespaceLabels map[string]string
	// Families are wanted in this order, each once.
	Families []Family
	// RequireAll asks for an address of each family or none (RequireDualStack).
	RequireAll bool
	// Pool, if not "", is the only pool to draw from.
	Pool string
	// Addresses, at most one of each family, are the only ones acceptable.
	Addresses []netip.Addr
	Sharing   Sharing
	// Unreadable, if not "", says what of the request could not be understood, so that
	// it is refused while what is held stays.
	Unreadable string
}

// requestedAddress returns the address of family f that req asks for, or the zero Addr.
func (req *Request) requestedAddress(f Family) netip.Addr {
	for _, a := range req.Addresses {
		if FamilyOf(a) == f {
			return a
		}
	}
	return netip.Addr{}
}

// checkRequest refuses requests that contradict themselves.
func (req *Request) checkRequest() *Refusal {
	if req.Unreadable != "" {
		return refusalOf(reason.RequestInvalid, "%s", req.Unreadable)
	}
	if len(req.Families) == 0 {
		return refusalOf(reason.RequestInvalid, "the Service asks for no IP family")
	}
	seen := map[Family]netip.Addr{}
	for _, a := range req.Addresses {
		f := FamilyOf(a)
		if other, twice := seen[f]; twice {
			return refusalOf(reason.RequestInvalid, "two %s addresses are requested, %s and %s; at most one of each family can be had", f, other, a)
		}
		if !slices.Contains(req.Families, f) {
			return refusalOf(reason.RequestInvalid, "address %s is requested, but %s is not among the Service's ipFamilies", a, f)
		}
		seen[f] = a
	}
	if req.RequireAll && len(seen) > 0 && len(seen) < len(req.Families) {
		return refusalOf(reason.RequestInvalid, "the Service requires both families (RequireDualStack) but requests an address of only one; request both or none")
	}
	return nil
}

// Assignment is an address and the pool that it comes from.
type Assignment struct {
	Address netip.Addr
	// Pool is "" where no pool contains the address now.
	Pool string
}

// Clash is a breach of the sharing rule that an edit caused on an address that is
// held. The address is kept.
type Clash struct {
	Address netip.Addr
	With    Holder
	// Why says which part of the rule is breached.
	Why string
	// SamePort reports whether both use a port, so that only one of them can be served there.
	SamePort bool
	// KeyMissing reports whether a common sharing key would end it: Key, or any other.
	KeyMissing bool
	Key        string
}

// Result is what a Service holds after a call.
type Result struct {
	// Assignments are in the order of the request's Families.
	Assignments []Assignment
	// Missing says why a family of a PreferDualStack Service has no address.
	Missing *Refusal
	// Clashes are sorted by address, then by age of the other holder.
	Clashes []Clash
	// Freed are the addresses that the call released.
	Freed []netip.Addr
}
