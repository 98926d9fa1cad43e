package announcement

import (
	"fmt"
	"net/netip"
	"regexp"
	"strings"
)

const canReach = "can_reach:"

// CheckSelector says what is wrong with an interface selector, or nil.
func CheckSelector(selector string) error {
	if pattern, ok := expression(selector); ok {
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

// SelectInterfaces returns those of a node's interfaces that are to carry address; none of
// them is down. With the empty selector that is where an on-link prefix contains the
// address, else where a default route leaves, else all. What is down still counts as the
// way that it is: another interface leads to another segment. The error says why there is
// none.
func SelectInterfaces(selector string, address netip.Addr, interfaces []Interface) ([]Interface, error) {
	up := filter(interfaces, isUp)
	if len(up) == 0 {
		return nil, fmt.Errorf("the node has no interface that can carry an address")
	}
	if pattern, ok := expression(selector); ok {
		re, err := regexp.Compile("^(?:" + pattern + ")$")
		if err != nil {
			return nil, fmt.Errorf("interface %q: %w", selector, err)
		}
		return found(filter(up, func(i Interface) bool { return re.MatchString(i.Name) }), "no interface matches %s", selector)
	}
	if target, ok := strings.CutPrefix(selector, canReach); ok {
		to, err := netip.ParseAddr(target)
		if err != nil {
			return nil, fmt.Errorf("interface %q: %w", selector, err)
		}
		out, err := towards(to, interfaces)
		if err != nil {
			return nil, err
		}
		return found(out, "no interface leads to %s", target)
	}
	if selector != "" {
		return found(filter(up, func(i Interface) bool { return i.Name == selector }), "there is no usable interface %q", selector)
	}
	out, err := towards(address, interfaces)
	if out == nil && err == nil {
		return up, nil
	}
	return out, err
}

func isUp(i Interface) bool { return !i.Down }

// towards returns the interfaces that are up of those with the longest on-link prefix that
// contains to, or else of those with a default route; none if there are neither. The error
// says that all of them are down.
func towards(to netip.Addr, interfaces []Interface) ([]Interface, error) {
	way := mostSpecific(interfaces, to)
	if len(way) == 0 {
		way = filter(interfaces, func(i Interface) bool { return i.Default })
	}
	if up := filter(way, isUp); len(up) > 0 || len(way) == 0 {
		return up, nil
	}
	return nil, fmt.Errorf("%s, through which %s is reached, is down", way[0].Name, to)
}

func expression(selector string) (string, bool) {
	if len(selector) < 2 || selector[0] != '/' || selector[len(selector)-1] != '/' {
		return "", false
	}
	return selector[1 : len(selector)-1], true
}

// mostSpecific returns the interfaces with the longest on-link prefix that contains to.
func mostSpecific(interfaces []Interface, to netip.Addr) []Interface {
	best := -1
	var out []Interface
	for _, i := range interfaces {
		longest := -1
		for _, p := range i.Prefixes {
			if p.Contains(to) {
				longest = max(longest, p.Bits())
			}
		}
		switch {
		case longest < 0 || longest < best:
		case longest > best:
			best, out = longest, []Interface{i}
		default:
			out = append(out, i)
		}
	}
	return out
}

func filter(interfaces []Interface, keep func(Interface) bool) []Interface {
	var out []Interface
	for _, i := range interfaces {
		if keep(i) {
			out = append(out, i)
		}
	}
	return out
}

func found(interfaces []Interface, format string, args ...any) ([]Interface, error) {
	if len(interfaces) == 0 {
		return nil, fmt.Errorf(format, args...)
	}
	return interfaces, nil
}
