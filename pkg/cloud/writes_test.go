package cloud

import (
	"encoding/json"
	"strconv"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	clienttesting "k8s.io/client-go/testing"
	cloudprovider "k8s.io/cloud-provider"

	"baremetal.cloud/ccm/pkg/reason"
)

// What an API server and every kube-proxy see of a new Service is one write, where a node
// answers before anybody could ask what it waits for.
func TestPromptAnnouncementIsOneWrite(t *testing.T) {
	frozen := time.Now()
	c := startWith(t, pools, func() time.Time { return frozen }, endpointsFor("web"))
	c.numberVersions()
	require.NoError(t, c.create(loadBalancer("web", func(svc *corev1.Service) { svc.ResourceVersion = "1" })))
	c.acknowledge("10.0.0.0")
	c.says("web", ConditionAnnounced, reason.Announced)
	c.published("web", "10.0.0.0")
	require.EventuallyWithT(t, func(t *assert.CollectT) {
		require.Contains(t, c.events(), "Announced: node node1 answers for 10.0.0.0")
	}, waitAtMost, 5*time.Millisecond)
	require.Equal(t, 1, c.patches())
	require.NotContains(t, c.events(), string(reason.WaitingForAnnouncer))
}

// What the watch has not shown yet is not written again; what somebody else wrote since
// is looked at.
func TestNewestVersionCounts(t *testing.T) {
	version := func(v string, change ...func(*corev1.Service)) *corev1.Service {
		return loadBalancer("web", append(change, func(svc *corev1.Service) { svc.ResourceVersion = v })...)
	}
	var s eventDedup
	require.Equal(t, "7", s.newestWritten(version("7")).ResourceVersion)
	s.noteWrite(version("9", withStatus("10.0.0.0")))
	require.Equal(t, "9", s.newestWritten(version("7")).ResourceVersion)
	require.Equal(t, "9", s.newestWritten(version("8")).ResourceVersion)
	require.Equal(t, "10", s.newestWritten(version("10")).ResourceVersion)
	require.Equal(t, "8", s.newestWritten(version("8")).ResourceVersion, "nothing is kept once the watch was as far")

	s.noteWrite(version("9"))
	other := version("8", func(svc *corev1.Service) { svc.UID = "another" })
	require.Same(t, other, s.newestWritten(other), "made anew under the same name")
	s.noteWrite(version("9"))
	odd := version("not a number")
	require.Same(t, odd, s.newestWritten(odd))
}

// numberVersions makes the fake API server count versions in the objects that are
// patched, as a real one does.
func (c *cluster) numberVersions() {
	var last atomic.Int64
	last.Store(1)
	react := clienttesting.ObjectReaction(c.client.Tracker())
	c.react("patch", "services", func(action clienttesting.Action) (bool, runtime.Object, error) {
		patch := action.(clienttesting.PatchActionImpl)
		var body map[string]any
		if err := json.Unmarshal(patch.Patch, &body); err != nil {
			return true, nil, err
		}
		body["metadata"] = map[string]any{"resourceVersion": strconv.FormatInt(last.Add(1), 10)}
		var err error
		if patch.Patch, err = json.Marshal(body); err != nil {
			return true, nil, err
		}
		return react(patch)
	})
}

// patches counts the writes to Services so far.
func (c *cluster) patches() int {
	n := 0
	for _, action := range c.client.Actions() {
		if action.Matches("patch", "services") || action.Matches("patch", "services/status") {
			n++
		}
	}
	return n
}

// The stock controller empties the status of a Service that it let go of by its name, as
// its last step. One that has the name by then is not given a status before.
func TestStatusOfANamesakeComesAfterTheStockControllersLastWrite(t *testing.T) {
	now := time.Now()
	var s eventDedup
	old, heir := loadBalancer("web"), loadBalancer("web", func(svc *corev1.Service) { svc.UID = "heir" })
	require.False(t, s.wasJustReleased(old, now), "a name that is new to us")

	s.noteWrite(old)
	require.True(t, s.wasJustReleased(heir, now), "its deletion was not even seen")
	s.noteAsked(old)
	require.True(t, s.wasJustReleased(heir, now), "asked for late")
	s.noteAsked(heir)
	require.False(t, s.wasJustReleased(heir, now))

	s.noteWrite(heir)
	s.forgetService("default/web", true, now)
	require.True(t, s.wasJustReleased(old, now.Add(releasedDelay)))
	require.False(t, s.wasJustReleased(old, now.Add(releasedDelay+1)), "nobody may ever ask")

	s.noteWrite(old)
	s.forgetService("default/web", false, now) // its type changed
	require.True(t, s.wasJustReleased(old, now), "and changed back")
	s.noteAsked(old)
	require.False(t, s.wasJustReleased(old, now))
}

func TestNamesakeIsServedOnceTheStockControllerAsks(t *testing.T) {
	c := start(t)
	require.NoError(t, c.create(loadBalancer("web")))
	c.published("web", "10.0.0.0")
	require.NoError(t, c.client.CoreV1().Services("default").Delete(t.Context(), "web", metav1.DeleteOptions{}))
	require.Eventually(t, func() bool { return !c.knows("uid-web") }, waitAtMost, time.Millisecond)

	heir, err := c.client.CoreV1().Services("default").Create(t.Context(),
		loadBalancer("web", func(svc *corev1.Service) { svc.UID = "heir" }), metav1.CreateOptions{})
	require.NoError(t, err)
	require.Eventually(t, func() bool { return c.knows("heir") }, waitAtMost, time.Millisecond, "an address is kept for it")
	require.Empty(t, publishedAddresses(c.service("web")))
	_, err = c.p.EnsureLoadBalancer(t.Context(), "", heir, nil)
	require.Equal(t, cloudprovider.ImplementedElsewhere, err)
	c.published("web", "10.0.0.1")
}
