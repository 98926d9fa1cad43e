package cloud

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/client-go/tools/cache"

	"baremetal.cloud/ccm/pkg/loadbalancer"
	"baremetal.cloud/ccm/pkg/reason"
)

// The reasons of Events on the ConfigMap that are none of a Service's.
const (
	eventDischarged = "AddressDischarged"
	eventProxy      = "ProxyFound"
)

// inspectLocked lets the Balancer judge what nodes say of other machines.
func (c *core) inspectLocked() (again time.Duration) {
	changed, again := c.lb.Inspect(c.now())
	c.queueAddressesLocked(changed)
	if c.lb.Conflicted() {
		select {
		case c.conflicted <- struct{}{}:
		default:
		}
	}
	return again
}

// takeConflicts returns what happened since it was last called.
func (c *core) takeConflicts() []loadbalancer.Conflict {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.lb.Conflicts()
}

// contested is an address that a Service holds and another machine uses.
type contested struct {
	address netip.Addr
	// service is "namespace/name".
	service string
	machine loadbalancer.Machine
}

// conflictState returns the present conflicts, sorted by address and Service, how many machines
// are proxies, and what has happened so far.
func (c *core) conflictState() (out []contested, proxies int, happened map[loadbalancer.ConflictKind]uint64) {
	c.mu.Lock()
	counts := c.lb.ConflictCounts()
	for address, m := range counts.Contested {
		for _, key := range c.holderKeysLocked(address) {
			out = append(out, contested{address, key, m})
		}
	}
	happened = maps.Clone(counts.Happened)
	c.mu.Unlock()
	slices.SortFunc(out, func(x, y contested) int {
		return cmp.Or(x.address.Compare(y.address), cmp.Compare(x.service, y.service))
	})
	return out, counts.Proxies, happened
}

// followConflicts tells of other machines that use addresses, until ctx ends.
func (p *Provider) followConflicts(ctx context.Context) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-p.core.conflicted:
		}
		conflicts := p.core.takeConflicts()
		for _, n := range noticesOf(conflicts, p.config.Load().Conflicts.Quarantine) {
			p.tellNotice(n)
		}
		for _, c := range conflicts {
			if c.Kind == loadbalancer.Contested {
				p.tellContested(c)
			}
		}
	}
}

// tellContested writes an Event on each Service that holds the address. Its condition alone
// does not tell of a second address.
func (p *Provider) tellContested(c loadbalancer.Conflict) {
	for _, key := range p.core.holderKeys(c.Address) {
		namespace, name, err := cache.SplitMetaNamespaceKey(key)
		if err != nil {
			continue
		}
		if svc, err := p.listers.services.Services(namespace).Get(name); err == nil {
			p.recorder.Event(svc, corev1.EventTypeWarning, string(reason.AddressConflict),
				contestedText(c)+"; some clients may reach that one")
		}
	}
}

// notice is what is said of conflicts: a line in the log, and an Event on the ConfigMap with
// the cloud-config, where the pools are. What concerns a Service is an Event on that.
type notice struct {
	reason, text string
	warning      bool
	// event means that there is an Event, too.
	event bool
}

// noticesOf puts what happened into words: what is of one kind and pool in one sentence where
// it is more than a handful.
func noticesOf(conflicts []loadbalancer.Conflict, quarantine time.Duration) []notice {
	type group struct {
		kind  loadbalancer.ConflictKind
		pool  string
		owned bool
	}
	var order []group
	by := map[group][]loadbalancer.Conflict{}
	for _, c := range conflicts {
		g := group{c.Kind, c.Pool, c.Machine.Owner != ""}
		if by[g] == nil {
			order = append(order, g)
		}
		by[g] = append(by[g], c)
	}
	var out []notice
	for _, g := range order {
		all := by[g]
		if len(all) > moveEventsLimit && g.kind != loadbalancer.Proxied {
			out = append(out, noticeOf(all, quarantine))
			continue
		}
		for i := range all {
			out = append(out, noticeOf(all[i:i+1], quarantine))
		}
	}
	return out
}

// noticeOf puts conflicts of one kind and pool into words.
func noticeOf(all []loadbalancer.Conflict, quarantine time.Duration) notice {
	first := all[0]
	what, is, it := "address "+first.Address.String(), "is", "it"
	who := machineText(first.Machine)
	if len(all) > 1 {
		what, is, it = fmt.Sprintf("%d addresses (%s)", len(all), someOf(all)), "are", "they"
		if who = fmt.Sprintf("other machines on the network (of the first: %s)", first.Machine); first.Machine.Owner != "" {
			who = fmt.Sprintf("nodes or routers (of the first: %s)", first.Machine)
		}
	}
	what += " of pool " + first.Pool
	switch first.Kind {
	case loadbalancer.Quarantined:
		if first.Machine.Owner != "" {
			return notice{string(reason.AddressQuarantined), fmt.Sprintf("%s %s used by %s and %s not given out; take %s out of the pool", what, is, who, is, addressesWord(len(all))), true, true}
		}
		return notice{string(reason.AddressQuarantined), fmt.Sprintf("%s %s used by %s and %s not given out until nobody has answered for %s", what, is, who, is, quarantine), true, true}
	case loadbalancer.Unquarantined:
		return notice{string(reason.AddressQuarantined), fmt.Sprintf("%s %s used by %s and may be given out all the same: half of what is free in the pool is in quarantine already", what, is, who), true, true}
	case loadbalancer.Discharged:
		return notice{eventDischarged, fmt.Sprintf("%s may be given out again: %s %s in quarantine no more", what, it, is), false, true}
	case loadbalancer.Proxied:
		return notice{eventProxy, fmt.Sprintf("%s answers for %d addresses, among them %s of pool %s: it is taken for a proxy (proxy ARP or NDP), and none of them is in quarantine; have it answer for fewer, or clients may reach it in place of a Service",
			first.Machine, first.Count, first.Address, first.Pool), true, true}
	case loadbalancer.Contested:
		return notice{string(reason.AddressConflict), fmt.Sprintf("%s %s used by %s and held by Services", what, is, who), true, false}
	default:
		return notice{string(reason.AddressConflict), fmt.Sprintf("%s %s not used by %s any more", what, is, who), false, false}
	}
}

// machineText names what uses an address beside Services.
func machineText(m loadbalancer.Machine) string {
	if m.Owner != "" {
		return m.Owner
	}
	return fmt.Sprintf("another machine on the network (%s)", m)
}

// contestedText says what uses the address of a Service, too.
func contestedText(c loadbalancer.Conflict) string {
	if c.Machine.Owner != "" {
		return fmt.Sprintf("%s has %s too", c.Machine.Owner, c.Address)
	}
	return fmt.Sprintf("another machine on the network uses %s too (%s)", c.Address, c.Machine)
}

func addressesWord(n int) string {
	if n > 1 {
		return "them"
	}
	return "it"
}

// someOf names a few of the addresses and counts the others.
func someOf(all []loadbalancer.Conflict) string {
	var out []string
	for _, c := range all[:min(len(all), namesLimit)] {
		out = append(out, c.Address.String())
	}
	if more := len(all) - namesLimit; more > 0 {
		return strings.Join(out, ", ") + fmt.Sprintf(" and %d more", more)
	}
	return strings.Join(out, ", ")
}

func (p *Provider) tellNotice(n notice) {
	kind, log := corev1.EventTypeNormal, p.options.Logger.Info
	if n.warning {
		kind, log = corev1.EventTypeWarning, p.options.Logger.Warn
	}
	log(n.text, "reason", n.reason)
	if n.event {
		p.recorder.Event(p.configMap(), kind, n.reason, n.text)
	}
}
