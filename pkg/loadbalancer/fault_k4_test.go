package loadbalancer

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"baremetal.cloud/ccm/pkg/announcer/plan"
	"baremetal.cloud/ccm/pkg/ipam"
)

// families are an IPv4 pool and its IPv6 twin, each of 16 addresses.
var families = map[string]string{"IPv4": "10.0.0.", "IPv6": "2001:db8::"}

func poolOf(prefix string) string {
	if strings.Contains(prefix, ":") {
		return prefix + "/124"
	}
	return prefix + "0/28"
}

// ask ensures a Service of the family of prefix, and returns the address it has afterwards.
func (w *world) ask(name, prefix, address string) (netip.Addr, error) {
	request := ipam.Request{
		Holder:   ipam.Holder{UID: "uid-" + name, Namespace: "default", Name: name},
		Families: []ipam.Family{ipam.FamilyOf(netip.MustParseAddr(prefix + "1"))},
	}
	if address != "" {
		request.Addresses = []netip.Addr{netip.MustParseAddr(address)}
	}
	w.b.Inspect(w.now) // as the one mutex's owner does before each
	err := w.b.Ensure(Service{Request: request}, w.now)
	w.b.Inspect(w.now)
	if held := w.b.addresses.Held("uid-" + name); len(held) > 0 {
		return held[0].Address, err
	}
	return netip.Addr{}, err
}

// TestFault_K4_1_NodeReportsAddressesOfPool: what a node has, or says that it has, keeps only that
// node from answering for what a Service holds.
func TestFault_K4_1_NodeReportsAddressesOfPool(t *testing.T) {
	for family, prefix := range families {
		for _, how := range []string{"Node object", "announcer"} {
			t.Run(family+" by "+how, func(t *testing.T) {
				w := newWorld(t)
				w.run("pool default " + poolOf(prefix) + "\nnode node1\nnode node2\nnode node3\nconnect node1 node2 node3\nleader 1\nendpoints web node1 node2 node3")
				address, err := w.ask("web", prefix, "")
				require.NoError(t, err)
				w.plan()
				before, _ := w.b.Owner(address)
				w.run("plan")
				liar := w.b.plan.lists[address].Candidates[0]
				if how == "Node object" {
					w.b.SetNode(Node{Name: liar, Addresses: []netip.Addr{address}})
				} else {
					report := w.b.announcer[liar].report
					report.Interfaces = append([]plan.Interface{{Name: "lie0", Prefixes: []netip.Prefix{netip.PrefixFrom(address, address.BitLen())}}}, report.Interfaces...)
					w.b.Observe(liar, report)
				}
				w.b.Inspect(w.now)
				w.plan()
				list := w.b.plan.lists[address]
				require.NotEmpty(t, list.Candidates, "before: %s", before)
				require.NotContains(t, list.Candidates, liar, "the others go on")
				held, err := w.ask("web", prefix, "")
				require.NoError(t, err)
				require.Equal(t, address, held, "what a Service holds is not touched")
				require.Equal(t, "node "+liar, w.b.ConflictCounts().Contested[address].String(), "it is told")
			})
		}
	}
}

// TestFault_K4_2_PoolContainsNodeAddress: a node's or router's address is not given out, neither
// next in order nor by name, and freed when the node has it no more.
func TestFault_K4_2_PoolContainsNodeAddress(t *testing.T) {
	for family, prefix := range families {
		t.Run(family, func(t *testing.T) {
			w := newWorld(t)
			first := netip.MustParseAddr(prefix + "0")
			second := netip.MustParseAddr(prefix + "1")
			w.run("pool default " + poolOf(prefix) + "\nnode node1\nleader 1\nrouter " + second.String())
			w.b.SetNode(Node{Name: "node2", Addresses: []netip.Addr{first}})
			address, err := w.ask("web", prefix, "")
			require.NoError(t, err)
			require.Equal(t, prefix+"2", address.String())
			_, err = w.ask("asks", prefix, first.String())
			require.EqualError(t, err, "address "+first.String()+" is not given out: it is an address of node node2")
			var told []string
			for _, c := range w.b.Conflicts() {
				told = append(told, fmt.Sprint(c.Kind, " ", c.Address, " ", c.Machine))
			}
			require.ElementsMatch(t, []string{"quarantined " + first.String() + " node node2", "quarantined " + second.String() + " a BGP peer"}, told)
			w.b.DeleteNode("node2")
			address, err = w.ask("asks", prefix, first.String())
			require.NoError(t, err)
			require.Equal(t, first, address)
		})
	}
}

// TestFault_K4_2_AddressThatWanders: an address that keepalived or kube-vip moves from one node
// to another (that of the API server, say) is given out neither while no node says that it has it,
// nor where the announcer of the node that has it ends.
func TestFault_K4_2_AddressThatWanders(t *testing.T) {
	for family, prefix := range families {
		t.Run(family, func(t *testing.T) {
			w := newWorld(t)
			w.run("conflicts 16\npool default " + poolOf(prefix) + "\nnode node1\nnode node2\nconnect node1 node2\nleader 1")
			vip := netip.MustParseAddr(prefix + "0")
			has := func(node string, addresses ...netip.Addr) {
				i := plan.Interface{Name: "eth9", MAC: "02:00:00:00:09:09"}
				for _, a := range addresses {
					i.Prefixes = append(i.Prefixes, netip.PrefixFrom(a, a.BitLen()))
				}
				w.b.Observe(node, plan.Report{Interfaces: []plan.Interface{i}})
				w.b.Inspect(w.now)
			}
			refused := func() {
				t.Helper()
				_, err := w.ask("asks", prefix, vip.String())
				require.ErrorContains(t, err, "is not given out: it is an address of node")
			}
			has("node2")
			has("node1", vip)
			refused()
			has("node1")
			refused()
			w.now = w.now.Add(time.Second)
			has("node2", vip)
			refused()
			w.b.Observe("node2", plan.Report{}) // its announcer ends
			w.now = w.now.Add(time.Hour)
			w.b.Inspect(w.now)
			refused()
			has("node2")
			refused()
			w.now = w.now.Add(time.Hour)
			w.b.Inspect(w.now)
			_, err := w.ask("asks", prefix, vip.String())
			require.NoError(t, err)
		})
	}
}

// TestFault_K4_2_OneNodeBlocksLittle: a kubelet that writes a whole pool into its Node keeps 64
// addresses back, and never more than half of what is free.
func TestFault_K4_2_OneNodeBlocksLittle(t *testing.T) {
	w := newWorld(t)
	w.run("pool default 10.0.0.0/24\nnode node1\nleader 1")
	var all []netip.Addr
	for i := range 256 {
		all = append(all, netip.AddrFrom4([4]byte{10, 0, 0, byte(i)}))
	}
	w.b.SetNode(Node{Name: "node2", Addresses: all})
	w.b.Inspect(w.now)
	require.Equal(t, maxOwned, w.b.Usage()[0].Quarantined)
	for i := range 256 {
		_, err := w.ask(fmt.Sprint("s", i), "10.0.0.", "")
		require.NoError(t, err, "Service %d", i)
		u := w.b.Usage()[0]
		require.LessOrEqual(t, 2*u.Quarantined, 256-u.Held)
	}
	_, err := w.ask("late", "10.0.0.", "")
	require.ErrorContains(t, err, `pool "default" has no free IPv4 address`)
}

// TestFault_K4_2_OneNodeChangesItsMind: what a node had keeps no more back beside what it has.
func TestFault_K4_2_OneNodeChangesItsMind(t *testing.T) {
	w := newWorld(t)
	w.run("conflicts 16\npool default 10.0.0.0/22\nnode node1\nleader 1")
	for round := range 16 {
		var all []netip.Addr
		for i := range 64 {
			all = append(all, netip.AddrFrom4([4]byte{10, 0, byte(round / 4), byte(64*(round%4) + i)}))
		}
		w.b.SetNode(Node{Name: "node2", Addresses: all[:64-32*(round%2)]})
		w.b.Inspect(w.now)
		require.LessOrEqual(t, w.b.Usage()[0].Quarantined, maxOwned)
	}
	require.Equal(t, maxOwned, w.b.Usage()[0].Quarantined)
}

// TestFault_K4_6_MachineAnswersForAllThatIsFree: a pool that is half in use has addresses left,
// whatever answers for them.
func TestFault_K4_6_MachineAnswersForAllThatIsFree(t *testing.T) {
	for family, prefix := range families {
		t.Run(family, func(t *testing.T) {
			w := newWorld(t)
			w.run("conflicts 16\npool default " + poolOf(prefix) + "\nnode node1\nnode node2\nconnect node1 node2\nleader 1")
			for i := range 8 {
				_, err := w.ask(fmt.Sprint("s", i), prefix, "")
				require.NoError(t, err)
			}
			w.plan()
			var found []string
			for i := 8; i < 16; i++ { // one MAC each, or it would be a proxy
				found = append(found, fmt.Sprintf("%s=02:00:00:00:00:%02x", netip.MustParseAddr(prefix+last(prefix, i)), i))
			}
			w.finds("node1", found)
			w.b.Inspect(w.now)
			w.plan()
			w.finds("node2", found)
			w.b.Inspect(w.now)
			require.Equal(t, 4, w.b.Usage()[0].Quarantined, "half of the eight that are free")
			for i := 8; i < 16; i++ {
				_, err := w.ask(fmt.Sprint("s", i), prefix, "")
				require.NoError(t, err, "Service %d", i)
				u := w.b.Usage()[0]
				require.LessOrEqual(t, 2*u.Quarantined, 16-u.Held)
			}
		})
	}
}

func last(prefix string, i int) string {
	if strings.Contains(prefix, ":") {
		return fmt.Sprintf("%x", i)
	}
	return fmt.Sprint(i)
}
