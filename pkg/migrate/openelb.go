package migrate

import (
	"fmt"
	"slices"
)

var openelbVersions = map[string][]string{
	"Eip":     {"v1alpha2"},
	"BgpConf": {"v1alpha2"},
	"BgpPeer": {"v1alpha2"},
}

// openelbRack is the label of nodes by which asPerRack goes.
const openelbRack = "openelb.kubesphere.io/rack"

// openelbConf is what a BgpConf says for all peers.
type openelbConf struct {
	as       int64
	perRack  map[string]int64
	routerID string
	restart  *outRestart
}

// convertOpenELB reads OpenELB's objects.
func convertOpenELB(c *converter, objects []*object) {
	byKind := c.known(objects, func(group string) bool { return group == "network.kubesphere.io" }, openelbVersions)
	var conf openelbConf
	for i, o := range byKind["BgpConf"] {
		if i > 0 {
			c.fail(o.root.place, "leave one", "OpenELB uses one BgpConf")
			continue
		}
		conf = readOpenELBConf(c, o)
	}
	for _, o := range byKind["BgpPeer"] {
		openelbPeer(c, o, conf)
	}
	for _, o := range byKind["Eip"] {
		openelbEip(c, o)
	}
}

func readOpenELBConf(c *converter, o *object) openelbConf {
	spec := o.spec()
	conf := openelbConf{as: spec.asn("as"), routerID: spec.text("routerId"), perRack: map[string]int64{}}
	racks := spec.child("asPerRack")
	for _, rack := range sortedKeys(racks.keys) {
		conf.perRack[rack] = racks.asn(rack)
	}
	if port, given := spec.number("listenPort", 65535); given {
		spec.lose("listenPort", "nodes take no connections here (there: on port %d): a router that waits for the nodes' connections works, one that dials has to be changed", port)
	}
	spec.loseIf("listenAddresses", "nodes take no connections here")
	spec.loseIf("families", "families are said for each peer here")
	spec.loseIf("policy", "routing policies cannot be said here: communities and localPref of a pool can")
	spec.ignore("useMultiplePaths")
	conf.restart = readOpenELBRestart(c, spec.child("gracefulRestart"))
	spec.finish()
	o.finishObject()
	return conf
}

// readOpenELBRestart reads gobgp's graceful restart.
func readOpenELBRestart(c *converter, m mapping) *outRestart {
	enabled, _ := m.flag("enabled")
	restart, given := m.seconds("restartTime")
	for _, key := range []string{"helperOnly", "notificationEnabled", "longlivedEnabled", "deferralTime", "staleRoutesTime"} {
		m.loseIf(key, "of graceful restart there is restartTime here")
	}
	m.ignore("peerRestartTime", "peerRestarting", "localRestarting", "mode")
	m.finish()
	if !enabled {
		return nil
	}
	if !given || restart == 0 {
		restart = usualRestartTime
	}
	return &outRestart{restart}
}

func openelbPeer(c *converter, o *object, conf openelbConf) {
	spec := o.spec()
	defer o.finishObject()
	defer spec.finish()
	selector := spec.child("nodeSelector").selector(camelKeys)
	peering := spec.child("conf")
	defer peering.finish()
	address, localASN := peering.required("neighborAddress"), peering.asn("localAs")
	peerASN := peering.asn("peerAs")
	peering.ignore("description", "peerGroup", "peerType", "sendCommunity", "routeFlapDamping")
	for _, key := range []string{"removePrivateAs", "allowOwnAs", "replacePeerAs"} {
		peering.loseIf(key, "cannot be said here")
	}
	password := peering.text("authPassword")
	for _, key := range []string{"vrf", "neighborInterface", "adminDown"} {
		if text := peering.text(key); text != "" && text != "false" {
			spec.ignore("ebgpMultihop", "timers", "transport", "gracefulRestart", "afiSafis")
			c.losePeer(o.name, peering.key(key), "%s %q cannot be said here", key, text)
			return
		}
	}
	p, ok := c.addPeer(o.name, address, o.root.place)
	if !ok {
		spec.ignore("ebgpMultihop", "timers", "transport", "gracefulRestart", "afiSafis")
		return
	}
	p.PeerASN, p.RouterID, p.GracefulRestart = peerASN, conf.routerID, conf.restart
	if localASN == 0 {
		localASN = conf.as
	}
	p.LocalASN = localASN
	if !selector.isEmpty() {
		p.NodeSelectors = []outSelector{selector}
	}
	if restart := readOpenELBRestart(c, spec.child("gracefulRestart")); restart != nil {
		p.GracefulRestart = restart
	}
	openelbTransport(c, spec, p)
	if password != "" {
		usePassword(c, p, passwordSource{place: peering.key("authPassword")})
	}
	if len(conf.perRack) > 0 {
		splitByRack(c, p, conf)
	} else if p.LocalASN == 0 {
		spec.fail("conf", "give the BgpConf", "has no AS of the nodes")
	}
}

// openelbTransport reads timers, hops, ports and families of a peer.
func openelbTransport(c *converter, spec mapping, p *peer) {
	timers := spec.child("timers")
	config := timers.child("config")
	hold, hasHold := config.seconds("holdTime")
	keepalive, _ := config.seconds("keepaliveInterval")
	if retry, given := config.seconds("connectRetry"); given {
		c.setConnectRetry(p, retry, config.key("connectRetry"))
	}
	config.ignore("minimumAdvertisementInterval")
	config.finish()
	timers.finish()
	if !hasHold {
		hold = usualHoldTime
		c.note(p.place, "has no hold time; %s is OpenELB's, and it is written out so that routers see the same", usualHoldTime)
	}
	c.setTimers(p, hold, keepalive, config.key("holdTime"), config.key("keepaliveInterval"))
	multihop := spec.child("ebgpMultihop")
	enabled, _ := multihop.flag("enabled")
	ttl, _ := multihop.number("multihopTtl", 255)
	multihop.finish()
	if enabled && ttl > 1 && !p.isInternal() {
		p.EBGPMultihop = ttl
	}
	transport := spec.child("transport")
	if passive, _ := transport.flag("passiveMode"); passive {
		transport.lose("passiveMode", "nodes dial here, they do not wait: the router has to accept their connections")
	}
	transport.loseIf("tcpMss", "cannot be said here")
	transport.ignore("mtuDiscovery", "remoteAddress")
	if port, _ := transport.number("remotePort", 65535); port != 179 {
		p.Port = port
	}
	transport.finish()
	for _, family := range spec.children("afiSafis") {
		family.child("mpGracefulRestart")
		family.loseIf("addPaths", "one path is announced for each prefix here")
		config := family.child("config")
		enabled, given := config.flag("enabled")
		kind := config.child("family")
		afi, safi := kind.text("afi"), kind.text("safi")
		word := map[string]string{"AFI_IP": "ipv4", "AFI_IP6": "ipv6"}[afi]
		switch {
		case given && !enabled:
		case word == "" || safi != "" && safi != "SAFI_UNICAST":
			c.lose(family.place, "the family %s %s is not announced here", afi, safi)
		default:
			p.Families = append(p.Families, word)
		}
		kind.finish()
		config.finish()
		family.finish()
	}
	p.Families = once(p.Families)
}

// splitByRack makes a peer for each rack, as its nodes have an AS of their own.
func splitByRack(c *converter, p *peer, conf openelbConf) {
	c.peers = c.peers[:len(c.peers)-1]
	for _, rack := range sortedKeys(conf.perRack) {
		copied := *p
		copied.Name = ourName(fmt.Sprintf("%s-%s", p.Name, rack))
		copied.LocalASN = conf.perRack[rack]
		own := outSelector{MatchLabels: map[string]string{openelbRack: rack}}
		if len(p.NodeSelectors) > 0 {
			both, possible := p.NodeSelectors[0].both(own)
			if !possible {
				continue
			}
			own = both
		}
		copied.NodeSelectors = []outSelector{own}
		c.peers = append(c.peers, &copied)
	}
}

func openelbEip(c *converter, o *object) {
	spec := o.spec()
	defer o.finishObject()
	defer spec.finish()
	p := c.addPool(o.name, o.root.place)
	c.addAddresses(p, spec.required("address"), spec.key("address"))
	iface := spec.text("interface")
	switch protocol := spec.text("protocol"); protocol {
	case "layer2":
		p.announceL2(iface, nil, o.root.place)
	case "", "bgp":
		p.adverts = append(p.adverts, placedAdvertisement{place: o.root.place})
	case "vip":
		p.announceL2("", nil, o.root.place)
		spec.lose("protocol", "keepalived is not used here: the addresses are announced by ARP and NDP, by one node each")
	default:
		spec.fail("protocol", "write layer2, bgp or vip", "%q is not a protocol", protocol)
	}
	p.Disabled, _ = spec.flag("disable")
	p.Priority, _ = spec.number("priority", 1<<31-1)
	spec.loseIf("usingKnownIPs", "addresses that nodes have are never announced here")
	for _, n := range spec.texts("namespaces") {
		p.Namespaces = append(p.Namespaces, n.text)
	}
	p.Namespaces = once(p.Namespaces)
	if labels := spec.textMap("namespaceSelector"); len(labels) > 0 {
		p.NamespaceSelectors = []outSelector{{MatchLabels: labels}}
	}
	isDefault := o.annotations["eip.openelb.kubesphere.io/is-default-eip"] == "true" || o.annotations["eip.porter.kubesphere.io/is-default-eip"] == "true"
	p.setAutoAssign(isDefault || len(p.Namespaces)+len(p.NamespaceSelectors) > 0)
}

// once returns texts without repetitions.
func once(texts []string) []string {
	var out []string
	for _, text := range texts {
		if !slices.Contains(out, text) {
			out = append(out, text)
		}
	}
	return out
}
