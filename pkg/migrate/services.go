package migrate

import (
	"net/netip"
	"slices"
	"strconv"
	"strings"
)

// The annotations of ours.
const (
	annotationPool      = "baremetal.cloud/pool"
	annotationAddresses = "baremetal.cloud/addresses"
	annotationSharing   = "baremetal.cloud/sharing-key"
)

// foreign says what the annotations of a product mean here: "" is lost, with the reason.
type foreign struct {
	key, ours, reason string
}

// foreignAnnotations are those that users set, by product.
var foreignAnnotations = map[Product][]foreign{
	MetalLB: {
		{key: "metallb.io/address-pool", ours: annotationPool},
		{key: "metallb.universe.tf/address-pool", ours: annotationPool},
		{key: "metallb.io/loadBalancerIPs", ours: annotationAddresses},
		{key: "metallb.universe.tf/loadBalancerIPs", ours: annotationAddresses},
		{key: "metallb.io/allow-shared-ip", ours: annotationSharing},
		{key: "metallb.universe.tf/allow-shared-ip", ours: annotationSharing},
	},
	KubeVIP: {
		{key: "kube-vip.io/loadbalancerIPs", ours: annotationAddresses},
		{key: "kube-vip.io/serviceInterface", reason: "the interface is said by l2 of a pool here"},
		{key: "kube-vip.io/loadbalancerHostname", reason: "names from DHCP are not possible here"},
		{key: "kube-vip.io/egress", reason: "the source address of Pods is not changed here"},
		{key: "kube-vip.io/vlan", reason: "VLANs are not made here: the interface is said by l2 of a pool"},
	},
	OpenELB: {
		{key: "eip.openelb.kubesphere.io/v1alpha2", ours: annotationPool},
		{key: "eip.openelb.kubesphere.io/v1alpha1", ours: annotationAddresses},
		{key: "eip.porter.kubesphere.io/v1alpha2", ours: annotationPool},
		{key: "eip.porter.kubesphere.io/v1alpha1", ours: annotationAddresses},
		{key: "layer2.openelb.kubesphere.io/v1alpha1", reason: "the node that answers is chosen by us: use nodeSelectors of a pool of its own"},
	},
	PureLB: {
		{key: "purelb.io/service-group", ours: annotationPool},
		{key: "purelb.io/addresses", ours: annotationAddresses},
		{key: "purelb.io/allow-shared-ip", ours: annotationSharing},
		{key: "purelb.io/multi-pool", reason: "a Service has at most one address of each family here"},
	},
	Cilium: {
		{key: "lbipam.cilium.io/ips", ours: annotationAddresses},
		{key: "io.cilium/lb-ipam-ips", ours: annotationAddresses},
		{key: "lbipam.cilium.io/sharing-key", ours: annotationSharing},
		{key: "io.cilium/lb-ipam-sharing-key", ours: annotationSharing},
		{key: "lbipam.cilium.io/sharing-cross-namespace", reason: "sharing across namespaces is allowed by sharedNamespaces of the pool"},
		{key: "io.cilium/lb-ipam-sharing-cross-namespace", reason: "sharing across namespaces is allowed by sharedNamespaces of the pool"},
	},
}

// foreignClasses are how the classes of Services that a product serves begin.
var foreignClasses = map[Product][]string{
	MetalLB: {"metallb.io/", "metallb.universe.tf/"},
	KubeVIP: {"kube-vip.io/"},
	OpenELB: {"openelb.io/", "lb.kubesphere.io/"},
	PureLB:  {"purelb.io/"},
	Cilium:  {"io.cilium/"},
}

// readServices finds what the Services of the source need.
func readServices(c *converter) {
	for _, o := range c.services {
		spec := o.spec()
		if spec.text("type") != "LoadBalancer" {
			continue
		}
		if class := spec.text("loadBalancerClass"); slices.ContainsFunc(foreignClasses[c.product], func(prefix string) bool { return strings.HasPrefix(class, prefix) }) {
			addClass(c, class)
		}
		annotate(c, o)
		checkHeld(c, o)
	}
}

// addClass adds a class of Services to those that are served.
func addClass(c *converter, class string) {
	if !slices.Contains(c.classes, class) {
		c.classes = append(c.classes, class)
	}
}

// annotate finds the annotations that a Service needs. Ours win over others; of two others that
// differ none is taken.
func annotate(c *converter, o *object) {
	wanted := map[string]foreign{}
	clash := map[string]bool{}
	metadata := o.root.child("metadata").child("annotations")
	for _, f := range foreignAnnotations[c.product] {
		value := o.annotations[f.key]
		if value == "" {
			continue
		}
		if f.ours == "" {
			c.lose(metadata.key(f.key), "the annotation is not carried over: %s", f.reason)
			continue
		}
		if before, taken := wanted[f.ours]; taken && o.annotations[before.key] != value {
			clash[f.ours] = true
			c.lose(metadata.key(f.key), "it and %s differ: none of the two is carried over", before.key)
			continue
		}
		wanted[f.ours] = f
	}
	for _, ours := range []string{annotationPool, annotationAddresses, annotationSharing} {
		f, want := wanted[ours]
		if !want || clash[ours] {
			continue
		}
		place := metadata.key(f.key)
		value, reason := ourValue(c, f, o.annotations[f.key])
		switch has := o.annotations[ours]; {
		case reason != "":
			c.lose(place, "the annotation is not carried over: %s", reason)
		case has == value:
		case has != "":
			c.lose(place, "the annotation is not carried over: %s is there and says something else", ours)
		default:
			c.result.Annotations = append(c.result.Annotations, Annotation{o.namespace, o.name, ours, value, f.key})
		}
	}
}

// ourValue returns the value of our annotation, or why there is none.
func ourValue(c *converter, f foreign, value string) (ours, reason string) {
	switch f.ours {
	case annotationPool:
		name, known := c.poolNames[value]
		if !known {
			return "", "there is no pool " + strconv.Quote(value)
		}
		return name, ""
	case annotationAddresses:
		var addresses []string
		var families []bool
		for _, text := range strings.Split(value, ",") {
			a, err := netip.ParseAddr(strings.TrimSpace(text))
			switch {
			case err != nil:
				return "", strconv.Quote(value) + " is no list of addresses"
			case a.IsUnspecified():
				return "", "addresses by DHCP are not possible here"
			case slices.Contains(families, a.Is4()):
				return "", "a Service has at most one address of each family here"
			}
			families = append(families, a.Is4())
			addresses = append(addresses, a.String())
		}
		return strings.Join(addresses, ","), ""
	}
	return value, ""
}

// checkHeld reports addresses of a Service that no pool has.
func checkHeld(c *converter, o *object) {
	balancer := o.root.child("status").child("loadBalancer")
	for _, ingress := range balancer.children("ingress") {
		a, err := netip.ParseAddr(ingress.text("ip"))
		if err != nil {
			continue
		}
		inside := slices.ContainsFunc(c.pools, func(p *pool) bool {
			return slices.ContainsFunc(p.ranges, func(r placedRange) bool { return r.Contains(a) })
		})
		if !inside {
			c.lose(ingress.key("ip"), "the Service holds %s, which no pool has: it is kept and not announced", a)
		}
	}
}
