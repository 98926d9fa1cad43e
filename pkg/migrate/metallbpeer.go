package migrate

import (
	"net/netip"
	"time"
)

// bfdProfile is how a path is watched, by name. Its losses are recorded once a peer uses it.
type bfdProfile struct {
	outBFD
	place  Place
	losses []Finding
}

// bfdKeys are the keys of a profile, which MetalLB has spelled in two ways.
type bfdKeys struct {
	receive, transmit, multiplier, echoInterval, echo, passive, ttl string
}

var (
	camelBFD  = bfdKeys{"receiveInterval", "transmitInterval", "detectMultiplier", "echoInterval", "echoMode", "passiveMode", "minimumTtl"}
	dashedBFD = bfdKeys{"receive-interval", "transmit-interval", "detect-multiplier", "echo-interval", "echo-mode", "passive-mode", "minimum-ttl"}
)

// readBFDProfile reads a profile. The intervals are milliseconds there.
func readBFDProfile(c *converter, m mapping, keys bfdKeys) bfdProfile {
	p := bfdProfile{place: m.place}
	milliseconds := func(key string) time.Duration {
		value, _ := m.number(key, 60000)
		return time.Duration(value) * time.Millisecond
	}
	p.ReceiveInterval, p.TransmitInterval = milliseconds(keys.receive), milliseconds(keys.transmit)
	p.DetectMultiplier, _ = m.number(keys.multiplier, 255)
	p.MinimumTTL, _ = m.number(keys.ttl, 255)
	m.number(keys.echoInterval, 60000)
	if echo, _ := m.flag(keys.echo); echo {
		p.losses = append(p.losses, Finding{m.key(keys.echo), "BFD echo packets are not sent here; control packets watch the path"})
	}
	if passive, _ := m.flag(keys.passive); passive {
		p.losses = append(p.losses, Finding{m.key(keys.passive), "BFD sessions are always begun by the node here"})
	}
	m.finish()
	return p
}

// useBFD sets the BFD of a peer as the profile says.
func useBFD(c *converter, p *peer, name string, profiles map[string]bfdProfile, place Place) {
	if name == "" {
		return
	}
	profile, ok := profiles[name]
	if !ok {
		c.fail(place, "add the profile to the source", "there is no BFD profile %q", name)
		return
	}
	for _, loss := range profile.losses {
		c.lose(loss.Place, "%s", loss.Reason)
	}
	c.setBFD(p, profile.outBFD, profile.place)
}

// metallbPeer reads a BGPPeer of v1beta1 or v1beta2.
func metallbPeer(c *converter, o *object, profiles map[string]bfdProfile) {
	spec := o.spec()
	read := peerReader{mapping: spec, name: o.name, place: o.root.place, profiles: profiles}
	keys := peerKeys{
		localASN: "myASN", peerASN: "peerASN", address: "peerAddress", source: "sourceAddress", port: "peerPort",
		hold: "holdTime", keepalive: "keepaliveTime", routerID: "routerID", password: "password", bfd: "bfdProfile", multihop: "ebgpMultiHop",
	}
	selectors := spec.selectors("nodeSelectors", camelKeys)
	override := spec.asn("localASN")
	vrf, iface, dynamic := spec.text("vrf"), spec.text("interface"), spec.text("dynamicASN")
	secret := spec.child("passwordSecret")
	secretName, secretNamespace := secret.text("name"), secret.text("namespace")
	secret.finish()
	restart, _ := spec.flag("enableGracefulRestart")
	dual, _ := spec.flag("dualStackAddressFamily")
	connect, hasConnect := spec.duration("connectTime")
	spec.ignore("disableMP")
	defer o.finishObject()
	defer spec.finish()
	lost := len(c.losses)
	if vrf != "" {
		c.losePeer(o.name, spec.key("vrf"), "its session runs in the VRF %q; here sessions run in the node's default VRF only", vrf)
	}
	if iface != "" {
		c.losePeer(o.name, spec.key("interface"), "it has no address, only the interface %q; here a peer has an address, or it is the node's default gateway", iface)
	}
	if dynamic != "" {
		c.losePeer(o.name, spec.key("dynamicASN"), "its AS number is taken from the router (%q); here peerASN is a number", dynamic)
	}
	if len(c.losses) > lost {
		spec.ignore(keys.all()...)
		return
	}
	p, ok := read.peer(c, keys, override)
	if !ok {
		return
	}
	if override > 0 {
		c.note(spec.key("localASN"), "routers see the AS %d from this peer's nodes, as there", override)
	}
	p.NodeSelectors = selectors
	if restart {
		p.GracefulRestart = &outRestart{usualRestartTime}
	}
	if dual {
		p.Families = []string{"ipv4", "ipv6"}
	}
	if hasConnect {
		c.setConnectRetry(p, connect, spec.key("connectTime"))
	}
	if secretName != "" {
		usePassword(c, p, passwordSource{secret: secretName, namespace: orElse(secretNamespace, o.namespace), place: spec.key("passwordSecret")})
	}
}

// peerKeys are the keys of a peer, which MetalLB has spelled in two ways.
type peerKeys struct {
	localASN, peerASN, address, source, port, hold, keepalive, routerID, password, bfd, multihop string
}

func (k peerKeys) all() []string {
	return []string{k.localASN, k.peerASN, k.address, k.source, k.port, k.hold, k.keepalive, k.routerID, k.password, k.bfd, k.multihop}
}

// peerReader reads what peers have in both forms.
type peerReader struct {
	mapping  mapping
	name     string
	place    Place
	profiles map[string]bfdProfile
}

// peer reads a peer. override is the AS number that routers see, if it is not 0.
func (r peerReader) peer(c *converter, k peerKeys, override int64) (*peer, bool) {
	m := r.mapping
	localASN, peerASN := m.asn(k.localASN), m.asn(k.peerASN)
	if localASN == 0 {
		m.fail(k.localASN, "", "is required")
	}
	if peerASN == 0 {
		m.fail(k.peerASN, "", "is required")
	}
	if override > 0 {
		localASN = override
	}
	address := m.required(k.address)
	if _, err := netip.ParseAddr(address); err != nil && address != "" {
		m.fail(k.address, "", "%q is not an address", address)
	}
	p, ok := c.addPeer(r.name, address, r.place)
	if !ok {
		m.ignore(k.all()...)
		return nil, false
	}
	p.LocalASN, p.PeerASN = localASN, peerASN
	p.Port, _ = m.number(k.port, 65535)
	if p.Port == 179 {
		p.Port = 0
	}
	p.SourceAddress, p.RouterID = m.text(k.source), m.text(k.routerID)
	hold, hasHold := m.duration(k.hold)
	keepalive, hasKeepalive := m.duration(k.keepalive)
	switch {
	case !hasHold && hasKeepalive:
		hold = 3 * keepalive
	case !hasHold:
		hold = usualHoldTime
		c.note(r.place, "has no hold time; %s is MetalLB's, and it is written out so that routers see the same", usualHoldTime)
	}
	c.setTimers(p, hold, keepalive, m.key(k.hold), m.key(k.keepalive))
	if multihop, _ := m.flag(k.multihop); multihop && p.isInternal() {
		m.fail(k.multihop, "remove it", "does not go with an internal peer, also not in MetalLB")
	} else if multihop {
		p.EBGPMultihop = 255
	}
	if m.has(k.password) && m.text(k.password) != "" {
		usePassword(c, p, passwordSource{place: m.key(k.password)})
	}
	useBFD(c, p, m.text(k.bfd), r.profiles, m.key(k.bfd))
	return p, true
}

// usePassword has a peer use a password, which is put into the Secret under the name of the peer.
func usePassword(c *converter, p *peer, source passwordSource) {
	p.PasswordFile = p.Name
	source.file = p.Name
	c.passwords = append(c.passwords, source)
	from := ""
	if source.secret != "" {
		from = ", from the Secret " + source.namespace + "/" + source.secret + ","
	}
	c.note(source.place, "the password is not written into the cloud-config: put it%s into the Secret baremetal-bgp-passwords under the key %s", from, source.file)
}

func orElse(text, other string) string {
	if text == "" {
		return other
	}
	return text
}
