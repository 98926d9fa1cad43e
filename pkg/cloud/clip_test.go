package cloud

import (
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/tools/record"

	"baremetal.cloud/ccm/pkg/ipam"
	"baremetal.cloud/ccm/pkg/loadbalancer"
	"baremetal.cloud/ccm/pkg/reason"
)

// TestFault_K1_7_AnnotationsAreClipped: texts of 200 KB from an annotation were in conditions,
// Events and logs. What to do about them is still said.
func TestFault_K1_7_AnnotationsAreClipped(t *testing.T) {
	huge := strings.Repeat("x", 200_000)
	for name, c := range map[string]struct {
		annotations map[string]string
		ip, cure    string
	}{
		"no address":         {annotations: map[string]string{AnnotationAddresses: huge}, cure: "is not an IP address"},
		"no address in spec": {ip: huge, cure: "is not an IP address"},
		"disagreement":       {annotations: map[string]string{AnnotationAddresses: "192.0.2.1" + strings.Repeat(" ", 200_000)}, ip: "192.0.2.2", cure: "make them agree or remove one"},
		"ten thousand":       {annotations: map[string]string{AnnotationAddresses: strings.Repeat("192.0.2.1,", 10_000) + "192.0.2.1"}, cure: "ask for one of each family"},
		"pool":               {annotations: map[string]string{AnnotationPool: huge}, cure: "there is no pool"},
		"pool and address":   {annotations: map[string]string{AnnotationPool: huge, AnnotationAddresses: "192.0.2.1"}, cure: "is requested"},
	} {
		t.Run(name, func(t *testing.T) {
			svc := &corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: "web", Name: "a", UID: "u", Annotations: c.annotations}}
			svc.Spec.IPFamilies = []corev1.IPFamily{corev1.IPv4Protocol}
			svc.Spec.LoadBalancerIP, svc.Spec.Type = c.ip, corev1.ServiceTypeLoadBalancer
			lb := loadbalancer.New()
			pool, err := ipam.ParseRange("192.0.2.0/24")
			require.NoError(t, err)
			require.NoError(t, lb.Configure(loadbalancer.Config{Config: ipam.Config{Pools: []ipam.Pool{{Name: "default", Ranges: []ipam.Range{pool}, AutoAssign: true}}}}))
			err = lb.Ensure(serviceOf(svc, nil), time.Unix(0, 0))
			require.Error(t, err)
			require.LessOrEqual(t, len(err.Error()), reason.MaxMessage+reason.MaxQuote, "what is logged")
			status, ok := lb.Status("u")
			require.True(t, ok)
			require.Contains(t, status.Allocated.Message, c.cure)
			setCondition(svc, ConditionAllocated, status.Allocated, metav1.Now())
			require.LessOrEqual(t, len(svc.Status.Conditions[0].Message), reason.MaxMessage)
		})
	}
}

// TestFault_K1_7_EventsAreClipped: the API server refuses an Event whose message is longer.
func TestFault_K1_7_EventsAreClipped(t *testing.T) {
	fake := record.NewFakeRecorder(2)
	events := bounded{fake}
	events.Event(&corev1.Service{}, corev1.EventTypeWarning, "R", strings.Repeat("x", 200_000))
	events.Eventf(&corev1.Service{}, corev1.EventTypeWarning, "R", "%s", strings.Repeat("x", 200_000))
	for range 2 {
		require.LessOrEqual(t, len(<-fake.Events), reason.MaxMessage+len("Warning R "))
	}
}
