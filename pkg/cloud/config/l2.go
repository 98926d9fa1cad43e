package config

import (
	"net/netip"
	"regexp"
	"strings"
)

// maxInterfaceName is IFNAMSIZ of Linux without the closing zero byte.
const maxInterfaceName = 15

func readL2(s spot, shapes []l2Shape) []L2 {
	if len(shapes) > 1 {
		// All candidates for an address get the same interface.
		s.item(1).fail("leave only one; it may have several nodeSelectors, and an interface like /eth0|bond0/", "a second entry is not supported by this version yet")
	}
	var out []L2
	for i, shape := range shapes {
		item := s.item(i)
		checkInterfaces(item.key("interface"), shape.Interface)
		out = append(out, L2{Interface: shape.Interface, NodeSelector: selectorOf(item.key("nodeSelectors"), shape.NodeSelectors)})
	}
	if s.given() && len(shapes) == 0 {
		s.fail("write [{}] to announce it on layer 2, or remove the key", "an empty list announces nothing")
	}
	return out
}

// checkInterfaces checks which interfaces of a node carry the addresses, in the forms that
// L2.Interface lists.
func checkInterfaces(s spot, text string) {
	if !s.given() || text == "" {
		return
	}
	if address, is := strings.CutPrefix(text, "can_reach:"); is {
		if a, err := netip.ParseAddr(address); err != nil || a.Zone() != "" {
			s.fail(`write an address without a prefix length, like "can_reach:192.0.2.1"`, "%q is not an address", address)
		}
		return
	}
	if strings.HasPrefix(text, "/") {
		expressionOfNames(s, text)
		return
	}
	if len(text) > maxInterfaceName || strings.ContainsAny(text, "/: \t\r\n") || text == "." || text == ".." {
		s.fail("write a name, /regular expression/ or can_reach:ADDRESS", "%q cannot be the name of an interface", text)
	}
}

// expressionOfNames checks a "/regular expression/" for interface names.
func expressionOfNames(s spot, text string) {
	if len(text) < 3 || !strings.HasSuffix(text, "/") {
		s.fail("write it between two slashes, like /bond.*/", "%q is not a regular expression", text)
		return
	}
	if _, err := regexp.Compile(text[1 : len(text)-1]); err != nil {
		s.fail("", "%s", err)
	}
}
