package migrate

import (
	"fmt"
	"maps"
	"slices"

	"gopkg.in/yaml.v3"
)

// oldKeys are the keys of MetalLB's ConfigMap.
var oldKeys = []string{"address-pools", "peers", "bgp-communities", "bfd-profiles", "peer-autodiscovery"}

// oldMetalLB returns the configuration of the old form that an object holds: the ConfigMap, or what
// stands in it.
func oldMetalLB(c *converter, o *object) []mapping {
	if o.kind == "" && o.apiVersion == "" {
		if isOldForm(o.root.keys) {
			return []mapping{o.root}
		}
		c.fail(o.root.place, "give MetalLB's objects, its ConfigMap or what stands in that", "is no object of Kubernetes, and not what stands in MetalLB's ConfigMap")
		return nil
	}
	if o.group() != "" || o.kind != "ConfigMap" {
		return nil
	}
	data := o.root.child("data")
	if data.has("extras") && o.name == "bgpextras" {
		data.lose("extras", "lines of FRR's own configuration cannot be said here")
	}
	config := data.value("config")
	if config == nil || config.Kind != yaml.ScalarNode {
		return nil
	}
	m, ok := parseText(c.report, config, data.key("config"))
	if !ok || !isOldForm(m.keys) {
		return nil
	}
	return []mapping{m}
}

func isOldForm(keys map[string]*yaml.Node) bool {
	return slices.ContainsFunc(oldKeys, func(key string) bool { return keys[key] != nil })
}

// convertOldMetalLB reads what stands in MetalLB's ConfigMap.
func convertOldMetalLB(c *converter, m mapping) {
	profiles := map[string]bfdProfile{}
	for _, profile := range m.children("bfd-profiles") {
		name := profile.required("name")
		profiles[name] = readBFDProfile(c, profile, dashedBFD)
	}
	names := m.child("bgp-communities")
	for _, name := range sortedKeys(names.keys) {
		c.nameCommunity(name, placedText{names.text(name), names.key(name)})
	}
	for i, peer := range m.children("peers") {
		oldPeer(c, peer, fmt.Sprintf("peer%d", i+1), profiles)
	}
	for _, p := range m.children("address-pools") {
		oldPool(c, p, dashedPool)
	}
	m.loseIf("peer-autodiscovery", "routers are not found from labels in this form: write peers with templates like {label:rack}")
	m.finish()
}

func sortedKeys[T any](keys map[string]T) []string { return slices.Sorted(maps.Keys(keys)) }

// oldPeer reads a peer, which has no name there.
func oldPeer(c *converter, m mapping, name string, profiles map[string]bfdProfile) {
	if given := m.text("name"); given != "" {
		name = given
	}
	keys := peerKeys{
		localASN: "my-asn", peerASN: "peer-asn", address: "peer-address", source: "source-address", port: "peer-port",
		hold: "hold-time", keepalive: "keepalive-time", routerID: "router-id", password: "password", bfd: "bfd-profile", multihop: "ebgp-multihop",
	}
	selectors := m.selectors("node-selectors", dashedKeys)
	if p, ok := (peerReader{m, name, m.place, profiles}).peer(c, keys, 0); ok {
		p.NodeSelectors = selectors
	}
	m.finish()
}

// poolKeys are the keys of a pool with its protocol, in the ConfigMap and in an AddressPool.
type poolKeys struct {
	autoAssign, avoidBuggy, advertisements, length, lengthV6, localPref string
}

var (
	dashedPool = poolKeys{"auto-assign", "avoid-buggy-ips", "bgp-advertisements", "aggregation-length", "aggregation-length-v6", "localpref"}
	camelPool  = poolKeys{"autoAssign", "avoidBuggyIPs", "bgpAdvertisements", "aggregationLength", "aggregationLengthV6", "localPref"}
)

// oldPool reads a pool of the ConfigMap.
func oldPool(c *converter, m mapping, keys poolKeys) {
	poolWithProtocol(c, m, m.required("name"), m.place, keys)
	m.finish()
}

// metallbAddressPool reads an AddressPool, the form between the ConfigMap and the IPAddressPool.
func metallbAddressPool(c *converter, o *object) {
	spec := o.spec()
	poolWithProtocol(c, spec, o.name, o.root.place, camelPool).labels = o.labels
	spec.finish()
	o.finishObject()
}

// poolWithProtocol reads a pool that says itself how it is announced.
func poolWithProtocol(c *converter, m mapping, name string, place Place, keys poolKeys) *pool {
	p := c.addPool(name, place)
	for _, a := range m.texts("addresses") {
		c.addAddresses(p, a.text, a.place)
	}
	if auto, given := m.flag(keys.autoAssign); given {
		p.setAutoAssign(auto)
	}
	p.AvoidBuggyIPs, _ = m.flag(keys.avoidBuggy)
	var adverts []placedAdvertisement
	for _, child := range m.children(keys.advertisements) {
		a := outAdvertisement{Communities: c.communityList(child.texts("communities"))}
		a.setAttributes(child, keys.length, keys.lengthV6, keys.localPref)
		child.finish()
		adverts = append(adverts, placedAdvertisement{a, child.place})
	}
	switch protocol := m.required("protocol"); protocol {
	case "layer2", "l2":
		p.announceL2("", nil, place)
	case "bgp":
		if len(adverts) == 0 {
			adverts = []placedAdvertisement{{place: place}}
		}
		p.adverts = adverts
	case "":
	default:
		m.fail("protocol", "write layer2 or bgp", "%q is not a protocol", protocol)
	}
	return p
}
