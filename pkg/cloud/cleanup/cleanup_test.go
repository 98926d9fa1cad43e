package cleanup

import (
	"errors"
	"log/slog"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/kubernetes/fake"
	clienttesting "k8s.io/client-go/testing"
	servicehelper "k8s.io/cloud-provider/service/helpers"
	"k8s.io/utils/ptr"
)

const stock = servicehelper.LoadBalancerCleanupFinalizer

var testNow = time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)

func service(name string, class *string, finalizers []string, conditions ...string) *corev1.Service {
	s := &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: "web", Finalizers: finalizers, ResourceVersion: "1"},
		Spec:       corev1.ServiceSpec{Type: corev1.ServiceTypeLoadBalancer, LoadBalancerClass: class},
		Status: corev1.ServiceStatus{LoadBalancer: corev1.LoadBalancerStatus{
			Ingress: []corev1.LoadBalancerIngress{{IP: "192.0.2.10"}},
		}},
	}
	for _, condition := range conditions {
		s.Status.Conditions = append(s.Status.Conditions, metav1.Condition{Type: condition})
	}
	return s
}

func lease(holder string, renewed time.Time) *coordinationv1.Lease {
	return &coordinationv1.Lease{
		ObjectMeta: metav1.ObjectMeta{Name: "baremetal-ccm", Namespace: "baremetal-ccm"},
		Spec: coordinationv1.LeaseSpec{
			HolderIdentity: &holder, LeaseDurationSeconds: ptr.To[int32](10), RenewTime: ptr.To(metav1.NewMicroTime(renewed)),
		},
	}
}

func options(t *testing.T, client *fake.Clientset) Options {
	return Options{
		Client: client, Namespace: "baremetal-ccm", Lease: "baremetal-ccm",
		Now: func() time.Time { return testNow }, Logger: slog.New(slog.NewTextHandler(t.Output(), nil)),
	}
}

// K3.9: the conditions end with what they describe.
func TestFault_K3_9_CleanupRemovesFinalizersAndConditions(t *testing.T) {
	foreign, ours := ptr.To("example.com/lb"), ptr.To("baremetal.cloud/lb")
	terminating := service("terminating", nil, []string{stock})
	terminating.DeletionTimestamp = ptr.To(metav1.NewTime(testNow))
	retyped := service("retyped", nil, []string{stock})
	retyped.Spec.Type = corev1.ServiceTypeClusterIP
	cases := []struct {
		service *corev1.Service
		want    []string
	}{
		{service("plain", nil, []string{stock}), []string{}},
		{service("untouched", nil, nil), nil},
		{service("others-too", nil, []string{"example.com/a", stock, "example.com/b"}), []string{"example.com/a", "example.com/b"}},
		{service("ours-by-class", ours, []string{ClassFinalizer, stock}), []string{}},
		{service("ours-by-condition", ours, []string{stock}, "baremetal.cloud/Allocated"), []string{}},
		{service("foreign", foreign, []string{stock, "example.com/c"}, "Ready"), []string{stock, "example.com/c"}},
		{service("only-conditions", nil, nil, "baremetal.cloud/Allocated", "Ready", "baremetal.cloud/Announced"), nil},
		{terminating, []string{}},
		{retyped, []string{}},
	}
	client := fake.NewClientset(lease("", testNow))
	for _, c := range cases {
		require.NoError(t, client.Tracker().Add(c.service))
	}
	changed, err := Run(t.Context(), options(t, client))
	require.NoError(t, err)
	require.Equal(t, 7, changed)
	for _, c := range cases {
		got, err := client.CoreV1().Services("web").Get(t.Context(), c.service.Name, metav1.GetOptions{})
		if c.service == terminating {
			require.True(t, apierrors.IsNotFound(err) || len(got.Finalizers) == 0)
			continue
		}
		require.NoError(t, err)
		require.ElementsMatch(t, c.want, got.Finalizers, c.service.Name)
		for _, condition := range got.Status.Conditions {
			require.Equal(t, "Ready", condition.Type, "ours say what is so no longer")
		}
		require.Equal(t, "192.0.2.10", got.Status.LoadBalancer.Ingress[0].IP, "the address stays")
	}
	changed, err = Run(t.Context(), options(t, client))
	require.NoError(t, err)
	require.Zero(t, changed, "a second run finds nothing")
}

func TestRunningCCMIsRefused(t *testing.T) {
	client := fake.NewClientset(lease("ccm-0", testNow.Add(-9*time.Second)), service("plain", nil, []string{stock}))
	_, err := Run(t.Context(), options(t, client))
	require.ErrorIs(t, err, ErrRunning)
	require.ErrorContains(t, err, "ccm-0")
	require.ErrorContains(t, err, "delete its Deployment first")

	for _, object := range []*coordinationv1.Lease{lease("ccm-0", testNow.Add(-10*time.Second)), {ObjectMeta: lease("", testNow).ObjectMeta}} {
		changed, err := Run(t.Context(), options(t, fake.NewClientset(object, service("plain", nil, []string{stock}))))
		require.NoError(t, err, "a Lease that expired or was shipped")
		require.Equal(t, 1, changed)
	}
}

func TestConflictAndFailure(t *testing.T) {
	client := fake.NewClientset(service("busy", nil, []string{stock}), service("stuck", nil, []string{stock}))
	conflicts := 2
	client.PrependReactor("patch", "services", func(action clienttesting.Action) (bool, runtime.Object, error) {
		patch := action.(clienttesting.PatchAction)
		require.Equal(t, "status", patch.GetSubresource(), "all that RBAC allows")
		require.Contains(t, string(patch.GetPatch()), `"resourceVersion":`)
		switch {
		case patch.GetName() == "stuck":
			return true, nil, errors.New("connection refused")
		case conflicts > 0:
			conflicts--
			return true, nil, apierrors.NewConflict(corev1.Resource("services"), patch.GetName(), errors.New("modified"))
		}
		return false, nil, nil
	})
	changed, err := Run(t.Context(), options(t, client))
	require.Equal(t, 1, changed)
	require.ErrorContains(t, err, "Service web/stuck: connection refused")
	require.NotContains(t, err.Error(), "busy")
}

// Beside another controller that uses the stock finalizer only what we wrote is removed.
func TestCleanupWhereServicesOptIn(t *testing.T) {
	ours := ptr.To("baremetal.cloud/lb")
	cases := []struct {
		service *corev1.Service
		want    []string
	}{
		{service("another's", nil, []string{stock}), []string{stock}},
		{service("ours", ours, []string{ClassFinalizer}, "baremetal.cloud/Allocated"), []string{}},
		{service("ours-before", nil, []string{stock}, "baremetal.cloud/Allocated"), []string{}},
		{service("ours-then-another's", nil, []string{ClassFinalizer, stock}, "baremetal.cloud/Allocated"), []string{stock}},
	}
	client := fake.NewClientset()
	for _, c := range cases {
		require.NoError(t, client.Tracker().Add(c.service))
	}
	o := options(t, client)
	o.OptIn = true
	changed, err := Run(t.Context(), o)
	require.NoError(t, err)
	require.Equal(t, 3, changed)
	for _, c := range cases {
		left, err := client.CoreV1().Services("web").Get(t.Context(), c.service.Name, metav1.GetOptions{})
		require.NoError(t, err)
		require.ElementsMatch(t, c.want, left.Finalizers, c.service.Name)
		require.Empty(t, left.Status.Conditions, c.service.Name)
	}
}
