package ipam

import (
	"net/netip"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"baremetal.cloud/ccm/pkg/reason"
)

// epoch is when the tests begin.
var epoch = time.Date(2026, 11, 21, 0, 0, 0, 0, time.UTC)

// ranges parses ranges that must be right.
func ranges(t testing.TB, texts ...string) []Range {
	t.Helper()
	var out []Range
	for _, text := range texts {
		r, err := ParseRange(text)
		require.NoError(t, err)
		out = append(out, r)
	}
	return out
}

// labelSelector is a Selector of one label.
type labelSelector struct{ key, value string }

func (s labelSelector) Matches(labels map[string]string) bool { return labels[s.key] == s.value }
func (s labelSelector) String() string                        { return s.key + "=" + s.value }

// newPool returns a pool with the defaults of the cloud-config.
func newPool(t testing.TB, name string, texts ...string) Pool {
	return Pool{Name: name, Ranges: ranges(t, texts...), AutoAssign: true, ReuseAfter: 10 * time.Minute}
}

func newAllocator(t testing.TB, pools ...Pool) *Allocator {
	t.Helper()
	a := New()
	require.NoError(t, a.Configure(Config{Pools: pools}))
	return a
}

// service returns a request of Service default/name; older names are older Services.
func service(name string, options ...func(*Request)) Request {
	req := Request{
		Holder:   Holder{UID: "uid-" + name, Namespace: "default", Name: name, Created: epoch.Add(time.Duration(len(name)) * time.Second)},
		Families: []Family{IPv4},
	}
	for _, o := range options {
		o(&req)
	}
	return req
}

func families(f ...Family) func(*Request) { return func(r *Request) { r.Families = f } }
func requireDual(r *Request)              { r.Families, r.RequireAll = []Family{IPv4, IPv6}, true }
func preferDual(r *Request)               { r.Families = []Family{IPv4, IPv6} }
func from(pool string) func(*Request)     { return func(r *Request) { r.Pool = pool } }
func in(namespace string) func(*Request)  { return func(r *Request) { r.Holder.Namespace = namespace } }
func local(selector string) func(*Request) {
	return func(r *Request) { r.Sharing.Local, r.Sharing.Selector = true, selector }
}
func asking(addresses ...string) func(*Request) {
	return func(r *Request) {
		r.Addresses = nil
		for _, a := range addresses {
			r.Addresses = append(r.Addresses, netip.MustParseAddr(a))
		}
	}
}

func sharing(key, protocol string, port uint16) func(*Request) {
	return func(r *Request) { r.Sharing.Key, r.Sharing.Ports = key, []Port{{protocol, port}} }
}

// granted asks and expects exactly those addresses.
func granted(t *testing.T, a *Allocator, req Request, want ...string) Result {
	t.Helper()
	result, err := a.Assign(req, epoch)
	require.NoError(t, err)
	require.Equal(t, want, texts(result))
	return result
}

// refused asks and expects a refusal, and that the Service holds what is listed.
func refused(t *testing.T, a *Allocator, req Request, why reason.Reason, holds ...string) *Refusal {
	t.Helper()
	result, err := a.Assign(req, epoch)
	var refusal *Refusal
	require.ErrorAs(t, err, &refusal)
	require.Equal(t, why, refusal.Reason, refusal.Message)
	require.Equal(t, holds, texts(result))
	return refusal
}

func texts(r Result) []string {
	var out []string
	for _, a := range r.Assignments {
		out = append(out, a.Address.String())
	}
	return out
}

func TestIP1SameServiceSameAddress(t *testing.T) {
	a := newAllocator(t, newPool(t, "p", "10.0.0.0/30"))
	granted(t, a, service("s1"), "10.0.0.0")
	granted(t, a, service("s1"), "10.0.0.0")
	granted(t, a, service("s1", asking("10.0.0.0")), "10.0.0.0")
	require.Equal(t, 1, a.Usage()[0].Held)
}

func TestIP2AddressOfAnotherIsRefused(t *testing.T) {
	a := newAllocator(t, newPool(t, "p", "10.0.0.0/30"))
	granted(t, a, service("s1"), "10.0.0.0")
	granted(t, a, service("s2"), "10.0.0.1")
	refusal := refused(t, a, service("s1", asking("10.0.0.1")), reason.AddressInUse, "10.0.0.0")
	require.Contains(t, refusal.Message, "default/s2")
	refusal = refused(t, a, service("s3", in("elsewhere"), asking("10.0.0.1")), reason.AddressInUse)
	require.NotContains(t, refusal.Message, "s2", "a Service of another namespace is never named")
}

func TestIP3ReuseAfterRelease(t *testing.T) {
	fresh := func() *Allocator {
		a := newAllocator(t, newPool(t, "p", "10.0.0.0/31"))
		granted(t, a, service("s1"), "10.0.0.0")
		a.Release("uid-s1", epoch)
		return a
	}
	t.Run("by name", func(t *testing.T) { granted(t, fresh(), service("s2", asking("10.0.0.0")), "10.0.0.0") })
	t.Run("automatically", func(t *testing.T) { granted(t, fresh(), service("s2"), "10.0.0.1") })
	t.Run("when it is the last", func(t *testing.T) {
		a := fresh()
		granted(t, a, service("s2"), "10.0.0.1")
		granted(t, a, service("s3"), "10.0.0.0")
	})
	t.Run("not before its claimant withdrew, but by name", func(t *testing.T) {
		a := newAllocator(t, newPool(t, "p", "10.0.0.0/32"))
		granted(t, a, service("s1"), "10.0.0.0")
		a.Release("uid-s1", epoch)
		a.Withdraw(netip.MustParseAddr("10.0.0.0"))
		refused(t, a, service("s2"), reason.PoolExhausted)
		a.Withdrawn(netip.MustParseAddr("10.0.0.0"))
		granted(t, a, service("s2"), "10.0.0.0")
	})
}

func TestRestIsKeptWhileAnotherPoolHasAddresses(t *testing.T) {
	a := newAllocator(t, newPool(t, "a", "10.0.0.0/32"), newPool(t, "b", "10.0.1.0/31"))
	granted(t, a, service("s1"), "10.0.0.0")
	a.Release("uid-s1", epoch)
	granted(t, a, service("s2"), "10.0.1.0")
	result, err := a.Assign(service("s3"), epoch.Add(11*time.Minute))
	require.NoError(t, err)
	require.Equal(t, []string{"10.0.0.0"}, texts(result), "it has rested long enough")
}

func TestIP4AvoidBuggyIPs(t *testing.T) {
	p := newPool(t, "p", "10.0.0.254-10.0.1.1")
	p.AvoidBuggyIPs = true
	a := newAllocator(t, p)
	refused(t, a, service("s1", asking("10.0.0.255")), reason.AddressAvoided)
	refused(t, a, service("s1", asking("10.0.1.0")), reason.AddressAvoided)
	granted(t, a, service("s1", asking("10.0.0.254")), "10.0.0.254")
	granted(t, a, service("s2"), "10.0.1.1")
	refused(t, a, service("s3"), reason.PoolExhausted)
}

func TestIP5SoleHolderChangesKey(t *testing.T) {
	a := newAllocator(t, newPool(t, "p", "10.0.0.0/30"))
	granted(t, a, service("s1", sharing("k", "TCP", 80)), "10.0.0.0")
	granted(t, a, service("s1", sharing("other", "TCP", 80)), "10.0.0.0")
	granted(t, a, service("s2", sharing("k", "TCP", 81)), "10.0.0.1")
	granted(t, a, service("s3", sharing("other", "TCP", 81)), "10.0.0.0")
}

func TestIP6SharingRule(t *testing.T) {
	a := newAllocator(t, newPool(t, "p", "10.0.0.0/30"))
	granted(t, a, service("s4", sharing("k", "TCP", 80)), "10.0.0.0")
	x := asking("10.0.0.0")
	refused(t, a, service("s3", x, sharing("k", "TCP", 80)), reason.SharingRefused)
	refused(t, a, service("s3", x, sharing("other", "TCP", 443)), reason.SharingRefused)
	refused(t, a, service("s3", x), reason.AddressInUse)
	granted(t, a, service("s3", x, sharing("k", "TCP", 443)), "10.0.0.0")
	granted(t, a, service("s5", x, sharing("k", "UDP", 80)), "10.0.0.0")
}

func TestIP7EditsOfAHolderKeepTheAddress(t *testing.T) {
	fresh := func() *Allocator {
		a := newAllocator(t, newPool(t, "p", "10.0.0.0/30"))
		granted(t, a, service("s4", sharing("k", "TCP", 80)), "10.0.0.0")
		granted(t, a, service("s3", sharing("k", "TCP", 443)), "10.0.0.0")
		return a
	}
	t.Run("to another port", func(t *testing.T) {
		require.Empty(t, granted(t, fresh(), service("s3", sharing("k", "UDP", 53)), "10.0.0.0").Clashes)
	})
	t.Run("to another key", func(t *testing.T) {
		clashes := granted(t, fresh(), service("s3", sharing("other", "TCP", 443)), "10.0.0.0").Clashes
		require.Len(t, clashes, 1)
		require.False(t, clashes[0].SamePort, "both can be served")
	})
	t.Run("to the other's port", func(t *testing.T) {
		a := fresh()
		clashes := granted(t, a, service("s3", sharing("k", "TCP", 80)), "10.0.0.0").Clashes
		require.Len(t, clashes, 1)
		require.Equal(t, "s4", clashes[0].With.Name)
		require.True(t, clashes[0].SamePort)
		require.Len(t, granted(t, a, service("s4", sharing("k", "TCP", 80)), "10.0.0.0").Clashes, 1, "both are told")
	})
}

func TestIP8SharingWithLocalPolicy(t *testing.T) {
	a := newAllocator(t, newPool(t, "p", "10.0.0.0/30"))
	granted(t, a, service("s1", sharing("k", "TCP", 80), local("app=a")), "10.0.0.0")
	granted(t, a, service("s2", sharing("k", "TCP", 81), local("app=a")), "10.0.0.0")
	refused(t, a, service("s3", sharing("k", "TCP", 82), local("app=b")), reason.SharingRefused)
	refused(t, a, service("s3", sharing("k", "TCP", 82)), reason.SharingRefused)
}

func TestIP9ClashIsNeverSpilled(t *testing.T) {
	a := newAllocator(t, newPool(t, "p", "10.0.0.0/30"))
	granted(t, a, service("s1", sharing("k", "TCP", 80)), "10.0.0.0")
	refusal := refused(t, a, service("s2", sharing("k", "TCP", 80)), reason.SharingRefused)
	require.Contains(t, refusal.Message, "default/s1")
}

func TestSharingAcrossNamespaces(t *testing.T) {
	p := newPool(t, "p", "10.0.0.0/30")
	p.SharedNamespaces = []string{"default", "friend"}
	a := newAllocator(t, p)
	granted(t, a, service("s1", sharing("k", "TCP", 80)), "10.0.0.0")
	granted(t, a, service("s2", in("friend"), sharing("k", "TCP", 81)), "10.0.0.0")
	granted(t, a, service("s3", in("stranger"), sharing("k", "TCP", 82)), "10.0.0.1")
	refused(t, a, service("s4", in("stranger"), sharing("k", "TCP", 83), asking("10.0.0.0")), reason.SharingRefused)
}

func TestIP10PoolOfANamespace(t *testing.T) {
	p := newPool(t, "p", "10.0.0.0/30")
	p.Namespaces = []string{"owner"}
	a := newAllocator(t, p, newPool(t, "q", "10.1.0.0/30"))
	granted(t, a, service("s1"), "10.1.0.0")
	refused(t, a, service("s1", from("p")), reason.PoolNotAllowed, "10.1.0.0")
	refused(t, a, service("s1", asking("10.0.0.1")), reason.PoolNotAllowed, "10.1.0.0")
	granted(t, a, service("s2", in("owner")), "10.0.0.0")
	require.Equal(t, "q", a.PoolOf(netip.MustParseAddr("10.1.0.3")))
}

func TestIP11Exhaustion(t *testing.T) {
	a := newAllocator(t, newPool(t, "p", "10.0.0.0/30"))
	for _, name := range []string{"s1", "s2", "s3", "s4"} {
		_, err := a.Assign(service(name), epoch)
		require.NoError(t, err)
	}
	refused(t, a, service("s5"), reason.PoolExhausted)
	a.Release("uid-s2", epoch)
	granted(t, a, service("s5"), "10.0.0.1")
	refused(t, a, service("s6"), reason.PoolExhausted)
}

func TestIP13RangeCrossesAnOctet(t *testing.T) {
	a := newAllocator(t, newPool(t, "p", "10.0.0.253-10.0.1.2"))
	require.Equal(t, "6", a.Usage()[0].Size.String())
	for i, want := range []string{"10.0.0.253", "10.0.0.254", "10.0.0.255", "10.0.1.0", "10.0.1.1", "10.0.1.2"} {
		granted(t, a, service(string(rune('a'+i))), want)
	}
}

func TestIP17SizesDoNotOverflow(t *testing.T) {
	a := newAllocator(t, newPool(t, "p", "2001:db8::/64", "10.0.0.0/8"))
	usage := a.Usage()
	require.Equal(t, "16777216", usage[0].Size.String())
	require.Equal(t, "18446744073709551616", usage[1].Size.String())
}

// TestIP17AsFastAsASmallPool compares with a /28: whoever scanned or counted a /8 would be
// thousands of times slower.
func TestIP17AsFastAsASmallPool(t *testing.T) {
	fastest := func(network string) time.Duration {
		a := newAllocator(t, newPool(t, "p", network))
		req := service("s", families(FamilyOf(a.pools[0].Ranges[0].First)))
		best := time.Hour
		for range 50 {
			began := time.Now()
			_, err := a.Assign(req, epoch)
			a.Usage()
			a.Release("uid-s", epoch)
			best = min(best, time.Since(began))
			require.NoError(t, err)
		}
		return best
	}
	small := fastest("10.0.0.0/28")
	for _, network := range []string{"10.0.0.0/8", "2001:db8::/64", "2001:db8::/32"} {
		require.Less(t, fastest(network), 20*small+time.Millisecond, network)
	}
}

func TestIP18Reload(t *testing.T) {
	a := newAllocator(t, newPool(t, "p", "10.0.0.0/28"))
	granted(t, a, service("s1", asking("10.0.0.9")), "10.0.0.9")
	for name, pools := range map[string][]Pool{
		"renamed": {newPool(t, "q", "10.0.0.0/28")},
		"grown":   {newPool(t, "p", "10.0.0.0/24")},
		"split":   {newPool(t, "p", "10.0.0.0/29"), newPool(t, "q", "10.0.0.8/29")},
	} {
		require.NoError(t, a.Configure(Config{Pools: pools}), name)
		granted(t, a, service("s1"), "10.0.0.9")
	}
	shrunk := []Pool{newPool(t, "p", "10.0.0.0/30")}
	err := a.Configure(Config{Pools: shrunk})
	var stranded *StrandedError
	require.ErrorAs(t, err, &stranded)
	require.Contains(t, err.Error(), "default/s1")
	granted(t, a, service("s1"), "10.0.0.9")
	require.NotEmpty(t, a.PoolOf(netip.MustParseAddr("10.0.0.9")), "the refused configuration changed nothing")

	require.NoError(t, a.Configure(Config{Pools: shrunk, Reassign: true}))
	require.Equal(t, []netip.Addr{netip.MustParseAddr("10.0.0.9")}, granted(t, a, service("s1"), "10.0.0.0").Freed)
}

func TestIP19RestoreOddStatus(t *testing.T) {
	a := newAllocator(t, newPool(t, "p", "10.0.0.0/30"))
	findings := a.Restore([]Record{
		{Request: service("outside"), Addresses: addrs("192.0.2.9")},
		{Request: service("two"), Addresses: addrs("10.0.0.1", "10.0.0.2")},
		{Request: service("family"), Addresses: addrs("2001:db8::1")},
		{Request: service("same twice"), Addresses: addrs("10.0.0.3", "10.0.0.3")},
	})
	require.Len(t, findings, 3)
	granted(t, a, service("outside"), "192.0.2.9")
	require.Equal(t, "", a.Held("uid-outside")[0].Pool)
	granted(t, a, service("two"), "10.0.0.1")
	granted(t, a, service("family"), "10.0.0.0")
	granted(t, a, service("same twice"), "10.0.0.3")
	granted(t, a, service("next"), "10.0.0.2")

	require.NoError(t, a.Configure(Config{Pools: []Pool{newPool(t, "p", "10.0.0.0/29")}, Reassign: true}))
	require.Equal(t, addrs("192.0.2.9"), granted(t, a, service("outside"), "10.0.0.4").Freed, "onShrink: Reassign")
}

func TestIP20TwoServicesWithOneAddressAtStart(t *testing.T) {
	a := newAllocator(t, newPool(t, "p", "10.0.0.0/30"))
	older, younger := service("old", sharing("", "TCP", 80)), service("younger", sharing("", "TCP", 80))
	findings := a.Restore([]Record{{Request: younger, Addresses: addrs("10.0.0.1")}, {Request: older, Addresses: addrs("10.0.0.1")}})
	require.Len(t, findings, 1)
	require.Equal(t, "younger", findings[0].Holder.Name)
	granted(t, a, older, "10.0.0.1")
	granted(t, a, younger, "10.0.0.0")
}

func TestIP20AClashByEditSurvivesARestart(t *testing.T) {
	for _, shared := range []bool{true, false} {
		a := newAllocator(t, newPool(t, "p", "10.0.0.0/30"))
		findings := a.Restore([]Record{
			{Request: service("s1", sharing("k", "TCP", 80)), Addresses: addrs("10.0.0.1"), Shared: shared},
			{Request: service("s22", sharing("k", "TCP", 80)), Addresses: addrs("10.0.0.1"), Shared: true},
		})
		require.Len(t, findings, 1)
		require.Equal(t, shared, findings[0].Kept, "only among those who have shared it")
		require.Equal(t, shared, len(a.Held("uid-s22")) > 0)
	}
}

func TestIP21ContradictionsAreRefused(t *testing.T) {
	a := newAllocator(t, newPool(t, "p", "10.0.0.0/30", "2001:db8::/64"))
	granted(t, a, service("s1"), "10.0.0.0")
	refused(t, a, service("s1", asking("10.0.0.1", "10.0.0.2")), reason.RequestInvalid, "10.0.0.0")
	refused(t, a, service("s1", asking("2001:db8::1")), reason.RequestInvalid, "10.0.0.0")
	refused(t, a, service("s1", func(r *Request) { r.Unreadable = `"x" is not an IP address` }), reason.RequestInvalid, "10.0.0.0")
	refused(t, a, service("s2", requireDual, asking("10.0.0.1")), reason.RequestInvalid)
	refused(t, a, service("s2", asking("192.0.2.1")), reason.AddressOutsidePools)
	refused(t, a, service("s2", from("nowhere")), reason.PoolUnknown)
}

func TestPoolOrder(t *testing.T) {
	general, low, mine, labelled := newPool(t, "a", "10.0.0.0/32"), newPool(t, "z", "10.0.1.0/32"), newPool(t, "y", "10.0.2.0/32"), newPool(t, "x", "10.0.3.0/32")
	low.Priority = -1
	mine.Namespaces = []string{"default"}
	labelled.ServiceSelector = labelSelector{"tier", "gold"}
	a := newAllocator(t, general, low, mine, labelled)
	gold := func(r *Request) { r.Labels = map[string]string{"tier": "gold"} }
	granted(t, a, service("s1", gold), "10.0.3.0")
	granted(t, a, service("s2", gold), "10.0.2.0")
	granted(t, a, service("s3"), "10.0.1.0")
	granted(t, a, service("s4"), "10.0.0.0")
}

func TestQuota(t *testing.T) {
	p := newPool(t, "p", "10.0.0.0/29")
	p.MaxPerNamespace = 1
	a := newAllocator(t, p)
	granted(t, a, service("s1", sharing("k", "TCP", 80)), "10.0.0.0")
	refused(t, a, service("s2"), reason.QuotaExceeded)
	refused(t, a, service("s2", asking("10.0.0.3")), reason.QuotaExceeded)
	granted(t, a, service("s3", sharing("k", "TCP", 81)), "10.0.0.0")
	granted(t, a, service("s4", in("other")), "10.0.0.1")
	a.Release("uid-s1", epoch)
	refused(t, a, service("s2"), reason.QuotaExceeded)
	a.Release("uid-s3", epoch)
	granted(t, a, service("s2"), "10.0.0.2")
}

func TestDisabledAndManualPools(t *testing.T) {
	drained, manual := newPool(t, "drained", "10.0.0.0/30"), newPool(t, "manual", "10.0.1.0/30")
	a := newAllocator(t, drained, manual)
	granted(t, a, service("s1"), "10.0.0.0")
	drained.Disabled, manual.AutoAssign = true, false
	require.NoError(t, a.Configure(Config{Pools: []Pool{drained, manual}}))
	granted(t, a, service("s1"), "10.0.0.0")
	refused(t, a, service("s2"), reason.NoPool)
	refused(t, a, service("s2", asking("10.0.0.1")), reason.PoolDisabled)
	granted(t, a, service("s2", from("manual")), "10.0.1.0")
	refused(t, newAllocator(t, manual), service("s2"), reason.NoPool)
}

func TestReservations(t *testing.T) {
	a := New()
	require.NoError(t, a.Configure(Config{
		Pools:        []Pool{newPool(t, "p", "10.0.0.0/30")},
		Reservations: []Reservation{{Namespace: "default", Name: "web", Addresses: addrs("10.0.0.0")}},
	}))
	granted(t, a, service("s1"), "10.0.0.1")
	refused(t, a, service("s2", asking("10.0.0.0")), reason.AddressReserved)
	granted(t, a, service("web"), "10.0.0.0")
}

func TestQuarantine(t *testing.T) {
	a := newAllocator(t, newPool(t, "p", "10.0.0.0/31"))
	quarantined := netip.MustParseAddr("10.0.0.0")
	a.Quarantine(quarantined, "02:00:00:00:00:01")
	refusal := refused(t, a, service("s1", asking("10.0.0.0")), reason.AddressQuarantined)
	require.Equal(t, "address 10.0.0.0 is not given out: 02:00:00:00:00:01", refusal.Message)
	granted(t, a, service("s1"), "10.0.0.1")
	refusal = refused(t, a, service("s2"), reason.PoolExhausted)
	require.Equal(t, `pool "p" has no free IPv4 address (nodes or other machines on the network have 1); free one, or add addresses to the pool`, refusal.Message)
	require.Equal(t, 1, a.Usage()[0].Quarantined)

	a.Withdraw(quarantined)
	a.Discharge(quarantined)
	refused(t, a, service("s2"), reason.PoolExhausted)
	a.Withdrawn(quarantined)
	granted(t, a, service("s2"), "10.0.0.0")
	a.Quarantine(quarantined, "02:00:00:00:00:01")
	granted(t, a, service("s2", asking("10.0.0.0")), "10.0.0.0") // Who holds it keeps it.
}

// TestUpcomingReserved: what is reserved comes up when its Service does, whenever that is.
func TestUpcomingReserved(t *testing.T) {
	disabled := newPool(t, "disabled", "10.1.0.0/30")
	disabled.Disabled = true
	a := New()
	require.NoError(t, a.Configure(Config{
		Pools:        []Pool{newPool(t, "p", "10.0.0.0/30"), disabled},
		Reservations: []Reservation{{Namespace: "default", Name: "web", Addresses: addrs("10.0.0.0")}},
	}))
	require.Equal(t, addrs("10.0.0.1", "10.0.0.2", "10.0.0.0"), a.Lookahead("p", IPv4, 2))
	granted(t, a, service("web"), "10.0.0.0")
	require.Equal(t, addrs("10.0.0.1", "10.0.0.2", "10.0.0.3"), a.Lookahead("p", IPv4, 4))
	require.Empty(t, a.Lookahead("p", IPv6, 4))
	require.Empty(t, a.Lookahead("disabled", IPv4, 4))
	require.Empty(t, a.Lookahead("none", IPv4, 4))
}

func addrs(texts ...string) []netip.Addr {
	var out []netip.Addr
	for _, s := range texts {
		out = append(out, netip.MustParseAddr(s))
	}
	return out
}
