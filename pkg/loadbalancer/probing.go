package loadbalancer

import (
	"maps"
	"net/netip"
	"slices"
	"time"

	"baremetal.cloud/ccm/pkg/announcer/plan"
	"baremetal.cloud/ccm/pkg/ipam"
)

// Conflicts is how addresses are checked for other machines that use them.
type Conflicts struct {
	// ProbeAhead is how many free addresses of each family of a pool are probed before they
	// are needed; 0 has nothing probed.
	ProbeAhead int
	// ProbeInterval is the time between two times that an address is asked for.
	ProbeInterval time.Duration
	// Quarantine is how long an address that another machine used must have been silent
	// before it is given out.
	Quarantine time.Duration
}

// maxLate is how many addresses at most wait for a probe that were given out before they
// had one.
const maxLate = 256

// probing is which node asks the network for what. One node does it for one family of a
// pool, in the name of all: what it costs does not grow with the cluster.
type probing struct {
	Conflicts
	// renew reports whether to decide it again.
	renew bool
	// duties are, in order, the families of the pools that are announced on layer 2.
	duties []*duty
	// late are addresses that were given out before they were known to be free.
	late map[netip.Addr]bool
	// of is what each node was told, and by the node that probes each address first.
	of map[string]plan.Probing
	by map[netip.Addr]string
}

// duty is the task to probe one family of a pool.
type duty struct {
	pool   string
	family ipam.Family
	l2     L2
	// any is an address of it, by which the nodes are told apart.
	any netip.Addr
	// node does it, or "".
	node string
	// ahead are the addresses that come next. More are added when half of them are gone.
	ahead []netip.Addr
}

func newProbing() probing {
	return probing{late: map[netip.Addr]bool{}, of: map[string]plan.Probing{}, by: map[netip.Addr]string{}}
}

// setDuties makes the duties of a new configuration. A node that has a duty keeps it.
func (p *probing) setDuties(config Config) {
	old := p.duties
	p.Conflicts, p.duties, p.renew = config.Conflicts, nil, true
	for _, pool := range config.Pools {
		l2, ok := config.L2[pool.Name]
		if !ok || p.ProbeAhead == 0 {
			continue
		}
		for _, f := range []ipam.Family{ipam.IPv4, ipam.IPv6} {
			i := slices.IndexFunc(pool.Ranges, func(r ipam.Range) bool { return ipam.FamilyOf(r.First) == f })
			if i < 0 {
				continue
			}
			d := &duty{pool: pool.Name, family: f, l2: l2, any: pool.Ranges[i].First}
			for _, o := range old {
				if o.pool == d.pool && o.family == f {
					d.node = o.node
				}
			}
			p.duties = append(p.duties, d)
		}
	}
}

// dutyOf returns the duty that address belongs to, or nil.
func (b *Balancer) dutyOf(address netip.Addr) *duty {
	pool, family := b.addresses.PoolOf(address), ipam.FamilyOf(address)
	for _, d := range b.probing.duties {
		if d.pool == pool && d.family == family {
			return d
		}
	}
	return nil
}

// probeLate notes addresses that a Service was given just now. The Service has waited for no
// probe: addresses that no node has asked for yet are asked for now.
func (b *Balancer) probeLate(before, after []ipam.Assignment) {
	for _, a := range after {
		p := &b.probing
		if p.ProbeAhead == 0 || slices.Contains(before, a) || b.wasProbed(a.Address) || len(p.late) >= maxLate {
			continue
		}
		// While some are asked for, more wait: a thousand Services are not a thousand plans.
		p.renew = p.renew || len(p.late) == 0
		p.late[a.Address] = true
	}
}

// wasProbed reports whether address is asked for, and was at least once.
func (b *Balancer) wasProbed(address netip.Addr) bool {
	name, ok := b.probing.by[address]
	if !ok || !b.isConnected(name) {
		return false
	}
	return b.announcer[name].report.Probed == b.probing.of[name].Version
}

// planProbes decides which node probes what, and notes in changed the nodes for which that
// is news.
func (b *Balancer) planProbes(next plan.Version, changed changes) {
	p := &b.probing
	for _, d := range p.duties {
		p.renew = p.renew || b.probesLeft(d) < p.ProbeAhead/2 && b.canRefill(d)
	}
	if !p.renew {
		return
	}
	p.renew = false
	wanted := map[string]map[netip.Addr]string{}
	maps.DeleteFunc(p.late, func(a netip.Addr, _ bool) bool { return b.wasProbed(a) || b.dutyOf(a) == nil })
	p.by = map[netip.Addr]string{}
	for _, d := range p.duties {
		b.assignDuty(d)
		if d.node == "" {
			continue
		}
		if b.probesLeft(d) < p.ProbeAhead/2 || len(d.ahead) == 0 {
			d.ahead = b.addresses.Lookahead(d.pool, d.family, p.ProbeAhead)
		}
		for _, address := range d.ahead {
			p.addProbe(wanted, d.node, address, d.l2)
		}
	}
	for address := range p.late {
		if d := b.dutyOf(address); d.node != "" {
			p.addProbe(wanted, d.node, address, d.l2)
		}
	}
	b.probeSuspects(wanted)
	for name := range b.nodes {
		b.tellProbes(name, wanted[name], next, changed)
	}
}

// addProbe makes node ask for address.
func (p *probing) addProbe(wanted map[string]map[netip.Addr]string, node string, address netip.Addr, l2 L2) {
	if wanted[node] == nil {
		wanted[node] = map[netip.Addr]string{}
	}
	wanted[node][address] = l2.Interface
	if p.by[address] == "" {
		p.by[address] = node
	}
}

// probeSuspects makes nodes ask for the addresses that another machine uses, or did: the
// node that has the duty, and a second node, for one node's word is not enough.
func (b *Balancer) probeSuspects(wanted map[string]map[netip.Addr]string) {
	seconds := map[*duty]string{}
	for address := range b.conflicts.suspectAddresses() {
		d := b.dutyOf(address)
		if d == nil || d.node == "" {
			continue
		}
		b.probing.addProbe(wanted, d.node, address, d.l2)
		if _, known := seconds[d]; !known {
			seconds[d] = b.secondProber(d)
		}
		if seconds[d] != "" {
			b.probing.addProbe(wanted, seconds[d], address, d.l2)
		}
	}
}

// tellProbes makes wanted the probes in the plan of the node called name.
func (b *Balancer) tellProbes(name string, wanted map[netip.Addr]string, next plan.Version, changed changes) {
	p := &b.probing
	old := p.of[name]
	if len(wanted) == 0 {
		if _, told := p.of[name]; told {
			delete(p.of, name)
			changed.addNode(name)
		}
		return
	}
	fresh := plan.Probing{Version: old.Version, Interval: p.ProbeInterval}
	for _, address := range slices.SortedFunc(maps.Keys(wanted), netip.Addr.Compare) {
		fresh.Probes = append(fresh.Probes, plan.Probe{Address: address, Interface: wanted[address]})
	}
	if !fresh.Equal(old) {
		fresh.Version = next
		p.of[name] = fresh
		changed.addNode(name)
	}
}

// probesLeft counts the addresses ahead that can still be given out.
func (b *Balancer) probesLeft(d *duty) int {
	n := 0
	for _, address := range d.ahead {
		if b.conflicts.quarantined[address] == nil && len(b.addresses.Holders(address)) == 0 {
			n++
		}
	}
	return n
}

// canRefill reports whether more addresses can be probed ahead than are.
func (b *Balancer) canRefill(d *duty) bool {
	return d.node != "" && !slices.Equal(d.ahead, b.addresses.Lookahead(d.pool, d.family, b.probing.ProbeAhead))
}

// assignDuty sees that a node has the duty: the node that has it keeps it while it can.
func (b *Balancer) assignDuty(d *duty) {
	if b.canProbe(d.node, d) {
		return
	}
	d.node = b.chooseProber(d, "")
}

// secondProber returns the node that confirms what the node with the duty finds, or "".
func (b *Balancer) secondProber(d *duty) string { return b.chooseProber(d, d.node) }

// chooseProber returns a node but other to probe for d, by rendezvous hashing, or "".
func (b *Balancer) chooseProber(d *duty, other string) string {
	best, most := "", uint64(0)
	for name := range b.nodes {
		if name == other || !b.canProbe(name, d) {
			continue
		}
		if w := rendezvousWeight(name, d.any); best == "" || w > most || w == most && name < best {
			best, most = name, w
		}
	}
	return best
}

// canProbe reports whether the node called name could answer for d's addresses, and is there
// to ask for them.
func (b *Balancer) canProbe(name string, d *duty) bool {
	n, ok := b.nodes[name]
	if !ok || !b.isConnected(name) || b.mayServe(n, d.l2.NodeSelector) != "" {
		return false
	}
	_, err := plan.SelectInterfaces(d.l2.Interface, d.any, b.announcer[name].report.Interfaces)
	return err == nil
}
