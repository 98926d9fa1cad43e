package loadbalancer

import (
	"maps"
	"net/netip"
	"slices"
)

// maxConflictNews is how much of what happened is kept for the next call of Conflicts.
const maxConflictNews = 1 << 10

// ConflictKind is what happened between an address and another machine.
type ConflictKind string

// The kinds.
const (
	// Quarantined: a free address is not given out, because a machine uses it.
	Quarantined ConflictKind = "quarantined"
	// Discharged: it is given out again.
	Discharged ConflictKind = "discharged"
	// Unquarantined: it is given out all the same, as half of what is free is in quarantine.
	Unquarantined ConflictKind = "unquarantined"
	// Contested: a machine uses an address that a Service holds.
	Contested ConflictKind = "contested"
	// Settled: the machine no longer uses it.
	Settled ConflictKind = "settled"
	// Proxied: a machine answers for so many addresses that it has to be a proxy.
	Proxied ConflictKind = "proxied"
)

// ConflictKinds returns all kinds.
func ConflictKinds() []ConflictKind {
	return []ConflictKind{Quarantined, Discharged, Unquarantined, Contested, Settled, Proxied}
}

// Conflict is one thing that happened.
type Conflict struct {
	Kind ConflictKind
	// Address is one of those concerned where Kind is Proxied, and Count how many they are.
	Address netip.Addr
	Count   int
	// Pool is the address's.
	Pool    string
	Machine Machine
}

// addNews keeps what happened. A standby says nothing: another replica does.
func (c *conflicts) addNews(news Conflict) {
	if !c.leads {
		return
	}
	c.counts[news.Kind]++
	if len(c.news) < maxConflictNews {
		c.news = append(c.news, news)
	}
}

// Conflicted reports whether Conflicts has something to return.
func (b *Balancer) Conflicted() bool { return len(b.conflicts.news) > 0 }

// Conflicts returns what happened since it was last called, in order.
func (b *Balancer) Conflicts() []Conflict {
	out := b.conflicts.news
	b.conflicts.news = nil
	return out
}

// ConflictCounts are the conflicts at one time, and what happened.
type ConflictCounts struct {
	// Contested are the addresses that Services hold and other machines use, with one of these.
	Contested map[netip.Addr]Machine
	// Proxies is how many machines answer for too many addresses.
	Proxies int
	// Happened counts what happened so far.
	Happened map[ConflictKind]uint64
}

// ConflictCounts returns the present conflicts; the maps are the Balancer's.
func (b *Balancer) ConflictCounts() ConflictCounts {
	return ConflictCounts{Contested: b.conflicts.contested, Proxies: len(b.conflicts.proxies), Happened: b.conflicts.counts}
}

// leadConflicts begins to tell of conflicts: first of those that there are already. A
// replica that told of them before, in another term, does not repeat them.
func (b *Balancer) leadConflicts() {
	c := &b.conflicts
	if c.leads {
		return
	}
	c.leads, c.renew = true, true
	for _, address := range sortedAddresses(c.quarantined) {
		c.addNews(Conflict{Kind: Quarantined, Address: address, Pool: b.addresses.PoolOf(address), Machine: c.quarantined[address].machine})
	}
	for _, address := range sortedAddresses(c.contested) {
		c.addNews(Conflict{Kind: Contested, Address: address, Pool: b.addresses.PoolOf(address), Machine: c.contested[address]})
	}
	for _, mac := range slices.Sorted(maps.Keys(c.proxies)) {
		b.tellProxy(mac)
	}
}

func (b *Balancer) tellProxy(mac string) {
	c := &b.conflicts
	news := Conflict{Kind: Proxied, Count: c.proxies[mac]}
	for address, machines := range c.found {
		for _, m := range machines {
			if m.MAC == mac && (!news.Address.IsValid() || address.Less(news.Address)) {
				news.Address, news.Machine = address, m
			}
		}
	}
	news.Pool = b.addresses.PoolOf(news.Address)
	c.addNews(news)
}
