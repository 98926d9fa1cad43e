package ipam

import (
	"errors"
	"fmt"
	"math/big"
	"net/netip"
	"strings"
)

// Range is an inclusive run of addresses of one family.
type Range struct {
	First, Last netip.Addr
}

// Errors of ParseRange. The returned error wraps one of them and says what was meant.
var (
	ErrNotAddress  = errors.New("not an address, a CIDR or a first-last range")
	ErrMixedFamily = errors.New("first and last address are of different families")
	ErrReversed    = errors.New("the last address comes before the first")
	ErrHostBits    = errors.New("host bits are set")
	ErrUnusable    = errors.New("not usable for a load balancer")
)

// unusable are the prefixes that no load balancer address may lie in, each with the
// reason (RFC 6890, RFC 4291 section 2.4).
var unusable = []struct {
	prefix netip.Prefix
	why    string
}{
	{netip.MustParsePrefix("0.0.0.0/8"), "unspecified (this network)"},
	{netip.MustParsePrefix("127.0.0.0/8"), "loopback"},
	{netip.MustParsePrefix("169.254.0.0/16"), "link-local"},
	{netip.MustParsePrefix("224.0.0.0/4"), "multicast"},
	{netip.MustParsePrefix("255.255.255.255/32"), "limited broadcast"},
	{netip.MustParsePrefix("::/128"), "unspecified"},
	{netip.MustParsePrefix("::1/128"), "loopback"},
	{netip.MustParsePrefix("::ffff:0:0/96"), "IPv4-mapped; write the IPv4 address"},
	{netip.MustParsePrefix("fe80::/10"), "link-local"},
	{netip.MustParsePrefix("ff00::/8"), "multicast"},
}

// ParseRange reads "192.0.2.0/24", "2001:db8::1-2001:db8::9" or a single address.
func ParseRange(s string) (Range, error) {
	s = strings.TrimSpace(s)
	r, err := parseRange(s)
	if err != nil {
		return Range{}, err
	}
	for _, u := range unusable {
		if r.Overlaps(prefixRange(u.prefix)) {
			return Range{}, fmt.Errorf("%q: %w: %s is %s", s, ErrUnusable, u.prefix, u.why)
		}
	}
	return r, nil
}

func parseRange(s string) (Range, error) {
	if strings.Contains(s, "/") {
		p, err := netip.ParsePrefix(s)
		if err != nil {
			return Range{}, fmt.Errorf("%q: %w: %s", s, ErrNotAddress, strings.TrimPrefix(err.Error(), "netip.ParsePrefix("+fmt.Sprintf("%q", s)+"): "))
		}
		if p != p.Masked() {
			return Range{}, fmt.Errorf("%q: %w; write %s for the network, or %s for the one address", s, ErrHostBits, p.Masked(), p.Addr())
		}
		return prefixRange(p), nil
	}
	first, last, isRange := strings.Cut(s, "-")
	a, err := parseAddr(first)
	if err != nil {
		return Range{}, fmt.Errorf("%q: %w", s, err)
	}
	if !isRange {
		return Range{a, a}, nil
	}
	b, err := parseAddr(last)
	switch {
	case err != nil:
		return Range{}, fmt.Errorf("%q: %w", s, err)
	case a.Is4() != b.Is4():
		return Range{}, fmt.Errorf("%q: %w", s, ErrMixedFamily)
	case b.Less(a):
		return Range{}, fmt.Errorf("%q: %w; write %s-%s", s, ErrReversed, b, a)
	}
	return Range{a, b}, nil
}

func parseAddr(s string) (netip.Addr, error) {
	a, err := netip.ParseAddr(strings.TrimSpace(s))
	if err != nil {
		return netip.Addr{}, ErrNotAddress
	}
	if a.Zone() != "" {
		return netip.Addr{}, fmt.Errorf("%w: a zone is not allowed", ErrUnusable)
	}
	return a, nil
}

func prefixRange(p netip.Prefix) Range {
	first := p.Masked().Addr()
	b := first.AsSlice()
	for i := p.Bits(); i < len(b)*8; i++ {
		b[i/8] |= 1 << (7 - i%8)
	}
	last, _ := netip.AddrFromSlice(b)
	return Range{first, last}
}

// Contains reports whether a lies in r.
func (r Range) Contains(a netip.Addr) bool {
	return a.Is4() == r.First.Is4() && !a.Less(r.First) && !r.Last.Less(a)
}

// Overlaps reports whether r and o have an address in common.
func (r Range) Overlaps(o Range) bool {
	return r.First.Is4() == o.First.Is4() && !r.Last.Less(o.First) && !o.Last.Less(r.First)
}

// Size returns the number of addresses in r, which for IPv6 does not fit an integer.
func (r Range) Size() *big.Int {
	n := new(big.Int).Sub(new(big.Int).SetBytes(r.Last.AsSlice()), new(big.Int).SetBytes(r.First.AsSlice()))
	return n.Add(n, big.NewInt(1))
}

// String returns "first-last", or the address where there is only one.
func (r Range) String() string {
	if r.First == r.Last {
		return r.First.String()
	}
	return r.First.String() + "-" + r.Last.String()
}
