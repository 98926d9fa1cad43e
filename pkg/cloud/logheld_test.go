package cloud

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes/fake"

	"baremetal.cloud/ccm/pkg/loadbalancer"
	"baremetal.cloud/ccm/pkg/reason"
)

// TestFault_K6_2_AllocationAndReleaseAreLogged: one line for each, with the Service, its addresses
// and the pools, and none for what a leader found held.
func TestFault_K6_2_AllocationAndReleaseAreLogged(t *testing.T) {
	c := start(t, endpointsFor("web"))
	require.NoError(t, c.create(loadBalancer("web")))
	c.acknowledge("10.0.0.0")
	c.says("web", ConditionAnnounced, reason.Announced)
	require.Equal(t, 1, c.log.Count(`msg="addresses allocated" service=default/web addresses=10.0.0.0 pools=default`))
	require.NoError(t, c.client.CoreV1().Services("default").Delete(t.Context(), "web", metav1.DeleteOptions{}))
	require.Eventually(t, func() bool {
		return c.log.Count(`msg="addresses released" service=default/web addresses=10.0.0.0`) == 1
	}, waitAtMost, 5*time.Millisecond)
	require.Equal(t, 1, c.log.Count("addresses allocated"))
	require.Equal(t, 1, c.log.Count("addresses released"))

	next := start(t, loadBalancer("old", withStatus("10.0.0.1")), endpointsFor("old"))
	next.published("old", "10.0.0.1")
	require.NoError(t, next.create(loadBalancer("new")))
	require.Eventually(t, func() bool { return next.log.Count("addresses allocated") > 0 }, waitAtMost, 5*time.Millisecond)
	require.Equal(t, 1, next.log.Count("addresses allocated"), "what is held is no news")
}

// TestFault_K6_1_EventsHaveTheConfigMapsUID: kubectl describe shows the Events whose UID is the
// object's, so the ConfigMap is looked up where a file alone counts.
func TestFault_K6_1_EventsHaveTheConfigMapsUID(t *testing.T) {
	there := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: "ours", Name: ConfigMapName, UID: "uid-config"}}
	p := &Provider{options: Options{Namespace: "ours", Client: fake.NewClientset(there)}}
	require.Equal(t, types.UID("uid-config"), p.configMap().UID, "of a file")
	p.options.ConfigMap = types.NamespacedName{Namespace: "ours", Name: ConfigMapName}
	require.Equal(t, types.UID("uid-config"), p.configMap().UID, "before the first read")
	p.seenConfig.Store(&seenConfigMap{configText: configText{origin: configOrigin{uid: "uid-new"}}, exists: true})
	require.Equal(t, types.UID("uid-new"), p.configMap().UID, "made again")
	p.options.ConfigMap.Name = "absent"
	p.seenConfig.Store(&seenConfigMap{})
	require.Empty(t, p.configMap().UID)
	require.Equal(t, "absent", p.configMap().Name)
}

// TestFault_K6_9_SentencesArePaced: a condition names the node that answers; where only that
// changed a handful of Services is written at once, and the others five a second.
func TestFault_K6_9_SentencesArePaced(t *testing.T) {
	var s eventDedup
	now := time.Unix(0, 0)
	moved := func(name string, at time.Time) (string, time.Duration) {
		svc := loadBalancer(name)
		setCondition(svc, ConditionAnnounced, loadbalancer.Verdict{OK: true, Reason: reason.Announced, Message: "answered by node1: 10.0.0.1"}, metav1.Now())
		status := loadbalancer.Status{Announced: loadbalancer.Verdict{OK: true, Reason: reason.Announced, Message: "answered by node2: 10.0.0.1"}}
		wait := s.reword(svc, &status, at)
		return status.Announced.Message, wait
	}
	names := []string{"a", "b", "c", "d", "e", "f", "g"}
	for i, name := range names {
		message, wait := moved(name, now)
		require.Equal(t, time.Duration(max(0, i+1-moveEventsLimit))*rewordInterval, wait, name)
		require.Equal(t, wait > 0, message == "answered by node1: 10.0.0.1", name)
	}
	message, wait := moved("g", now.Add(2*rewordInterval))
	require.Zero(t, wait)
	require.Equal(t, "answered by node2: 10.0.0.1", message)

	status := loadbalancer.Status{Announced: verdict(false, reason.NoEndpoints)}
	require.Zero(t, s.reword(loadBalancer("a"), &status, now), "another reason is written at once")
}
