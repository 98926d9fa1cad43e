package loadbalancer

import (
	"fmt"
	"net/netip"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"baremetal.cloud/ccm/pkg/ipam"
)

// fullPool returns a full pool that many Services wait for, and what frees its n-th address.
func fullPool(t testing.TB, holders, waiting int) (b *Balancer, free func(n int), now time.Time) {
	t.Helper()
	now = time.Date(2026, 11, 21, 0, 0, 0, 0, time.UTC)
	b = New()
	r, err := ipam.ParseRange(fmt.Sprintf("10.0.0.0-%s", nth(holders-1)))
	require.NoError(t, err)
	require.NoError(t, b.Configure(Config{Config: ipam.Config{Pools: []ipam.Pool{{Name: "default", AutoAssign: true, Ranges: []ipam.Range{r}}}}}))
	for i := range holders + waiting {
		s := Service{Request: ipam.Request{
			Holder:   ipam.Holder{UID: fmt.Sprint("uid-", i), Namespace: "default", Name: fmt.Sprint("s", i), Created: now.Add(time.Duration(i) * time.Second)},
			Families: []ipam.Family{ipam.IPv4},
		}}
		require.Equal(t, i < holders, b.Ensure(s, now) == nil)
	}
	for b.Freed() {
		b.Retry(now)
	}
	return b, func(n int) { b.Release(fmt.Sprint("uid-", n), now) }, now
}

func nth(n int) netip.Addr { return netip.AddrFrom4([4]byte{10, 0, byte(n >> 8), byte(n)}) }

// A freed address is offered to those alone that it could serve: with thousands that wait,
// one is asked for each, and none for an address that its node has not withdrawn yet.
func TestFault_K1_8_FreedAddressAsksFew(t *testing.T) {
	const deletions = 100
	b, free, now := fullPool(t, 2*deletions, 10_000)
	asked := b.asked
	for n := range deletions {
		free(n)
		var served []string
		for b.Freed() {
			served = append(served, b.Retry(now)...)
		}
		require.Equal(t, []string{fmt.Sprint("uid-", 2*deletions+n)}, served, "the oldest")
	}
	require.LessOrEqual(t, b.asked-asked, uint64(2*deletions))

	asked = b.asked
	for n := deletions; n < 2*deletions; n++ {
		b.addresses.Withdraw(nth(n))
		free(n)
		for b.Freed() {
			require.Empty(t, b.Retry(now))
		}
	}
	require.Equal(t, asked, b.asked, "an address that is not free yet is offered to none")
}

// A Service that waits by name, for a key or because of a quota is asked when its turn comes.
func TestFault_K1_8_EachKindOfWaitingIsServed(t *testing.T) {
	w := newWorld(t)
	w.run("pool default 10.0.0.0/31\nservice a\nservice b key=k port=80")
	w.run("service named address=10.0.0.0\nservice keyed key=k port=80\nservice draws\nservice elsewhere address=10.0.0.9")
	require.True(t, w.b.Freed(), "b may be joined")
	require.Empty(t, w.b.Retry(w.now))
	w.b.Release("uid-a", w.now)
	require.Equal(t, []string{"uid-draws"}, w.b.Retry(w.now)[:1], "of one age the lower UID")
	w.run("service b key=k port=81")
	require.Equal(t, []string{"uid-keyed"}, w.b.Retry(w.now))
	w.b.Release("uid-draws", w.now)
	require.Equal(t, []string{"uid-named"}, w.b.Retry(w.now))
	require.Len(t, w.b.waiting.listed, 1)

	limited := New()
	require.NoError(t, limited.Configure(Config{Config: ipam.Config{Pools: []ipam.Pool{{
		Name: "p", AutoAssign: true, MaxPerNamespace: 1, Ranges: []ipam.Range{{First: nth(0), Last: nth(3)}},
	}}}}))
	request := func(name string) Service {
		return Service{Request: ipam.Request{Holder: ipam.Holder{UID: name, Namespace: "default", Name: name}, Families: []ipam.Family{ipam.IPv4}}}
	}
	require.NoError(t, limited.Ensure(request("x"), w.now))
	require.Error(t, limited.Ensure(request("y"), w.now))
	limited.addresses.Withdraw(nth(0))
	limited.Release("x", w.now)
	require.True(t, limited.Freed())
	require.Equal(t, []string{"y"}, limited.Retry(w.now), "another address of the pool")
}

// What one deletion costs while 10 000 Services wait for an address.
func BenchmarkDeletionWhileManyWait(b *testing.B) {
	balancer, free, now := fullPool(b, 1000, 10_000)
	b.ResetTimer()
	for n := range b.N {
		free(n % 11_000)
		for balancer.Freed() {
			balancer.Retry(now)
		}
	}
}
