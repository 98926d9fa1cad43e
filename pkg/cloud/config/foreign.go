package config

import (
	"fmt"
	"slices"
	"strings"

	"gopkg.in/yaml.v3"
)

// examplePool is what a pool of another load balancer becomes.
const examplePool = "pools: [{name: default, addresses: [192.0.2.10-192.0.2.20]}]"

// otherSystems are load balancers by the group of their objects.
var otherSystems = map[string]string{
	"metallb.io":            "MetalLB",
	"network.kubesphere.io": "OpenELB",
	"purelb.io":             "PureLB",
	"cilium.io":             "Cilium",
}

// otherKinds are what objects of other load balancers become in a cloud-config.
var otherKinds = map[string]string{
	"IPAddressPool":            examplePool,
	"AddressPool":              examplePool,
	"Eip":                      examplePool,
	"ServiceGroup":             examplePool,
	"CiliumLoadBalancerIPPool": examplePool,
	"L2Advertisement":          "l2: [{interface: eth0}] in the pool; without it a pool is announced on layer 2 by all nodes",
	"BGPAdvertisement":         "bgp: [{peers: [tor-a]}] in the pool",
	"BGPPeer":                  "bgp: {peers: [{name: tor-a, address: 192.0.2.1, localASN: 64512, peerASN: 64513}]}",
	"BgpPeer":                  "bgp: {peers: [{name: tor-a, address: 192.0.2.1, localASN: 64512, peerASN: 64513}]}",
	"BFDProfile":               "bfd: {} in the peer",
	"Community":                `bgp: {communities: {gold: "64512:7"}}`,
}

// anotherObject says what the file is, if it is an object that is mistaken for a cloud-config.
func anotherObject(root *yaml.Node) *Problem {
	version, kind := scalarOf(root, "apiVersion"), scalarOf(root, "kind")
	if version == nil || kind == nil {
		return nil
	}
	problem := func(cure, format string, args ...any) *Problem {
		return &Problem{Line: kind.Line, Column: kind.Column, Path: "kind", Message: fmt.Sprintf(format, args...), Cure: cure}
	}
	group, _, _ := strings.Cut(version.Value, "/")
	data := valueOf(root, "data")
	switch system := otherSystems[group]; {
	case system != "" && otherKinds[kind.Value] != "":
		return problem("it becomes "+otherKinds[kind.Value]+" in a file that begins with apiVersion: "+APIVersion, "%s is an object of %s and no cloud-config", kind.Value, system)
	case system != "":
		return problem("a cloud-config begins with apiVersion: "+APIVersion, "%s is an object of %s and no cloud-config", kind.Value, system)
	case kind.Value == "ConfigMap" && valueOf(data, "cloud-config.yaml") != nil:
		return problem("give the text under data, cloud-config.yaml alone; or apply the ConfigMap, and name it by --cloud-config-map",
			"this is the ConfigMap around a cloud-config, and not the cloud-config in it")
	case kind.Value == "ConfigMap" && valueOf(data, "config") != nil:
		return problem("write its address-pools as "+examplePool, "this is a ConfigMap of MetalLB and no cloud-config")
	}
	return nil
}

// valueOf returns the value of a key of a mapping, or nil.
func valueOf(n *yaml.Node, key string) *yaml.Node {
	if n == nil || n.Kind != yaml.MappingNode {
		return nil
	}
	for i := 0; i+1 < len(n.Content); i += 2 {
		if n.Content[i].Value == key {
			return n.Content[i+1]
		}
	}
	return nil
}

func scalarOf(n *yaml.Node, key string) *yaml.Node {
	if v := valueOf(n, key); v != nil && v.Kind == yaml.ScalarNode {
		return v
	}
	return nil
}

// otherKeys are keys of other load balancers, most of them MetalLB's, with what stands in
// their place. here are the keys one of which has to be known where that is so; none: anywhere.
var otherKeys = map[string]struct {
	here []string
	cure string
}{
	"address-pools":         {[]string{"pools"}, "write " + examplePool},
	"addressPools":          {[]string{"pools"}, "write " + examplePool},
	"peers":                 {[]string{"pools"}, "write the routers under bgp: {peers: [...]}"},
	"bgp-communities":       {[]string{"pools"}, `write bgp: {communities: {gold: "64512:7"}}`},
	"peer-autodiscovery":    {[]string{"pools"}, `write a template like peerASN: "{label:KEY}" in a peer`},
	"spec":                  {[]string{"apiVersion"}, "write its keys without spec: a cloud-config is no Kubernetes object"},
	"metadata":              {[]string{"apiVersion"}, "remove it: a cloud-config is no Kubernetes object"},
	"data":                  {[]string{"apiVersion"}, "write the text below it alone: a cloud-config is no Kubernetes object"},
	"protocol":              {[]string{"l2"}, "write l2: [{}] for layer2, or bgp: [{}] for bgp"},
	"interface":             {[]string{"l2"}, "write l2: [{interface: eth0}]"},
	"interfaces":            {[]string{"interface", "l2"}, "write interface: with one name, or an expression like /eth0|bond0/, in l2"},
	"bgp-advertisements":    {[]string{"l2"}, "write bgp: [{}]"},
	"serviceAllocation":     {[]string{"l2"}, "write its keys into the pool: priority, namespaces, namespaceSelectors, serviceSelectors"},
	"ipAddressPools":        {nil, "remove it: what announces a pool is written in the pool, under l2 or bgp"},
	"peer-address":          {[]string{"peerASN"}, "write address"},
	"peerAddress":           {[]string{"peerASN"}, "write address"},
	"peer-port":             {[]string{"peerASN"}, "write port"},
	"peerPort":              {[]string{"peerASN"}, "write port"},
	"my-asn":                {[]string{"peerASN"}, "write localASN"},
	"myASN":                 {[]string{"peerASN"}, "write localASN"},
	"dynamicASN":            {[]string{"peerASN"}, "write the number of the router's AS as peerASN"},
	"password":              {[]string{"peerASN"}, "put it into the Secret baremetal-bgp-passwords, and write its key there as passwordFile"},
	"passwordSecret":        {[]string{"peerASN"}, "put it into the Secret baremetal-bgp-passwords, and write its key there as passwordFile"},
	"bfd-profile":           {[]string{"peerASN"}, "write bfd: {}"},
	"bfdProfile":            {[]string{"peerASN"}, "write bfd: {}"},
	"unnumbered":            {[]string{"peerASN"}, unnumbered},
	"aggregation-length":    {[]string{"aggregationLength"}, "write aggregationLength"},
	"localpref":             {[]string{"aggregationLength"}, "write localPref"},
	"enableGracefulRestart": {[]string{"peerASN"}, "write gracefulRestart: {}"},
}

// unnumbered is the cure for a peer that is named by an interface.
const unnumbered = "a session by interface alone (BGP unnumbered) is not supported by this version; give the router a global address and write it as address"

// otherKey returns the cure for a key of another load balancer, or "".
func otherKey(key string, known fields) string {
	other, ok := otherKeys[key]
	if !ok || len(other.here) > 0 && !slices.ContainsFunc(other.here, func(k string) bool { _, is := known.fieldNamed(k); return is }) {
		return ""
	}
	return other.cure
}
