package cloud

import (
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"baremetal.cloud/ccm/pkg/reason"
)

// A refused edit is said once; it must not keep the controller busy.
func TestARefusedEditIsQuiet(t *testing.T) {
	var asked atomic.Int64
	c := startWith(t, pools, func() time.Time { asked.Add(1); return time.Now() })
	require.NoError(t, c.create(loadBalancer("web", func(svc *corev1.Service) {
		svc.Spec.IPFamilies = []corev1.IPFamily{corev1.IPv4Protocol, corev1.IPv6Protocol}
	})))
	c.published("web", "10.0.0.0", "2001:db8::")
	svc := c.service("web")
	svc.Spec.IPFamilies = []corev1.IPFamily{corev1.IPv4Protocol}
	svc.Annotations = map[string]string{AnnotationPool: "nowhere"}
	_, err := c.client.CoreV1().Services("default").Update(t.Context(), svc, metav1.UpdateOptions{})
	require.NoError(t, err)
	c.says("web", ConditionAllocated, reason.PoolUnknown)
	c.published("web", "10.0.0.0", "2001:db8::")
	before := asked.Load()
	require.Never(t, func() bool { return asked.Load() > before+200 }, time.Second, 50*time.Millisecond, "the controller runs in circles")
}

// Nobody may answer for the address of a Service without endpoints. That is said once,
// too, whatever the pool says of interfaces.
func TestAnAddressThatNobodyAnswersIsQuiet(t *testing.T) {
	var asked atomic.Int64
	c := startWith(t, pools+"  l2: [{interface: eth0}]\n", func() time.Time { asked.Add(1); return time.Now() })
	require.NoError(t, c.create(loadBalancer("web")))
	c.published("web", "10.0.0.0")
	c.says("web", ConditionAnnounced, reason.NoEndpoints)
	before := asked.Load()
	require.Never(t, func() bool { return asked.Load() > before+200 }, time.Second, 50*time.Millisecond, "the controller runs in circles")
}
