package cloud

import (
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"baremetal.cloud/ccm/pkg/announcer/plan"
	"baremetal.cloud/ccm/pkg/loadbalancer"
	"baremetal.cloud/ccm/pkg/reason"
)

// finds plays an announcer that has carried out its plan and found a machine to have these
// addresses.
func (c *cluster) finds(node, mac string, addresses ...string) {
	c.t.Helper()
	var set plan.NodePlan
	require.Eventually(c.t, func() bool { set = c.planOf(node); return c.p.maySpeakFor(set.Version) }, waitAtMost, 5*time.Millisecond, "it is told so")
	report := plan.Report{Plan: set.Version, Highest: set.Version, Probed: set.Probing.Version, Interfaces: []plan.Interface{{Name: "eth0"}}}
	for a := range set.Assignments.All() {
		if a.Candidates[0] == node {
			report.Claims = report.Claims.With(plan.Claim{Address: a.Address, Version: a.Version})
		}
	}
	for _, a := range addresses {
		report.Findings = append(report.Findings, plan.Finding{Address: netip.MustParseAddr(a), MAC: mac, Interface: "eth0"})
	}
	c.p.NodeReported(node, report)
}

// A machine has the address that comes next: the Service gets another one, who asks for it
// hears why and gets it once it has been silent for long enough, and metrics and Events tell.
func TestQuarantine(t *testing.T) {
	now := time.Now()
	c := startWith(t, pools, func() time.Time { return now }, endpointsFor("web"))
	require.Eventually(t, func() bool { return len(c.planOf("node1").Probing.Probes) > 0 }, waitAtMost, 10*time.Millisecond)
	require.Equal(t, "10.0.0.0", c.planOf("node1").Probing.Probes[0].Address.String())
	c.finds("node1", "02:00:00:00:00:aa", "10.0.0.0")
	require.Eventually(t, func() bool {
		return slices.Contains(c.eventsIn("baremetal-ccm"), "AddressQuarantined: address 10.0.0.0 of pool default is used by another machine on the network "+
			"(02:00:00:00:00:aa, heard on eth0 of node node1) and is not given out until nobody has answered for 10m0s")
	}, waitAtMost, 10*time.Millisecond)
	require.NoError(t, c.create(loadBalancer("web")))
	require.Error(t, c.create(loadBalancer("asking", func(s *corev1.Service) { s.Annotations = map[string]string{AnnotationAddresses: "10.0.0.0"} })))
	c.says("asking", ConditionAllocated, reason.AddressQuarantined)
	c.told("AddressQuarantined: address 10.0.0.0 is not given out: another machine on the network uses it, 02:00:00:00:00:aa, heard on eth0 of node node1; free the address there, or take it out of the pool")
	c.finds("node1", "02:00:00:00:00:aa", "10.0.0.0")
	c.published("web", "10.0.0.1")
	require.NoError(t, testutil.CollectAndCompare(c.p.Collector(), strings.NewReader(`
# HELP baremetal_ccm_pool_addresses_quarantined Addresses of the pool that are not given out because nodes, routers or other machines on the network have them.
# TYPE baremetal_ccm_pool_addresses_quarantined gauge
baremetal_ccm_pool_addresses_quarantined{family="IPv4",pool="default"} 1
baremetal_ccm_pool_addresses_quarantined{family="IPv6",pool="default"} 0
`), "baremetal_ccm_pool_addresses_quarantined"))
}

// A machine claims what a Service holds: its condition and an Event say so, and no more when
// it is over. The address stays.
func TestContested(t *testing.T) {
	c := startWith(t, pools, time.Now, endpointsFor("web"))
	require.NoError(t, c.create(loadBalancer("web")))
	require.Eventually(t, func() bool { return c.planOf("node1").Assignments.Len() == 1 }, waitAtMost, 10*time.Millisecond)
	c.finds("node1", "02:00:00:00:00:aa")
	c.says("web", ConditionAnnounced, reason.Announced)
	c.finds("node1", "02:00:00:00:00:aa", "10.0.0.0")
	c.says("web", ConditionAnnounced, reason.AddressConflict)
	text := "answered by node1: 10.0.0.0; another machine uses 10.0.0.0 too (02:00:00:00:00:aa, heard on eth0 of node node1), so that some clients may reach that one; give that machine another address"
	c.told("AddressConflict: another machine on the network uses 10.0.0.0 too (02:00:00:00:00:aa, heard on eth0 of node node1); some clients may reach that one")
	condition := conditionOf(c.service("web"), ConditionAnnounced)
	require.Equal(t, metav1.ConditionTrue, condition.Status)
	require.Equal(t, text, condition.Message)
	require.NoError(t, testutil.CollectAndCompare(c.p.Collector(), strings.NewReader(`
# HELP baremetal_ccm_address_conflict 1 for each address that a Service holds and another machine on the network, with that MAC address, uses too.
# TYPE baremetal_ccm_address_conflict gauge
baremetal_ccm_address_conflict{address="10.0.0.0",mac="02:00:00:00:00:aa",namespace="default",service="web"} 1
`), "baremetal_ccm_address_conflict"))
	require.NoError(t, testutil.CollectAndCompare(c.p.Collector(), strings.NewReader(`
# HELP baremetal_ccm_address_conflicts_total What happened between addresses and other machines on the network, by kind: free addresses quarantined, discharged or unquarantined (half of what is free is in quarantine already), addresses of Services contested or settled again, machines proxied (taken for a proxy).
# TYPE baremetal_ccm_address_conflicts_total counter
baremetal_ccm_address_conflicts_total{kind="contested"} 1
baremetal_ccm_address_conflicts_total{kind="discharged"} 0
baremetal_ccm_address_conflicts_total{kind="proxied"} 0
baremetal_ccm_address_conflicts_total{kind="quarantined"} 0
baremetal_ccm_address_conflicts_total{kind="settled"} 0
baremetal_ccm_address_conflicts_total{kind="unquarantined"} 0
`), "baremetal_ccm_address_conflicts_total"))
	c.finds("node1", "02:00:00:00:00:aa")
	c.says("web", ConditionAnnounced, reason.Announced)
	c.published("web", "10.0.0.0")
}

// What happens at once to many addresses of a pool is one sentence, and a proxy is named.
func TestNotices(t *testing.T) {
	machine := loadbalancer.Machine{MAC: "02:00:00:00:00:aa", Interface: "eth0", Node: "node1", Nodes: 2}
	of := func(kind loadbalancer.ConflictKind, n int) (out []loadbalancer.Conflict) {
		for i := range n {
			out = append(out, loadbalancer.Conflict{Kind: kind, Address: netip.AddrFrom4([4]byte{10, 0, 0, byte(i)}), Pool: "default", Machine: machine})
		}
		return out
	}
	proxy := of(loadbalancer.Proxied, 1)
	proxy[0].Count = 32
	for name, c := range map[string]struct {
		conflicts []loadbalancer.Conflict
		want      []notice
	}{
		"few": {of(loadbalancer.Discharged, 2), []notice{
			{"AddressDischarged", "address 10.0.0.0 of pool default may be given out again: it is in quarantine no more", false, true},
			{"AddressDischarged", "address 10.0.0.1 of pool default may be given out again: it is in quarantine no more", false, true},
		}},
		"many": {of(loadbalancer.Quarantined, moveEventsLimit+1), []notice{
			{"AddressQuarantined", "6 addresses (10.0.0.0, 10.0.0.1, 10.0.0.2 and 3 more) of pool default are used by other machines on the network (of the first: 02:00:00:00:00:aa, heard on eth0 of node node1) and are not given out until nobody has answered for 10m0s", true, true},
		}},
		"spared": {of(loadbalancer.Unquarantined, 1), []notice{
			{"AddressQuarantined", "address 10.0.0.0 of pool default is used by another machine on the network (02:00:00:00:00:aa, heard on eth0 of node node1) and may be given out all the same: half of what is free in the pool is in quarantine already", true, true},
		}},
		"proxy": {proxy, []notice{
			{"ProxyFound", "02:00:00:00:00:aa, heard on eth0 of node node1 answers for 32 addresses, among them 10.0.0.0 of pool default: it is taken for a proxy (proxy ARP or NDP), and none of them is in quarantine; have it answer for fewer, or clients may reach it in place of a Service", true, true},
		}},
		"Services": {append(of(loadbalancer.Contested, 1), of(loadbalancer.Settled, 1)...), []notice{
			{"AddressConflict", "address 10.0.0.0 of pool default is used by another machine on the network (02:00:00:00:00:aa, heard on eth0 of node node1) and held by Services", true, false},
			{"AddressConflict", "address 10.0.0.0 of pool default is not used by another machine on the network (02:00:00:00:00:aa, heard on eth0 of node node1) any more", false, false},
		}},
	} {
		t.Run(name, func(t *testing.T) { require.Equal(t, c.want, noticesOf(c.conflicts, 10*time.Minute)) })
	}
}
