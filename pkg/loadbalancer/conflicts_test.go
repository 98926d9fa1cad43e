package loadbalancer

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"baremetal.cloud/ccm/pkg/announcer/plan"
	"baremetal.cloud/ccm/pkg/ipam"
)

// probes prints what nodes are told to ask for.
func (w *world) probes() string {
	var out strings.Builder
	for _, name := range slices.Sorted(maps.Keys(w.plans)) {
		p := w.plans[name].Probing
		if len(p.Probes) == 0 {
			continue
		}
		fmt.Fprintf(&out, "%s %s every %s:", name, stamp(p.Version), p.Interval)
		for _, probe := range p.Probes {
			fmt.Fprintf(&out, " %s", probe.Address)
			if probe.Interface != "" {
				fmt.Fprintf(&out, "@%s", probe.Interface)
			}
		}
		out.WriteString("\n")
	}
	return out.String()
}

// finds has a node ask for all that it was told to.
func (w *world) finds(name string, found []string) {
	report := w.b.announcer[name].report
	report.Plan, report.Probed, report.Findings = w.plans[name].Version, w.plans[name].Probing.Version, nil
	for _, text := range found {
		address, mac, _ := strings.Cut(text, "=")
		report.Findings = append(report.Findings, plan.Finding{Address: netip.MustParseAddr(address), MAC: mac, Interface: "eth0"})
	}
	slices.SortFunc(report.Findings, plan.Finding.Compare)
	w.b.Observe(name, report)
}

// inspect prints what happened, and of which addresses something is to be said.
func (w *world) inspect(args []string) string {
	if len(args) > 0 {
		d, err := time.ParseDuration(args[0])
		require.NoError(w.t, err)
		w.now = w.now.Add(d)
	}
	changed, again := w.b.Inspect(w.now)
	var out strings.Builder
	for _, c := range w.b.Conflicts() {
		fmt.Fprintf(&out, "%s %s of %s: %s", c.Kind, c.Address, c.Pool, c.Machine)
		if c.Count > 0 {
			fmt.Fprintf(&out, ", one of %d", c.Count)
		}
		out.WriteString("\n")
	}
	if len(changed) > 0 {
		fmt.Fprintln(&out, "news of", changed)
	}
	if again > 0 {
		fmt.Fprintln(&out, "again after", again)
	}
	return out.String()
}

// TestRandomConflicts: whatever nodes find, no more than half of what is free is in quarantine, a
// machine with many addresses puts none there, no address is given out while it is there, and
// what was put there by two nodes' word leaves it after it was silent.
func TestRandomConflicts(t *testing.T) {
	for seed := range uint64(40) {
		random := rand.New(rand.NewPCG(seed, 1))
		w := newWorld(t)
		w.run("conflicts 8\npool default 10.0.0.0/28 2001:db8::/125\nnode node1\nnode node2\nnode node3\nconnect node1 node2 node3\nleader 1")
		for step := range 80 {
			w.plan()
			switch name := fmt.Sprint("s", random.IntN(10)); random.IntN(5) {
			case 0:
				_ = w.b.Ensure(Service{Request: ipam.Request{
					Holder:   ipam.Holder{UID: "uid-" + name, Namespace: "default", Name: name},
					Families: []ipam.Family{[]ipam.Family{ipam.IPv4, ipam.IPv6}[random.IntN(2)]},
				}}, w.now) // The pool may be full.
				for _, a := range w.b.addresses.Held("uid-" + name) {
					require.Nil(t, w.b.conflicts.quarantined[a.Address], "seed %d, step %d", seed, step)
				}
			case 1:
				w.b.Release("uid-"+name, w.now)
			case 2:
				w.b.SetNode(Node{Name: "node2", Addresses: []netip.Addr{netip.AddrFrom4([4]byte{10, 0, 0, byte(random.IntN(20))})}})
				w.now = w.now.Add(time.Duration(random.IntN(12)) * time.Minute)
			default:
				w.finds(fmt.Sprint("node", 1+random.IntN(3)), someFound(random))
			}
			w.b.Inspect(w.now)
			requireSane(t, w.b, fmt.Sprintf("seed %d, step %d", seed, step))
		}
		w.b.SetNode(Node{Name: "node2"})
		for range 2 { // All is silent.
			w.plan()
			for _, name := range []string{"node1", "node2", "node3"} {
				w.finds(name, nil)
			}
			w.b.Inspect(w.now)
			w.now = w.now.Add(10 * time.Minute)
		}
		w.b.Inspect(w.now)
		require.Empty(t, w.b.conflicts.quarantined)
		require.Empty(t, w.b.conflicts.contested)
		require.Zero(t, w.b.Usage()[0].Quarantined)
	}
}

// someFound are machines with few addresses and one with many.
func someFound(random *rand.Rand) []string {
	var out []string
	for i := range 16 {
		switch random.IntN(6) {
		case 0:
			out = append(out, fmt.Sprintf("10.0.0.%d=02:00:00:00:00:%02x", i, i/3))
		case 1:
			out = append(out, fmt.Sprintf("10.0.0.%d=02:00:00:00:01:01", i))
		case 2:
			out = append(out, fmt.Sprintf("2001:db8::%x=02:00:00:00:00:%02x", i, i))
		}
	}
	return out
}

// requireSane checks the bounds.
func requireSane(t *testing.T, b *Balancer, at string) {
	t.Helper()
	for _, u := range b.Usage() {
		require.LessOrEqual(t, int64(2*u.Quarantined), u.Size.Int64()-int64(u.Held), at)
	}
	for address := range b.conflicts.quarantined {
		require.Empty(t, b.addresses.Holders(address), at)
		_, used := b.conflicts.userOf(address)
		require.True(t, used || len(b.conflicts.found[address]) == 0, at)
	}
	for address, m := range b.conflicts.contested {
		require.NotEmpty(t, b.addresses.Holders(address), at)
		require.Zero(t, b.conflicts.proxies[m.MAC], at)
	}
}
