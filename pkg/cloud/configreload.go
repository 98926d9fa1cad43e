package cloud

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/labels"
	utilruntime "k8s.io/apimachinery/pkg/util/runtime"

	"baremetal.cloud/ccm/pkg/announcer/plan"
	"baremetal.cloud/ccm/pkg/cloud/config"
	"baremetal.cloud/ccm/pkg/ipam"
	"baremetal.cloud/ccm/pkg/loadbalancer"
)

// configPeriod is how often the cloud-config's file is looked at, and one that is refused only
// for the sake of Services is tried again. The file's text is compared:
// a ConfigMap mount swaps a symbolic link, which no watch on the file itself sees.
const configPeriod = 2 * time.Second

// coreConfig translates a checked cloud-config.
func coreConfig(c *config.Config) loadbalancer.Config {
	out := loadbalancer.Config{
		Config: ipam.Config{
			Reservations: c.Reservations,
			Reassign:     c.OnShrink == config.ShrinkReassign,
		},
		ServicesWithoutClass: c.ServicesWithoutClass,
		Classes:              c.LoadBalancerClasses,
		L2:                   map[string]loadbalancer.L2{},
		BGP:                  loadbalancer.BGP{Pools: map[string][]loadbalancer.Advertisement{}},
		Failover: loadbalancer.Failover{
			TransmitInterval: c.Failover.TransmitInterval,
			DetectMultiplier: c.Failover.DetectMultiplier,
		},
		MaxMovesPerMinute: c.MaxMovesPerMinute,
	}
	out.Conflicts = loadbalancer.Conflicts(c.Conflicts)
	out.Announce = plan.Pacing(c.Announce)
	out.DrainOnCordon = c.NodeHealth.DrainOnCordon
	if c.NodeHealth.KubeProxy != "" {
		out.Health = plan.Health{Proxy: c.NodeHealth.KubeProxy, UnhealthyAfter: c.NodeHealth.UnwellAfter}
	}
	for _, p := range c.BGP.Peers {
		peer := loadbalancer.Peer{BGPPeer: p.BGPPeer, NodeSelector: p.NodeSelector}
		if !p.Template.IsZero() {
			peer.Template = p.Template
		}
		out.BGP.Peers = append(out.BGP.Peers, peer)
	}
	for _, p := range c.Pools {
		out.Pools = append(out.Pools, p.Pool)
		for _, a := range p.BGP {
			out.BGP.Pools[p.Name] = append(out.BGP.Pools[p.Name], loadbalancer.Advertisement{
				Advertisement: a.Advertisement, NodeSelector: a.NodeSelector, LengthV4: a.AggregationLength, LengthV6: a.AggregationLengthV6,
			})
		}
		for _, l := range p.L2 {
			out.L2[p.Name] = loadbalancer.L2{Interface: l.Interface, NodeSelector: l.NodeSelector}
		}
	}
	return out
}

// isStranding reports whether a cloud-config is refused only for the sake of Services that hold
// an address.
func isStranding(err error) bool {
	_, pools := errors.AsType[*ipam.StrandedError](err)
	_, class := errors.AsType[*loadbalancer.StrandedClassError](err)
	return pools || class
}

// followConfig takes over the cloud-config when its text, which was last, changes, until ctx
// ends. A bad one changes nothing: the last good one stays. One that is refused only for
// the sake of Services that hold an address is tried again: they may be gone.
func (p *Provider) followConfig(ctx context.Context, last configText) error {
	tick := time.NewTicker(configPeriod)
	defer tick.Stop()
	var kept configText
	told := &linter{told: map[string]bool{}}
	var invalid []loadbalancer.InvalidPeer
	for {
		next := p.newestConfig()
		switch {
		case next.err != nil:
			p.configRejected(next.err)
		case last.err != nil || !bytes.Equal(next.text, last.text) || p.stranded.Load():
			p.reloadConfig(next)
		}
		last = next
		if last.err == nil && p.configError.Load() == nil {
			p.fromConfigMap.Store(last.origin.configMap != "")
			if !bytes.Equal(last.text, kept.text) || last.origin.uid != kept.origin.uid || last.origin.configMap != kept.origin.configMap {
				if err := p.keepConfig(ctx, last); err != nil {
					p.options.Logger.Warn("the cloud-config could not be kept for the next start", "err", err)
				} else {
					kept = last
				}
			}
		}
		p.lintConfig(told)
		invalid = p.tellInvalidPeers(invalid)
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		case <-p.configSeen:
		}
	}
}

// reloadConfig takes over a new cloud-config, or says why not.
func (p *Provider) reloadConfig(newest configText) {
	cfg, warnings, err := config.Parse(newest.text, newest.name)
	if err == nil {
		err = p.core.setConfig(coreConfig(cfg), p.newlyServed(cfg)...)
	}
	p.stranded.Store(isStranding(err))
	if err != nil {
		p.configRejected(err)
		return
	}
	p.config.Store(cfg)
	p.followNodes(cfg.Nodes)
	p.followWithoutClass(cfg.ServicesWithoutClass)
	hash := hashOf(string(newest.text))
	before, refused := p.configHash.Swap(&hash), p.configError.Swap(nil)
	for _, w := range warnings {
		p.options.Logger.Warn("cloud-config", "warning", w.String())
	}
	p.options.Logger.Info("cloud-config in use", "source", newest.name, "resourceVersion", newest.origin.resourceVersion,
		"sha256", hash, "pools", len(cfg.Pools))
	// A leader that goes on with what the one before it used has no news.
	if before == nil || *before != hash || refused != nil {
		p.recorder.Event(p.configMap(), corev1.EventTypeNormal, "CloudConfigAccepted",
			fmt.Sprintf("in use: pools %d, BGP peers %d, sha256 %s", len(cfg.Pools), len(cfg.BGP.Peers), hash))
	}
	for _, svc := range p.allServices() {
		p.queue.Add(svc)
	}
}

// newlyServed are the Services with an address of a class that is served by config and was not
// before. They go on with it, if it is free now: it is given to none that waits.
func (p *Provider) newlyServed(cfg *config.Config) []loadbalancer.Service {
	before, after := p.servedClasses(), p.classesOf(cfg)
	added := classes{
		none:  after.none && !before.none,
		named: slices.DeleteFunc(slices.Clone(after.named), func(class string) bool { return slices.Contains(before.named, class) }),
	}
	if !added.none && len(added.named) == 0 {
		return nil
	}
	services, err := p.listers.services.List(labels.Everything())
	utilruntime.HandleError(err)
	var out []loadbalancer.Service
	for _, svc := range services {
		svc = p.dedup.newestWritten(svc)
		if wantsAddress(svc, added) && svc.DeletionTimestamp == nil && len(svc.Status.LoadBalancer.Ingress) > 0 {
			out = append(out, p.translateService(svc))
		}
	}
	return out
}

// configRejected tells, once for each cause, that the newest cloud-config is not in use.
func (p *Provider) configRejected(cause error) {
	text := cause.Error()
	if before := p.configError.Swap(&text); before != nil && *before == text {
		return
	}
	p.options.Logger.Error("cloud-config refused; the last good one stays in use", "err", cause)
	p.recorder.Event(p.configMap(), corev1.EventTypeWarning, "CloudConfigRefused", fmt.Sprintf("the last good one stays in use: %.900s", config.Detail(cause)))
}
