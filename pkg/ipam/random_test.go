package ipam

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"baremetal.cloud/ccm/pkg/reason"
)

// naive is the allocator that one would write in an afternoon: it scans.
type naive struct {
	pools []Pool
	held  map[string]netip.Addr
	freed map[netip.Addr]int // when, in operations; absent is never
	// quarantined are not given out; those passed over meanwhile come after all that were
	// never used, as if they had been freed before the first operation.
	quarantined, passed map[netip.Addr]bool
}

func (n *naive) discharge(a netip.Addr) {
	if _, used := n.freed[a]; !used && n.passed[a] {
		n.freed[a] = -1
	}
	delete(n.quarantined, a)
	delete(n.passed, a)
}

func newNaive(pools []Pool) *naive {
	return &naive{
		pools: pools, held: map[string]netip.Addr{}, freed: map[netip.Addr]int{},
		quarantined: map[netip.Addr]bool{}, passed: map[netip.Addr]bool{},
	}
}

func (n *naive) taken(a netip.Addr) bool {
	for _, h := range n.held {
		if h == a {
			return true
		}
	}
	return false
}

func (n *naive) assign(uid string, want netip.Addr) (netip.Addr, bool) {
	if h, ok := n.held[uid]; ok && (!want.IsValid() || h == want) {
		return h, true
	}
	if want.IsValid() {
		if n.taken(want) || n.quarantined[want] || !slices.ContainsFunc(n.pools, func(p Pool) bool { return contains(p, want) }) {
			return n.held[uid], false
		}
		return want, true
	}
	for _, p := range n.pools {
		best, bestAt := netip.Addr{}, 0
		for _, r := range p.Ranges {
			for a := r.First; r.Contains(a); a = a.Next() {
				if n.taken(a) {
					continue
				}
				if n.quarantined[a] {
					n.passed[a] = true
					continue
				}
				at, used := n.freed[a]
				if !used {
					return a, true
				}
				if !best.IsValid() || at < bestAt || at == bestAt && a.Less(best) {
					best, bestAt = a, at
				}
			}
		}
		if best.IsValid() {
			return best, true
		}
	}
	return netip.Addr{}, false
}

func contains(p Pool, a netip.Addr) bool {
	return slices.ContainsFunc(p.Ranges, func(r Range) bool { return r.Contains(a) })
}

// TestRandomAgainstNaiveModel does random operations on both and compares each answer.
func TestRandomAgainstNaiveModel(t *testing.T) {
	for seed := range uint64(60) {
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) {
			random := rand.New(rand.NewPCG(seed, 1))
			// Without a rest the order of reuse is that of release, pool by pool.
			pools := []Pool{newPool(t, "a", "10.0.0.6-10.0.0.9", "10.0.0.1-10.0.0.2"), newPool(t, "b", "10.0.0.20/30")}
			for i := range pools {
				pools[i].ReuseAfter = 0
			}
			a, model := newAllocator(t, pools...), newNaive(pools)
			for op := range 400 {
				now := epoch.Add(time.Duration(op) * time.Second)
				name := fmt.Sprint("s", random.IntN(14))
				uid := "uid-" + name
				address := netip.AddrFrom4([4]byte{10, 0, 0, byte(random.IntN(26))})
				switch random.IntN(6) {
				case 0:
					if h, ok := model.held[uid]; ok {
						model.freed[h] = op
						delete(model.held, uid)
					}
					a.Release(uid, now)
				case 1:
					check(t, a, model, service(name, asking(address.String())), address, now, op)
				case 2:
					require.NoError(t, a.Configure(a.config))
					clear(model.passed)
				case 3:
					if !model.taken(address) {
						a.Quarantine(address, "02:00:00:00:00:01")
						model.quarantined[address] = true
					}
				case 4:
					a.Discharge(address)
					model.discharge(address)
				default:
					check(t, a, model, service(name), netip.Addr{}, now, op)
				}
			}
		})
	}
}

func check(t *testing.T, a *Allocator, model *naive, req Request, want netip.Addr, now time.Time, op int) {
	t.Helper()
	before, held := model.held[req.Holder.UID]
	expected, ok := model.assign(req.Holder.UID, want)
	result, err := a.Assign(req, now)
	require.Equal(t, ok, err == nil, "operation %d: %v", op, err)
	if !expected.IsValid() {
		require.Empty(t, result.Assignments)
		return
	}
	require.Equal(t, []string{expected.String()}, texts(result), "operation %d", op)
	if ok {
		if held && before != expected {
			model.freed[before] = op
		}
		model.held[req.Holder.UID] = expected
	}
}

// TestUpcoming: what is said to come next is what is given out next, whatever came before.
func TestUpcoming(t *testing.T) {
	for seed := range uint64(60) {
		random := rand.New(rand.NewPCG(seed, 3))
		p := newPool(t, "p", "10.0.0.6-10.0.0.9", "10.0.0.16/28")
		p.ReuseAfter = 0
		a := newAllocator(t, p)
		now := epoch
		for range 60 {
			now = now.Add(time.Second)
			name := fmt.Sprint("s", random.IntN(16))
			address := netip.AddrFrom4([4]byte{10, 0, 0, byte(6 + random.IntN(26))})
			switch random.IntN(6) {
			case 0:
				a.Release("uid-"+name, now)
			case 1:
				a.Quarantine(address, "02:00:00:00:00:01")
			case 2:
				a.Discharge(address)
			case 3:
				a.Withdraw(address)
			case 4:
				a.Withdrawn(address)
			default:
				_, _ = a.Assign(service(name), now) // The pool may be full.
			}
		}
		next := a.Lookahead("p", IPv4, 5)
		for i, want := range next {
			granted(t, a, service(fmt.Sprint("new", i)), want.String())
		}
		if len(next) < 5 {
			refused(t, a, service("one-more"), reason.PoolExhausted)
		}
	}
}

// TestRandomSharing checks promise 1 under random sharing: two Services hold one address
// only under the sharing rule, and an unchanged request changes nothing.
func TestRandomSharing(t *testing.T) {
	for seed := range uint64(60) {
		random := rand.New(rand.NewPCG(seed, 2))
		p := newPool(t, "p", "10.0.0.0/29", "2001:db8::/125")
		p.SharedNamespaces = []string{"default", "friend"}
		a := newAllocator(t, p)
		requests := map[string]Request{}
		for range 300 {
			name := fmt.Sprint("s", random.IntN(20))
			if random.IntN(3) == 0 {
				a.Release("uid-"+name, epoch)
				delete(requests, name)
				continue
			}
			req, known := requests[name]
			if !known {
				req = service(name, in([]string{"default", "friend", "stranger"}[random.IntN(3)]),
					sharing([]string{"", "k", "l"}[random.IntN(3)], "TCP", uint16(random.IntN(3))),
					[]func(*Request){families(IPv4), preferDual, requireDual, families(IPv6)}[random.IntN(4)])
			}
			before := a.Held(req.Holder.UID)
			result, err := a.Assign(req, epoch)
			if known && err == nil {
				require.Subset(t, a.Held(req.Holder.UID), before, "an address stays")
			}
			require.Empty(t, result.Clashes)
			if len(result.Assignments) > 0 {
				requests[name] = req
			}
			audit(t, a)
		}
	}
}

// audit checks the allocator's books against each other.
func audit(t *testing.T, a *Allocator) {
	t.Helper()
	for uid, r := range a.records {
		require.NotEmpty(t, r.addresses, uid)
		require.Empty(t, a.clashesOf(r))
		for _, address := range r.addresses {
			require.Contains(t, a.holders[address], r)
			require.NotContains(t, a.freelistOf(address).where, address)
			if r.sharing.Key != "" {
				require.True(t, a.keys[r.sharing.Key][address])
			}
		}
	}
	type share struct{ pool, namespace string }
	used, held := map[share]map[netip.Addr]bool{}, map[*freelist]int{}
	for address, holders := range a.holders {
		require.NotEmpty(t, holders, address)
		held[a.freelistOf(address)]++
		for _, r := range holders {
			s := share{a.PoolOf(address), r.holder.Namespace}
			if used[s] == nil {
				used[s] = map[netip.Addr]bool{}
			}
			used[s][address] = true
		}
	}
	for _, p := range a.pools {
		for namespace, n := range p.usage {
			require.Len(t, used[share{p.Name, namespace}], n)
			delete(used, share{p.Name, namespace})
		}
		for _, s := range p.spaces {
			require.Equal(t, held[s], s.held)
		}
	}
	require.Empty(t, used, "of nobody's use is nothing known")
	for key, addresses := range a.keys {
		for address := range addresses {
			require.True(t, slices.ContainsFunc(a.holders[address], func(r *record) bool { return r.sharing.Key == key }))
		}
	}
}
