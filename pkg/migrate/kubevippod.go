package migrate

import (
	"fmt"
	"net/netip"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"
)

// kubeVIPWays are how kube-vip announces addresses.
type kubeVIPWays struct {
	l2, bgp   bool
	iface     string
	selectors []outSelector
}

// announce announces a pool that way; iface is that of its namespace.
func (w kubeVIPWays) announce(p *pool, iface string) {
	if w.l2 {
		p.announceL2(orElse(iface, w.iface), w.selectors, p.place)
	}
	if w.bgp {
		p.adverts = []placedAdvertisement{{place: p.place}} // the peers have the selectors
	}
}

// kubeVIPIgnored are the variables that say nothing about Services.
var kubeVIPIgnored = []string{
	"port", "vip_nodename", "vip_cidr", "vip_subnet", "svc_enable", "svc_election", "svc_leasename", "vip_leaderelection", "vip_leasename",
	"vip_leaseduration", "vip_renewdeadline", "vip_retryperiod", "vip_loglevel", "prometheus_server", "dns_mode", "cp_namespace", "svc_namespace",
	"address", "vip_address", "vip_startleader", "vip_singlenode", "vip_arpRate", "enable_node_labeling", "lb_enable", "lb_port", "lb_fwdmethod",
	"bgp_routerinterface", "vip_preserve_on_leadership_loss", "disable_service_updates", "vip_addpeerstolb",
}

// kubeVIPLost are the variables that cannot be said here, with the reason.
var kubeVIPLost = map[string]string{
	"cp_enable":                "the address of the API server is not ours: keep kube-vip for it, with svc_enable false",
	"vip_wireguard":            "WireGuard is not used here",
	"vip_routingtable":         "routes in tables of the node are not written here: use bgp",
	"vip_ddns":                 "addresses by DHCP are not possible here",
	"enable_service_security":  "packets are not filtered here",
	"egress_withnftables":      "the source address of Pods is not changed here",
	"mpbgp_nexthop":            "the next hop is the node's own address of each family here",
	"enable_upnp":              "UPnP is not used here",
	"mirror_dest_interface":    "traffic is not mirrored here",
	"vip_securenat":            "packets are not filtered here",
	"bgp_sourceif":             "an interface to speak from is said by interface of a peer here, which binds the session to it",
	"annotations":              "peers from annotations of a node are not possible here: use templates like {label:rack}",
	"lb_class_legacy_handling": "the class of a Service decides here, and no annotation",
}

// readKubeVIPWays reads the environment. Without kube-vip in the source it is layer 2.
func readKubeVIPWays(c *converter, pod *object, env map[string]placedText) kubeVIPWays {
	if pod == nil {
		return kubeVIPWays{l2: true}
	}
	isOn := func(key string) bool { on, _ := strconv.ParseBool(env[key].text); return on }
	ways := kubeVIPWays{l2: isOn("vip_arp"), bgp: isOn("bgp_enable"), iface: orElse(env["vip_servicesinterface"].text, env["vip_interface"].text)}
	ways.selectors = podSelectors(c, pod)
	if isOn("lb_class_only") {
		c.note(env["lb_class_only"].place, "Services without a class are served here, too: this version cannot leave them alone")
		addClass(c, orElse(env["lb_class_name"].text, "kube-vip.io/kube-vip-class"))
	}
	if ways.bgp {
		kubeVIPPeers(c, env, ways.selectors)
	}
	known := append([]string{"vip_arp", "bgp_enable", "vip_servicesinterface", "vip_interface", "lb_class_only", "lb_class_name", "bgp_routerid", "bgp_as",
		"bgp_peers", "bgp_peeraddress", "bgp_peeras", "bgp_peerpass", "bgp_multihop", "bgp_sourceip", "bgp_hold_time", "bgp_keepalive_interval"}, kubeVIPIgnored...)
	for _, key := range sortedKeys(env) {
		variable := env[key]
		switch reason, isLost := kubeVIPLost[key]; {
		case isLost && variable.text != "" && variable.text != "false":
			c.lose(variable.place, "%s: %s", key, reason)
		case isLost || slices.Contains(known, key):
		default:
			c.lose(variable.place, "the variable %s is not known, and what it does is not carried over", key)
		}
	}
	return ways
}

// nodeRole is how the labels of nodes for their roles begin.
const nodeRole = "node-role.kubernetes.io/"

func hasRole(role string) outSelector {
	return outSelector{MatchExpressions: []outExpression{{Key: nodeRole + role, Operator: "Exists"}}}
}

// podSelectors returns which nodes kube-vip runs on.
func podSelectors(c *converter, o *object) []outSelector {
	spec := o.spec()
	if o.kind == "DaemonSet" {
		spec = spec.child("template").child("spec")
	}
	var base outSelector
	if labels := spec.textMap("nodeSelector"); len(labels) > 0 {
		base.MatchLabels = labels
	}
	required := spec.child("affinity").child("nodeAffinity").child("requiredDuringSchedulingIgnoredDuringExecution")
	var terms []outSelector
	for _, term := range required.children("nodeSelectorTerms") {
		term.loseIf("matchFields", "nodes are picked by their labels here")
		s := term.selector(camelKeys)
		if reflect.DeepEqual(s, hasRole("master")) {
			c.note(term.place, "no node has the label %smaster since Kubernetes 1.24: it is left out", nodeRole)
			continue
		}
		terms = append(terms, s)
	}
	if len(terms) == 0 {
		if base.isEmpty() {
			return nil
		}
		return []outSelector{base}
	}
	var out []outSelector
	for _, term := range terms {
		if both, possible := base.both(term); possible {
			out = append(out, both)
		}
	}
	return out
}

// kubeVIPPeers reads the routers of the environment.
func kubeVIPPeers(c *converter, env map[string]placedText, selectors []outSelector) {
	number := func(key string, usual int64) int64 {
		v, given := env[key]
		if !given || v.text == "" {
			return usual
		}
		n, err := strconv.ParseUint(v.text, 10, 32)
		if err != nil {
			c.fail(v.place, "", "%s: %q is not a whole number", key, v.text)
		}
		return int64(n) //nolint:gosec // 32 bits
	}
	localASN := number("bgp_as", 65000)
	hold, keepalive := time.Duration(number("bgp_hold_time", 30))*time.Second, time.Duration(number("bgp_keepalive_interval", 10))*time.Second
	add := func(r kubeVIPRouter) {
		name := fmt.Sprintf("peer%d", len(c.peers)+1)
		if _, err := netip.ParseAddr(r.address); err != nil {
			c.fail(r.place, "", "%q is not an address", r.address)
			return
		}
		p, ok := c.addPeer(name, r.address, r.place)
		if !ok {
			return
		}
		p.LocalASN, p.PeerASN, p.RouterID, p.SourceAddress, p.Port = localASN, r.asn, env["bgp_routerid"].text, env["bgp_sourceip"].text, r.port
		p.NodeSelectors = slices.Clone(selectors)
		if r.multihop && !p.isInternal() {
			p.EBGPMultihop = 255
		}
		c.setTimers(p, hold, keepalive, env["bgp_hold_time"].place, env["bgp_keepalive_interval"].place)
		if r.hasPassword {
			usePassword(c, p, passwordSource{place: r.place})
		}
	}
	if peers := env["bgp_peers"]; peers.text != "" {
		for _, text := range strings.Split(peers.text, ",") {
			if r, ok := parseKubeVIPRouter(c, text, peers.place); ok {
				add(r)
			}
		}
	}
	if one := env["bgp_peeraddress"]; one.text != "" {
		multihop, _ := strconv.ParseBool(env["bgp_multihop"].text)
		add(kubeVIPRouter{address: one.text, asn: number("bgp_peeras", 65000), hasPassword: env["bgp_peerpass"].text != "", multihop: multihop, place: one.place})
	}
}

// kubeVIPRouter is an entry of bgp_peers. Its password is not kept.
type kubeVIPRouter struct {
	address     string
	asn, port   int64
	multihop    bool
	hasPassword bool
	place       Place
}

// parseKubeVIPRouter reads "ADDRESS:AS:PASSWORD:MULTIHOP:PORT/OPTIONS", of which all after AS may be left
// out, and an IPv6 address stands in brackets.
func parseKubeVIPRouter(c *converter, text string, place Place) (kubeVIPRouter, bool) {
	r := kubeVIPRouter{place: place}
	text, options, _ := strings.Cut(strings.TrimSpace(text), "/")
	if text == "" {
		return r, false
	}
	if options != "" {
		c.lose(place, "options behind a / in bgp_peers cannot be said here")
	}
	if strings.HasPrefix(text, "unnumbered:") {
		c.lose(place, "a router without an address is not possible here")
		return r, false
	}
	if rest, is6 := strings.CutPrefix(text, "["); is6 {
		address, after, _ := strings.Cut(rest, "]")
		r.address, text = address, after
	} else {
		address, after, _ := strings.Cut(text, ":")
		r.address, text = address, ":"+after
	}
	parts := strings.Split(strings.TrimPrefix(text, ":"), ":")
	asn, err := strconv.ParseUint(parts[0], 10, 32)
	if err != nil {
		c.fail(place, "write ADDRESS:AS:PASSWORD:MULTIHOP", "an entry of bgp_peers has no AS number")
		return r, false
	}
	r.asn = int64(asn) //nolint:gosec // 32 bits
	r.hasPassword = len(parts) > 1 && parts[1] != ""
	if len(parts) > 2 && parts[2] != "" {
		r.multihop, _ = strconv.ParseBool(parts[2])
	}
	if len(parts) > 3 && parts[3] != "" {
		port, err := strconv.ParseUint(parts[3], 10, 16)
		if err != nil {
			c.fail(place, "write ADDRESS:AS:PASSWORD:MULTIHOP:PORT", "an entry of bgp_peers has no number as its port")
		}
		r.port = int64(port) //nolint:gosec // 16 bits
	}
	if len(parts) > 4 {
		c.lose(place, "options of an entry of bgp_peers cannot be said here")
	}
	return r, true
}
