package plan

import (
	"errors"
	"fmt"
	"net/netip"
	"regexp"
	"slices"
	"strings"

	"baremetal.cloud/ccm/pkg/reason"
)

const canReach = "can_reach:"

// OnLinkOnly is a selector of a plan, and of no cloud-config: where the address is on the
// interface's segment, and nowhere else. Other nodes are there, so that an answer on the
// segment of a default route would be heard by no host that looks for the address.
const OnLinkOnly = "on_link:"

// CheckSelector says what is wrong with an interface selector, or nil.
func CheckSelector(selector string) error {
	if pattern, ok := selectorExpression(selector); ok {
		if _, err := regexp.Compile(pattern); err != nil {
			return fmt.Errorf("interface %q: %w", selector, err)
		}
		return nil
	}
	if target, ok := strings.CutPrefix(selector, canReach); ok {
		if _, err := netip.ParseAddr(target); err != nil {
			return fmt.Errorf("interface %q: %q is no address", selector, target)
		}
		return nil
	}
	if strings.ContainsAny(selector, " \t/:") {
		return fmt.Errorf("interface %q: want a name, /regular expression/ or can_reach:ADDRESS", selector)
	}
	return nil
}

// NoRouteBackError means that the kernel has no route of a family by the interface that would
// answer: a request would be answered, and what follows it would not.
type NoRouteBackError struct {
	Interface string
	IPv6      bool
}

func (e *NoRouteBackError) Error() string {
	family := "IPv4"
	if e.IPv6 {
		family = "IPv6"
	}
	return fmt.Sprintf("%s cannot send %s: it has no route or no usable address of it, so no reply could leave there", e.Interface, family)
}

// OffSegmentError means that a node has no route to the segment of an address, and others do.
type OffSegmentError struct{ Address netip.Addr }

func (e *OffSegmentError) Error() string {
	return fmt.Sprintf("%s is on a segment that other nodes have a route to, and this one has none", e.Address)
}

// SelectionReason returns what an error of SelectInterfaces is for people and metrics.
func SelectionReason(err error) reason.Reason {
	if _, ok := errors.AsType[*NoRouteBackError](err); ok {
		return reason.NodeNoRouteBack
	}
	if _, ok := errors.AsType[*OffSegmentError](err); ok {
		return reason.NodeOffSegment
	}
	return reason.NodeNoInterface
}

// SelectInterfaces returns those of a node's interfaces that carry address; none of them is down,
// each can send in the address's family, and no two are on one segment: the kernel replies by one
// of them, whichever was asked. With the empty selector that is where the kernel would send a
// packet to the address, or all where it has no route. What is down still counts as the way that
// it is: another interface leads to another segment. The error says why there is none; it is a
// NoRouteBackError where none of them can send.
func SelectInterfaces(selector string, address netip.Addr, interfaces []Interface) ([]Interface, error) {
	selected, err := matchInterfaces(selector, address, interfaces)
	if err != nil {
		return nil, err
	}
	able := filterInterfaces(selected, func(i Interface) bool { return i.Sends(address) })
	if len(able) == 0 {
		return nil, &NoRouteBackError{Interface: selected[0].Name, IPv6: address.Is6()}
	}
	return onePerSegment(able), nil
}

// matchInterfaces returns the interfaces that selector names; none of them is down. Without an error
// there is at least one.
func matchInterfaces(selector string, address netip.Addr, interfaces []Interface) ([]Interface, error) {
	up := filterInterfaces(interfaces, isUp)
	if len(up) == 0 {
		return nil, fmt.Errorf("the node has no interface that can carry an address")
	}
	if pattern, ok := selectorExpression(selector); ok {
		re, err := regexp.Compile("^(?:" + pattern + ")$")
		if err != nil {
			return nil, fmt.Errorf("interface %q: %w", selector, err)
		}
		return requireInterfaces(filterInterfaces(up, func(i Interface) bool { return re.MatchString(i.Name) }), "no interface matches %s", selector)
	}
	if target, ok := strings.CutPrefix(selector, canReach); ok {
		to, err := netip.ParseAddr(target)
		if err != nil {
			return nil, fmt.Errorf("interface %q: %w", selector, err)
		}
		out, err := routedInterfaces(to, interfaces)
		if err != nil {
			return nil, err
		}
		return requireInterfaces(out, "no interface leads to %s", target)
	}
	if selector == OnLinkOnly && !OnLink(address, interfaces) {
		return nil, &OffSegmentError{Address: address}
	}
	if selector != "" && selector != OnLinkOnly {
		return requireInterfaces(filterInterfaces(up, func(i Interface) bool { return i.Name == selector }), "there is no usable interface %q", selector)
	}
	out, err := routedInterfaces(address, interfaces)
	if out == nil && err == nil {
		return up, nil
	}
	return out, err
}

func isUp(i Interface) bool { return !i.Down }

// routedInterfaces returns the interfaces that are up of those by which the kernel sends to an address:
// those with the longest prefix; none if no route leads there. The error reports that all of
// them are down.
func routedInterfaces(to netip.Addr, interfaces []Interface) ([]Interface, error) {
	best := 0
	var way []Interface
	for _, i := range interfaces {
		switch longest := i.longestPrefix(to); {
		case longest < best:
		case longest > best:
			best, way = longest, []Interface{i}
		default:
			way = append(way, i)
		}
	}
	if up := filterInterfaces(way, isUp); len(up) > 0 || len(way) == 0 {
		return up, nil
	}
	return nil, fmt.Errorf("%s, through which %s is reached, is down", way[0].Name, to)
}

// onePerSegment leaves of interfaces that are on one segment the one that the kernel uses for
// it, or else the first by name.
func onePerSegment(interfaces []Interface) []Interface {
	var out []Interface
	for _, i := range interfaces {
		at := slices.IndexFunc(out, func(j Interface) bool { segment, _, _ := i.sharesSegment(j); return segment })
		if at < 0 {
			out = append(out, i)
			continue
		}
		if _, uses, otherUses := i.sharesSegment(out[at]); uses && !otherUses {
			out = append(slices.Delete(out, at, at+1), i) // Sorted by name as before.
		}
	}
	return out
}

func selectorExpression(selector string) (string, bool) {
	if len(selector) < 2 || selector[0] != '/' || selector[len(selector)-1] != '/' {
		return "", false
	}
	return selector[1 : len(selector)-1], true
}

func filterInterfaces(interfaces []Interface, keep func(Interface) bool) []Interface {
	var out []Interface
	for _, i := range interfaces {
		if keep(i) {
			out = append(out, i)
		}
	}
	return out
}

func requireInterfaces(interfaces []Interface, format string, args ...any) ([]Interface, error) {
	if len(interfaces) == 0 {
		return nil, fmt.Errorf(format, args...)
	}
	return interfaces, nil
}
