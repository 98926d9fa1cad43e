package ipam

import (
	"net/netip"
	"testing"

	"github.com/stretchr/testify/require"

	"baremetal.cloud/ccm/pkg/reason"
)

// K3.3: what the status of another Service shows is given to nobody, asked for or not.
func TestFault_K3_3_AddressInAStatusIsNotFree(t *testing.T) {
	a := newAllocator(t, newPool(t, "p", "10.0.0.0/31", "2001:db8::/127"))
	old := service("old").Holder
	for _, address := range addrs("10.0.0.0", "2001:db8::") {
		a.Linger(address, old)
	}
	granted(t, a, service("s1", preferDual), "10.0.0.1", "2001:db8::1")
	refused(t, a, service("s22"), reason.PoolExhausted)
	refused(t, a, service("s22", asking("10.0.0.0")), reason.AddressInUse)
	refused(t, a, service("s22", asking("2001:db8::"), families(IPv6)), reason.AddressInUse)
	elsewhere := refused(t, a, service("s22", asking("10.0.0.0"), in("other")), reason.AddressInUse)
	require.NotContains(t, elsewhere.Message, "old")

	// It survives a new configuration, and its own Service may have it back.
	require.NoError(t, a.Configure(Config{Pools: []Pool{newPool(t, "q", "10.0.0.0/30", "2001:db8::/126")}}))
	refused(t, a, service("s22", asking("10.0.0.0")), reason.AddressInUse)
	back := service("old", asking("10.0.0.0"))
	granted(t, a, back, "10.0.0.0")
	a.Release(back.Holder.UID, epoch)

	require.True(t, a.Cleared(netip.MustParseAddr("10.0.0.0"), old.UID))
	require.Equal(t, addrs("2001:db8::"), a.Lingering(old.UID))
	granted(t, a, service("s22", asking("10.0.0.0")), "10.0.0.0")
}

// K3.3: two statuses may show one address; both have to lose it.
func TestFault_K3_3_TwoStatusesShowOneAddress(t *testing.T) {
	a := newAllocator(t, newPool(t, "p", "10.0.0.0/32"))
	address := netip.MustParseAddr("10.0.0.0")
	a.Linger(address, service("x").Holder)
	a.Linger(address, service("yy").Holder)
	require.False(t, a.Cleared(address, "uid-x"))
	refused(t, a, service("new"), reason.PoolExhausted)
	require.True(t, a.Cleared(address, "uid-yy"))
	granted(t, a, service("new"), "10.0.0.0")
}

// K3.5: what is adopted is judged by the rules for what is taken.
func TestFault_K3_5_AdoptedByTheRules(t *testing.T) {
	closed, quota := newPool(t, "closed", "10.0.1.0/30"), newPool(t, "quota", "10.0.2.0/30")
	closed.Namespaces, quota.MaxPerNamespace = []string{"other"}, 1
	a := New()
	require.NoError(t, a.Configure(Config{
		Pools:        []Pool{newPool(t, "p", "10.0.0.0/30", "2001:db8::/64"), closed, quota},
		Reservations: []Reservation{{Namespace: "default", Name: "somebody", Addresses: addrs("10.0.0.3")}},
	}))
	a.Linger(netip.MustParseAddr("10.0.0.2"), service("leaving").Holder)
	a.Quarantine(netip.MustParseAddr("10.0.0.1"), "02:00:00:00:00:01")
	adopt := func(name string, change func(*Request), addresses ...string) []Finding {
		return a.Adopt(Record{Request: service(name, change), Addresses: addrs(addresses...)})
	}
	// The load balancer that answers for it so far is no obstacle.
	require.Empty(t, adopt("dual", func(r *Request) { preferDual(r); r.Sharing.Ports = []Port{{"TCP", 80}} }, "10.0.0.1", "2001:db8::9"))
	granted(t, a, service("dual", preferDual, sharing("", "TCP", 80)), "10.0.0.1", "2001:db8::9")
	require.Empty(t, adopt("q1", families(IPv4), "10.0.2.0"))
	for address, why := range map[string]reason.Reason{
		"10.0.0.1": reason.AddressInUse, "10.0.0.2": reason.AddressInUse, "10.0.0.3": reason.AddressReserved,
		"10.0.1.0": reason.PoolNotAllowed, "10.0.2.1": reason.QuotaExceeded, "192.0.2.1": reason.AddressOutsidePools,
		"2001:db8::5": reason.RequestInvalid,
	} {
		findings := adopt("new", sharing("", "TCP", 80), address)
		require.Len(t, findings, 1, address)
		require.Equal(t, why, findings[0].Refusal.Reason, address)
	}
	require.Empty(t, a.Held("uid-new"))
	require.Empty(t, adopt("dual", families(IPv4), "10.0.0.0"), "it is known already")
}

// K3.6: two Services that lack nothing but a key keep the address that both had.
func TestFault_K3_6_PairWithoutAKey(t *testing.T) {
	records := func(x, y Request) []Record {
		return []Record{{Request: x, Addresses: addrs("10.0.0.1")}, {Request: y, Addresses: addrs("10.0.0.1")}}
	}
	foreign := func(key string) func(*Request) { return func(r *Request) { r.Sharing.ForeignKey = key } }
	for name, test := range map[string]struct {
		x, y Request
		kept bool
		key  string
	}{
		"no key":              {service("x", sharing("", "TCP", 80)), service("yy", sharing("", "TCP", 81)), true, "x"},
		"MetalLB's":           {service("x", sharing("", "TCP", 80), foreign("web")), service("yy", sharing("", "TCP", 81), foreign("web")), true, "web"},
		"one has ours":        {service("x", sharing("", "TCP", 80), foreign("web")), service("yy", sharing("k", "TCP", 81)), true, "k"},
		"UDP beside TCP":      {service("x", sharing("", "TCP", 53)), service("yy", sharing("", "UDP", 53)), true, "x"},
		"one port":            {service("x", sharing("", "TCP", 80)), service("yy", sharing("", "TCP", 80)), false, ""},
		"keys of ours differ": {service("x", sharing("a", "TCP", 80)), service("yy", sharing("b", "TCP", 81)), false, ""},
		"another namespace":   {service("x", sharing("", "TCP", 80)), service("yy", sharing("", "TCP", 81), in("other")), false, ""},
		"policies differ":     {service("x", sharing("", "TCP", 80)), service("yy", sharing("", "TCP", 81), local("a=b")), false, ""},
	} {
		t.Run(name, func(t *testing.T) {
			restored := newAllocator(t, newPool(t, "p", "10.0.0.0/30"))
			findings := restored.Restore(records(test.x, test.y))
			require.Len(t, findings, 1)
			require.Equal(t, test.kept, findings[0].Kept)

			adopted := newAllocator(t, newPool(t, "p", "10.0.0.0/30"))
			for _, rec := range records(test.x, test.y) {
				adopted.Adopt(rec)
			}
			for _, a := range []*Allocator{restored, adopted} {
				require.Equal(t, test.kept, len(a.Held("uid-yy")) == 1)
				clashes := a.Clashes("uid-x")
				require.Equal(t, test.kept, len(clashes) == 1)
				if test.kept {
					require.True(t, clashes[0].KeyMissing)
					require.Equal(t, test.key, clashes[0].Key)
					require.Equal(t, test.key, a.Clashes("uid-yy")[0].Key)
					// No third one joins them without a key.
					refused(t, a, service("third", sharing("", "TCP", 99), asking("10.0.0.1")), reason.AddressInUse)
				}
			}
		})
	}
}

// K3.9: an edit that contradicts itself is refused as a new Service would be, whatever it
// holds.
func TestFault_K3_9_ContradictionIsJudgedLikeACreation(t *testing.T) {
	for _, held := range []string{"10.0.0.0", "2001:db8::1"} {
		family := FamilyOf(netip.MustParseAddr(held))
		a := newAllocator(t, newPool(t, "p1", "10.0.0.0/30", "2001:db8::/64"), newPool(t, "p2", "10.0.1.0/30", "2001:db9::/64"))
		granted(t, a, service("s1", families(family), asking(held)), held)
		for _, pool := range []string{"p2", "nowhere"} {
			edit := service("s1", families(family), asking(held), from(pool))
			creation := edit
			creation.Holder = service("new").Holder
			want := refused(t, a, creation, reason.RequestInvalid)
			got := refused(t, a, edit, reason.RequestInvalid, held)
			require.Equal(t, want.Message, got.Message)
		}
		granted(t, a, service("s1", families(family), asking(held), from("p1")), held)
	}
}
