package cloudconfig

import (
	"net/netip"
	"regexp"
	"strings"

	"gopkg.in/yaml.v3"
)

// maxInterfaceName is IFNAMSIZ of Linux without the closing zero byte.
const maxInterfaceName = 15

func (w *walker) l2(n *yaml.Node, path string) *L2 {
	l := defaultL2()
	w.object(n, path, map[string]reader{
		"interface":    func(v *yaml.Node, at string) { l.Interface = w.interfaceSelector(v, at) },
		"nodeSelector": func(v *yaml.Node, at string) { l.NodeSelector = w.selector(v, at) },
	})
	return l
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
