package bgp

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"baremetal.cloud/ccm/pkg/announcer/bfd"
	"baremetal.cloud/ccm/pkg/announcer/plan"
)

var (
	v4 = netip.MustParsePrefix("192.0.2.1/32")
	v6 = netip.MustParsePrefix("2001:db8::1/128")
)

func external(name string) Peer {
	return Peer{
		BGPPeer: plan.BGPPeer{
			Name: name, Address: netip.MustParseAddr("198.51.100.1"), Port: 179, LocalASN: 64512, PeerASN: 64513,
			HoldTime: 9 * time.Second, KeepaliveTime: 3 * time.Second, ConnectRetryTime: time.Second, IPv4: true, IPv6: true,
		},
		RouterID:  netip.MustParseAddr("198.51.100.11"),
		NextHopV4: netip.MustParseAddr("198.51.100.11"), NextHopV6: netip.MustParseAddr("2001:db8:1::b"),
	}
}

// identity is a node's BGP Identifier.
var identity = netip.MustParseAddr("192.0.2.99")

func number(n uint32) plan.Metric { return plan.Metric{Set: true, Value: n} }

// What a peer hears of a route: the first advertisement that reaches it counts, communities
// add up, and LOCAL_PREF goes to internal peers and prepending to external ones only (R4, R5).
func TestPathTo(t *testing.T) {
	advertisements := byName([]plan.Advertisement{
		{Name: "first", Peers: []string{"out", "in"}, Communities: []plan.Community{7, 9}, LocalPref: number(200), MED: number(5), Prepend: 1},
		{Name: "second", Peers: []string{"in", "other"}, Communities: []plan.Community{8, 9}, LargeCommunities: []plan.LargeCommunity{{1, 2, 3}}, LocalPref: number(300)},
	})
	route := plan.Route{Prefix: v4, Advertisements: []string{"first", "second", "unknown"}}
	out, in, other, deaf := external("out"), external("in"), external("other"), external("deaf")
	in.PeerASN = in.LocalASN

	got, ok := pathTo(out, route, advertisements)
	require.True(t, ok)
	require.Equal(t, path{v4, attributes{nextHop: out.NextHopV4, communities: []plan.Community{7, 9}, med: number(5), prepend: 1}}, got)
	got, ok = pathTo(in, route, advertisements)
	require.True(t, ok)
	require.Equal(t, path{v4, attributes{
		nextHop: in.NextHopV4, communities: []plan.Community{7, 8, 9}, large: []plan.LargeCommunity{{1, 2, 3}},
		localPref: number(200), med: number(5),
	}}, got)
	got, ok = pathTo(other, route, advertisements)
	require.True(t, ok)
	require.Equal(t, path{v4, attributes{nextHop: other.NextHopV4, communities: []plan.Community{8, 9}, large: []plan.LargeCommunity{{1, 2, 3}}}}, got)
	_, ok = pathTo(deaf, route, advertisements)
	require.False(t, ok)

	route.Prefix = v6
	got, ok = pathTo(out, route, advertisements)
	require.True(t, ok)
	require.Equal(t, out.NextHopV6, got.nextHop)
	out.NextHopV6 = netip.Addr{}
	_, ok = pathTo(out, route, advertisements)
	require.False(t, ok, "no next hop")
	in.IPv6 = false
	_, ok = pathTo(in, route, advertisements)
	require.False(t, ok, "another family")
}

// A difference applied to what was there makes what is wanted, and says nothing twice.
func TestDifference(t *testing.T) {
	route := func(prefix, advertisement string) plan.Route {
		return plan.Route{Prefix: netip.MustParsePrefix(prefix), Advertisements: []string{advertisement}}
	}
	have := Desired{Peers: []Peer{external("a")}, Routes: []plan.Route{route("192.0.2.0/24", "x"), route("192.0.2.0/32", "x"), route("192.0.2.1/32", "x")}}
	want := Desired{Peers: []Peer{external("a")}, Routes: []plan.Route{route("192.0.2.0/32", "y"), route("192.0.2.1/32", "x"), route("192.0.2.2/32", "x")}}
	u := deltaOf(have, want)
	require.Equal(t, update{
		Routes:    []plan.Route{route("192.0.2.0/32", "y"), route("192.0.2.2/32", "x")},
		Withdrawn: []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24")},
	}, u)
	require.False(t, u.isEmpty())
	require.True(t, deltaOf(want, want).isEmpty())
	want.Advertisements = []plan.Advertisement{{Name: "x", MED: number(1)}}
	require.NotNil(t, deltaOf(have, want).Config)
	require.Len(t, deltaOf(have, Desired{}).Withdrawn, 3)
}

// What goes over the pipe comes out as it went in, passwords included; nothing else that
// prints a peer shows one.
func TestSecrets(t *testing.T) {
	p := external("a")
	p.Password = "hunter2"
	data, err := json.Marshal(update{Config: &config{Peers: []Peer{p}}})
	require.NoError(t, err)
	var back update
	require.NoError(t, json.Unmarshal(data, &back))
	require.Equal(t, p, back.Config.Peers[0])
	for _, format := range []string{"%v", "%+v", "%#v", "%s"} {
		require.NotContains(t, fmt.Sprintf(format, p), "hunter2", format)
		require.NotContains(t, fmt.Sprintf(format, p.Password), "hunter2", format)
	}
}

func TestReadPassword(t *testing.T) {
	dir := t.TempDir()
	write := func(name, text string) {
		require.NoError(t, os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600))
	}
	write("good", "hunter2\n")
	write("empty", "\n")
	write("long", strings.Repeat("x", maxPassword+1))
	write("longest", strings.Repeat("x", maxPassword)+"\r\n")
	got, err := readPassword(dir, "good")
	require.NoError(t, err)
	require.Equal(t, Secret("hunter2"), got)
	got, err = readPassword(dir, "longest")
	require.NoError(t, err)
	require.Len(t, got, maxPassword)
	for name, want := range map[string]string{
		"empty": "the password file empty is empty", "long": "the password in file long is longer than 80 bytes",
		"none": "the password file none does not exist", "..": `the password file ".." is no name of a file`,
		"../good": `the password file "../good" is no name of a file`,
	} {
		_, err := readPassword(dir, name)
		require.EqualError(t, err, want)
	}
}

// What the node adds to a plan: its identifier, and the next hops that lead to it from each
// router.
func TestResolve(t *testing.T) {
	prefixes := func(texts ...string) (out []netip.Prefix) {
		for _, text := range texts {
			out = append(out, netip.MustParsePrefix(text))
		}
		return out
	}
	interfaces := []plan.Interface{
		{Name: "eth0", Destinations: byDefault, Prefixes: prefixes("198.51.100.11/24", "2001:db8:1::b/64", "fe80::1/64")},
		{Name: "eth1", Prefixes: prefixes("10.0.0.11/24", "10.0.1.11/24"), Destinations: onLink("10.0.0.0/24", "10.0.1.0/24")},
		{Name: "eth2", Down: true, Prefixes: prefixes("10.2.0.11/24")},
		{Name: "eth3", Prefixes: prefixes("fd00:3::11/64", "fe80::3/64"), Destinations: onLink("fd00:3::/64")},
	}
	for name, tt := range map[string]struct {
		peer    plan.BGPPeer
		v4, v6  string
		without bool
	}{
		"on the same network":                  {peer: plan.BGPPeer{Address: netip.MustParseAddr("10.0.1.1")}, v4: "10.0.1.11"},
		"behind the default route":             {peer: plan.BGPPeer{Address: netip.MustParseAddr("203.0.113.1")}, v4: "198.51.100.11", v6: "2001:db8:1::b"},
		"IPv6, with an IPv4 address beside it": {peer: plan.BGPPeer{Address: netip.MustParseAddr("2001:db8:1::1")}, v4: "198.51.100.11", v6: "2001:db8:1::b"},
		"IPv6 only":                            {peer: plan.BGPPeer{Address: netip.MustParseAddr("fd00:3::1")}, v6: "fd00:3::11"},
		"by an interface":                      {peer: plan.BGPPeer{Address: netip.MustParseAddr("203.0.113.1"), Interface: "eth1"}, v4: "10.0.0.11"},
		"from an address":                      {peer: plan.BGPPeer{Address: netip.MustParseAddr("203.0.113.1"), SourceAddress: netip.MustParseAddr("10.0.1.11")}, v4: "10.0.1.11"},
		"behind an interface that is down":     {peer: plan.BGPPeer{Address: netip.MustParseAddr("10.2.0.1")}},
		"by an interface that is not there":    {peer: plan.BGPPeer{Address: netip.MustParseAddr("10.0.0.1"), Interface: "eth9"}},
	} {
		t.Run(name, func(t *testing.T) {
			d := Resolve(identity, plan.NodePlan{BGP: plan.BGP{Peers: []plan.BGPPeer{tt.peer}}}, Host{Interfaces: interfaces})
			require.Len(t, d.Peers, 1)
			got := d.Peers[0]
			text := func(a netip.Addr) string {
				if !a.IsValid() {
					return ""
				}
				return a.String()
			}
			require.Equal(t, [2]string{tt.v4, tt.v6}, [2]string{text(got.NextHopV4), text(got.NextHopV6)})
			require.Equal(t, identity, got.RouterID)
		})
	}
	only6 := []plan.Interface{{Name: "eth0", Destinations: byDefault, Prefixes: prefixes("2001:db8::1/64")}}
	require.Equal(t, "198.51.100.11", Host{Interfaces: interfaces}.Identifier("node1").String(), "of the interface with the default route")
	one, two := Host{Interfaces: only6}.Identifier("node1"), Host{Interfaces: only6}.Identifier("node2")
	require.True(t, one.Is4() && !one.IsUnspecified())
	require.NotEqual(t, one, two)
	require.Equal(t, one, Host{Interfaces: only6}.Identifier("node1"))
	set := plan.NodePlan{BGP: plan.BGP{Peers: []plan.BGPPeer{{RouterID: netip.MustParseAddr("1.2.3.4")}}}}
	require.Equal(t, "1.2.3.4", Resolve(identity, set, Host{Interfaces: interfaces}).Peers[0].RouterID.String())
}

// TestFault_K5_1_IdentifierIsTheNodesOwn: a floating address that is lower changes nothing, nor does
// any order of the Node's addresses.
func TestFault_K5_1_IdentifierIsTheNodesOwn(t *testing.T) {
	addresses := func(texts ...string) (out []netip.Addr) {
		for _, text := range texts {
			out = append(out, netip.MustParseAddr(text))
		}
		return out
	}
	host := Host{NodeIPs: addresses("2001:db8:1::b", "198.51.100.11"), Interfaces: []plan.Interface{
		{Name: "eth0", Destinations: byDefault, Prefixes: []netip.Prefix{netip.MustParsePrefix("198.51.100.2/24"), netip.MustParsePrefix("198.51.100.11/24")}},
	}}
	require.Equal(t, "198.51.100.11", host.Identifier("node1").String())
	host.NodeIPs = addresses("2001:db8:1::b")
	require.Equal(t, "198.51.100.2", host.Identifier("node1").String(), "an IPv6 node: as where nothing is known")
	host.Interfaces = nil
	require.True(t, host.Identifier("node1").Is4())
}

// TestFault_K5_8_NextHops: a deprecated address is no next hop while another is there, and of several
// the Node's own comes first. That of the session itself comes before all.
func TestFault_K5_8_NextHops(t *testing.T) {
	floating, own := netip.MustParseAddr("198.51.100.2"), netip.MustParseAddr("198.51.100.11")
	old, current := netip.MustParseAddr("2001:db8:1::a"), netip.MustParseAddr("2001:db8:2::b")
	host := Host{NodeIPs: []netip.Addr{own}, Deprecated: []netip.Addr{old}, Interfaces: []plan.Interface{{Name: "eth0", Destinations: byDefault, Prefixes: []netip.Prefix{
		netip.PrefixFrom(floating, 24), netip.PrefixFrom(own, 24), netip.PrefixFrom(old, 64), netip.PrefixFrom(current, 64),
	}}}}
	hops := func(router string) [2]netip.Addr {
		set := plan.NodePlan{BGP: plan.BGP{Peers: []plan.BGPPeer{{Address: netip.MustParseAddr(router)}}}}
		p := Resolve(identity, set, host).Peers[0]
		return [2]netip.Addr{p.NextHopV4, p.NextHopV6}
	}
	require.Equal(t, [2]netip.Addr{own, current}, hops("198.51.100.1"))
	require.Equal(t, [2]netip.Addr{own, current}, hops("2001:db8:1::1"), "also where the router is on the network of the deprecated one")
	host.Interfaces[0].Prefixes = host.Interfaces[0].Prefixes[:3]
	require.Equal(t, [2]netip.Addr{own, old}, hops("198.51.100.1"), "there is no other")

	p := external("a")
	require.Equal(t, floating, p.connectedFrom(floating).NextHopV4)
	require.Equal(t, p.NextHopV6, p.connectedFrom(floating).NextHopV6)
	require.Equal(t, current, p.connectedFrom(current).NextHopV6)
	require.Equal(t, p, p.connectedFrom(netip.MustParseAddr("fe80::1%eth0")), "no other network can send there")
}

// Which router a gateway is: the first default route's of the family, never one that another
// peer of the node has already; and what is said where there is none.
func TestResolveGateway(t *testing.T) {
	interfaces := []plan.Interface{
		{Name: "eth0", Destinations: byDefault, Prefixes: []netip.Prefix{netip.MustParsePrefix("198.51.100.11/24"), netip.MustParsePrefix("2001:db8:1::b/64"), netip.MustParsePrefix("fe80::b/64")}},
		{Name: "eth1", Destinations: slices.Concat(byDefault, onLink("10.0.0.0/24")), Prefixes: []netip.Prefix{netip.MustParsePrefix("10.0.0.11/24")}},
	}
	routes := func(texts ...string) (out []plan.DefaultRoute) {
		for _, text := range texts {
			gateway, by, _ := strings.Cut(text, " ")
			out = append(out, plan.DefaultRoute{Gateway: netip.MustParseAddr(gateway), Interface: by})
		}
		return out
	}
	peer := func(name, address string, change func(*plan.BGPPeer)) plan.BGPPeer {
		p := plan.BGPPeer{Name: name, Address: netip.MustParseAddr(address), Port: 179}
		if change != nil {
			change(&p)
		}
		return p
	}
	both := routes("10.0.0.1 eth1", "198.51.100.1 eth0", "2001:db8:1::1 eth0")
	for name, tt := range map[string]struct {
		peers    []plan.BGPPeer
		defaults []plan.DefaultRoute
		want     []string // name, address, source and next hops; or name, reason and message
	}{
		"of IPv4": {[]plan.BGPPeer{peer("gw", "0.0.0.0", nil)}, both, []string{"gw 10.0.0.1 from invalid IP by 10.0.0.11 invalid IP"}},
		"of IPv6": {[]plan.BGPPeer{peer("gw", "::", nil)}, both, []string{"gw 2001:db8:1::1 from invalid IP by 198.51.100.11 2001:db8:1::b"}},
		"by an interface": {[]plan.BGPPeer{peer("gw", "0.0.0.0", func(p *plan.BGPPeer) { p.Interface = "eth0" })}, both,
			[]string{"gw 198.51.100.1 from invalid IP by 198.51.100.11 2001:db8:1::b"}},
		"link-local": {[]plan.BGPPeer{peer("gw", "::", nil)}, routes("fe80::1%eth0 eth0"), []string{"gw fe80::1%eth0 from fe80::b%eth0 by 198.51.100.11 2001:db8:1::b"}},
		"link-local, from an address": {[]plan.BGPPeer{peer("gw", "::", func(p *plan.BGPPeer) { p.SourceAddress = netip.MustParseAddr("2001:db8:1::b") })},
			routes("fe80::1%eth0 eth0"), []string{"gw fe80::1%eth0 from 2001:db8:1::b by 198.51.100.11 2001:db8:1::b"}},
		"link-local with a password": {[]plan.BGPPeer{peer("gw", "::", func(p *plan.BGPPeer) { p.PasswordFile = "key" })}, routes("fe80::1%eth0 eth0"),
			[]string{"gw NoGateway: the default gateway fe80::1%eth0 is link-local, and there are no passwords for such; give the gateway a global address, or the peer no passwordFile"}},
		"link-local, of an interface without": {[]plan.BGPPeer{peer("gw", "::", nil)}, routes("fe80::1%eth1 eth1"),
			[]string{"gw NoGateway: the default gateway fe80::1%eth1 is link-local, and eth1 has no link-local address"}},
		"none of the family": {[]plan.BGPPeer{peer("gw", "0.0.0.0", nil), peer("other", "192.0.2.1", nil)}, routes("2001:db8:1::1 eth0"),
			[]string{"other 192.0.2.1 from invalid IP by 198.51.100.11 2001:db8:1::b", "gw NoGateway: the node has no default gateway of IPv4"}},
		"none by the interface": {[]plan.BGPPeer{peer("gw", "::", func(p *plan.BGPPeer) { p.Interface = "eth1" })}, both,
			[]string{"gw NoGateway: the node has no default gateway of IPv6 by eth1"}},
		"a peer of its own": {[]plan.BGPPeer{peer("gw", "0.0.0.0", nil), peer("tor", "10.0.0.1", nil)}, both,
			[]string{"tor 10.0.0.1 from invalid IP by 10.0.0.11 invalid IP", "gw DuplicatePeer: 10.0.0.1 is also the address of the peer tor on this node"}},
		"on another port": {[]plan.BGPPeer{peer("gw", "0.0.0.0", nil), peer("tor", "10.0.0.1", func(p *plan.BGPPeer) { p.Port = 1790 })}, both,
			[]string{"gw 10.0.0.1 from invalid IP by 10.0.0.11 invalid IP", "tor 10.0.0.1 from invalid IP by 10.0.0.11 invalid IP"}},
		"three of one router": {[]plan.BGPPeer{peer("a", "0.0.0.0", nil), peer("b", "10.0.0.1", nil), peer("c", "10.0.0.1", nil)}, both,
			[]string{"b 10.0.0.1 from invalid IP by 10.0.0.11 invalid IP", "a DuplicatePeer: 10.0.0.1 is also the address of the peer b on this node", "c DuplicatePeer: 10.0.0.1 is also the address of the peer b on this node"}},
	} {
		t.Run(name, func(t *testing.T) {
			d := Resolve(identity, plan.NodePlan{BGP: plan.BGP{Peers: tt.peers}}, Host{Interfaces: interfaces, Defaults: tt.defaults})
			var got []string
			for _, p := range d.Peers {
				got = append(got, fmt.Sprintf("%s %s from %s by %s %s", p.Name, p.Address, p.SourceAddress, p.NextHopV4, p.NextHopV6))
			}
			for _, s := range d.Without {
				require.Equal(t, plan.BGPIdle, s.State)
				got = append(got, fmt.Sprintf("%s %s: %s", s.Peer, s.Reason, s.Message))
			}
			require.Equal(t, tt.want, got)
		})
	}
}

// Whose path is watched over one hop, and whose over several; from which address, and by which
// interface.
func TestPath(t *testing.T) {
	interfaces := []plan.Interface{
		{Name: "eth0", Destinations: byDefault, Prefixes: []netip.Prefix{netip.MustParsePrefix("198.51.100.11/24"), netip.MustParsePrefix("2001:db8:1::b/64")}},
	}
	near, far := netip.MustParseAddr("198.51.100.1"), netip.MustParseAddr("203.0.113.1")
	own := netip.MustParseAddr("198.51.100.11")
	for name, tt := range map[string]struct {
		peer plan.BGPPeer
		want bfd.Key
		ttl  uint8
	}{
		"external":                           {plan.BGPPeer{Address: near, PeerASN: 1}, bfd.Key{Peer: near}, 0},
		"external, as far as the routes say": {plan.BGPPeer{Address: far, PeerASN: 1}, bfd.Key{Peer: far}, 0},
		"external, one hop away":             {plan.BGPPeer{Address: near, PeerASN: 1, TTLSecurity: 1}, bfd.Key{Peer: near}, 0},
		"external, several hops":             {plan.BGPPeer{Address: far, PeerASN: 1, EBGPMultihop: 3}, bfd.Key{Peer: far, Multihop: true}, 250},
		"external, two hops at most":         {plan.BGPPeer{Address: far, PeerASN: 1, TTLSecurity: 2}, bfd.Key{Peer: far, Multihop: true}, 250},
		"internal, on the same network":      {plan.BGPPeer{Address: near}, bfd.Key{Peer: near}, 0},
		"internal, elsewhere":                {plan.BGPPeer{Address: far}, bfd.Key{Peer: far, Multihop: true}, 250},
		"by an interface":                    {plan.BGPPeer{Address: near, PeerASN: 1, Interface: "eth0"}, bfd.Key{Peer: near, Interface: "eth0"}, 0},
		"by an interface, over several hops": {plan.BGPPeer{Address: far, PeerASN: 1, Interface: "eth0", EBGPMultihop: 3}, bfd.Key{Peer: far, Local: own, Multihop: true}, 250},
		"from an address":                    {plan.BGPPeer{Address: near, PeerASN: 1, SourceAddress: own}, bfd.Key{Peer: near, Local: own}, 0},
		"from an address, over several hops": {plan.BGPPeer{Address: far, SourceAddress: own}, bfd.Key{Peer: far, Local: own, Multihop: true}, 250},
	} {
		t.Run(name, func(t *testing.T) {
			tt.peer.BFD = plan.BFD{TransmitInterval: time.Second, ReceiveInterval: 2 * time.Second, DetectMultiplier: 3, MinimumTTL: 250}
			peer := Resolve(identity, plan.NodePlan{BGP: plan.BGP{Peers: []plan.BGPPeer{tt.peer}}}, Host{Interfaces: interfaces}).Peers[0]
			c, watched := peer.bfdConfig()
			require.True(t, watched)
			require.Equal(t, bfd.SessionConfig{Key: tt.want, TransmitInterval: time.Second, ReceiveInterval: 2 * time.Second, DetectMultiplier: 3, MinimumTTL: tt.ttl}, c)
			require.NoError(t, bfd.New(bfd.Options{}).Set([]bfd.SessionConfig{c}))

			same := peer
			same.BFD = plan.BFD{}
			_, watched = same.bfdConfig()
			require.False(t, watched)
		})
	}
}

// byDefault are the destinations of an interface by which default routes leave.
var byDefault = []plan.Destination{{Prefix: netip.MustParsePrefix("0.0.0.0/0")}, {Prefix: netip.MustParsePrefix("::/0")}}

// onLink are destinations on the segment itself.
func onLink(texts ...string) (out []plan.Destination) {
	for _, text := range texts {
		out = append(out, plan.Destination{Prefix: netip.MustParsePrefix(text), OnLink: true})
	}
	return out
}
