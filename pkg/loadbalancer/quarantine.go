package loadbalancer

import (
	"cmp"
	"math/big"
	"net/netip"
	"slices"
	"strings"
	"time"

	"baremetal.cloud/ccm/pkg/ipam"
)

// quarantine is one address in quarantine: since when it has been silent, or zero while a
// machine answers for it.
type quarantine struct {
	machine Machine
	silent  time.Time
}

// updateQuarantine puts free addresses into quarantine and lets them out of it.
func (b *Balancer) updateQuarantine(now time.Time) {
	c := &b.conflicts
	by := map[string]int{}
	for _, m := range c.owned {
		by[m.Owner]++
	}
	for _, address := range sortedAddresses(c.quarantined) {
		b.reviewQuarantined(address, by, now)
	}
	spared := c.spared
	c.spared = map[netip.Addr]bool{}
	for _, address := range c.usedAddresses() {
		m, ok := c.userOf(address)
		if !ok || c.quarantined[address] != nil || len(b.addresses.Holders(address)) > 0 || m.Owner == "" && !b.isConfirmed(address) {
			continue
		}
		pool := b.addresses.PoolOf(address)
		if b.isQuarantineFull(address) {
			if c.spared[address] = true; !spared[address] {
				c.addNews(Conflict{Kind: Unquarantined, Address: address, Pool: pool, Machine: m})
			}
			continue
		}
		c.quarantined[address] = &quarantine{machine: m}
		b.addresses.Quarantine(address, m.usageText())
		b.probing.renew = true
		c.addNews(Conflict{Kind: Quarantined, Address: address, Pool: pool, Machine: m})
	}
	b.relaxQuarantine()
}

// reviewQuarantined looks at an address in quarantine again. It leaves when a Service holds it after
// all, as after a restart, when no pool contains it, when the machine that answers is a proxy, and
// when it was silent for long enough. by counts the addresses of each node, which keeps no more than
// maxOwned back, those that it had before included.
func (b *Balancer) reviewQuarantined(address netip.Addr, by map[string]int, now time.Time) {
	c := &b.conflicts
	q := c.quarantined[address]
	m, found := c.userOf(address)
	switch {
	case b.addresses.PoolOf(address) == "" || len(b.addresses.Holders(address)) > 0:
		b.dischargeAddress(address)
	case found:
		q.machine, q.silent = m, time.Time{}
		b.addresses.Quarantine(address, m.usageText())
	case len(c.found[address]) > 0, q.machine.Owner == "" && !c.leads:
		b.dischargeAddress(address) // It is a proxy, or another replica looks at it.
	case q.machine.Owner == "" && !b.wasProbed(address):
		// Silence says nothing before it was asked for. That a node has an address no more it
		// said itself, but the next one that takes it over may not have said so yet.
	case q.machine.Owner != "" && by[q.machine.Owner] >= maxOwned:
		b.dischargeAddress(address)
	case q.silent.IsZero():
		q.silent = now
		fallthrough
	default:
		by[q.machine.Owner]++
		end := q.silent.Add(b.probing.Quarantine)
		if !now.Before(end) {
			b.dischargeAddress(address)
		} else if c.next.IsZero() || end.Before(c.next) {
			c.next = end
		}
	}
}

func (b *Balancer) dischargeAddress(address netip.Addr) { b.endQuarantine(address, Discharged) }

// endQuarantine takes address out of quarantine.
func (b *Balancer) endQuarantine(address netip.Addr, kind ConflictKind) {
	c := &b.conflicts
	c.addNews(Conflict{Kind: kind, Address: address, Pool: b.addresses.PoolOf(address), Machine: c.quarantined[address].machine})
	delete(c.quarantined, address)
	b.addresses.Discharge(address)
	b.offers.addresses[address], b.probing.renew = true, true
}

// isConfirmed reports whether more than one node has heard a machine answer for address, or
// no other node can be asked.
func (b *Balancer) isConfirmed(address netip.Addr) bool {
	finders := map[string]bool{}
	for _, name := range b.connectedFinders() {
		for _, f := range b.announcer[name].report.Findings {
			if f.Address == address && slices.ContainsFunc(b.conflicts.found[address], func(m Machine) bool { return m.MAC == f.MAC }) {
				finders[name] = true
			}
		}
	}
	d := b.dutyOf(address)
	return len(finders) > 1 || d != nil && d.node != "" && b.secondProber(d) == ""
}

// isQuarantineFull reports whether no more addresses like that may be in quarantine: of what is free in
// its pool, half of each family are at most, rounded down.
func (b *Balancer) isQuarantineFull(address netip.Addr) bool {
	pool, family := b.addresses.PoolOf(address), ipam.FamilyOf(address)
	for _, u := range b.addresses.Usage() {
		if u.Pool == pool && u.Family == family {
			return excessOf(u, u.Quarantined+1) > 0
		}
	}
	return true
}

// excessOf returns by how many quarantined addresses exceed half of what is free, at least 0.
func excessOf(u ipam.Usage, quarantined int) int {
	free := new(big.Int).Sub(u.Size, big.NewInt(int64(u.Held)))
	if half := free.Rsh(free, 1); half.IsInt64() {
		return max(0, quarantined-int(max(0, half.Int64())))
	}
	return 0
}

// relaxQuarantine lets go of what exceeds half of what is free in a pool, since Services took the rest:
// addresses of strangers first, the highest first.
func (b *Balancer) relaxQuarantine() {
	c := &b.conflicts
	if len(c.quarantined) == 0 {
		return
	}
	for _, u := range b.addresses.Usage() {
		n := excessOf(u, u.Quarantined)
		if n == 0 {
			continue
		}
		var out []netip.Addr
		for address := range c.quarantined {
			if b.addresses.PoolOf(address) == u.Pool && ipam.FamilyOf(address) == u.Family {
				out = append(out, address)
			}
		}
		slices.SortFunc(out, func(x, y netip.Addr) int {
			own := func(a netip.Addr) int { return strings.Compare(c.quarantined[a].machine.Owner, "") }
			return cmp.Or(cmp.Compare(own(x), own(y)), y.Compare(x))
		})
		for _, address := range out[:min(n, len(out))] {
			c.spared[address] = true
			b.endQuarantine(address, Unquarantined)
		}
	}
}
