package migrate

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"
)

// What Cilium takes if nothing is written.
const (
	ciliumKeepalive    = 30 * time.Second
	ciliumConnectRetry = 2 * time.Minute
)

// ciliumPolicy reads a CiliumBGPPeeringPolicy, the form before CiliumBGPClusterConfig.
func ciliumPolicy(c *converter, o *object) {
	spec := o.spec()
	defer o.finishObject()
	defer spec.finish()
	nodes := spec.child("nodeSelector").selector(camelKeys)
	for _, router := range spec.children("virtualRouters") {
		asn := router.asn("localASN")
		router.loseIf("exportPodCIDR", "networks of Pods are not announced here")
		router.loseIf("podIPPoolSelector", "networks of Pods are not announced here")
		for _, kind := range router.texts("serviceAdvertisements") {
			if kind.text != "LoadBalancerIP" {
				c.lose(kind.place, "%s is not announced here", kind.text)
			}
		}
		var names []string
		var attributes [][]mapping
		for _, neighbor := range router.children("neighbors") {
			name := fmt.Sprintf("%s-%d", o.name, len(c.peers)+1)
			if p := ciliumNeighbor(c, name, asn, neighbor); p != nil {
				if !nodes.isEmpty() {
					p.NodeSelectors = []outSelector{nodes}
				}
				names = append(names, p.Name)
				attributes = append(attributes, neighbor.children("advertisedPathAttributes"))
			} else {
				neighbor.ignore("advertisedPathAttributes")
			}
			neighbor.finish()
		}
		if !router.has("serviceSelector") {
			c.note(router.place, "announces no Services: it has no serviceSelector")
			router.finish()
			continue
		}
		services := router.child("serviceSelector").selector(camelKeys)
		for _, p := range announcedPools(c, &services, router.key("serviceSelector")) {
			ciliumAttributes(c, p, names, attributes, router.place)
		}
		router.finish()
	}
}

// ciliumAttributes announces a pool to peers, each with its attributes.
func ciliumAttributes(c *converter, p *pool, names []string, attributes [][]mapping, place Place) {
	for i, name := range names {
		a := outAdvertisement{Peers: []string{name}}
		for _, m := range attributes[i] {
			if kind := m.text("selectorType"); kind != "CiliumLoadBalancerIPPool" {
				m.ignore("selector", "communities", "localPreference")
				c.lose(m.place, "attributes of routes to %s are not needed here", kind)
				continue
			}
			selector := m.child("selector").selector(camelKeys)
			communities := ciliumCommunities(c, m.child("communities"))
			local, given := m.number("localPreference", 1<<32-1)
			m.finish()
			if !selector.matches(p.labels) {
				continue
			}
			a.Communities = once(append(a.Communities, communities...))
			if given {
				a.LocalPref = &local
			}
		}
		p.addAdvertisement(placedAdvertisement{a, place})
	}
}

// addAdvertisement adds a way in which a pool is announced by BGP, and joins peers that hear the same.
func (p *pool) addAdvertisement(a placedAdvertisement) {
	for i, before := range p.adverts {
		if sameAttributes(before.outAdvertisement, a.outAdvertisement) && len(before.NodeSelectors) == 0 {
			p.adverts[i].Peers = once(append(before.Peers, a.Peers...))
			return
		}
	}
	p.adverts = append(p.adverts, a)
}

func sameAttributes(a, b outAdvertisement) bool {
	return slices.Equal(a.Communities, b.Communities) && a.preference() == b.preference() &&
		a.AggregationLength == b.AggregationLength && a.AggregationLengthV6 == b.AggregationLengthV6
}

// ciliumCommunities reads lists of communities of all kinds.
func ciliumCommunities(c *converter, m mapping) []string {
	texts := slices.Concat(m.texts("standard"), m.texts("large"))
	for _, t := range m.texts("wellKnown") {
		if !slices.Contains(wellKnown, t.text) {
			c.lose(t.place, "the community %q has no name here: write its number", t.text)
			continue
		}
		texts = append(texts, t)
	}
	m.finish()
	return c.communityList(texts)
}

// ciliumNeighbor reads a neighbour of a peering policy; nil if it is not carried over.
func ciliumNeighbor(c *converter, name string, localASN int64, m mapping) *peer {
	address := m.required("peerAddress")
	asn := m.asn("peerASN")
	keys := []string{"peerPort", "eBGPMultihopTTL", "connectRetryTimeSeconds", "holdTimeSeconds", "keepAliveTimeSeconds", "gracefulRestart", "families", "authSecretRef"}
	if prefix, err := netip.ParsePrefix(address); err == nil && prefix.IsSingleIP() {
		address = prefix.Addr().String()
	}
	if _, err := netip.ParseAddr(address); err != nil && address != "" {
		m.fail("peerAddress", "write an address, like 192.0.2.1/32", "%q is not an address", address)
	}
	p, ok := c.addPeer(name, address, m.place)
	if !ok {
		m.ignore(keys...)
		return nil
	}
	p.LocalASN, p.PeerASN = localASN, asn
	ciliumPort(c, p, m, "peerPort")
	ciliumHops(c, p, m, "eBGPMultihopTTL")
	ciliumTimers(c, p, m)
	p.GracefulRestart = ciliumRestart(m.child("gracefulRestart"))
	ciliumFamilies(c, p, m.children("families"), nil)
	ciliumPassword(c, p, m)
	return p
}

func ciliumPort(c *converter, p *peer, m mapping, key string) {
	if port, _ := m.number(key, 65535); port != 179 {
		p.Port = port
	}
}

func ciliumHops(c *converter, p *peer, m mapping, key string) {
	if ttl, _ := m.number(key, 255); ttl > 1 && !p.isInternal() {
		p.EBGPMultihop = ttl
	}
}

// ciliumTimers reads timers, which have defaults of their own there.
func ciliumTimers(c *converter, p *peer, m mapping) {
	hold, hasHold := m.seconds("holdTimeSeconds")
	keepalive, hasKeepalive := m.seconds("keepAliveTimeSeconds")
	retry, hasRetry := m.seconds("connectRetryTimeSeconds")
	if !hasHold || hold == 0 {
		hold = usualHoldTime
	}
	if !hasKeepalive || keepalive == 0 {
		keepalive = min(ciliumKeepalive, hold/3)
	}
	if !hasRetry || retry == 0 {
		retry = ciliumConnectRetry
	}
	c.setTimers(p, hold, keepalive, m.key("holdTimeSeconds"), m.key("keepAliveTimeSeconds"))
	c.setConnectRetry(p, retry, m.key("connectRetryTimeSeconds"))
}

func ciliumRestart(m mapping) *outRestart {
	enabled, _ := m.flag("enabled")
	restart, given := m.seconds("restartTimeSeconds")
	m.finish()
	if !enabled {
		return nil
	}
	if !given || restart == 0 {
		restart = usualRestartTime
	}
	return &outRestart{restart}
}

// ciliumFamilies reads the families of a peer, which are both by default. each gets the mapping of
// a family that is carried over.
func ciliumFamilies(c *converter, p *peer, families []mapping, each func(word string, m mapping)) {
	for _, m := range families {
		afi, safi := m.text("afi"), m.text("safi")
		if safi != "unicast" || afi != "ipv4" && afi != "ipv6" {
			m.ignore("advertisements")
			c.lose(m.place, "the family %s %s is not announced here", afi, safi)
		} else {
			p.Families = once(append(p.Families, afi))
			if each != nil {
				each(afi, m)
			}
		}
		m.finish()
	}
	if len(families) == 0 {
		p.Families = []string{"ipv4", "ipv6"}
	}
}

// ciliumPassword reads the name of the Secret with a password, which is in Cilium's own namespace.
func ciliumPassword(c *converter, p *peer, m mapping) {
	if secret := m.text("authSecretRef"); secret != "" {
		usePassword(c, p, passwordSource{secret: secret, namespace: "kube-system", place: m.key("authSecretRef")})
	}
}

// ciliumAdvert is an entry of a CiliumBGPAdvertisement.
type ciliumAdvert struct {
	labels   map[string]string
	services *outSelector
	placedAdvertisement
}

// ciliumClusters reads the present form of BGP: cluster configurations, which refer to configurations
// of peers, which select advertisements by label.
func ciliumClusters(c *converter, byKind map[string][]*object) {
	var adverts []ciliumAdvert
	for _, o := range byKind["CiliumBGPAdvertisement"] {
		adverts = append(adverts, ciliumAdverts(c, o)...)
	}
	configs := map[string]*object{}
	for _, o := range byKind["CiliumBGPPeerConfig"] {
		configs[o.name] = o
	}
	for _, o := range byKind["CiliumBGPClusterConfig"] {
		ciliumCluster(c, o, configs, adverts)
	}
}

func ciliumAdverts(c *converter, o *object) []ciliumAdvert {
	spec := o.spec()
	var out []ciliumAdvert
	for _, m := range spec.children("advertisements") {
		kind := m.required("advertisementType")
		service, attributes := m.child("service"), m.child("attributes")
		a := ciliumAdvert{labels: o.labels, placedAdvertisement: placedAdvertisement{place: m.place}}
		if m.has("selector") {
			s := m.child("selector").selector(camelKeys)
			a.services = &s
		}
		balancers := false
		for _, address := range service.texts("addresses") {
			if address.text == "LoadBalancerIP" {
				balancers = true
				continue
			}
			c.lose(address.place, "%s is not announced here", address.text)
		}
		a.setAttributes(service, "aggregationLengthIPv4", "aggregationLengthIPv6", "")
		service.finish()
		a.Communities = ciliumCommunities(c, attributes.child("communities"))
		if preference, given := attributes.number("localPreference", 1<<32-1); given {
			a.LocalPref = &preference
		}
		attributes.finish()
		m.ignore("interface")
		m.finish()
		switch {
		case kind != "Service":
			c.lose(m.place, "%s is not announced here", kind)
		case balancers && a.services == nil:
			c.note(m.place, "announces no Services: it has no selector")
		case balancers:
			out = append(out, a)
		}
	}
	spec.finish()
	o.finishObject()
	return out
}

func ciliumCluster(c *converter, o *object, configs map[string]*object, adverts []ciliumAdvert) {
	spec := o.spec()
	defer o.finishObject()
	defer spec.finish()
	nodes := spec.child("nodeSelector").selector(camelKeys)
	instances := spec.children("bgpInstances")
	for _, instance := range instances {
		asn := instance.asn("localASN")
		name := instance.required("name")
		instance.loseIf("localPort", "nodes take no connections here")
		for _, m := range instance.children("peers") {
			ciliumPeer(c, m, name, asn, nodes, configs, adverts)
			m.finish()
		}
		instance.finish()
	}
}

// ciliumPeer reads a peer of an instance.
func ciliumPeer(c *converter, m mapping, instance string, localASN int64, nodes outSelector, configs map[string]*object, adverts []ciliumAdvert) {
	name, address, asn := m.required("name"), m.text("peerAddress"), m.asn("peerASN")
	if _, taken := c.peer(ourName(name)); taken {
		name = instance + "-" + name
	}
	discovery := m.child("autoDiscovery")
	if mode := discovery.text("mode"); mode == "DefaultGateway" {
		gateway := discovery.child("defaultGateway")
		address = map[string]string{"ipv4": "gateway", "ipv6": "gateway-v6"}[gateway.text("addressFamily")]
		gateway.finish()
	}
	discovery.finish()
	ref := m.child("peerConfigRef")
	config := ref.text("name")
	ref.ignore("group", "kind")
	ref.finish()
	switch {
	case m.has("interface") || address == "":
		c.losePeer(name, m.place, "a router without an address is not possible here")
		return
	case asn == 0:
		c.losePeer(name, m.place, "its AS number is taken from the router; here peerASN is a number")
		return
	case localASN == 0:
		c.losePeer(name, m.place, "the AS number of the nodes is not written")
		return
	}
	if _, err := netip.ParseAddr(address); err != nil && !strings.HasPrefix(address, "gateway") {
		m.fail("peerAddress", "", "%q is not an address", address)
	}
	p, ok := c.addPeer(name, address, m.place)
	if !ok {
		return
	}
	p.LocalASN, p.PeerASN = localASN, asn
	if !nodes.isEmpty() {
		p.NodeSelectors = []outSelector{nodes}
	}
	found := configs[config]
	if config != "" && found == nil {
		ref.fail("name", "add it to the source", "there is no CiliumBGPPeerConfig %q", config)
		return
	}
	if found == nil {
		ciliumTimers(c, p, mapping{r: c.report, place: m.place})
		ciliumFamilies(c, p, nil, nil)
		c.note(m.place, "announces no Services: it has no peerConfigRef, and so no families with advertisements")
		return
	}
	ciliumPeerConfig(c, p, found, adverts)
}

// ciliumPeerConfig reads what several peers have in common.
func ciliumPeerConfig(c *converter, p *peer, o *object, adverts []ciliumAdvert) {
	spec := o.spec()
	defer o.finishObject()
	defer spec.finish()
	transport := spec.child("transport")
	ciliumPort(c, p, transport, "peerPort")
	transport.loseIf("localPort", "the local port is any free one here")
	transport.loseIf("sourceInterface", "the address to speak from is said by sourceAddress here, or by interface, which binds the session to it")
	transport.finish()
	ciliumHops(c, p, spec, "ebgpMultihop")
	timers := spec.child("timers")
	ciliumTimers(c, p, timers)
	timers.finish()
	p.GracefulRestart = ciliumRestart(spec.child("gracefulRestart"))
	ciliumPassword(c, p, spec)
	ciliumFamilies(c, p, spec.children("families"), func(_ string, m mapping) {
		if !m.has("advertisements") {
			return
		}
		selector := m.child("advertisements").selector(camelKeys)
		for _, a := range adverts {
			if !selector.matches(a.labels) {
				continue
			}
			for _, target := range announcedPools(c, a.services, a.place) {
				advertisement := a.placedAdvertisement
				advertisement.Peers = []string{p.Name}
				target.addAdvertisement(advertisement)
			}
		}
	})
}
