package cloud

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"

	"baremetal.cloud/ccm/pkg/announcer/plan"
	"baremetal.cloud/ccm/pkg/loadbalancer"
	"baremetal.cloud/ccm/pkg/reason"
)

func moved(address, from, to string, why reason.Reason, services ...string) move {
	return move{netip.MustParseAddr(address), from, to, why, services}
}

// What one node takes within a moment is told together: which addresses, from whom, why.
func TestArrivals(t *testing.T) {
	var many []move
	for i := range 7 {
		why, from := reason.NodeDown, "node1"
		if i >= 4 {
			why, from = reason.NodeExcluded, fmt.Sprint("node", 3+i)
		}
		many = append(many, moved(fmt.Sprint("10.0.0.", i), from, "node2", why, "default/web"))
	}
	for name, c := range map[string]struct {
		moves []move
		many  bool
		want  string
	}{
		"one":    {[]move{moved("10.0.0.1", "node1", "node2", reason.AnnouncerStopped, "default/web")}, false, "node node2 answers for 1 addresses now: 1 after node node1 (AnnouncerStopped: its announcer was ended) (10.0.0.1)"},
		"twice":  {[]move{moved("10.0.0.1", "node1", "node3", reason.NodeDown), moved("10.0.0.1", "node3", "node2", reason.ClaimReleased)}, false, "node node2 answers for 1 addresses now: 1 after node node1 (NodeDown: the others do not hear it) (10.0.0.1)"},
		"back":   {[]move{moved("10.0.0.1", "node1", "node3", reason.NodeDown), moved("10.0.0.1", "node3", "node1", reason.ClaimReleased)}, false, ""},
		"shared": {[]move{moved("10.0.0.1", "node1", "node2", reason.NodeDown, "a/a", "a/b", "a/c", "a/d", "a/e", "a/f")}, true, "node node2 answers for 1 addresses now: 1 after node node1 (NodeDown: the others do not hear it) (10.0.0.1)"},
		"many": {many, true, "node node2 answers for 7 addresses now: 4 after node node1 (NodeDown: the others do not hear it), " +
			"1 after node node7 (NodeExcluded), 1 after node node8 (NodeExcluded), 1 after others (10.0.0.0, 10.0.0.1, 10.0.0.2 and 4 more)"},
	} {
		t.Run(name, func(t *testing.T) {
			got := batchMoves(c.moves)
			if c.want == "" {
				require.Empty(t, got)
				return
			}
			require.Len(t, got, 1)
			require.Equal(t, c.want, got[0].String())
			require.Equal(t, c.many, got[0].isLarge())
		})
	}
}

// Who answers, since when and why, through everything that may happen to an address.
func TestOwnerHistory(t *testing.T) {
	l, a := newOwnerHistory(), netip.MustParseAddr("10.0.0.1")
	why := func(from string) reason.Reason { return reason.Reason("left " + from) }
	require.False(t, l.setOwner(a, "", reason.NoEndpoints, why))
	require.Empty(t, l.answering, "nobody has answered yet")
	require.False(t, l.setOwner(a, "node1", reason.Announced, why), "the first does not move it")
	require.Equal(t, ownerRecord{node: "node1", why: reason.Announced}, l.answering[a])

	require.False(t, l.setOwner(a, "", reason.WaitingForAnnouncer, why))
	require.True(t, l.answering[a].between)
	require.False(t, l.setOwner(a, "node1", reason.Announced, why), "it is back")
	require.False(t, l.answering[a].between)

	require.False(t, l.setOwner(a, "", reason.WaitingForAnnouncer, why))
	require.True(t, l.setOwner(a, "node2", reason.Announced, why))
	require.False(t, l.setOwner(a, "", reason.NoEndpoints, why))
	require.False(t, l.setOwner(a, "", reason.WaitingForAnnouncer, why))
	require.True(t, l.setOwner(a, "node3", reason.Announced, why), "why it was gone for long is why it moved")
	require.Equal(t, []move{{a, "node1", "node2", "left node1", nil}, {a, "node2", "node3", reason.NoEndpoints, nil}}, l.takeMoves())
	require.Empty(t, l.takeMoves())
	require.Equal(t, map[reason.Reason]uint64{"left node1": 1, reason.NoEndpoints: 1}, l.moved)
	require.False(t, l.setOwner(a, "", "", why))
	require.Empty(t, l.answering, "no Service holds it")
}

// Since when is kept while the node goes on, whatever version it claims under.
func TestOwnerHistoryKnowsSinceWhen(t *testing.T) {
	l, a := newOwnerHistory(), netip.MustParseAddr("10.0.0.1")
	claims := func(revision uint64) plan.Report {
		return plan.Report{Claims: plan.NewIndex(plan.Claim{Address: a, Version: plan.Version{Term: 1, Revision: revision}})}
	}
	began := time.Now()
	l.takeClaims("node1", claims(1), []netip.Addr{a}, began)
	l.takeClaims("node1", claims(2), []netip.Addr{a}, began.Add(time.Hour))
	require.Equal(t, began, l.claimedSince["node1"][a])
	l.takeClaims("node1", plan.Report{}, []netip.Addr{a}, began.Add(time.Hour))
	require.Empty(t, l.claimedSince["node1"])
	l.takeClaims("node1", claims(2), []netip.Addr{a}, began.Add(2*time.Hour))
	require.Equal(t, began.Add(2*time.Hour), l.claimedSince["node1"][a])
}

// pair runs a leader that has just begun, on two nodes and n Services with endpoints, all of
// which node1 answers for, as their statuses say.
func pair(t *testing.T, n int) *cluster {
	t.Helper()
	objects := []runtime.Object{&corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "node2", UID: "uid-node2", Labels: map[string]string{corev1.LabelNodeExcludeBalancers: ""}}}}
	for i := range n {
		name := fmt.Sprint("web", i)
		slice := endpointsFor(name)
		slice.Labels[discoveryv1.LabelServiceName] = name
		address := fmt.Sprintf("10.0.%d.%d", i/256, i%256)
		svc := loadBalancer(name, withStatus(address))
		setCondition(svc, ConditionAllocated, loadbalancer.Verdict{OK: true, Reason: reason.Allocated, Message: address + " from pool default"}, metav1.Now())
		setCondition(svc, ConditionAnnounced, loadbalancer.Verdict{OK: true, Reason: reason.Announced, Message: "answered by node1: " + address}, metav1.Now())
		objects = append(objects, svc, slice)
	}
	// The clock stands still: however long a busy machine takes to move all of them, no
	// address is between two nodes for so long that its condition says so.
	frozen := time.Now()
	c := startWith(t, strings.ReplaceAll(pools, "10.0.0.0/30", "10.0.0.0/20"), func() time.Time { return frozen }, objects...)
	c.reports("node2", nil)
	c.takesAll("node1", n)
	return c
}

// reports plays the announcer of a node.
func (c *cluster) reports(node string, set *plan.NodePlan) {
	report := plan.Report{Interfaces: []plan.Interface{{Name: "eth0"}}}
	if set != nil {
		report.Plan, report.Highest = set.Version, set.Version
		for a := range set.Assignments.All() {
			if a.Candidates[0] == node {
				report.Claims = report.Claims.With(plan.Claim{Address: a.Address, Version: a.Version})
			}
		}
	}
	c.p.NodeReported(node, report)
}

// planOf returns what a node is told.
func (c *cluster) planOf(node string) plan.NodePlan {
	secret, _ := testSecret()
	plans, _ := c.p.core.planNodes("cluster", c.p.options.Elector.Term(), secret)
	return plans[node]
}

// takesAll waits until node is to answer for n addresses, and has it do so.
func (c *cluster) takesAll(node string, n int) {
	c.t.Helper()
	require.EventuallyWithT(c.t, func(t *assert.CollectT) {
		set := c.planOf(node)
		require.True(t, c.p.maySpeakFor(set.Version))
		owned := 0
		for a := range set.Assignments.All() {
			if a.Candidates[0] == node {
				owned++
			}
		}
		require.Equal(t, n, owned)
		c.reports(node, &set)
	}, waitAtMost, 10*time.Millisecond)
}

// exclude sets or takes away the label that keeps a node from answering.
func (c *cluster) exclude(name string, excluded bool) {
	c.t.Helper()
	node, err := c.client.CoreV1().Nodes().Get(c.t.Context(), name, metav1.GetOptions{})
	require.NoError(c.t, err)
	node.Labels = map[string]string{}
	if excluded {
		node.Labels[corev1.LabelNodeExcludeBalancers] = ""
	}
	_, err = c.client.CoreV1().Nodes().Update(c.t.Context(), node, metav1.UpdateOptions{})
	require.NoError(c.t, err)
}

// swap moves all n addresses from node1 to node2.
func (c *cluster) swap(n int) {
	c.t.Helper()
	c.exclude("node2", false)
	require.EventuallyWithT(c.t, func(t *assert.CollectT) {
		require.Equal(t, n, c.planOf("node2").Assignments.Len(), "it is a backup")
	}, waitAtMost, 10*time.Millisecond)
	c.exclude("node1", true)
	c.takesAll("node2", n)
	c.reports("node1", nil)
}

// A thousand addresses move: one Event on the node that takes them, one line in the log,
// and of the Services, whose conditions name the node, a handful is written at once and the
// others a few a second: every kube-proxy sees each.
func TestAThousandMovesAreToldOnce(t *testing.T) {
	const n = 1000
	c := pair(t, n)
	c.swap(n)
	want := "node node2 answers for 1000 addresses now: 1000 after node node1 (NodeExcluded) (10.0.0.0, 10.0.0.1, 10.0.0.2 and 997 more)"
	c.told("Announced: " + want)
	require.Never(t, func() bool { return c.patches() > moveEventsLimit }, 2*time.Second, 50*time.Millisecond, "too many Services were written")
	require.Equal(t, []string{"Announced: " + want}, c.events())
	require.Equal(t, 1, c.log.Count("moved"))
	require.Equal(t, 1, c.log.Count("addresses moved"))

	list, err := c.client.CoreV1().Events("default").List(t.Context(), metav1.ListOptions{})
	require.NoError(t, err)
	require.Equal(t, corev1.ObjectReference{Kind: "Node", APIVersion: "v1", Name: "node2", UID: "uid-node2"}, withoutVersion(list.Items[0].InvolvedObject))
	require.Equal(t, EventSource, list.Items[0].Source.Component)
}

func withoutVersion(ref corev1.ObjectReference) corev1.ObjectReference {
	ref.ResourceVersion = ""
	return ref
}

// A few are told on their Services, where somebody looks first, and the metrics say the same.
func TestAFewMovesAreToldOnTheirServices(t *testing.T) {
	c := pair(t, 2)
	c.swap(2)
	for _, address := range []string{"10.0.0.0", "10.0.0.1"} {
		want := "node node2 answers for " + address + " now, after node node1 (NodeExcluded)"
		c.told("Announced: " + want)
		require.Equal(t, 1, c.log.Count(`"address moved" address=`+address+" node=node2 from=node1 reason=NodeExcluded"))
	}
	for i, address := range []string{"10.0.0.0", "10.0.0.1"} {
		require.EventuallyWithT(t, func(t *assert.CollectT) {
			require.Equal(t, "answered by node2: "+address, conditionOf(c.service(fmt.Sprint("web", i)), ConditionAnnounced).Message)
		}, waitAtMost, 10*time.Millisecond)
	}
	require.LessOrEqual(t, c.patches(), moveEventsLimit, "the conditions name the node that answers")

	answers, held, moves := c.p.core.ownerships()
	require.Equal(t, map[reason.Reason]int{reason.Announced: 2}, held)
	require.Equal(t, map[reason.Reason]uint64{reason.NodeExcluded: 2}, moves)
	require.Len(t, answers, 2)
	for i, a := range answers {
		require.Equal(t, ownership{netip.AddrFrom4([4]byte{10, 0, 0, byte(i)}), fmt.Sprint("default/web", i), "node2", a.since, reason.NodeExcluded}, a)
		require.Equal(t, c.p.core.now(), a.since)
	}
	require.NoError(t, testutil.CollectAndCompare(c.p.Collector(), strings.NewReader(`
# HELP baremetal_ccm_address_moves_total Addresses that another node answers for than before, by why they left that one.
# TYPE baremetal_ccm_address_moves_total counter
baremetal_ccm_address_moves_total{reason="NodeExcluded"} 2
# HELP baremetal_ccm_addresses Addresses that Services hold, by the reason of their announcement: Announced where a node answers.
# TYPE baremetal_ccm_addresses gauge
baremetal_ccm_addresses{reason="Announced"} 2
`), "baremetal_ccm_address_moves_total", "baremetal_ccm_addresses"))
	require.Equal(t, 2, testutil.CollectAndCount(c.p.Collector(), "baremetal_ccm_address_claim_start_timestamp_seconds"))
	problems, err := testutil.CollectAndLint(c.p.Collector())
	require.NoError(t, err)
	require.Empty(t, problems)
}
