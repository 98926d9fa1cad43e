package cloudconfig

import (
	"math"
	"slices"

	"gopkg.in/yaml.v3"
	"k8s.io/apimachinery/pkg/util/validation"

	"baremetal.cloud/ccm/pkg/ipam"
)

func (w *walker) pools(n *yaml.Node, path string) []Pool {
	var pools []Pool
	named := map[string]*yaml.Node{}
	w.list(n, path, func(v *yaml.Node, at string) {
		p, name := w.pool(v, at)
		pools = append(pools, p)
		if name == nil || p.Name == "" {
			return
		}
		if first := named[p.Name]; first != nil {
			w.fail(name, at+".name", "", "another pool has the name %q, at %d:%d", p.Name, first.Line, first.Column)
			return
		}
		named[p.Name] = name
	})
	return pools
}

// pool reads one pool. It also returns the node of its name, for errors; nil if it has none.
func (w *walker) pool(n *yaml.Node, path string) (p Pool, name *yaml.Node) {
	p = defaultPool()
	keys := map[string]reader{
		"name":               func(v *yaml.Node, at string) { name, p.Name = v, w.name(v, at) },
		"addresses":          func(v *yaml.Node, at string) { p.Ranges = w.ranges(v, at) },
		"autoAssign":         func(v *yaml.Node, at string) { p.AutoAssign = w.boolean(v, at) },
		"avoidBuggyIPs":      func(v *yaml.Node, at string) { p.AvoidBuggyIPs = w.boolean(v, at) },
		"disabled":           func(v *yaml.Node, at string) { p.Disabled = w.boolean(v, at) },
		"priority":           func(v *yaml.Node, at string) { p.Priority = w.integer(v, at, math.MinInt32, math.MaxInt32) },
		"namespaces":         func(v *yaml.Node, at string) { p.Namespaces = w.labels(v, at) },
		"namespaceSelectors": func(v *yaml.Node, at string) { p.NamespaceSelector = w.selectors(v, at) },
		"serviceSelectors":   func(v *yaml.Node, at string) { p.ServiceSelector = w.selectors(v, at) },
		"sharedNamespaces":   func(v *yaml.Node, at string) { p.SharedNamespaces = w.labels(v, at) },
		"maxPerNamespace":    func(v *yaml.Node, at string) { p.MaxPerNamespace = w.integer(v, at, 0, math.MaxInt32) },
		"reuseAfter":         func(v *yaml.Node, at string) { p.ReuseAfter = w.duration(v, at) },
		"l2":                 func(v *yaml.Node, at string) { p.L2 = w.l2(v, at) },
		"bgp":                func(*yaml.Node, string) {}, // read below: it has to fit the addresses
	}
	w.object(n, path, keys, "name", "addresses")
	if n.Kind == yaml.MappingNode {
		if v := lookup(n, "bgp"); v != nil && !isNull(v) {
			p.BGP = w.advertisements(v, join(path, "bgp"), p)
		}
	}
	if len(p.L2) == 0 && len(p.BGP) == 0 {
		p.L2 = defaultL2()
	}
	w.doubtful(n, path, p)
	return p, name
}

// doubtful warns of keys of a pool that are allowed together and do less than they seem to.
func (w *walker) doubtful(n *yaml.Node, path string, p Pool) {
	if len(p.Namespaces) == 0 || n.Kind != yaml.MappingNode {
		return
	}
	if v := lookup(n, "namespaceSelectors"); v != nil && p.NamespaceSelector == nil && len(v.Content) > 0 {
		w.warn(v.Content[0], path+".namespaceSelectors[0]", "remove it, or give it a label", "an empty selector adds nothing to namespaces")
	}
	if p.NamespaceSelector != nil {
		return
	}
	for i, s := range p.SharedNamespaces {
		if v := lookup(n, "sharedNamespaces"); !slices.Contains(p.Namespaces, s) {
			w.warn(v.Content[i], path+".sharedNamespaces", "add it to namespaces", "%q may share addresses of the pool and may not use it", s)
		}
	}
}

// labels reads a list of namespaces' names, each given once.
func (w *walker) labels(n *yaml.Node, path string) []string {
	var names []string
	w.list(n, path, func(v *yaml.Node, at string) {
		name := w.label(v, at)
		if name != "" && slices.Contains(names, name) {
			w.fail(v, at, "remove one of the two", "%q is listed twice", name)
		}
		names = append(names, name)
	})
	return names
}

// label reads a DNS label (RFC 1123): what namespaces are called.
func (w *walker) label(n *yaml.Node, path string) string {
	return w.named(n, path, validation.IsDNS1123Label)
}

// name reads the name of a pool or a peer: a DNS subdomain (RFC 1123) that may have underscores,
// which is what the objects of other load balancers are called.
func (w *walker) name(n *yaml.Node, path string) string {
	return w.named(n, path, validation.IsDNS1123SubdomainWithUnderscore)
}

// named reads a text that check finds nothing wrong with.
func (w *walker) named(n *yaml.Node, path string, check func(string) []string) string {
	s, ok := w.text(n, path)
	if !ok {
		return ""
	}
	for _, why := range check(s) {
		w.fail(n, path, "", "%q is not a name: %s", s, why)
		return ""
	}
	return s
}

func (w *walker) ranges(n *yaml.Node, path string) []ipam.Range {
	var ranges []ipam.Range
	w.list(n, path, func(v *yaml.Node, at string) {
		s, ok := w.text(v, at)
		if !ok {
			w.badAddress = true
			return
		}
		r, err := ipam.ParseRange(s)
		if err != nil {
			w.badAddress = true
			w.fail(v, at, "", "%s", err)
			return
		}
		ranges = append(ranges, r)
		w.entries = append(w.entries, entry{r, s, v, at})
	})
	if n.Kind == yaml.SequenceNode && len(n.Content) == 0 {
		w.fail(n, path, `write a range, like "192.0.2.10-192.0.2.20"`, "a pool needs at least one address")
	}
	return ranges
}
