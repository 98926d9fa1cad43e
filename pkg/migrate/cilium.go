package migrate

import (
	"slices"
	"strings"
)

var ciliumVersions = map[string][]string{
	"CiliumLoadBalancerIPPool":    {"v2alpha1", "v2"},
	"CiliumL2AnnouncementPolicy":  {"v2alpha1"},
	"CiliumBGPPeeringPolicy":      {"v2alpha1"},
	"CiliumBGPClusterConfig":      {"v2alpha1", "v2"},
	"CiliumBGPPeerConfig":         {"v2alpha1", "v2"},
	"CiliumBGPAdvertisement":      {"v2alpha1", "v2"},
	"CiliumBGPNodeConfigOverride": {"v2alpha1", "v2"},
}

// ciliumOthers are kinds of Cilium that say nothing about load balancers.
func isCiliumOther(kind string) bool {
	return strings.HasPrefix(kind, "Cilium") && ciliumVersions[kind] == nil && !strings.HasPrefix(kind, "CiliumBGP") &&
		!strings.HasPrefix(kind, "CiliumL2") && !strings.HasPrefix(kind, "CiliumLoadBalancer") || kind == "CiliumBGPNodeConfig"
}

// Labels by which Cilium selects Services by namespace and name.
const (
	ciliumNamespace = "io.kubernetes.service.namespace"
	ciliumName      = "io.kubernetes.service.name"
)

// convertCilium reads Cilium's objects of LB-IPAM, layer 2 announcements and BGP.
func convertCilium(c *converter, objects []*object) {
	objects = slices.DeleteFunc(slices.Clone(objects), func(o *object) bool { return o.group() == "cilium.io" && isCiliumOther(o.kind) })
	byKind := c.known(objects, func(group string) bool { return group == "cilium.io" }, ciliumVersions)
	for _, o := range byKind["CiliumLoadBalancerIPPool"] {
		ciliumPool(c, o)
	}
	for _, o := range byKind["CiliumL2AnnouncementPolicy"] {
		ciliumL2(c, o)
	}
	for _, o := range byKind["CiliumBGPPeeringPolicy"] {
		ciliumPolicy(c, o)
	}
	for _, o := range byKind["CiliumBGPNodeConfigOverride"] {
		c.lose(o.root.place, "settings of one node are not carried over: give it a peer of its own, with nodeSelectors")
	}
	ciliumClusters(c, byKind)
}

// ciliumPool reads a pool.
func ciliumPool(c *converter, o *object) {
	spec := o.spec()
	defer o.finishObject()
	defer spec.finish()
	p := c.addPool(o.name, o.root.place)
	p.labels = o.labels
	p.Disabled, _ = spec.flag("disabled")
	ends := spec.text("allowFirstLastIPs")
	isCut := false
	for _, key := range []string{"cidrs", "blocks"} {
		for _, block := range spec.children(key) {
			before := len(p.ranges)
			ciliumBlock(c, p, block)
			if len(p.ranges) == before {
				continue
			}
			whole := p.ranges[before].text
			if ends == "No" {
				p.trimEnds(before, true)
			}
			isCut = isCut || p.ranges[before].text != whole
		}
	}
	switch ends {
	case "No", "Yes":
	case "":
		c.note(o.root.place, "allowFirstLastIPs is not written: Cilium before 1.16 did not give out the first and last address of a CIDR, which are in the pool here")
	default:
		spec.fail("allowFirstLastIPs", "write Yes or No", "%q is neither", ends)
	}
	if isCut {
		spec.note("allowFirstLastIPs", "the first and last addresses of the CIDRs are left out")
	}
	if spec.has("serviceSelector") {
		ciliumAdmission(c, p, spec.child("serviceSelector"))
	}
}

// ciliumBlock reads a CIDR, a range or an address.
func ciliumBlock(c *converter, p *pool, block mapping) {
	cidr, start, stop := block.text("cidr"), block.text("start"), block.text("stop")
	switch {
	case cidr != "" && start+stop != "" || cidr+start == "":
		block.fail("cidr", "", "want either cidr, or start and stop")
	case cidr != "":
		c.addAddresses(p, cidr, block.key("cidr"))
	case stop == "":
		c.addAddresses(p, start, block.key("start"))
	default:
		c.addAddresses(p, start+"-"+stop, block.key("start"))
	}
	block.finish()
}

// ciliumAdmission reads which Services may use a pool: by namespace, and by the labels of the Service. A
// condition that cannot be said makes the pool one for Services that name it.
func ciliumAdmission(c *converter, p *pool, m mapping) {
	s := m.selector(camelKeys)
	var rest outSelector
	for _, key := range sortedKeys(s.MatchLabels) {
		s.MatchExpressions = append(s.MatchExpressions, outExpression{Key: key, Operator: "=", Values: []string{s.MatchLabels[key]}})
	}
	for _, e := range s.MatchExpressions {
		switch {
		case e.Key == ciliumNamespace && (e.Operator == "=" || e.Operator == "In") && len(p.Namespaces) == 0:
			p.Namespaces = once(e.Values)
		case e.Key == ciliumNamespace && e.Operator == "NotIn" && len(p.NamespaceSelectors) == 0:
			p.NamespaceSelectors = []outSelector{{MatchExpressions: []outExpression{{Key: namespaceName, Operator: "NotIn", Values: e.Values}}}}
		case e.Key == ciliumNamespace || e.Key == ciliumName:
			p.restrict()
			c.lose(m.place, "%s %s cannot be said here: the pool is for Services that name it (%s)", e.Key, e.Operator, annotationPool)
		case e.Operator == "=":
			if rest.MatchLabels == nil {
				rest.MatchLabels = map[string]string{}
			}
			rest.MatchLabels[e.Key] = e.Values[0]
		default:
			rest.MatchExpressions = append(rest.MatchExpressions, e)
		}
	}
	if len(p.Namespaces) > 0 && len(p.NamespaceSelectors) > 0 { // both would be one or the other
		excluded := p.NamespaceSelectors[0].MatchExpressions[0].Values
		p.Namespaces = slices.DeleteFunc(p.Namespaces, func(n string) bool { return slices.Contains(excluded, n) })
		p.NamespaceSelectors = nil
		if len(p.Namespaces) == 0 {
			p.restrict()
			c.lose(m.place, "no namespace is left that may use the pool: it is for Services that name it")
		}
	}
	if !rest.isEmpty() {
		p.ServiceSelectors = []outSelector{rest}
	}
}

// selectsAll reports whether a selector picks all Services: an empty one, or the form that Cilium's
// documentation has for it, "not a value that is never used".
func selectsAll(s outSelector) bool {
	return len(s.MatchLabels) == 0 && !slices.ContainsFunc(s.MatchExpressions, func(e outExpression) bool {
		isNever := func(text string) bool {
			return strings.Contains(text, "never-used") || strings.Contains(text, "neverused")
		}
		return !(e.Operator == "NotIn" && slices.ContainsFunc(e.Values, isNever) && len(e.Values) == 1) && !(e.Operator == "DoesNotExist" && isNever(e.Key))
	})
}

// admits returns the conditions of a pool as Cilium writes them.
func (p *pool) admits() outSelector {
	var s outSelector
	if len(p.ServiceSelectors) > 0 {
		s = p.ServiceSelectors[0]
	}
	if len(p.Namespaces) > 0 {
		out, possible := s.both(outSelector{MatchLabels: map[string]string{ciliumNamespace: p.Namespaces[0]}})
		if possible && len(p.Namespaces) == 1 {
			return out
		}
	}
	return s
}

// announcedPools returns the pools that are announced for the Services with the selector. A pool of
// which it picks some becomes one for these alone, if nothing else announces it yet.
func announcedPools(c *converter, s *outSelector, place Place) []*pool {
	if s == nil || selectsAll(*s) {
		return c.pools
	}
	var out []*pool
	for _, p := range c.pools {
		switch {
		case p.admits().implies(*s):
			out = append(out, p)
		case p.excludes(*s):
		case len(p.ways)+len(p.adverts) == 0 && p.narrow(*s):
			c.lose(place, "only some Services of the pool %q are announced there; here all of a pool are: the pool is for these alone, and others get no address from it", p.Name)
			out = append(out, p)
		default:
			c.lose(place, "only some Services of the pool %q are announced there; here all of a pool are: it is left out; give these Services a pool of their own", p.Name)
		}
	}
	return out
}

// narrow makes the pool one for Services with the labels. It is false if that cannot be said.
func (p *pool) narrow(s outSelector) bool {
	special := func(key string) bool { return key == ciliumNamespace || key == ciliumName }
	if slices.ContainsFunc(sortedKeys(s.MatchLabels), special) || slices.ContainsFunc(s.MatchExpressions, func(e outExpression) bool { return special(e.Key) }) {
		return false
	}
	if len(p.ServiceSelectors) == 0 {
		p.ServiceSelectors = []outSelector{s}
		return true
	}
	both, possible := p.ServiceSelectors[0].both(s)
	if possible {
		p.ServiceSelectors = []outSelector{both}
	}
	return possible
}

// excludes reports whether no Service of the pool has the labels.
func (p *pool) excludes(s outSelector) bool {
	_, possible := p.admits().both(outSelector{MatchLabels: s.MatchLabels})
	return !possible
}

// ciliumL2 reads a policy of layer 2 announcements.
func ciliumL2(c *converter, o *object) {
	spec := o.spec()
	defer o.finishObject()
	defer spec.finish()
	var services *outSelector
	if spec.has("serviceSelector") {
		s := spec.child("serviceSelector").selector(camelKeys)
		services = &s
	}
	var nodes []outSelector
	if s := spec.child("nodeSelector").selector(camelKeys); !s.isEmpty() {
		nodes = []outSelector{s}
	}
	iface := c.searchedInterfaces(spec.texts("interfaces"))
	balancers, _ := spec.flag("loadBalancerIPs")
	spec.loseIf("externalIPs", "spec.externalIPs are not announced here")
	if !balancers {
		c.note(o.root.place, "it is not about addresses of load balancers (loadBalancerIPs is not true)")
		return
	}
	for _, p := range announcedPools(c, services, spec.key("serviceSelector")) {
		p.announceL2(iface, nodes, o.root.place)
	}
}
