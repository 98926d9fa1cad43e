package cloud

import (
	"fmt"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"baremetal.cloud/ccm/pkg/loadbalancer"
	"baremetal.cloud/ccm/pkg/reason"
)

// contender plays one Service whose status two controllers write, on a clock of its own.
type contender struct {
	t      *testing.T
	s      eventDedup
	svc    *corev1.Service
	now    time.Time
	writes []time.Time
	begun  []string
}

func contend(t *testing.T) *contender {
	c := &contender{t: t, now: time.Unix(0, 0), svc: loadBalancer("web", func(svc *corev1.Service) { svc.ResourceVersion = "1" })}
	c.sync()
	return c
}

func (c *contender) version() string {
	n, err := strconv.Atoi(c.svc.ResourceVersion)
	require.NoError(c.t, err)
	return strconv.Itoa(n + 1)
}

// sync does what writeStatus does about contests; it returns when to look again.
func (c *contender) sync() time.Duration {
	status := loadbalancer.Status{Announced: verdict(true, reason.Announced)}
	got := c.s.contend(c.svc, &status, c.now)
	if got.manager != "" {
		c.begun = append(c.begun, got.manager)
	}
	if got.wait > 0 {
		return got.wait
	}
	next := c.svc.DeepCopy()
	withStatus("10.0.0.1")(next)
	setCondition(next, ConditionAnnounced, status.Announced, metav1.NewTime(c.now))
	if ourStatusOf(next).equal(ourStatusOf(c.svc)) {
		return got.over
	}
	next.ResourceVersion = c.version()
	c.svc = next
	c.s.left(next, c.now)
	c.writes = append(c.writes, c.now)
	return got.over
}

// rewrite is what the other controller does.
func (c *contender) rewrite() {
	next := c.svc.DeepCopy()
	withStatus("192.0.2.99")(next)
	next.ResourceVersion = c.version()
	at := metav1.NewTime(c.now)
	next.ManagedFields = []metav1.ManagedFieldsEntry{
		managed("kubectl", at.Add(time.Hour), `{"f:metadata":{}}`),
		managed(ownManager, at.Time, `{"f:status":{}}`),
		managed("other-lb", at.Time, `{"f:status":{"f:loadBalancer":{}}}`),
		managed("earlier", at.Add(-time.Hour), `{"f:status":{}}`),
	}
	c.svc = next
}

func managed(manager string, at time.Time, fields string) metav1.ManagedFieldsEntry {
	when := metav1.NewTime(at)
	raw := &metav1.FieldsV1{}
	raw.SetRawBytes([]byte(fields))
	return metav1.ManagedFieldsEntry{Manager: manager, Time: &when, FieldsV1: raw}
}

// TestFault_K6_7_ContestIsDamped: after the third rewrite within a minute one write a second, then
// up to one a minute, never given up; and it is over when the other one has ceased.
func TestFault_K6_7_ContestIsDamped(t *testing.T) {
	c := contend(t)
	require.Len(t, c.writes, 1)
	end := c.now.Add(time.Hour)
	for c.now.Before(end) {
		if ourStatusOf(c.svc).ingress[0].IP == "10.0.0.1" {
			c.rewrite() // at once, whenever we have written
		}
		if wait := c.sync(); wait > 0 && ourStatusOf(c.svc).ingress[0].IP != "10.0.0.1" {
			c.now = c.now.Add(wait)
		} else {
			c.now = c.now.Add(time.Millisecond)
		}
	}
	require.Equal(t, []string{"other-lb"}, c.begun, "told once, by its field manager")
	require.Less(t, len(c.writes), 75)
	require.Greater(t, len(c.writes), 58, "never given up")
	var gaps []time.Duration
	for i := range c.writes[1:] {
		gaps = append(gaps, c.writes[i+1].Sub(c.writes[i]).Round(time.Second))
	}
	require.Equal(t, []time.Duration{0, 0, time.Second, time.Second, 2 * time.Second, 4 * time.Second, 8 * time.Second, 16 * time.Second, 32 * time.Second, time.Minute}, gaps[:10])
	require.Equal(t, time.Minute, gaps[len(gaps)-1])

	c.now = c.now.Add(time.Minute)
	require.NotZero(t, c.sync())
	require.Equal(t, string(reason.StatusContested), conditionOf(c.svc, ConditionAnnounced).Reason)
	require.Contains(t, conditionOf(c.svc, ConditionAnnounced).Message, `field manager "other-lb"`)
	c.now = c.now.Add(contestPeace + time.Second)
	require.Zero(t, c.sync(), "over")
	require.Equal(t, string(reason.Announced), conditionOf(c.svc, ConditionAnnounced).Reason)
}

// TestFault_K6_7_OtherEditsAreNoContest: what others write elsewhere is no rewrite, nor is a
// single repair of what somebody did by hand.
func TestFault_K6_7_OtherEditsAreNoContest(t *testing.T) {
	c := contend(t)
	for i := range 100 {
		c.svc = c.svc.DeepCopy()
		c.svc.Annotations = map[string]string{"i": fmt.Sprint(i)}
		c.svc.ResourceVersion = c.version()
		c.now = c.now.Add(time.Second)
		require.Zero(t, c.sync())
	}
	require.Len(t, c.writes, 1)
	for range 5 {
		c.now = c.now.Add(31 * time.Second)
		c.rewrite()
		require.Zero(t, c.sync())
	}
	require.Empty(t, c.begun, "twice a minute is no contest")
	require.Len(t, c.writes, 6)
	require.Equal(t, "unknown", otherManager(loadBalancer("web")))
}
