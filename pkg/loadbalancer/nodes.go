package loadbalancer

import (
	"maps"
	"net/netip"
	"slices"

	"baremetal.cloud/ccm/pkg/announcer/plan"
)

// SetNode takes over a Node.
func (b *Balancer) SetNode(n Node) {
	if !n.Deleting {
		b.endDeparture(n.Name)
	}
	old, ok := b.nodes[n.Name]
	if ok && old.equalNode(n) {
		return
	}
	b.countZone(old.Zone, -1)
	b.countZone(n.Zone, 1)
	b.markAddressesDirty(old.Addresses, n.Addresses)
	b.nodes[n.Name] = n
	b.setPeers(n)
	if !ok {
		b.onLink(n.Name)
	}
	if !slices.Equal(old.Addresses, n.Addresses) {
		b.markWatchers(n.Name)
	}
	b.plan.meshDirty, b.plan.routing.renew = true, true
	b.conflicts.renew, b.probing.renew = true, true
	b.markNodeDirty(n.Name)
}

func (b *Balancer) countZone(zone string, by int) {
	if zone == "" {
		return
	}
	if b.zones[zone] += by; b.zones[zone] == 0 {
		delete(b.zones, zone)
	}
}

// Observe takes over what a node's announcer reports; it is connected from then on. It
// returns the addresses for which the answering changed.
func (b *Balancer) Observe(node string, report plan.Report) []netip.Addr {
	known, ok := b.announcer[node]
	if !ok {
		known = &announcer{}
		b.announcer[node] = known
	}
	news := !known.connected || known.report.Unhealthy != report.Unhealthy || !slices.EqualFunc(known.report.Interfaces, report.Interfaces, plan.Interface.Equal)
	changed := changedClaims(known.report, report)
	changed = append(changed, b.changedRoutes(node, known, report)...)
	b.heardFindings(node, known.report, report, news)
	b.reports++
	known.connected, known.spoke, known.report = true, b.reports, report
	known.unhealthy = known.unhealthy && report.Unhealthy
	known.rememberSessions()
	b.takeProblems(node, news)
	if len(report.Interfaces) > 0 && !slices.EqualFunc(known.interfaces, report.Interfaces, plan.Interface.Equal) {
		known.interfaces = report.Interfaces
		b.conflicts.hardware = nil
		b.markWatchers(node)
		b.sessions.changed[node] = true // which prefixes it shares with others
		b.onLink(node)
	}
	if news {
		b.markNodeDirty(node)
	}
	for _, address := range changed {
		b.noteContested(address)
	}
	b.markReported(node)
	b.takeWithdrawals(node)
	b.endRoutes(node, false)
	return changed
}

// Disconnect notes that a node's announcer lost its stream. Nothing moves for that alone. But the
// reason why no node may answer for an address may be another one now, or the reason why there are few
// backups. A node that departs is forgotten; ended is why, where a leader had begun to tell it.
func (b *Balancer) Disconnect(node string) (ended Cause) {
	if known, ok := b.announcer[node]; ok {
		known.connected = false
		if d := b.departing[node]; d != nil {
			if d.begun {
				ended = leftWith(known.report)
			}
			b.forgetNode(node) // It can be told nothing, and may not come back.
		}
		b.conflicts.renew, b.probing.renew = true, true
		b.markReported(node)
		b.endRoutes(node, true)
		for address := range b.plan.underReplicated {
			b.plan.markDirty(address)
		}
		for address := range b.plan.unplaced {
			if b.plan.wantsBackup[address] { // it is for want of a node
				b.plan.markDirty(address)
			}
		}
	}
	return ended
}

// Awaited returns the nodes that may answer for an address and have no stream, sorted; none
// where no Service holds an address. A node that is no longer eligible may still be
// answering; one that its peers report down is not.
func (b *Balancer) Awaited() []string {
	if !b.addresses.InUse() {
		return nil
	}
	connected, down := 0, map[string]int{}
	for _, known := range b.announcer {
		if known.connected {
			connected++
			for _, peer := range known.report.Down {
				down[peer]++
			}
		}
	}
	var out []string
	for name := range b.nodes {
		if b.isConnected(name) || down[name] > 0 && down[name] >= min(connected, witnesses) {
			continue
		}
		out = append(out, name)
	}
	slices.Sort(out)
	return out
}

// witnesses is how many nodes have to report a node down before a new leader does without
// its word, where there are so many: one alone may be wrong, or lie.
const witnesses = 2

// Links returns the on-link prefixes of all interfaces that announcers reported, sorted,
// each network once; without link-local ones, which are on every link.
func (b *Balancer) Links() []netip.Prefix {
	seen := map[netip.Prefix]bool{}
	for _, known := range b.announcer {
		for _, i := range known.report.Interfaces {
			for _, p := range i.Prefixes {
				if !p.Addr().IsLinkLocalUnicast() {
					seen[p.Masked()] = true
				}
			}
		}
	}
	return slices.SortedFunc(maps.Keys(seen), netip.Prefix.Compare)
}

// changedClaims returns the addresses that one report names and the other does not, as
// claimed under that version or as a problem, sorted.
func changedClaims(before, after plan.Report) []netip.Addr {
	out := changedProblems(before.Problems, after.Problems)
	for address := range plan.Delta(before.Claims, after.Claims) {
		out = append(out, address)
	}
	slices.SortFunc(out, netip.Addr.Compare)
	return slices.Compact(out)
}

// changedProblems walks two lists that are sorted by address and returns the addresses of
// the problems that are not in both.
func changedProblems(before, after []plan.Problem) []netip.Addr {
	var out []netip.Addr
	for len(before) > 0 || len(after) > 0 {
		switch {
		case len(after) == 0 || len(before) > 0 && before[0].Address.Less(after[0].Address):
			out, before = append(out, before[0].Address), before[1:]
		case len(before) == 0 || after[0].Address.Less(before[0].Address):
			out, after = append(out, after[0].Address), after[1:]
		default:
			if before[0] != after[0] {
				out = append(out, after[0].Address)
			}
			before, after = before[1:], after[1:]
		}
	}
	return out
}
