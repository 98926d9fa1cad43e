package cloud

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"sync/atomic"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/labels"

	"baremetal.cloud/ccm/pkg/cloud/config"
	"baremetal.cloud/ccm/pkg/ipam"
)

// clusterNetworks are the addresses of the cluster that a pool should stay clear of.
type clusterNetworks struct {
	nodes    []*corev1.Node
	services []*corev1.Service
	// links are the on-link prefixes of the nodes' interfaces.
	links []netip.Prefix
}

// lintPools says which pools contain what they had better not: an address of a node, a
// prefix of the Pods, an address of a Service inside the cluster, the network or the
// broadcast address of a link. None of it is certain to be wrong, so the cloud-config is
// used all the same. One sentence for each pool and kind, sorted.
func lintPools(pools []config.Pool, s clusterNetworks) []string {
	found := map[string]bool{}
	for _, p := range pools {
		for _, r := range p.Ranges {
			s.nodeAddresses(p.Name, r, found)
			s.clusterAddresses(p.Name, r, found)
			s.linkAddresses(p.Name, r, found)
		}
	}
	return slices.Sorted(maps.Keys(found))
}

func (s clusterNetworks) nodeAddresses(pool string, r ipam.Range, found map[string]bool) {
	for _, n := range s.nodes {
		for _, a := range n.Status.Addresses {
			if ip, err := netip.ParseAddr(a.Address); err == nil && r.Contains(ip.Unmap()) {
				found[fmt.Sprintf("pool %q contains %s, which is an address of node %s; take it out of the pool", pool, ip, n.Name)] = true
			}
		}
		for _, cidr := range n.Spec.PodCIDRs {
			if p, err := netip.ParsePrefix(cidr); err == nil && overlapsPrefix(r, p) {
				found[fmt.Sprintf("pool %q overlaps %s, which is for the Pods of node %s", pool, cidr, n.Name)] = true
			}
		}
	}
}

func (s clusterNetworks) clusterAddresses(pool string, r ipam.Range, found map[string]bool) {
	for _, svc := range s.services {
		for _, text := range svc.Spec.ClusterIPs {
			if ip, err := netip.ParseAddr(text); err == nil && r.Contains(ip) {
				// One is enough: the whole range of the cluster's Services is concerned.
				found[fmt.Sprintf("pool %q overlaps the range of cluster IPs: it contains %s", pool, firstOf(s.services, r))] = true
				return
			}
		}
	}
}

// firstOf returns the lowest cluster IP within r.
func firstOf(services []*corev1.Service, r ipam.Range) netip.Addr {
	var lowest netip.Addr
	for _, svc := range services {
		for _, text := range svc.Spec.ClusterIPs {
			if ip, err := netip.ParseAddr(text); err == nil && r.Contains(ip) && (!lowest.IsValid() || ip.Less(lowest)) {
				lowest = ip
			}
		}
	}
	return lowest
}

func (s clusterNetworks) linkAddresses(pool string, r ipam.Range, found map[string]bool) {
	for _, p := range s.links {
		if !p.Addr().Is4() || p.Bits() > 30 {
			continue // IPv6 has no broadcast, and /31 links use both addresses (RFC 3021)
		}
		whole, err := ipam.ParseRange(p.Masked().String())
		if err != nil {
			continue // a link-local prefix, say, which no pool can contain
		}
		for what, ip := range map[string]netip.Addr{"network": whole.First, "broadcast": whole.Last} {
			if r.Contains(ip) {
				found[fmt.Sprintf("pool %q contains %s, the %s address of %s on the nodes' network", pool, ip, what, p.Masked())] = true
			}
		}
	}
}

func overlapsPrefix(r ipam.Range, p netip.Prefix) bool {
	return r.Contains(p.Masked().Addr()) || p.Contains(r.First)
}

const (
	// lintPeriod is the time between two looks at all Services and Nodes, unless the
	// cloud-config is another.
	lintPeriod = 30 * time.Second
	// lintLimit bounds the doubts that the linter tells, and remembers as told.
	lintLimit = 256
)

// linter remembers what was told of the cloud-config, and when it was looked for doubts.
type linter struct {
	// told are the doubts that were told; false where it was told that there is no longer reason to.
	told   map[string]bool
	tells  int
	config *config.Config
	at     time.Time
}

// isDue reports whether to look again: where the cloud-config is another, or where something
// around it has changed and the last look was long enough ago.
func (d *linter) isDue(cfg *config.Config, changed *atomic.Bool, now time.Time) bool {
	if cfg == d.config && (now.Sub(d.at) < lintPeriod || !changed.Load()) {
		return false
	}
	changed.Store(false)
	d.config, d.at = cfg, now
	return true
}

// newWarnings returns those of doubts that were not told before, or were over since, and notes them:
// at most lintLimit in all, for nodes can make ever new ones by the addresses that they report.
func (d *linter) newWarnings(doubts []string) []string {
	var out []string
	for _, doubt := range doubts {
		if d.told[doubt] || d.tells > lintLimit {
			continue
		}
		if d.tells == lintLimit {
			doubt = "there are more doubts about the pools than are told; mend those that were"
		}
		d.told[doubt] = true
		d.tells++
		out = append(out, doubt)
	}
	return out
}

// over returns those that were told and are not among doubts, and notes that they are over.
func (d *linter) over(doubts []string) []string {
	var out []string
	for _, doubt := range slices.Sorted(maps.Keys(d.told)) {
		if d.told[doubt] && !slices.Contains(doubts, doubt) && d.tells <= lintLimit {
			d.told[doubt] = false
			out = append(out, doubt)
		}
	}
	return out
}

// lintConfig tells, once each, of doubts about the cloud-config in use.
func (p *Provider) lintConfig(d *linter) {
	if !d.isDue(p.config.Load(), &p.networksChanged, p.core.now()) {
		return
	}
	nodes, err := p.listers.nodes.List(labels.Everything())
	if err != nil {
		return
	}
	services, err := p.listers.services.List(labels.Everything())
	if err != nil {
		return
	}
	now := lintPools(p.config.Load().Pools, clusterNetworks{nodes, services, p.core.linkPrefixes()})
	for _, doubt := range d.over(now) {
		p.options.Logger.Info("cloud-config warning is over", "warning", doubt)
		p.recorder.Event(p.configMap(), corev1.EventTypeNormal, "CloudConfigDoubtResolved", "no longer so: "+doubt)
	}
	for _, doubt := range d.newWarnings(now) {
		p.options.Logger.Warn("cloud-config", "warning", doubt)
		p.recorder.Event(p.configMap(), corev1.EventTypeWarning, "CloudConfigDoubtful", doubt)
	}
}
