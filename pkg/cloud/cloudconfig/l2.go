package cloudconfig

import (
	"net/netip"
	"regexp"
	"strings"

	"gopkg.in/yaml.v3"
)

// maxInterfaceName is IFNAMSIZ of Linux without the closing zero byte.
const maxInterfaceName = 15

func (w *walker) l2(n *yaml.Node, path string) []L2 {
	var out []L2
	w.one(n, path, yaml.MappingNode, func(v *yaml.Node, at string) {
		var l L2
		w.object(v, at, map[string]reader{
			"interface":     func(v *yaml.Node, at string) { l.Interface = w.interfaceSelector(v, at) },
			"nodeSelectors": func(v *yaml.Node, at string) { l.NodeSelector = w.selectors(v, at) },
		})
		out = append(out, l)
	})
	if n.Kind == yaml.SequenceNode && len(n.Content) == 0 {
		w.fail(n, path, "write [{}] to announce it on layer 2, or remove the key", "an empty list announces nothing")
	}
	return out
}

// interfaceSelector reads which interfaces of a node carry the addresses, in the forms
// that L2.Interface lists.
func (w *walker) interfaceSelector(n *yaml.Node, path string) string {
	s, ok := w.text(n, path)
	if !ok || s == "" {
		return ""
	}
	if address, is := strings.CutPrefix(s, "can_reach:"); is {
		if a, err := netip.ParseAddr(address); err != nil || a.Zone() != "" {
			w.fail(n, path, `write an address without a prefix length, like "can_reach:192.0.2.1"`, "%q is not an address", address)
		}
		return s
	}
	if strings.HasPrefix(s, "/") {
		w.expressionOfNames(n, path, s)
		return s
	}
	if len(s) > maxInterfaceName || strings.ContainsAny(s, "/: \t\r\n") || s == "." || s == ".." {
		w.fail(n, path, "write a name, /regular expression/ or can_reach:ADDRESS", "%q cannot be the name of an interface", s)
	}
	return s
}

// expressionOfNames checks a "/regular expression/" for interface names.
func (w *walker) expressionOfNames(n *yaml.Node, path, s string) {
	if len(s) < 3 || !strings.HasSuffix(s, "/") {
		w.fail(n, path, "write it between two slashes, like /bond.*/", "%q is not a regular expression", s)
		return
	}
	if _, err := regexp.Compile(s[1 : len(s)-1]); err != nil {
		w.fail(n, path, "", "%s", err)
	}
}
