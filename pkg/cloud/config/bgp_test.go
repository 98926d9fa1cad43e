package config

import (
	"os"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"baremetal.cloud/ccm/pkg/announcer/plan"
)

// peers is one external and one internal peer, from line 3 to 6; what a test adds to it begins
// on line 7.
const peers = `bgp:
  peers:
  - {name: out, address: 192.0.2.1, localASN: 64512, peerASN: 64513}
  - {name: in, address: 192.0.2.2, localASN: 64512, peerASN: 64512}
`

// routed is a pool after peers, from line 7 to 9; its advertisements follow.
const routed = peers + "pools:\n- name: a\n  addresses: [198.51.100.0/24]\n"

// usualBFD is what bfd: {} means.
var usualBFD = plan.BFD{TransmitInterval: 300 * time.Millisecond, ReceiveInterval: 300 * time.Millisecond, DetectMultiplier: 3}

func TestBGPReference(t *testing.T) {
	data, err := os.ReadFile("../../../docs/reference.yaml")
	require.NoError(t, err)
	c, _, err := Parse(data, "reference.yaml")
	require.NoError(t, err)
	torA := parse(t, "bgp: {peers: [{name: tor-a, address: 192.0.2.1, localASN: 64512, peerASN: 64513}]}\n"+pool)
	require.Equal(t, torA.BGP.Peers, c.BGP.Peers[:1], "the commented defaults are those of the code")

	torB := c.BGP.Peers[1]
	require.True(t, torB.NodeSelector.Matches(map[string]string{"kubernetes.io/hostname": "node-b"}))
	require.False(t, torB.NodeSelector.Matches(nil))
	torB.NodeSelector = nil
	require.Equal(t, Peer{BGPPeer: plan.BGPPeer{
		Name: "tor-b", Address: addr("2001:db8::1"), Port: 179, LocalASN: 64512, PeerASN: 4200000001,
		HoldTime: 30 * time.Second, KeepaliveTime: 10 * time.Second, ConnectRetryTime: 5 * time.Second,
		SourceAddress: addr("2001:db8::200"), RouterID: addr("192.0.2.200"), PasswordFile: "tor-b",
		TTLSecurity: 1, GracefulRestart: time.Minute, IPv4: true, IPv6: true, BFD: usualBFD,
	}}, torB)
	require.Equal(t, uint8(3), c.BGP.Peers[2].EBGPMultihop)
	require.Equal(t, "bond0", c.BGP.Peers[2].Interface)
	require.Equal(t, uint8(253), c.BGP.Peers[2].BFD.MinimumTTL)
	require.True(t, c.BGP.Peers[3].Internal())
	rack, ok, err := c.BGP.Peers[4].Template.Peer(c.BGP.Peers[4].BGPPeer, map[string]string{"rack": "17"})
	require.NoError(t, err)
	require.True(t, ok)
	require.Equal(t, addr("10.0.17.1"), rack.Address)
	require.Equal(t, uint32(4200000017), rack.PeerASN)

	pool := c.Pools[2]
	require.Empty(t, pool.L2, "a pool with bgp alone is not announced on layer 2")
	require.Equal(t, Advertisement{AggregationLength: 32, AggregationLengthV6: 128, Advertisement: plan.Advertisement{
		Name: "routed/0", Peers: []string{"core", "rack", "reflector", "tor-a", "tor-b"},
	}}, pool.BGP[0])
	require.Equal(t, Advertisement{AggregationLength: 24, AggregationLengthV6: 64, Advertisement: plan.Advertisement{
		Name: "routed/1", Peers: []string{"reflector", "tor-a"},
		Communities:      []plan.Community{64512<<16 | 7, 64512<<16 | 100, 0xffffff01},
		LargeCommunities: []plan.LargeCommunity{{64512, 1, 1}},
		LocalPref:        plan.Metric{Set: true, Value: 200}, MED: plan.Metric{Set: true, Value: 50}, Prepend: 2,
	}}, pool.BGP[1])
}

// A pool that asks for both is announced in both ways.
func TestBothWays(t *testing.T) {
	c := parse(t, routed+"  l2: [{}]\n  bgp: [{}]\n")
	require.Len(t, c.Pools[0].L2, 1)
	require.Len(t, c.Pools[0].BGP, 1)
	c = parse(t, routed+"  bgp:\n")
	require.Len(t, c.Pools[0].L2, 1, "a key without a value counts as not given")
	require.Empty(t, c.Pools[0].BGP)
}

// The router of a path is watched once, by however many peers it is.
func TestBFD(t *testing.T) {
	c := parse(t, `bgp:
  peers:
  - {name: a, address: 192.0.2.1, localASN: 1, peerASN: 2, bfd: {}}
  - {name: b, address: 192.0.2.1, port: 180, localASN: 1, peerASN: 2, bfd: {}}
  - {name: c, address: 192.0.2.1, port: 181, localASN: 1, peerASN: 2}
  - {name: d, address: 192.0.2.2, localASN: 1, peerASN: 1, bfd: {transmitInterval: 50ms, receiveInterval: 1s, detectMultiplier: 5, minimumTTL: 253}}
`+pool+"  bgp: [{}]\n")
	require.Equal(t, usualBFD, c.BGP.Peers[0].BFD)
	require.Equal(t, usualBFD, c.BGP.Peers[1].BFD)
	require.False(t, c.BGP.Peers[2].BFD.Watches())
	require.Equal(t, plan.BFD{TransmitInterval: 50 * time.Millisecond, ReceiveInterval: time.Second, DetectMultiplier: 5, MinimumTTL: 253}, c.BGP.Peers[3].BFD)
}

// A node's default gateway is a peer of each family, and beside peers with addresses.
func TestGatewayPeers(t *testing.T) {
	c := parse(t, `bgp:
  peers:
  - {name: a, address: gateway, localASN: 1, peerASN: 2}
  - {name: b, address: gateway-v6, localASN: 1, peerASN: 2}
  - {name: c, address: gateway, port: 1790, localASN: 1, peerASN: 2, families: [ipv4, ipv6]}
  - {name: d, address: 192.0.2.1, localASN: 1, peerASN: 2}
`+pool)
	for i, want := range []struct{ gateway, v4, v6 bool }{{true, true, false}, {true, false, true}, {true, true, true}, {false, true, false}} {
		p := c.BGP.Peers[i]
		require.Equal(t, want, struct{ gateway, v4, v6 bool }{p.Gateway(), p.IPv4, p.IPv6}, p.Name)
	}
	require.True(t, c.BGP.Peers[0].Address.Is4())
	require.True(t, c.BGP.Peers[1].Address.Is6())
}

// What belongs to other nodes does not clash.
func TestPeersOfOtherNodes(t *testing.T) {
	c := parse(t, `bgp:
  peers:
  - {name: a, address: 192.0.2.1, localASN: 1, peerASN: 2, nodeSelectors: [{matchLabels: {rack: a}}]}
  - {name: b, address: 192.0.2.1, localASN: 3, peerASN: 2, nodeSelectors: [{matchLabels: {rack: b}}]}
  - {name: c, address: 192.0.2.1, port: 1790, localASN: 3, peerASN: 2}
`+pool+`  bgp:
  - {med: 100, peers: [a], nodeSelectors: [{matchLabels: {rack: a}}]}
  - {med: 200, peers: [a], nodeSelectors: [{matchLabels: {rack: b}}]}
  - {med: 300, peers: [b]}
  - {med: 300, peers: [a], aggregationLength: 30}
`)
	require.Len(t, c.BGP.Peers, 3)
}

func TestBGPErrors(t *testing.T) {
	tests := map[string]struct {
		text string // follows head
		want string
	}{
		"peer without what it needs": {"bgp: {peers: [{}]}\n" + pool,
			"c.yaml:3:15: bgp.peers[0].name: is required\n" +
				"c.yaml:3:15: bgp.peers[0].address: is required\n" +
				"c.yaml:3:15: bgp.peers[0].localASN: is required\n" +
				"c.yaml:3:15: bgp.peers[0].peerASN: is required"},
		"names and addresses twice": {peers + "  - {name: in, address: 192.0.2.9, localASN: 1, peerASN: 2}\n  - {name: other, address: 192.0.2.1, localASN: 1, peerASN: 2}\n" + pool,
			"c.yaml:7:12: bgp.peers[2].name: another peer has the name \"in\", at 6:12\n" +
				"c.yaml:8:28: bgp.peers[3].address: peer \"out\" has the same address and port, at 5:26; remove one of the two, or give them nodeSelectors that pick different nodes"},
		"addresses": {"bgp:\n  peers:\n  - {name: a, address: 192.0.2.0/24, localASN: 1, peerASN: 2}\n  - {name: b, address: fe80::1, localASN: 1, peerASN: 2}\n" +
			"  - {name: c, address: gateway-v4, localASN: 1, peerASN: 2}\n  - {name: d, address: 127.0.0.1, localASN: 1, peerASN: 2}\n  - {name: e, address: \"::ffff:192.0.2.1\", localASN: 1, peerASN: 2}\n" + pool,
			"c.yaml:5:24: bgp.peers[0].address: \"192.0.2.0/24\" is not an address; write one address, without a prefix length\n" +
				"c.yaml:6:24: bgp.peers[1].address: fe80::1 is link-local, which is not supported by this version; write a global address\n" +
				"c.yaml:7:24: bgp.peers[2].address: \"gateway-v4\" is not an address; write one address, without a prefix length\n" +
				"c.yaml:8:24: bgp.peers[3].address: 127.0.0.1 is no address of a machine on a network\n" +
				"c.yaml:9:24: bgp.peers[4].address: ::ffff:192.0.2.1 is an IPv4 address in the form of an IPv6 one; write 192.0.2.1"},
		"gateways": {"bgp:\n  peers:\n  - {name: a, address: gateway, localASN: 1, peerASN: 2}\n  - {name: b, address: gateway, localASN: 1, peerASN: 2, nodeSelectors: [{matchLabels: {a: b}}]}\n" +
			"  - {name: c, address: gateway-v6, localASN: 1, peerASN: 2, sourceAddress: 192.0.2.1, nodeSelectors: [{matchLabels: {a: b}}]}\n" + pool,
			"c.yaml:6:24: bgp.peers[1].address: peer \"a\" has the same address and port, at 5:24; remove one of the two, or give them nodeSelectors that pick different nodes\n" +
				"c.yaml:7:76: bgp.peers[2].sourceAddress: 192.0.2.1 cannot connect to the gateway-v6; give one of the address's family"},
		"templates": {"bgp:\n  peers:\n  - {name: a, address: \"{rack}.{label:}\", localASN: 1, peerASN: \"{label:a b}\"}\n  - {name: b, address: {label:tor}, localASN: 1, peerASN: \"6{\"}\n" + pool,
			"c.yaml:5:24: bgp.peers[0].address: \"{rack}\" is not a placeholder; write {label:KEY} for the value of that label of the node\n" +
				"c.yaml:5:24: bgp.peers[0].address: \"{label:}\" is not a placeholder; write {label:KEY} for the value of that label of the node\n" +
				"c.yaml:5:65: bgp.peers[0].peerASN: \"a b\" is not the key of a label: name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')\n" +
				"c.yaml:6:24: bgp.peers[1].address: want a single value, got a mapping; write a template like \"{label:KEY}\" in quotes\n" +
				"c.yaml:6:59: bgp.peers[1].peerASN: \"{\" is not a placeholder; write {label:KEY} for the value of that label of the node"},
		"template of another family": {"bgp: {peers: [{name: a, address: \"192.0.2.{label:rack}\", localASN: 1, peerASN: 2, families: [ipv4]}]}\npools: [{name: a, addresses: [\"2001:db8::/64\"], bgp: [{}]}]\n",
			"c.yaml:4:54: pools[0].bgp: the pool has IPv6 addresses, and none of its peers takes that family; add it to the families of a peer, or announce the pool to another one"},
		"AS numbers": {"bgp:\n  peers:\n  - {name: a, address: 192.0.2.1, localASN: 0, peerASN: 4294967295}\n  - {name: b, address: 192.0.2.2, localASN: 23456, peerASN: 65535}\n" + pool,
			"c.yaml:5:45: bgp.peers[0].localASN: 0 is not between 1 and 4294967294\n" +
				"c.yaml:5:57: bgp.peers[0].peerASN: 4294967295 is not between 1 and 4294967294\n" +
				"c.yaml:6:45: bgp.peers[1].localASN: 23456 is reserved and no AS's number\n" +
				"c.yaml:6:61: bgp.peers[1].peerASN: 65535 is reserved and no AS's number"},
		"hold time below 3 s": {peer("holdTime: 2s"), "c.yaml:5:78: bgp.peers[0].holdTime: 2s is not between 3s and 18h12m15s"},
		"hold time of none":   {peer("holdTime: 0s"), "c.yaml:5:78: bgp.peers[0].holdTime: 0s is not between 3s and 18h12m15s"},
		"half a second":       {peer("holdTime: 3500ms"), "c.yaml:5:78: bgp.peers[0].holdTime: 3.5s is no whole number of seconds, which is what BGP can say; write 4s"},
		"keepalive above hold": {peer("holdTime: 9s, keepaliveTime: 9s"),
			"c.yaml:5:97: bgp.peers[0].keepaliveTime: 9s is not below holdTime, which is 9s: the router would end each session; leave it out for a third of holdTime"},
		"multihop with TTL security": {peer("ebgpMultihop: 2, ttlSecurity: 1"),
			"c.yaml:5:98: bgp.peers[0].ttlSecurity: cannot go with ebgpMultihop: one sends packets with a low TTL, the other accepts none; remove one of the two; ttlSecurity says itself how many hops away the router may be"},
		"multihop to an internal peer": {"bgp:\n  peers:\n  - {name: a, address: 192.0.2.1, localASN: 1, peerASN: 1, ebgpMultihop: 2}\n" + pool,
			"c.yaml:5:74: bgp.peers[0].ebgpMultihop: localASN and peerASN are the same: an internal peer may be any number of hops away; remove it"},
		"source address of the other family": {peer("sourceAddress: 2001:db8::1, nodeSelectors: [{matchLabels: {a: b}}]"),
			"c.yaml:5:83: bgp.peers[0].sourceAddress: 2001:db8::1 cannot connect to 192.0.2.1; give one of the address's family"},
		"source address and interface": {peer("sourceAddress: 192.0.2.3, interface: eth0, nodeSelectors: [{matchLabels: {a: b}}]"),
			"c.yaml:5:105: bgp.peers[0].interface: cannot go with sourceAddress; remove one of the two"},
		"several interfaces": {peer("interface: /eth.*/"),
			"c.yaml:5:79: bgp.peers[0].interface: \"/eth.*/\" may be several; write the name of one interface"},
		"router ID": {peer("routerID: 2001:db8::1"),
			"c.yaml:5:78: bgp.peers[0].routerID: \"2001:db8::1\" is no BGP Identifier; write it like an IPv4 address, and not 0.0.0.0"},
		"password file elsewhere": {peer("passwordFile: ../ca.crt"),
			"c.yaml:5:82: bgp.peers[0].passwordFile: \"../ca.crt\" is no name of a file; write the key in the Secret baremetal-bgp-passwords that has the password"},
		"IPv6 next hops over IPv4": {peer("extendedNextHop: true"),
			"c.yaml:5:85: bgp.peers[0].extendedNextHop: a session to 192.0.2.1 has IPv4 next hops for IPv4 prefixes; remove it, or give the router's IPv6 address"},
		"IPv6 next hops of no prefix": {"bgp:\n  peers:\n  - {name: a, address: gateway-v6, localASN: 1, peerASN: 2, extendedNextHop: true}\n" + pool,
			"c.yaml:5:78: bgp.peers[0].extendedNextHop: is about IPv4 prefixes, which are not among its families; add families: [ipv4, ipv6]"},
		"restart time": {peer("gracefulRestart: {restartTime: 4096s}"),
			"c.yaml:5:99: bgp.peers[0].gracefulRestart.restartTime: 1h8m16s is not between 1s and 1h8m15s"},
		"families": {peer("families: [ipv4, ipv5, ipv4]"),
			"c.yaml:5:85: bgp.peers[0].families[1]: \"ipv5\" is not a family; write ipv4 or ipv6\n" +
				"c.yaml:5:91: bgp.peers[0].families[2]: \"ipv4\" is listed twice; remove one of the two"},
		"no family": {peer("families: []"), "c.yaml:5:78: bgp.peers[0].families: a session of no family announces nothing; leave it out for the address's own family"},
		"bfd out of bounds": {peer("bfd: {transmitInterval: 5ms, receiveInterval: 11s, detectMultiplier: 1, minimumTTL: 256}"),
			"c.yaml:5:92: bgp.peers[0].bfd.transmitInterval: 5ms is not between 10ms and 10s\n" +
				"c.yaml:5:114: bgp.peers[0].bfd.receiveInterval: 11s is not between 10ms and 10s\n" +
				"c.yaml:5:137: bgp.peers[0].bfd.detectMultiplier: 1 is not between 2 and 255\n" +
				"c.yaml:5:152: bgp.peers[0].bfd.minimumTTL: 256 is not between 1 and 255"},
		"bfd of half a millisecond": {peer("bfd: {transmitInterval: 10500us}"),
			"c.yaml:5:92: bgp.peers[0].bfd.transmitInterval: 10.5ms is no whole number of milliseconds, which is what routers are configured in; write 11ms"},
		"bfd slower than hold time": {peer("holdTime: 3s, bfd: {transmitInterval: 1s}"),
			"c.yaml:5:87: bgp.peers[0].bfd: the router would miss a node after 3s at the earliest, and holdTime is 3s: BFD would find out nothing sooner; shorten transmitInterval, or lower detectMultiplier"},
		"bfd TTL on the same network": {peer("bfd: {minimumTTL: 254}"),
			"c.yaml:5:86: bgp.peers[0].bfd.minimumTTL: the router is on the same network, from where packets arrive with a TTL of 255 and count with no other; remove it"},
		"bfd of one address in two ways": {peers + "  - {name: a, address: 192.0.2.9, localASN: 1, peerASN: 2, bfd: {}}\n  - {name: b, address: 192.0.2.9, port: 180, localASN: 1, peerASN: 2, bfd: {detectMultiplier: 5}}\n" + pool,
			"c.yaml:8:76: bgp.peers[3].bfd: peer \"a\" at 7:24 has the same address, and a path is watched in one way only; have both say the same"},
		"bfd with an unknown key": {peer("bfd: {interval: 1s}"),
			"c.yaml:5:74: bgp.peers[0].bfd.interval: unknown key; known are detectMultiplier, minimumTTL, receiveInterval, transmitInterval"},
		"communities": {"bgp:\n  communities: {no-export: \"1:2\", a: \"70000:1\", b: [], 7up: \"1:1\"}\n" + pool,
			"c.yaml:4:17: bgp.communities.no-export: no-export is the well-known community 65535:65281; use another name\n" +
				"c.yaml:4:38: bgp.communities.a: \"70000:1\" is no community; " + communityForms + "\n" +
				"c.yaml:4:52: bgp.communities.b: want a single value, got a list; write it without brackets\n" +
				"c.yaml:4:56: bgp.communities.7up: \"7up\" is no name for a community; begin with a letter; letters, digits, '-', '_' and '.' may follow"},
		"unknown peer": {routed + "  bgp: [{peers: [our, in, in]}]\n",
			"c.yaml:10:18: pools[0].bgp[0].peers[0]: there is no peer \"our\"; did you mean out?\n" +
				"c.yaml:10:27: pools[0].bgp[0].peers[2]: \"in\" is listed twice; remove one of the two"},
		"peer without any": {pool + "  bgp: [{peers: [out]}]\n",
			"c.yaml:6:18: pools[0].bgp[0].peers[0]: there is no peer \"out\"; add it to bgp.peers"},
		"all peers without any": {pool + "  bgp: [{}]\n", "c.yaml:6:9: pools[0].bgp[0]: there are no peers to announce the pool to; add bgp.peers"},
		"empty list":            {routed + "  bgp: []\n", "c.yaml:10:8: pools[0].bgp: an empty list announces nothing; write [{}] to announce it to all peers, or remove the key"},
		"unknown community": {routed + "  bgp: [{communities: [no-exprot, \"1:2:3:4\", \"1:1\", \"1:1\"]}]\n",
			"c.yaml:10:24: pools[0].bgp[0].communities[0]: \"no-exprot\" is no community, and no name of one; did you mean no-export?, or name it in bgp.communities\n" +
				"c.yaml:10:35: pools[0].bgp[0].communities[1]: \"1:2:3:4\" is no community, and no name of one; " + communityForms + "\n" +
				"c.yaml:10:53: pools[0].bgp[0].communities[3]: \"1:1\" is listed twice; remove one of the two"},
		"aggregation shorter than the pool's prefix": {routed + "  bgp: [{aggregationLength: 23}]\n",
			"c.yaml:10:29: pools[0].bgp[0].aggregationLength: 23 makes 198.51.100.0/23 of 198.51.100.0, which reaches beyond 198.51.100.0-198.51.100.255 of the pool; give a longer prefix, or the pool all of it"},
		"aggregation of a part of a range": {peers + "pools:\n- name: a\n  addresses: [198.51.100.0-198.51.100.9]\n  bgp: [{aggregationLength: 29}]\n",
			"c.yaml:10:29: pools[0].bgp[0].aggregationLength: 29 makes 198.51.100.8/29 of 198.51.100.9, which reaches beyond 198.51.100.0-198.51.100.9 of the pool; give a longer prefix, or the pool all of it"},
		"conflicting localPref": {routed + "  bgp: [{localPref: 1}, {localPref: 2, peers: [in], nodeSelectors: [{matchLabels: {a: b}}]}]\n",
			"c.yaml:10:37: pools[0].bgp[1].localPref: the pool's advertisement 0 announces the same prefixes to the same peers with another localPref; give both the same, or peers or aggregation lengths of their own"},
		"conflicting with none": {routed + "  bgp: [{med: 1}, {asPathPrepend: 3}]\n",
			"c.yaml:10:19: pools[0].bgp[1].med: the pool's advertisement 0 announces the same prefixes to the same peers with another med; give both the same, or peers or aggregation lengths of their own\n" +
				"c.yaml:10:35: pools[0].bgp[1].asPathPrepend: the pool's advertisement 0 announces the same prefixes to the same peers with another asPathPrepend; give both the same, or peers or aggregation lengths of their own"},
		"nobody takes the family": {peers + "pools:\n- name: a\n  addresses: [\"2001:db8::/64\"]\n  bgp: [{}]\n",
			"c.yaml:10:8: pools[0].bgp: the pool has IPv6 addresses, and none of its peers takes that family; add it to the families of a peer, or announce the pool to another one"},
		"numbers": {routed + "  bgp: [{med: -1, asPathPrepend: 11, aggregationLength: 33, localPref: 4294967296}]\n",
			"c.yaml:10:15: pools[0].bgp[0].med: -1 is not between 0 and 4294967295\n" +
				"c.yaml:10:34: pools[0].bgp[0].asPathPrepend: 11 is not between 0 and 10\n" +
				"c.yaml:10:57: pools[0].bgp[0].aggregationLength: 33 is not between 1 and 32\n" +
				"c.yaml:10:72: pools[0].bgp[0].localPref: 4294967296 is not between 0 and 4294967295"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			_, _, err := Parse([]byte(head+tt.text), "c.yaml")
			require.Error(t, err)
			require.Equal(t, tt.want, err.Error())
		})
	}
}

// peer is one peer on line 5, with more keys.
func peer(more string) string {
	return "bgp:\n  peers:\n  - {name: a, address: 192.0.2.1, localASN: 64512, peerASN: 64513, " + more + "}\n" + pool
}

func TestBGPWarnings(t *testing.T) {
	tests := map[string]struct{ text, want string }{
		"localPref to external peers": {routed + "  bgp: [{localPref: 100, peers: [out]}]\n",
			"c.yaml:10:21: pools[0].bgp[0].localPref: goes to internal peers only, and there is none among its peers; remove it; med and asPathPrepend say something to external peers"},
		"keepalive above a third": {peer("holdTime: 9s, keepaliveTime: 4s"),
			"c.yaml:5:97: bgp.peers[0].keepaliveTime: 4s is more than a third of holdTime, which is 9s: one lost packet may end a session; leave it out for a third of holdTime"},
		"one router ID for all": {peer("routerID: 192.0.2.3"), "c.yaml:5:78: bgp.peers[0].routerID: every node has the same routerID; add nodeSelectors that pick one node"},
		"a family on layer 2 only": {peers + "pools:\n- name: a\n  addresses: [\"2001:db8::1\", 198.51.100.0/24]\n  l2: [{}]\n  bgp: [{}]\n",
			"c.yaml:11:8: pools[0].bgp: the pool has IPv6 addresses, and none of its peers takes that family; add it to the families of a peer, or announce the pool to another one"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			_, warnings, err := Parse([]byte(head+tt.text), "c.yaml")
			require.NoError(t, err)
			warnings = usedOnly(warnings)
			require.Len(t, warnings, 1)
			require.Equal(t, tt.want, warnings[0].String())
		})
	}
}
