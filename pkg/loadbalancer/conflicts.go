package loadbalancer

import (
	"cmp"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"time"

	"baremetal.cloud/ccm/pkg/announcer/announcement"
	"baremetal.cloud/ccm/pkg/ipam"
	"baremetal.cloud/ccm/pkg/reason"
)

const (
	// proxyAbove is how many addresses of one family a machine may have that is not a proxy.
	proxyAbove = 3
	// maxConflictNews is how much of what happened is kept for somebody who asks.
	maxConflictNews = 1 << 10
)

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
	// Settled: it does not any more.
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

// Machine is what has an address beside Services: one that is none of the cluster's nodes, or a
// node, a gateway or a router that is known to.
type Machine struct {
	// Owner says what it is, where that is known without its having been heard: "node node1".
	// All else is zero then.
	Owner string
	// MAC is its hardware address, and Interface and Node where it was heard: by the first
	// of the nodes that did.
	MAC, Interface, Node string
	// Nodes is how many heard it.
	Nodes int
}

// String names the machine for people.
func (m Machine) String() string {
	if m.Owner != "" {
		return m.Owner
	}
	return fmt.Sprintf("%s, heard on %s of node %s", m.MAC, m.Interface, m.Node)
}

// conflicts is what is known of machines that are none of the cluster's nodes and have
// addresses of its pools.
type conflicts struct {
	// renew says that it is to be judged again, and next when, though nothing has changed;
	// zero is never.
	renew bool
	next  time.Time
	// leads says that this replica is to tell of what happens.
	leads bool
	// finders are the nodes whose last report has findings, and hardware the hardware
	// addresses of the cluster's nodes; nil where they changed.
	finders  map[string]bool
	hardware map[string]bool
	// found are the machines of each address, by MAC.
	found map[netip.Addr][]Machine
	// owned are the addresses of pools that are known to be a node's or a router's.
	owned map[netip.Addr]Machine
	// tight says that a Service took an address of a pool that may now have too much in
	// quarantine.
	tight bool
	// quarantined are the free addresses that are not given out, contested those held that a
	// machine uses too, and spared those that are not in quarantine as half of what is free is.
	quarantined map[netip.Addr]*quarantine
	contested   map[netip.Addr]Machine
	spared      map[netip.Addr]bool
	// proxies are the MACs of those that have too much, by the number of addresses.
	proxies map[string]int
	// routers are the addresses of BGP peers.
	routers map[netip.Addr]bool
	news    []Conflict
	counts  map[ConflictKind]uint64
}

func newConflicts() conflicts {
	return conflicts{
		finders: map[string]bool{},
		found:   map[netip.Addr][]Machine{}, quarantined: map[netip.Addr]*quarantine{}, contested: map[netip.Addr]Machine{},
		spared: map[netip.Addr]bool{}, proxies: map[string]int{}, routers: map[netip.Addr]bool{}, counts: map[ConflictKind]uint64{},
	}
}

// suspects yields the addresses that are to be asked for because a stranger has them, or had.
func (c *conflicts) suspects() map[netip.Addr]bool {
	out := map[netip.Addr]bool{}
	for address := range c.found {
		out[address] = true
	}
	for address, q := range c.quarantined {
		if q.machine.Owner == "" {
			out[address] = true
		}
	}
	return out
}

// touch has it judged again if it may concern address, which a Service took or gave up.
func (c *conflicts) touch(address netip.Addr) {
	_, owned := c.owned[address]
	c.renew = c.renew || len(c.found[address]) > 0 || c.quarantined[address] != nil || owned
	c.tight = c.tight || len(c.quarantined) > 0
}

// tell keeps what happened. A standby says nothing: another replica does.
func (c *conflicts) tell(news Conflict) {
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

// leadConflicts begins to tell of conflicts: first of those that there are already. Who has
// told of them before, in another term, does not again.
func (b *Balancer) leadConflicts() {
	c := &b.conflicts
	if c.leads {
		return
	}
	c.leads, c.renew = true, true
	for _, address := range sortedAddresses(c.quarantined) {
		c.tell(Conflict{Kind: Quarantined, Address: address, Pool: b.addresses.PoolOf(address), Machine: c.quarantined[address].machine})
	}
	for _, address := range sortedAddresses(c.contested) {
		c.tell(Conflict{Kind: Contested, Address: address, Pool: b.addresses.PoolOf(address), Machine: c.contested[address]})
	}
	for _, mac := range slices.Sorted(maps.Keys(c.proxies)) {
		b.tellProxy(mac)
	}
}

// heardFindings notes whether a report has news of machines, or of what was asked for.
func (b *Balancer) heardFindings(node string, before, after announcement.Report, fresh bool) {
	if len(after.Findings) > 0 {
		b.conflicts.finders[node] = true
	} else {
		delete(b.conflicts.finders, node)
	}
	found := !slices.Equal(before.Findings, after.Findings)
	probed := before.Probed != after.Probed
	if found || fresh || probed && len(b.conflicts.quarantined)+len(b.conflicts.found) > 0 {
		b.conflicts.renew = true
	}
	if found || fresh || probed && len(b.probing.late) > 0 {
		b.probing.renew = true
	}
}

// Inspect judges what nodes say of other machines, and puts free addresses into quarantine or
// lets them out of it. It returns the addresses that Services hold of which something new is
// to be said, and when to call it again though nothing has changed; 0 is never.
func (b *Balancer) Inspect(now time.Time) (changed []netip.Addr, again time.Duration) {
	c := &b.conflicts
	switch {
	case c.renew || !c.next.IsZero() && !now.Before(c.next):
		c.renew, c.tight, c.next = false, false, time.Time{}
		b.gather()
		changed = b.contend()
		b.confine(now)
	case c.tight:
		c.tight = false
		b.relax()
	}
	if !c.next.IsZero() {
		again = max(c.next.Sub(now), time.Millisecond)
	}
	return changed, again
}

// gather collects who has which addresses, nodes and proxies aside.
func (b *Balancer) gather() {
	c := &b.conflicts
	if c.hardware == nil {
		c.hardware = b.hardware()
	}
	c.owned = b.ownedAddresses()
	found := map[netip.Addr]map[string]Machine{}
	for _, name := range b.finders() {
		for _, f := range b.announcer[name].report.Findings {
			if c.hardware[f.MAC] || b.addresses.PoolOf(f.Address) == "" {
				continue
			}
			if found[f.Address] == nil {
				found[f.Address] = map[string]Machine{}
			}
			m, ok := found[f.Address][f.MAC]
			if !ok {
				m = Machine{MAC: f.MAC, Interface: f.Interface, Node: name}
			}
			m.Nodes++
			found[f.Address][f.MAC] = m
		}
	}
	c.found = map[netip.Addr][]Machine{}
	for address, machines := range found {
		for _, m := range machines {
			c.found[address] = append(c.found[address], m)
		}
		slices.SortFunc(c.found[address], func(m, n Machine) int {
			return cmp.Or(cmp.Compare(n.Nodes, m.Nodes), strings.Compare(m.MAC, n.MAC))
		})
	}
	b.findProxies()
}

// finders returns the connected nodes that found somebody, sorted.
func (b *Balancer) finders() []string {
	var out []string
	for name := range b.conflicts.finders {
		if _, ok := b.nodes[name]; ok && b.connected(name) {
			out = append(out, name)
		}
	}
	slices.Sort(out)
	return out
}

// hardware returns the hardware addresses of the cluster's nodes.
func (b *Balancer) hardware() map[string]bool {
	out := map[string]bool{}
	for _, known := range b.announcer {
		for _, i := range known.interfaces {
			out[i.MAC] = true
		}
	}
	return out
}

// findProxies tells of machines that have more addresses than one has: a router that does
// proxy ARP answers for all that is asked for, and would have the whole pool in quarantine.
func (b *Balancer) findProxies() {
	c := &b.conflicts
	before := c.proxies
	c.proxies = map[string]int{}
	type held struct {
		mac    string
		family ipam.Family
	}
	counts := map[held][]netip.Addr{}
	for address, machines := range c.found {
		for _, m := range machines {
			h := held{m.MAC, ipam.FamilyOf(address)}
			counts[h] = append(counts[h], address)
		}
	}
	for h, addresses := range counts {
		if len(addresses) > proxyAbove {
			c.proxies[h.mac] += len(addresses)
		}
	}
	for _, mac := range slices.Sorted(maps.Keys(c.proxies)) {
		if before[mac] == 0 {
			b.tellProxy(mac)
		}
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
	c.tell(news)
}

// user returns what has address beside Services, or would have: a node or router that is known
// to, else the machine that most nodes heard, proxies aside.
func (c *conflicts) user(address netip.Addr) (Machine, bool) {
	if m, ok := c.owned[address]; ok {
		return m, true
	}
	return c.stranger(address)
}

// used returns the addresses that user may return something for, sorted: those of the cluster
// before those of strangers.
func (c *conflicts) used() []netip.Addr {
	out := sortedAddresses(c.owned)
	for _, address := range sortedAddresses(c.found) {
		if _, ok := c.owned[address]; !ok {
			out = append(out, address)
		}
	}
	return out
}

// stranger returns the machine, no proxy, that uses address and that most nodes heard.
func (c *conflicts) stranger(address netip.Addr) (Machine, bool) {
	for _, m := range c.found[address] {
		if c.proxies[m.MAC] == 0 {
			return m, true
		}
	}
	return Machine{}, false
}

// contend brings up to date which addresses that Services hold others use, and returns those
// of which there is news. One node's word is enough: nothing but words comes of it.
func (b *Balancer) contend() (changed []netip.Addr) {
	c := &b.conflicts
	before := c.contested
	c.contested = map[netip.Addr]Machine{}
	for _, address := range c.used() {
		m, ok := c.user(address)
		if !ok || len(b.addresses.Holders(address)) == 0 {
			continue
		}
		c.contested[address] = m
		if old, was := before[address]; !was {
			c.tell(Conflict{Kind: Contested, Address: address, Pool: b.addresses.PoolOf(address), Machine: m})
			changed = append(changed, address)
		} else if old.MAC != m.MAC || old.Owner != m.Owner {
			changed = append(changed, address)
		}
	}
	for _, address := range sortedAddresses(before) {
		if _, still := c.contested[address]; !still {
			c.tell(Conflict{Kind: Settled, Address: address, Pool: b.addresses.PoolOf(address), Machine: before[address]})
			changed = append(changed, address)
		}
	}
	return changed
}

func sortedAddresses[V any](m map[netip.Addr]V) []netip.Addr {
	return slices.SortedFunc(maps.Keys(m), netip.Addr.Compare)
}

// contestedVerdict says of the verdict on an address that is announced whether another machine uses
// it, too.
func (b *Balancer) contestedVerdict(address netip.Addr, v Verdict) Verdict {
	m, ok := b.conflicts.contested[address]
	if !ok || !v.OK {
		return v
	}
	return Verdict{OK: true, Reason: reason.AddressConflict, Message: fmt.Sprintf("%s; another machine uses %s too (%s), so that some clients may reach that one", v.Message, address, m)}
}
