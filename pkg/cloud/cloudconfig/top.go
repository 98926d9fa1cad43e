package cloudconfig

import (
	"gopkg.in/yaml.v3"
	"k8s.io/apimachinery/pkg/util/validation"
)

// config reads the whole file.
func (w *walker) config(n *yaml.Node) Config {
	c := defaultConfig()
	keys := map[string]reader{
		"apiVersion":           func(v *yaml.Node, at string) { w.constant(v, at, APIVersion) },
		"kind":                 func(v *yaml.Node, at string) { w.constant(v, at, Kind) },
		"loadBalancerClasses":  func(v *yaml.Node, at string) { c.LoadBalancerClasses = w.classes(v, at) },
		"servicesWithoutClass": func(v *yaml.Node, at string) { w.servicesWithoutClass(v, at) },
		"pools":                func(v *yaml.Node, at string) { c.Pools = w.pools(v, at) },
		"onShrink":             func(v *yaml.Node, at string) { c.OnShrink = w.shrinkPolicy(v, at) },
		"failover":             func(v *yaml.Node, at string) { c.Failover = w.failover(v, at) },
		"rebalance":            func(v *yaml.Node, at string) { c.MaxMovesPerMinute = w.rebalance(v, at) },
		"nodeHealth":           func(v *yaml.Node, at string) { c.NodeHealth = w.nodeHealth(v, at) },
		"announce":             func(v *yaml.Node, at string) { c.Announce = w.announce(v, at) },
		"conflicts":            func(v *yaml.Node, at string) { c.Conflicts = w.conflicts(v, at) },
		"nodes":                func(v *yaml.Node, at string) { c.Nodes = w.nodes(v, at) },
		// Read before the pools, which refer to it, and after them, which they refer to: they
		// may come in any order in the file.
		"bgp":          func(*yaml.Node, string) {},
		"reservations": func(*yaml.Node, string) {},
	}
	if v := lookup(n, "bgp"); n.Kind == yaml.MappingNode && v != nil && !isNull(v) {
		w.bgp = w.readBGP(v, "bgp")
		c.BGP = w.bgp
	}
	w.object(n, "", keys, "apiVersion", "kind")
	if n.Kind != yaml.MappingNode {
		return c
	}
	w.overlaps()
	if v := lookup(n, "reservations"); v != nil && !isNull(v) {
		c.Reservations = w.reservations(v, "reservations")
	}
	if len(c.Pools) == 0 && len(w.problems) == 0 {
		w.warn(n, "pools", "", "there are no pools: no Service will get an address")
	}
	return c
}

// maxMovesPerMinute bounds rebalance: above, it would not be a trickle any more.
const maxMovesPerMinute = 600

func (w *walker) rebalance(n *yaml.Node, path string) (moves int) {
	w.object(n, path, map[string]reader{
		"maxMovesPerMinute": func(v *yaml.Node, at string) { moves = w.integer(v, at, 0, maxMovesPerMinute) },
	})
	return moves
}

// constant reads a string that can only be want.
func (w *walker) constant(n *yaml.Node, path, want string) {
	if s, ok := w.text(n, path); ok && s != want {
		w.fail(n, path, "write "+want, "%q is not a version or kind that this program reads", s)
	}
}

// classes reads the classes of Services that are served.
func (w *walker) classes(n *yaml.Node, path string) []string {
	var classes []string
	w.one(n, path, yaml.ScalarNode, func(v *yaml.Node, at string) {
		s, ok := w.text(v, at)
		if !ok {
			return
		}
		for _, why := range validation.IsQualifiedName(s) {
			w.fail(v, at, "", "%q: %s", s, why)
		}
		classes = append(classes, s)
	})
	return classes
}

// servicesWithoutClass reads whether Services without a class are served, which they are.
func (w *walker) servicesWithoutClass(n *yaml.Node, path string) {
	problems := len(w.problems)
	if !w.boolean(n, path) && len(w.problems) == problems {
		w.fail(n, path, "write true, or remove the key", "false is not supported by this version yet")
	}
}

func (w *walker) shrinkPolicy(n *yaml.Node, path string) ShrinkPolicy {
	s, ok := w.text(n, path)
	switch p := ShrinkPolicy(s); {
	case !ok:
	case p == ShrinkRefuse, p == ShrinkReassign:
		return p
	default:
		w.fail(n, path, "write Refuse or Reassign", "%q is not a policy", s)
	}
	return ShrinkRefuse
}

// lookup returns the value of the first key of that name in the mapping n, or nil.
func lookup(n *yaml.Node, key string) *yaml.Node {
	for i := 0; i+1 < len(n.Content); i += 2 {
		if n.Content[i].Kind == yaml.ScalarNode && n.Content[i].Value == key {
			return n.Content[i+1]
		}
	}
	return nil
}
