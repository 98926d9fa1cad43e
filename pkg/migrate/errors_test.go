package migrate

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

const ipPool = "apiVersion: metallb.io/v1beta1\nkind: IPAddressPool\nmetadata: {name: a, namespace: m}\nspec: {addresses: [192.0.2.0/28]}\n"

// pools returns two pools of MetalLB with these addresses.
func pools(a, b string) string {
	return ipPool[:strings.Index(ipPool, "spec")] + "spec: {addresses: [\"" + a + "\"]}\n---\n" +
		strings.Replace(ipPool[:strings.Index(ipPool, "spec")], "name: a", "name: b", 1) + "spec:\n  addresses:\n  - 198.51.100.0/30\n  - \"" + b + "\"\n"
}

// TestErrors: what is not understood is refused with document, line, object and path.
func TestErrors(t *testing.T) {
	for name, test := range map[string]struct {
		product Product
		source  string
		want    string
	}{
		"empty":                  {MetalLB, "", "s: is empty; give the objects of the configuration"},
		"empty documents":        {MetalLB, "---\n# nothing\n---\n", "s: is empty; give the objects of the configuration"},
		"not UTF-8":              {MetalLB, ipPool + "# \xff\n", "s:5: byte 0xff is not UTF-8; is this the right file?"},
		"control character":      {MetalLB, ipPool + "# \x01\n", "s:5: control character 0x01; is this the right file?"},
		"huge":                   {MetalLB, ipPool + strings.Repeat("#\n", MaxSize/2), "s: is larger than 16777216 bytes; is this the right file?"},
		"not YAML":               {MetalLB, ipPool + "---\na: [\n", "s:6: document 2: not YAML: did not find expected node content"},
		"anchors":                {MetalLB, ipPool + "---\na: &x 1\nb: *x\n", "s:6: document 2: anchors and aliases are not read; write the value out"},
		"a list":                 {MetalLB, "- a\n", "s:1: document 1: want a mapping (key: value), got a list"},
		"a word":                 {MetalLB, "metallb\n", "s:1: document 1: want a mapping (key: value), got another text"},
		"nothing of the product": {Cilium, ipPool, "s: gives no addresses of cilium: want a CiliumLoadBalancerIPPool"},
		"unknown product":        {"traefik", ipPool, `s: "traefik" is not a product that can be read; write one of cilium, kube-vip, metallb, openelb, purelb`},
		"unknown version": {MetalLB, strings.Replace(ipPool, "v1beta1", "v2", 1),
			"s:1: document 1: IPAddressPool m/a: the version metallb.io/v2 of IPAddressPool is not known; convert it to v1beta1"},
		"unknown kind": {MetalLB, strings.Replace(ipPool, "IPAddressPool", "AdressPool", 1),
			`s:1: document 1: AdressPool m/a: objects of the kind "AdressPool" in metallb.io/v1beta1 are not known`},
		"unknown key": {MetalLB, ipPool + "---\n" + strings.Replace(strings.Replace(ipPool, "name: a", "name: b", 1), "[192.0.2.0/28]}", "[192.0.2.16/28], autoAsign: false}", 1),
			"s:9: document 2: IPAddressPool m/b: spec.autoAsign: unknown key; known are addresses, autoAssign, avoidBuggyIPs, serviceAllocation"},
		"unknown key beside spec": {MetalLB, ipPool + "sepc: {}\n",
			"s:5: document 1: IPAddressPool m/a: sepc: unknown key; known are apiVersion, kind, metadata, spec, status"},
		"key given twice": {MetalLB, "a: 1\na: 2\n", "s:2: document 1: a: is given twice; remove one of the two"},
		"not an address": {MetalLB, pools("192.0.2.0/28", "192.0.2.300"),
			`s:12: document 2: IPAddressPool m/b: spec.addresses[1]: "192.0.2.300": not an address, a CIDR or a first-last range`},
		"reversed": {MetalLB, pools("192.0.2.0/28", "192.0.2.99-192.0.2.90"),
			`s:12: document 2: IPAddressPool m/b: spec.addresses[1]: "192.0.2.99-192.0.2.90": the last address comes before the first; write 192.0.2.90-192.0.2.99`},
		"overlapping pools": {MetalLB, pools("192.0.2.0/28", "192.0.2.10-192.0.2.20"),
			"s:12: document 2: IPAddressPool m/b: spec.addresses[1]: 192.0.2.10-192.0.2.20 overlaps 192.0.2.0/28 (4: document 1: IPAddressPool m/a: spec.addresses[0]): " +
				"an address could be given out twice; leave each address in one pool"},
		"overlapping pools of IPv6": {MetalLB, pools("2001:db8::/64", "2001:db8::5"),
			"s:12: document 2: IPAddressPool m/b: spec.addresses[1]: 2001:db8::5 overlaps 2001:db8::/64 (4: document 1: IPAddressPool m/a: spec.addresses[0]): " +
				"an address could be given out twice; leave each address in one pool"},
		"one pool twice": {MetalLB, ipPool + "---\n" + strings.Replace(ipPool, "2.0/28", "2.16/28", 1),
			`s:6: document 2: IPAddressPool m/a: another pool has the name "a": 1: document 1: IPAddressPool m/a; rename one of the two`},
		"half old, half new": {MetalLB, "kind: ConfigMap\napiVersion: v1\nmetadata: {name: config, namespace: m}\ndata:\n  config: |\n    address-pools:\n    - {name: b, protocol: layer2, addresses: [198.51.100.0/28]}\n---\n" + ipPool,
			"s:9: document 2: IPAddressPool m/a: the source is half of MetalLB's old form (6: document 1: ConfigMap m/config: data.config) and half of its new form; " +
				"remove the form that MetalLB does not use: up to version 0.12 it reads the ConfigMap, since 0.13 the objects"},
		"two of the old form": {MetalLB, "address-pools:\n- {name: b, protocol: layer2, addresses: [198.51.100.0/28]}\n---\npeers: []\n",
			"s:4: document 2: another configuration of the old form stands before: 1: document 1; leave the one that MetalLB uses"},
		"a typo in the ConfigMap": {MetalLB, "kind: ConfigMap\napiVersion: v1\nmetadata: {name: config, namespace: m}\ndata:\n  config: |\n    address-pools:\n    - name: b\n      protokol: layer2\n      addresses: [198.51.100.0/28]\n",
			"s:7: document 1: ConfigMap m/config: data.config.address-pools[0].protocol: is required\n" +
				"s:8: document 1: ConfigMap m/config: data.config.address-pools[0].protokol: unknown key; known are addresses, auto-assign, avoid-buggy-ips, bgp-advertisements, name, protocol"},
		"a ConfigMap that is not YAML": {MetalLB, "kind: ConfigMap\napiVersion: v1\nmetadata: {name: config, namespace: m}\ndata: {config: \"address-pools: [\"}\n",
			"s:4: document 1: ConfigMap m/config: data.config: not YAML: line 1: did not find expected node content"},
		"a wrong type": {MetalLB, strings.Replace(ipPool, "[192.0.2.0/28]", "{a: b}", 1),
			"s:4: document 1: IPAddressPool m/a: spec.addresses: want a list, got a mapping"},
		"a wrong operator": {MetalLB, ipPool + "---\napiVersion: metallb.io/v1beta1\nkind: L2Advertisement\nmetadata: {name: l}\nspec: {nodeSelectors: [{matchExpressions: [{key: a, operator: Is, values: [b]}]}]}\n",
			`s:9: document 2: L2Advertisement l: spec.nodeSelectors[0].matchExpressions[0].operator: "Is" is not an operator; write In, NotIn, Exists or DoesNotExist`},
		"an unknown BFD profile": {MetalLB, ipPool + "---\napiVersion: metallb.io/v1beta2\nkind: BGPPeer\nmetadata: {name: p}\nspec: {myASN: 1, peerASN: 2, peerAddress: 192.0.2.99, bfdProfile: fast}\n",
			`s:9: document 2: BGPPeer p: spec.bfdProfile: there is no BFD profile "fast"; add the profile to the source`},
		"an unknown community": {MetalLB, ipPool + "---\napiVersion: metallb.io/v1beta1\nkind: BGPAdvertisement\nmetadata: {name: p}\nspec: {communities: [gold]}\n",
			`s:9: document 2: BGPAdvertisement p: spec.communities[0]: "gold" is no community, and no name of one; give its number, or the object that names it`},
		"an AS number that cannot be": {MetalLB, ipPool + "---\napiVersion: metallb.io/v1beta2\nkind: BGPPeer\nmetadata: {name: p}\nspec: {myASN: 23456, peerASN: 2, peerAddress: 192.0.2.99}\n",
			"s:6: document 2: BGPPeer p: the cloud-config would be refused: bgp.peers[0].localASN: 23456 is reserved and no AS's number"},
		"two sessions to one router": {MetalLB, ipPool + strings.Repeat("---\napiVersion: metallb.io/v1beta2\nkind: BGPPeer\nmetadata: {name: p}\nspec: {myASN: 1, peerASN: 2, peerAddress: 192.0.2.99}\n", 2),
			`s:11: document 3: BGPPeer p: another peer has the name "p": 6: document 2: BGPPeer p; rename one of the two`},
		"overlapping namespaces": {KubeVIP, "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: kubevip, namespace: kube-system}\ndata:\n  cidr-a: 10.0.0.0/24\n  range-b: 10.0.0.7-10.0.0.9\n",
			"s:6: document 1: ConfigMap kube-system/kubevip: data.range-b: 10.0.0.7-10.0.0.9 overlaps 10.0.0.0/24 (5: document 1: ConfigMap kube-system/kubevip: data.cidr-a): " +
				"an address could be given out twice; leave each address in one pool"},
		"an unknown key of kube-vip": {KubeVIP, "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: kubevip, namespace: kube-system}\ndata:\n  cidr-a: 10.0.0.0/24\n  seach-order: desc\n",
			"s:6: document 1: ConfigMap kube-system/kubevip: data.seach-order: unknown key; known are cidr-, range-, interface- and allow-share- with a namespace or global behind them, search-order and skip-end-ips-in-cidr"},
		"no CiliumBGPPeerConfig": {Cilium, "apiVersion: cilium.io/v2\nkind: CiliumLoadBalancerIPPool\nmetadata: {name: p}\nspec: {blocks: [{cidr: 10.0.0.0/24}]}\n---\n" +
			"apiVersion: cilium.io/v2\nkind: CiliumBGPClusterConfig\nmetadata: {name: c}\nspec: {bgpInstances: [{name: i, localASN: 1, peers: [{name: r, peerASN: 2, peerAddress: 10.9.9.9, peerConfigRef: {name: x}}]}]}\n",
			`s:9: document 2: CiliumBGPClusterConfig c: spec.bgpInstances[0].peers[0].peerConfigRef.name: there is no CiliumBGPPeerConfig "x"; add it to the source`},
		"overlapping Cilium pools": {Cilium, "apiVersion: cilium.io/v2\nkind: CiliumLoadBalancerIPPool\nmetadata: {name: p}\nspec: {blocks: [{cidr: 10.0.0.0/24}, {start: 10.0.0.9}]}\n",
			"s:4: document 1: CiliumLoadBalancerIPPool p: spec.blocks[1].start: 10.0.0.9 overlaps 10.0.0.0/24 (4: document 1: CiliumLoadBalancerIPPool p: spec.blocks[0].cidr): " +
				"an address could be given out twice; leave each address in one pool"},
	} {
		t.Run(name, func(t *testing.T) {
			result, err := Convert(test.product, Source{Data: []byte(test.source), Name: "s"})
			require.Nil(t, result)
			require.EqualError(t, err, test.want)
		})
	}
}

// TestPasswordsStayOut: no password of a source is in the result or in an error.
func TestPasswordsStayOut(t *testing.T) {
	for product, source := range map[Product]string{
		MetalLB: "address-pools: [{name: a, protocol: bgp, addresses: [192.0.2.0/28]}]\npeers: [{my-asn: 1, peer-asn: 2, peer-address: 192.0.2.99, password: geheim}]\n",
		KubeVIP: "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: kubevip}\ndata: {cidr-a: 10.0.0.0/24}\n---\nkind: DaemonSet\napiVersion: apps/v1\nmetadata: {name: k}\nspec: {template: {spec: {containers: [{image: kube-vip, env: [" +
			"{name: bgp_enable, value: 'true'}, {name: bgp_peers, value: '10.0.9.9:65001:geheim:false'}, {name: bgp_peeraddress, value: 10.0.9.8}, {name: bgp_peerpass, value: geheim}]}]}}}\n",
		OpenELB: "apiVersion: network.kubesphere.io/v1alpha2\nkind: Eip\nmetadata: {name: a}\nspec: {address: 10.0.0.0/24}\n---\napiVersion: network.kubesphere.io/v1alpha2\nkind: BgpPeer\nmetadata: {name: p}\n" +
			"spec: {conf: {peerAs: 2, localAs: 1, neighborAddress: 10.9.9.9, authPassword: geheim}}\n",
	} {
		for _, s := range []string{source, strings.Replace(source, "geheim", "[geheim]", 1), strings.Replace(source, "geheim", "geheim\n  geheim: x", 1)} {
			result, err := Convert(product, Source{Data: []byte(s), Name: "s"})
			if err != nil {
				require.NotContains(t, err.Error(), "geheim")
				continue
			}
			require.NotContains(t, result.CloudConfig, "geheim")
			for _, f := range append(result.Losses, result.Notes...) {
				require.NotContains(t, f.String(), "geheim")
			}
			for _, step := range result.Plan {
				require.NotContains(t, strings.Join(step.Commands, "\n")+step.Title, "geheim")
			}
			require.Contains(t, result.CloudConfig, "passwordFile: p")
		}
	}
}
