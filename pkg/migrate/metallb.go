package migrate

import (
	"slices"
	"strings"
)

// metallbVersions are the versions that can be read, by kind; an empty list is all of them.
var metallbVersions = map[string][]string{
	"IPAddressPool":    {"v1beta1"},
	"AddressPool":      {"v1beta1"},
	"L2Advertisement":  {"v1beta1"},
	"BGPAdvertisement": {"v1beta1"},
	"BGPPeer":          {"v1beta1", "v1beta2"},
	"Community":        {"v1beta1"},
	"BFDProfile":       {"v1beta1"},
	// What MetalLB itself writes says nothing about the configuration.
	"ServiceL2Status":    {},
	"ServiceBGPStatus":   {},
	"ConfigurationState": {},
}

// convertMetalLB reads MetalLB's ConfigMap, of versions up to 0.12, or its objects, since 0.13.
func convertMetalLB(c *converter, objects []*object) {
	byKind := c.known(objects, func(group string) bool { return group == "metallb.io" }, metallbVersions)
	var old []mapping
	for _, o := range objects {
		old = append(old, oldMetalLB(c, o)...)
	}
	newest := firstConfigured(byKind)
	switch {
	case len(old) > 0 && newest != nil:
		c.fail(newest.root.place, "remove the form that MetalLB does not use: up to version 0.12 it reads the ConfigMap, since 0.13 the objects",
			"the source is half of MetalLB's old form (%s) and half of its new form", old[0].place)
		return
	case len(old) > 1:
		c.fail(old[1].place, "leave the one that MetalLB uses", "another configuration of the old form stands before: %s", old[0].place)
		return
	case len(old) == 1:
		convertOldMetalLB(c, old[0])
		return
	}
	profiles := map[string]bfdProfile{}
	for _, o := range byKind["BFDProfile"] {
		profiles[o.name] = readBFDProfile(c, o.spec(), camelBFD)
		o.finishObject()
	}
	for _, o := range byKind["Community"] {
		spec := o.spec()
		for _, alias := range spec.children("communities") {
			c.nameCommunity(alias.required("name"), placedText{alias.text("value"), alias.key("value")})
			alias.finish()
		}
		spec.finish()
		o.finishObject()
	}
	for _, o := range byKind["BGPPeer"] {
		metallbPeer(c, o, profiles)
	}
	for _, o := range byKind["IPAddressPool"] {
		metallbPool(c, o)
	}
	for _, o := range byKind["AddressPool"] {
		metallbAddressPool(c, o)
	}
	metallbPriorities(c, byKind["IPAddressPool"])
	for _, o := range byKind["L2Advertisement"] {
		metallbL2(c, o)
	}
	for _, o := range byKind["BGPAdvertisement"] {
		metallbBGP(c, o)
	}
}

// firstConfigured returns an object of the new form; nil if there is none.
func firstConfigured(byKind map[string][]*object) *object {
	for _, kind := range []string{"IPAddressPool", "AddressPool", "L2Advertisement", "BGPAdvertisement", "BGPPeer", "Community", "BFDProfile"} {
		if len(byKind[kind]) > 0 {
			return byKind[kind][0]
		}
	}
	return nil
}

// metallbPool reads an IPAddressPool.
func metallbPool(c *converter, o *object) {
	spec := o.spec()
	p := c.addPool(o.name, o.root.place)
	p.labels = o.labels
	for _, a := range spec.texts("addresses") {
		c.addAddresses(p, a.text, a.place)
	}
	if auto, given := spec.flag("autoAssign"); given {
		p.setAutoAssign(auto)
	}
	p.AvoidBuggyIPs, _ = spec.flag("avoidBuggyIPs")
	allocation := spec.child("serviceAllocation")
	p.Priority, _ = allocation.number("priority", 1<<31-3)
	for _, n := range allocation.texts("namespaces") {
		if !slices.Contains(p.Namespaces, n.text) {
			p.Namespaces = append(p.Namespaces, n.text)
		}
	}
	p.NamespaceSelectors = fold(allocation.selectors("namespaceSelectors", camelKeys))
	p.ServiceSelectors = fold(allocation.selectors("serviceSelectors", camelKeys))
	allocation.finish()
	spec.finish()
	o.finishObject()
}

// metallbPriorities brings the priorities into our order. In MetalLB pools with a serviceAllocation
// come first, by their priority, of which 0 is the last; then come all others.
func metallbPriorities(c *converter, objects []*object) {
	type rank struct {
		pool      *pool
		pinned    bool
		unlimited bool
	}
	var ranks []rank
	var last int64
	anyUnlimited := false
	for i, o := range objects {
		if i >= len(c.pools) {
			return
		}
		p := c.pools[i]
		allocation := o.spec().value("serviceAllocation")
		r := rank{pool: p, pinned: allocation != nil}
		r.unlimited = r.pinned && len(p.Namespaces)+len(p.NamespaceSelectors)+len(p.ServiceSelectors) == 0
		anyUnlimited = anyUnlimited || r.unlimited
		last = max(last, p.Priority)
		ranks = append(ranks, r)
	}
	for _, r := range ranks {
		switch {
		case r.pinned && r.pool.Priority == 0 && last > 0:
			r.pool.Priority = last + 1
			c.note(r.pool.place, "priority 0 is the last one there and the first one here: it is %d", last+1)
		case !r.pinned && anyUnlimited:
			r.pool.Priority = last + 2
		}
	}
}

// metallbL2 reads an L2Advertisement.
func metallbL2(c *converter, o *object) {
	spec := o.spec()
	iface := anyOf(plain(spec.texts("interfaces")))
	selectors := spec.selectors("nodeSelectors", camelKeys)
	pools := metallbPoolsOf(c, o, spec)
	spec.loseIf("preferredNodeSelectors", "preferred nodes cannot be said here: all nodes are equal")
	limited := len(spec.list("serviceSelectors")) > 0
	if limited {
		spec.lose("serviceSelectors", "an advertisement for some Services only cannot be said here: give them a pool of their own. The advertisement is left out")
		spec.selectors("serviceSelectors", camelKeys)
	}
	spec.finish()
	o.finishObject()
	if limited {
		return
	}
	for _, p := range pools {
		p.announceL2(iface, selectors, o.root.place)
	}
}

// metallbPoolsOf returns the pools that an advertisement is about: those by name and by label, or
// all if there is neither.
func metallbPoolsOf(c *converter, o *object, spec mapping) []*pool {
	names := spec.texts("ipAddressPools")
	selectors := spec.selectors("ipAddressPoolSelectors", camelKeys)
	if len(names)+len(selectors) == 0 {
		return c.pools
	}
	var out []*pool
	for _, p := range c.pools {
		byName := slices.ContainsFunc(names, func(n placedText) bool { return ourName(n.text) == p.Name })
		if byName || slices.ContainsFunc(selectors, func(s outSelector) bool { return s.matches(p.labels) }) {
			out = append(out, p)
		}
	}
	for _, n := range names {
		if _, known := c.poolNames[n.text]; !known {
			c.note(n.place, "there is no pool %q", n.text)
		}
	}
	return out
}

// metallbBGP reads a BGPAdvertisement.
func metallbBGP(c *converter, o *object) {
	spec := o.spec()
	a := outAdvertisement{
		Peers:         plain(spec.texts("peers")),
		NodeSelectors: spec.selectors("nodeSelectors", camelKeys),
		Communities:   c.communityList(spec.texts("communities")),
	}
	a.setAttributes(spec, "aggregationLength", "aggregationLengthV6", "localPref")
	a.ASPathPrepend, _ = spec.number("asPathPrepend", 255)
	pools := metallbPoolsOf(c, o, spec)
	limited := len(spec.list("serviceSelectors")) > 0
	if limited {
		spec.lose("serviceSelectors", "an advertisement for some Services only cannot be said here: give them a pool of their own. The advertisement is left out")
		spec.selectors("serviceSelectors", camelKeys)
	}
	spec.finish()
	o.finishObject()
	if limited {
		return
	}
	for _, p := range pools {
		p.adverts = append(p.adverts, placedAdvertisement{a, o.root.place})
	}
}

// setAttributes reads the aggregation lengths and the local preference. Values that are the default
// here are not written.
func (a *outAdvertisement) setAttributes(m mapping, length, lengthV6, localPref string) {
	if a.AggregationLength, _ = m.number(length, 32); a.AggregationLength == 32 {
		a.AggregationLength = 0
	}
	if a.AggregationLengthV6, _ = m.number(lengthV6, 128); a.AggregationLengthV6 == 128 {
		a.AggregationLengthV6 = 0
	}
	if preference, _ := m.number(localPref, 1<<32-1); preference > 0 {
		a.LocalPref = &preference
	}
}

// isSecretName reports whether text can be the name of a Secret or a namespace.
func isSecretName(text string) bool {
	return objectName.MatchString(text) && !strings.Contains(text, "_") && len(text) <= maxName
}
