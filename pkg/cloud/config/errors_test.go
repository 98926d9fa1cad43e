package config

import (
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// pool is one pool, from line 3 to 5; what a test adds to it begins on line 6.
const pool = "pools:\n- name: a\n  addresses: [192.0.2.0/24]\n"

// badName is how Kubernetes says that a text is no qualified name.
const badName = "name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character " +
	"(e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')"

// Each bad file with every line that is printed about it.
func TestErrors(t *testing.T) {
	tests := map[string]struct {
		text string // follows head
		want string
	}{
		"unknown key with a likely one": {"pool: []\n",
			"c.yaml:3:1: pool: unknown key; did you mean pools?"},
		"unknown key": {pool + "  colour: eth0\n",
			"c.yaml:6:3: pools[0].colour: unknown key; known are addresses, autoAssign, avoidBuggyIPs, bgp, disabled, l2, maxPerNamespace, name, namespaceSelectors, namespaces, priority, reuseAfter, serviceSelectors, sharedNamespaces"},
		"duplicate key": {pool + "  name: b\n",
			"c.yaml:6:3: pools[0].name: given twice, first at 4:3; remove one of the two"},
		"duplicate key at the top": {pool + pool,
			"c.yaml:6:1: pools: given twice, first at 3:1; remove one of the two"},
		"key that is a list": {"[a]: b\n",
			"c.yaml:3:1: a key must be a word"},
		"merge key": {pool + "  <<: {disabled: true}\n",
			"c.yaml:6:3: pools[0].<<: unknown key; known are addresses, autoAssign, avoidBuggyIPs, bgp, disabled, l2, maxPerNamespace, name, namespaceSelectors, namespaces, priority, reuseAfter, serviceSelectors, sharedNamespaces"},
		"second document": {pool + "---\nkind: CloudConfig\n",
			"c.yaml:6:1: a second document begins here; write everything into one"},
		"anchor and alias": {"pools:\n- &p {name: a, addresses: [192.0.2.1]}\n- *p\n",
			"c.yaml:4:3: anchors and aliases are not allowed; write the value out\n" +
				"c.yaml:5:3: anchors and aliases are not allowed; write the value out"},
		"pools is a mapping": {"pools: {a: b}\n",
			"c.yaml:3:8: pools: want a list, got a mapping"},
		"pool is a string": {"pools: [a]\n",
			`c.yaml:3:9: pools[0]: want a mapping (key: value), got the string "a"`},
		"pool is nothing": {"pools:\n-\n",
			"c.yaml:4:2: pools[0]: want a mapping (key: value), got nothing"},
		"name and addresses missing": {"pools:\n- {priority: 1}\n",
			"c.yaml:4:3: pools[0].name: is required\n" +
				"c.yaml:4:3: pools[0].addresses: is required"},
		"addresses without a value": {"pools:\n- name: a\n  addresses:\n",
			"c.yaml:4:3: pools[0].addresses: is required"},
		"addresses empty": {"pools:\n- name: a\n  addresses: []\n",
			`c.yaml:5:14: pools[0].addresses: a pool needs at least one address; write a range, like "192.0.2.10-192.0.2.20"`},
		"name is a number": {"pools:\n- name: 1\n  addresses: [192.0.2.1]\n",
			`c.yaml:4:9: pools[0].name: want a string, got the number 1; write "1"`},
		"name twice": {"pools:\n- {name: a, addresses: [192.0.2.1]}\n- {name: a, addresses: [192.0.2.2]}\n",
			`c.yaml:5:10: pools[1].name: another pool has the name "a", at 4:10`},
		"boolean as a word": {pool + "  autoAssign: yes\n",
			`c.yaml:6:15: pools[0].autoAssign: want true or false, got the string "yes"`},
		"boolean in quotes": {pool + "  disabled: \"true\"\n",
			`c.yaml:6:13: pools[0].disabled: want true or false, got the string "true"`},
		"number as a string": {pool + "  priority: high\n",
			`c.yaml:6:13: pools[0].priority: want a whole number, got the string "high"`},
		"number with a fraction": {pool + "  priority: 1.5\n",
			"c.yaml:6:13: pools[0].priority: want a whole number, got the number 1.5"},
		"number too large": {pool + "  priority: 99999999999999999999999\n",
			"c.yaml:6:13: pools[0].priority: want a whole number, got the number 99999999999999999999999"},
		"number negative": {pool + "  maxPerNamespace: -1\n",
			"c.yaml:6:20: pools[0].maxPerNamespace: -1 is not between 0 and 2147483647"},
		"duration without a unit": {pool + "  reuseAfter: 10\n",
			`c.yaml:6:15: pools[0].reuseAfter: "10" is not a duration; write a number with a unit, like "10m" or "1h30m"`},
		"duration negative": {pool + "  reuseAfter: -1m\n",
			"c.yaml:6:15: pools[0].reuseAfter: -1m0s is negative"},
		"namespace twice": {pool + "  namespaces: [x, y, x]\n",
			`c.yaml:6:22: pools[0].namespaces[2]: "x" is listed twice; remove one of the two`},
		"health asked of elsewhere": {"nodeHealth: {kubeProxy: \"http://192.0.2.1:10256/healthz\", unwellAfter: 500ms}\n",
			`c.yaml:3:25: nodeHealth.kubeProxy: "192.0.2.1:10256" is no loopback address with a port; write it like http://127.0.0.1:10256/healthz, or "" for none` + "\n" +
				"c.yaml:3:72: nodeHealth.unwellAfter: 500ms is not between 1s and 1h0m0s"},
		"health by name": {"nodeHealth: {kubeProxy: \"http://localhost:10256/healthz\"}\n",
			`c.yaml:3:25: nodeHealth.kubeProxy: "localhost:10256" is no loopback address with a port; write it like http://127.0.0.1:10256/healthz, or "" for none`},
		"health by another scheme": {"nodeHealth: {kubeProxy: \"file:///etc/passwd\", drainOnCordon: 1}\n",
			`c.yaml:3:25: nodeHealth.kubeProxy: "file:///etc/passwd" is no http URL; write it like http://127.0.0.1:10256/healthz, or "" for none` + "\n" +
				"c.yaml:3:62: nodeHealth.drainOnCordon: want true or false, got the number 1"},
		"failover unknown key": {"failover: {interval: 1s}\n",
			"c.yaml:3:12: failover.interval: unknown key; known are detectMultiplier, transmitInterval"},
		"failover out of bounds": {"failover: {transmitInterval: 19ms, detectMultiplier: 1}\n",
			"c.yaml:3:30: failover.transmitInterval: 19ms is not between 20ms and 10s\n" +
				"c.yaml:3:54: failover.detectMultiplier: 1 is not between 2 and 20"},
		"failover out of the other bounds": {"failover:\n  transmitInterval: 10s1ms\n  detectMultiplier: 21\n",
			"c.yaml:4:21: failover.transmitInterval: 10.001s is not between 20ms and 10s\n" +
				"c.yaml:5:21: failover.detectMultiplier: 21 is not between 2 and 20"},
		"failover of wrong types": {"failover: {transmitInterval: soon, detectMultiplier: 3.5}\n",
			`c.yaml:3:30: failover.transmitInterval: "soon" is not a duration; write a number with a unit, like "10m" or "1h30m"` + "\n" +
				"c.yaml:3:54: failover.detectMultiplier: want a whole number, got the number 3.5"},
		"announce out of bounds": {"announce: {burst: 4, interval: 99ms, repeat: 0, refresh: 9s}\n",
			"c.yaml:3:19: announce.burst: 4 is not between 5 and 10000\n" +
				"c.yaml:3:32: announce.interval: 99ms is not between 100ms and 1m0s\n" +
				"c.yaml:3:46: announce.repeat: 0 is not between 1 and 100\n" +
				"c.yaml:3:58: announce.refresh: 9s is not between 10s and 1h0m0s"},
		"announce unknown key": {"announce: {pause: 1s}\n",
			"c.yaml:3:12: announce.pause: unknown key; known are burst, interval, refresh, repeat"},
		"rebalance out of bounds": {"rebalance: {maxMovesPerMinute: 601}\n",
			"c.yaml:3:32: rebalance.maxMovesPerMinute: 601 is not between 0 and 600"},
		"rebalance unknown key": {"rebalance: {perMinute: 1}\n",
			"c.yaml:3:13: rebalance.perMinute: unknown key; known are maxMovesPerMinute"},
		"conflicts out of bounds": {"conflicts: {probeAhead: 257, probeInterval: 9s, quarantine: 169h}\n",
			"c.yaml:3:25: conflicts.probeAhead: 257 is not between 0 and 256\n" +
				"c.yaml:3:45: conflicts.probeInterval: 9s is not between 10s and 24h0m0s\n" +
				"c.yaml:3:61: conflicts.quarantine: 169h0m0s is not between 10s and 168h0m0s"},
		"conflicts unknown key": {"conflicts: {probe: 1}\n",
			"c.yaml:3:13: conflicts.probe: unknown key; known are probeAhead, probeInterval, quarantine"},
		"nodes unknown key": {"nodes: {providerId: a}\n",
			"c.yaml:3:9: nodes.providerId: unknown key; did you mean providerID?"},
		"nodes is a boolean": {"nodes: true\n",
			"c.yaml:3:8: nodes: want a mapping (key: value), got the boolean true"},
		"providerID without a scheme": {"nodes:\n  providerID: \"{name}\"\n",
			`c.yaml:4:15: nodes.providerID: "{name}" does not begin with a scheme in lower case and ://; write it like baremetal://{name}`},
		"providerID of a scheme alone": {"nodes: {providerID: \"baremetal://\"}\n",
			`c.yaml:3:21: nodes.providerID: "baremetal://" does not begin with a scheme in lower case and ://; write it like baremetal://{name}` + "\n" +
				`c.yaml:3:21: nodes.providerID: "baremetal://" has no {name}: all nodes would have the same ID; write it like baremetal://{name}`},
		"providerID the same for all": {"nodes: {providerID: \"metal://rack1\"}\n",
			`c.yaml:3:21: nodes.providerID: "metal://rack1" has no {name}: all nodes would have the same ID; write it like baremetal://{name}`},
		"providerID with another placeholder": {"nodes: {providerID: \"metal://{rack}/{name}\"}\n",
			`c.yaml:3:21: nodes.providerID: "{rack}" is not a placeholder; the only one is {name}`},
		"providerID with a stray brace": {"nodes: {providerID: \"metal://{name}}\"}\n",
			`c.yaml:3:21: nodes.providerID: "}" is not a placeholder; the only one is {name}`},
		"providerID with a space": {"nodes: {providerID: \"metal:// {name}\"}\n",
			`c.yaml:3:21: nodes.providerID: "metal:// {name}" contains white space or a control character; remove it`},
		"providerID a number": {"nodes: {providerID: 1}\n",
			`c.yaml:3:21: nodes.providerID: want a string, got the number 1; write "1"`},
		"labels of nodes": {"nodes: {zoneLabel: \"a b\", regionLabel: -r}\n",
			`c.yaml:3:20: nodes.zoneLabel: "a b" is not the key of a label: ` + badName + "\n" +
				`c.yaml:3:40: nodes.regionLabel: "-r" is not the key of a label: ` + badName},
		"onShrink": {"onShrink: refuse\n",
			`c.yaml:3:11: onShrink: "refuse" is not a policy; write Refuse or Reassign`},
		"interface too long": {pool + "  l2: [{interface: averyverylongname}]\n",
			`c.yaml:6:20: pools[0].l2[0].interface: "averyverylongname" cannot be the name of an interface; write a name, /regular expression/ or can_reach:ADDRESS`},
		"interface expression open": {pool + "  l2: [{interface: /eth}]\n",
			`c.yaml:6:20: pools[0].l2[0].interface: "/eth" is not a regular expression; write it between two slashes, like /bond.*/`},
		"interface expression wrong": {pool + "  l2: [{interface: \"/eth(/\"}]\n",
			"c.yaml:6:20: pools[0].l2[0].interface: error parsing regexp: missing closing ): `eth(`"},
		"interface can_reach": {pool + "  l2: [{interface: can_reach:10.0.0.0/8}]\n",
			`c.yaml:6:20: pools[0].l2[0].interface: "10.0.0.0/8" is not an address; write an address without a prefix length, like "can_reach:192.0.2.1"`},
		"selector operator": {pool + "  serviceSelectors: [{matchExpressions: [{key: a, operator: Is, values: [b]}]}]\n",
			`c.yaml:6:61: pools[0].serviceSelectors[0].matchExpressions[0].operator: "Is" is not an operator; write In, NotIn, Exists or DoesNotExist`},
		"selector value missing": {pool + "  namespaceSelectors: [{matchLabels: {a: }}]\n",
			`c.yaml:6:42: pools[0].namespaceSelectors[0].matchLabels.a: want a string, got nothing; write ""`},
		"selector value number": {pool + "  l2: [{nodeSelectors: [{matchLabels: {rack: 1}}]}]\n",
			`c.yaml:6:46: pools[0].l2[0].nodeSelectors[0].matchLabels.rack: want a string, got the number 1; write "1"`},
		"reservation outside the pools": {pool + "reservations: [{service: a/b, addresses: [198.51.100.1]}]\n",
			"c.yaml:6:43: reservations[0].addresses[0]: 198.51.100.1 is in no pool; add it to the addresses of a pool"},
		"reservation IPv4-mapped": {pool + "reservations: [{service: a/b, addresses: [\"::ffff:192.0.2.1\"]}]\n",
			"c.yaml:6:43: reservations[0].addresses[0]: ::ffff:192.0.2.1 is in no pool; add it to the addresses of a pool"},
		"reservation of a range": {pool + "reservations: [{service: a/b, addresses: [192.0.2.0/28]}]\n",
			`c.yaml:6:43: reservations[0].addresses[0]: "192.0.2.0/28" is not an address; write one address, without a prefix length`},
		"reservation for nobody": {pool + "reservations: [{service: b, addresses: [192.0.2.1]}]\n",
			`c.yaml:6:26: reservations[0].service: "b" does not name a Service; write namespace/name`},
		"reservation of an address twice": {pool + "reservations:\n- {service: a/b, addresses: [192.0.2.1]}\n- {service: a/c, addresses: [192.0.2.1]}\n",
			"c.yaml:8:30: reservations[1].addresses[0]: 192.0.2.1 is reserved twice, first by reservations[0].addresses[0] at 7:30; remove one of the two"},
		"reservation for a Service twice": {pool + "reservations:\n- {service: a/b, addresses: [192.0.2.1]}\n- {service: a/b, addresses: [192.0.2.2]}\n",
			"c.yaml:8:13: reservations[1].service: a/b is reserved twice, first by reservations[0].service at 7:13; remove one of the two"},
		"reservation of two of a family": {pool + "reservations: [{service: a/b, addresses: [192.0.2.1, 192.0.2.2]}]\n",
			"c.yaml:6:54: reservations[0].addresses[1]: 192.0.2.2 is the second address of its family; a Service has at most one"},
		"reservation while the pools are unclear": {"pools: [{name: a, addresses: [192.0.2.1/24]}]\nreservations: [{service: a/b, addresses: [198.51.100.1]}]\n",
			`c.yaml:3:31: pools[0].addresses[0]: "192.0.2.1/24": host bits are set; write 192.0.2.0/24 for the network, or 192.0.2.1 for the one address`},
		"IP14 overlap in one pool": {"pools:\n- name: a\n  addresses:\n  - 192.0.2.0/24\n  - 192.0.2.200-192.0.3.4\n",
			"c.yaml:7:5: pools[0].addresses[1]: 192.0.2.200-192.0.3.4 overlaps 192.0.2.0/24, which is pools[0].addresses[0] at 6:5"},
		"IP14 the same CIDR in two pools": {"pools:\n- {name: a, addresses: [\"2001:db8::/64\"]}\n- {name: b, addresses: [\"2001:db8::/64\"]}\n",
			"c.yaml:5:25: pools[1].addresses[0]: 2001:db8::/64 overlaps 2001:db8::/64, which is pools[0].addresses[0] at 4:25"},
		"IP14 two small ones inside a large one that comes last": {"pools:\n- {name: a, addresses: [192.0.2.1, 192.0.2.9, 192.0.2.0/24]}\n",
			"c.yaml:4:47: pools[0].addresses[2]: 192.0.2.0/24 overlaps 192.0.2.1, which is pools[0].addresses[0] at 4:25\n" +
				"c.yaml:4:47: pools[0].addresses[2]: 192.0.2.0/24 overlaps 192.0.2.9, which is pools[0].addresses[1] at 4:36"},
		"IP15 and IP16": {"pools:\n- name: a\n  addresses: [1.2.3.4-fe80::1, 10.0.0.9-10.0.0.1, 10.0.0.0/33, 224.0.0.0/24, 10.0.0.5/24, x]\n",
			`c.yaml:5:15: pools[0].addresses[0]: "1.2.3.4-fe80::1": first and last address are of different families` + "\n" +
				`c.yaml:5:32: pools[0].addresses[1]: "10.0.0.9-10.0.0.1": the last address comes before the first; write 10.0.0.1-10.0.0.9` + "\n" +
				`c.yaml:5:51: pools[0].addresses[2]: "10.0.0.0/33": not an address, a CIDR or a first-last range: prefix length out of range; write it like 192.0.2.7, 192.0.2.0/24 or 192.0.2.10-192.0.2.20` + "\n" +
				`c.yaml:5:64: pools[0].addresses[3]: "224.0.0.0/24": not usable for a load balancer: 224.0.0.0/4 is multicast` + "\n" +
				`c.yaml:5:78: pools[0].addresses[4]: "10.0.0.5/24": host bits are set; write 10.0.0.0/24 for the network, or 10.0.0.5 for the one address` + "\n" +
				`c.yaml:5:91: pools[0].addresses[5]: "x": not an address, a CIDR or a first-last range; write it like 192.0.2.7, 192.0.2.0/24 or 192.0.2.10-192.0.2.20`},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			c, _, err := Parse([]byte(head+tt.text), "c.yaml")
			require.Nil(t, c)
			require.EqualError(t, err, tt.want)
		})
	}
}

// Files that are wrong from their first line.
func TestErrorsOfWholeFile(t *testing.T) {
	tests := map[string]struct{ text, want string }{
		"empty":         {"", "c.yaml: is empty; a cloud-config begins with apiVersion: baremetal.cloud/v1alpha1"},
		"only comments": {"# a\n\n# b\n", "c.yaml: is empty; a cloud-config begins with apiVersion: baremetal.cloud/v1alpha1"},
		"a sentence":    {"hello world\n", `c.yaml:1:1: want a mapping (key: value), got the string "hello world"`},
		"a list":        {"- a\n", "c.yaml:1:1: want a mapping (key: value), got a list"},
		"nothing named": {"{}\n", "c.yaml:1:1: apiVersion: is required; write apiVersion: baremetal.cloud/v1alpha1\nc.yaml:1:1: kind: is required; write kind: CloudConfig"},
		"another object": {"apiVersion: v1\nkind: ConfigMap\n",
			`c.yaml:1:13: apiVersion: "v1" is not a version or kind that this program reads; write baremetal.cloud/v1alpha1` + "\n" +
				`c.yaml:2:7: kind: "ConfigMap" is not a version or kind that this program reads; write CloudConfig`},
		"zero byte":      {"kind: a\nb: \x00\n", "c.yaml:2:4: control character 0x00; is this the right file?"},
		"not UTF-8":      {"kind: ü\xff\n", "c.yaml:1:8: byte 0xff is not UTF-8; is this the right file?"},
		"a tab":          {"kind: a\npools:\n\t- name: a\n", "c.yaml:3:1: a tab is in front of the first word of this line; YAML takes spaces only; replace each tab by two spaces"},
		"an open quote":  {"kind: \"a\n", "c.yaml:1:7: not YAML: found unexpected end of stream; close the quote that was opened here"},
		"an open list":   {"kind: a\npools: [\n", "c.yaml:2:8: not YAML: did not find expected node content; close what was opened by [ or {, or put the text in quotes"},
		"unknown alias":  {"kind: *a\n", "c.yaml:1:8: not YAML: unknown anchor 'a' referenced; anchors and aliases are not allowed; write the value out, or put the text in quotes"},
		"a missing word": {"kind: a\npools\nonShrink: b\n", "c.yaml:2:1: not YAML: could not find expected ':'; write KEY: VALUE, with a space after the colon"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			c, _, err := Parse([]byte(tt.text), "c.yaml")
			require.Nil(t, c)
			require.EqualError(t, err, tt.want)
		})
	}
}

func TestErrorIsBounded(t *testing.T) {
	var text strings.Builder
	for i := range 1000 {
		fmt.Fprintf(&text, "key%d: 1\n", i)
	}
	_, _, err := Parse([]byte(head+text.String()), "c.yaml")
	lines := strings.Split(err.Error(), "\n")
	require.Len(t, lines, maxPrinted+1)
	require.Equal(t, "c.yaml: and 950 more problems", lines[maxPrinted])
}
