package migrate

import (
	"regexp"
	"slices"
	"strings"
)

var purelbVersions = map[string][]string{
	"ServiceGroup": {"v1", "v2"},
	"LBNodeAgent":  {"v1", "v2"},
}

// purelbDefault is the ServiceGroup of Services that name none.
const purelbDefault = "default"

// convertPureLB reads PureLB's objects.
func convertPureLB(c *converter, objects []*object) {
	byKind := c.known(objects, func(group string) bool { return group == "purelb.io" }, purelbVersions)
	var ways []placedL2
	for _, o := range byKind["LBNodeAgent"] {
		ways = append(ways, purelbAgent(c, o))
	}
	if len(ways) == 0 {
		ways = []placedL2{{}}
	}
	for _, o := range byKind["ServiceGroup"] {
		purelbGroup(c, o, ways)
	}
}

// purelbAgent reads how nodes announce addresses.
func purelbAgent(c *converter, o *object) placedL2 {
	spec := o.spec()
	way := placedL2{place: o.root.place}
	if selector := spec.child("nodeSelector").selector(camelKeys); !selector.isEmpty() {
		way.NodeSelectors = []outSelector{selector}
	}
	local := spec.child("local")
	iface, key := local.text("localint"), "localint"
	if text := local.text("localInterface"); text != "" {
		iface, key = text, "localInterface"
	}
	way.Interface = purelbInterface(c, iface, local.key(key))
	local.ignore("extlbint", "dummyInterface", "sendgarp", "addressConfig")
	if garp := local.child("garpConfig"); garp.node != nil {
		garp.ignore("enabled", "initialDelay", "count", "interval", "verifyBeforeSend")
		garp.finish()
		local.note("garpConfig", "announcements are sent as the key announce says, whose defaults are 5 rounds and one a minute")
	}
	local.loseIf("interfaces", "the interfaces of further segments are said by l2 of a pool here")
	local.loseIf("addressGuard", "packets to an address are not filtered here")
	local.finish()
	spec.finish()
	o.finishObject()
	return way
}

// note records something about a key that is carried over and deserves a look.
func (m mapping) note(key, format string, args ...any) { m.r.note(m.key(key), format, args...) }

// purelbInterface returns what selects the interface: "default", a name or an expression.
func purelbInterface(c *converter, text string, place Place) string {
	if text == "" || text == "default" {
		return ""
	}
	if regexp.QuoteMeta(text) == strings.ReplaceAll(text, ".", `\.`) {
		return text
	}
	return c.searchedInterfaces([]placedText{{text, place}})
}

// purelbGroup reads a ServiceGroup.
func purelbGroup(c *converter, o *object, ways []placedL2) {
	spec := o.spec()
	defer o.finishObject()
	defer spec.finish()
	if spec.has("netbox") || spec.has("external") {
		c.lose(o.root.place, "its addresses come from another program (netbox, external), and are not in the source: write them as a pool")
		return
	}
	p := c.addPool(o.name, o.root.place)
	for _, key := range []string{"local", "remote"} {
		if spec.has(key) {
			purelbAddresses(c, p, spec.child(key))
		}
	}
	if len(p.ranges) == 0 && len(c.problems) == 0 {
		spec.fail("local", "write v4pool, v6pool or pool", "has no addresses")
	}
	if spec.has("remote") {
		spec.lose("remote", "the addresses are put on an interface and announced by a router on the node there; here write bgp of the pool and bgp.peers")
	} else {
		p.ways = slices.Clone(ways)
	}
	for _, n := range spec.texts("namespaces") {
		p.Namespaces = append(p.Namespaces, n.text)
	}
	p.Namespaces = once(p.Namespaces)
	enforce, _ := spec.flag("enforceNamespaces")
	if len(p.Namespaces) > 0 && !enforce {
		spec.lose("namespaces", "Services of other namespaces may name the group there; here the namespaces are all that may use the pool")
	}
	spec.loseIf("namespaceDefault", "of several pools of a namespace the lowest priority comes first here")
	p.setAutoAssign(o.name == purelbDefault || len(p.Namespaces) > 0)
}

// purelbAddresses reads the addresses of a group, in the forms of all versions.
func purelbAddresses(c *converter, p *pool, m mapping) {
	if m.has("pool") {
		purelbRange(c, p, m)
	}
	for _, key := range []string{"v4pool", "v6pool"} {
		if m.has(key) {
			child := m.child(key)
			purelbRange(c, p, child)
			child.finish()
		}
	}
	for _, key := range []string{"v4pools", "v6pools"} {
		for _, child := range m.children(key) {
			purelbRange(c, p, child)
			child.finish()
		}
	}
	m.ignore("subnet", "aggregation", "skipIPv6DAD")
	m.loseIf("multiPool", "a Service has at most one address of each family here")
	m.loseIf("balancePools", "the addresses of a pool are given out in order here")
	m.finish()
}

func purelbRange(c *converter, p *pool, m mapping) {
	c.addAddresses(p, m.required("pool"), m.key("pool"))
	m.ignore("subnet")
	if aggregation := m.text("aggregation"); aggregation != "" && aggregation != "default" {
		m.note("aggregation", "%s is about routes that are announced by another program there; here it is aggregationLength in bgp of the pool", aggregation)
	}
}
