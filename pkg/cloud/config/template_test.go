package config

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"
)

// What nodes' labels make of a peer.
func TestPeerTemplate(t *testing.T) {
	for name, tt := range map[string]struct {
		peer   string // keys beside name and localASN
		labels map[string]string
		want   string // address, AS number, and families; or what is wrong; "" where the node has no such peer
	}{
		"a whole address":                  {`address: "{label:example.com/tor}", peerASN: 64513`, map[string]string{"example.com/tor": "192.0.2.7"}, "192.0.2.7 64513 true false"},
		"a part of one":                    {`address: "10.0.{label:rack}.1", peerASN: 64513`, map[string]string{"rack": "7"}, "10.0.7.1 64513 true false"},
		"several labels":                   {`address: "10.{label:site}.{label:rack}.1", peerASN: "42{label:rack}"`, map[string]string{"rack": "07", "site": "3"}, `the labels make the address 10.{label:site}.{label:rack}.1 "10.3.07.1", which is none`},
		"an AS number":                     {`address: gateway, peerASN: "42000000{label:rack}"`, map[string]string{"rack": "07"}, "0.0.0.0 4200000007 true false"},
		"IPv6, a part":                     {`address: "2001:db8:{label:rack}::1", peerASN: 64513`, map[string]string{"rack": "7"}, "2001:db8:7::1 64513 false true"},
		"IPv6, a whole":                    {`address: "{label:tor}", peerASN: 64513`, map[string]string{"tor": "2001-db8-0-7--1"}, "2001:db8:0:7::1 64513 false true"},
		"families":                         {`address: "{label:tor}", peerASN: 64513, families: [ipv4, ipv6]`, map[string]string{"tor": "192.0.2.7"}, "192.0.2.7 64513 true true"},
		"IPv6 next hops over IPv4":         {`address: "{label:tor}", peerASN: 64513, families: [ipv4], extendedNextHop: true`, map[string]string{"tor": "192.0.2.7"}, "the labels make the address {label:tor} 192.0.2.7, and extendedNextHop is for sessions over IPv6"},
		"no label":                         {`address: "{label:tor}", peerASN: "{label:asn}"`, map[string]string{"rack": "7"}, ""},
		"one of two labels":                {`address: "{label:tor}", peerASN: "{label:asn}"`, map[string]string{"tor": "192.0.2.7"}, "the node has the labels that the peer is made from but for asn"},
		"an empty label":                   {`address: "{label:tor}", peerASN: 64513`, map[string]string{"tor": ""}, `the labels make the address {label:tor} "", which is none`},
		"a name":                           {`address: "{label:tor}", peerASN: 64513`, map[string]string{"tor": "tor-7"}, `the labels make the address {label:tor} "tor:7", which is none`},
		"a loopback address":               {`address: "{label:tor}", peerASN: 64513`, map[string]string{"tor": "127.0.0.1"}, "the labels make the address {label:tor} 127.0.0.1, which is no address of a machine on a network"},
		"a link-local address":             {`address: "fe80::{label:rack}", peerASN: 64513`, map[string]string{"rack": "7"}, "the labels make the address fe80::{label:rack} fe80::7, which is link-local, which is not supported by this version"},
		"gateway":                          {`address: "{label:tor}", peerASN: 64513`, map[string]string{"tor": "gateway"}, `the labels make the address {label:tor} "gateway", which is none`},
		"source address of another family": {`address: "{label:tor}", peerASN: 64513, sourceAddress: "2001:db8::2", nodeSelectors: [{matchLabels: {a: b}}]`, map[string]string{"tor": "192.0.2.7"}, "the labels make the address {label:tor} 192.0.2.7, to which sourceAddress 2001:db8::2 cannot connect"},
		"a reserved AS number":             {`address: 192.0.2.7, peerASN: "{label:asn}"`, map[string]string{"asn": "23456"}, `the labels make the peerASN {label:asn} "23456", which is no AS's number`},
		"AS number 0":                      {`address: 192.0.2.7, peerASN: "{label:asn}"`, map[string]string{"asn": "0"}, `the labels make the peerASN {label:asn} "0", which is no AS's number`},
		"too great an AS number":           {`address: 192.0.2.7, peerASN: "{label:asn}"`, map[string]string{"asn": "4294967296"}, `the labels make the peerASN {label:asn} "4294967296", which is no AS's number`},
	} {
		t.Run(name, func(t *testing.T) {
			c := parse(t, "bgp: {peers: [{name: tor, localASN: 64512, "+tt.peer+"}]}\n"+pool+"  l2: [{}]\n")
			peer := c.BGP.Peers[0]
			require.False(t, peer.Template.IsZero())
			got, ok, err := peer.Template.Peer(peer.BGPPeer, tt.labels)
			require.False(t, ok && err != nil)
			text := ""
			switch {
			case err != nil:
				text = err.Error()
			case ok:
				text = fmt.Sprint(got.Address, got.PeerASN, got.IPv4, got.IPv6)
			}
			require.Equal(t, tt.want, text)
		})
	}
}

// What a template leaves open is not held against other keys, and peers that may be internal
// are no reason for a warning.
func TestTemplateBesideOtherKeys(t *testing.T) {
	parse(t, `bgp:
  peers:
  - {name: a, address: "{label:tor}", localASN: 1, peerASN: "{label:asn}", ebgpMultihop: 2}
  - {name: b, address: "{label:other}", localASN: 1, peerASN: 2}
  - {name: c, address: 192.0.2.1, localASN: 1, peerASN: 2}
pools:
- {name: v6, addresses: ["2001:db8::/64"], bgp: [{localPref: 7, peers: [a]}]}
`)
}
