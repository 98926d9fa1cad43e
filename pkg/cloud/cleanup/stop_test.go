package cleanup

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/kubernetes/fake"
	clienttesting "k8s.io/client-go/testing"
)

// scaling counts how often the Deployment is scaled to 0, which is all that may be done to it.
func scaling(t *testing.T, client *fake.Clientset) *int {
	n := new(int)
	client.PrependReactor("*", "deployments", func(action clienttesting.Action) (bool, runtime.Object, error) {
		patch, ok := action.(clienttesting.PatchAction)
		require.True(t, ok, "%s is more than RBAC allows", action.GetVerb())
		require.Equal(t, "scale", patch.GetSubresource())
		require.Equal(t, "baremetal-ccm", patch.GetName())
		require.JSONEq(t, `{"spec":{"replicas":0}}`, string(patch.GetPatch()))
		*n++
		return true, nil, nil
	})
	return n
}

func stopping(t *testing.T, client *fake.Clientset) Options {
	o := options(t, client)
	o.Deployment, o.Now = "baremetal-ccm", nil
	return o
}

// TestStopWaitsForTheLeader: a leader that ends gives its Lease back, another replica takes it for a moment and
// puts a finalizer back; only when both are gone are the Services gone over.
func TestStopWaitsForTheLeader(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		client := fake.NewClientset(lease("ccm-0", time.Now().Add(time.Hour)), service("plain", nil, []string{stock}))
		scaled := scaling(t, client)
		leases := client.CoordinationV1().Leases("baremetal-ccm")
		hold := func(holder string) {
			_, err := leases.Update(t.Context(), lease(holder, time.Now().Add(time.Hour)), metav1.UpdateOptions{})
			require.NoError(t, err)
		}
		time.AfterFunc(5*time.Second, func() { hold("") })
		time.AfterFunc(7*time.Second, func() { hold("ccm-1") })
		time.AfterFunc(20*time.Second, func() { hold("") })
		began := time.Now()
		changed, err := Stop(t.Context(), stopping(t, client))
		require.NoError(t, err)
		require.Equal(t, 1, changed)
		require.Equal(t, 1, *scaled)
		require.GreaterOrEqual(t, time.Since(began), 20*time.Second+freeFor)
	})
}

// TestStopGoesOverTheServicesAgain: a replica leads while the Services are gone over.
func TestStopGoesOverTheServicesAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		client := fake.NewClientset(lease("", time.Now()), service("plain", nil, []string{stock}))
		scaling(t, client)
		lists := 0
		client.PrependReactor("list", "services", func(clienttesting.Action) (bool, runtime.Object, error) {
			if lists++; lists == 1 {
				leases := coordinationv1.SchemeGroupVersion.WithResource("leases")
				require.NoError(t, client.Tracker().Update(leases, lease("ccm-1", time.Now()), "baremetal-ccm"))
			}
			return false, nil, nil
		})
		_, err := Stop(t.Context(), stopping(t, client))
		require.NoError(t, err)
		require.Equal(t, 2, lists)
	})
}

func TestStopEndsWithItsContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		client := fake.NewClientset(lease("ccm-0", time.Now().Add(time.Hour)))
		scaling(t, client)
		ctx, cancel := context.WithTimeoutCause(t.Context(), time.Minute, errors.New("told to end"))
		defer cancel()
		_, err := Stop(ctx, stopping(t, client))
		require.ErrorContains(t, err, "told to end")
		require.ErrorIs(t, err, ErrRunning)
	})
}

func TestStopNeedsTheDeployment(t *testing.T) {
	client := fake.NewClientset()
	client.PrependReactor("patch", "deployments", func(clienttesting.Action) (bool, runtime.Object, error) {
		return true, nil, errors.New("forbidden")
	})
	_, err := Stop(t.Context(), stopping(t, client))
	require.ErrorContains(t, err, "scale Deployment baremetal-ccm/baremetal-ccm to 0: forbidden")
}

// TestAddressesAreRemovedWhereAsked: those that we gave out, and no other controller's.
func TestAddressesAreRemovedWhereAsked(t *testing.T) {
	for _, remove := range []bool{false, true} {
		client := fake.NewClientset(
			service("ours", nil, []string{stock}, "baremetal.cloud/Allocated", "Ready"),
			service("anothers", nil, []string{stock}, "Ready"))
		o := options(t, client)
		o.RemoveAddresses = remove
		_, err := Run(t.Context(), o)
		require.NoError(t, err)
		get := func(name string) *corev1.Service {
			s, err := client.CoreV1().Services("web").Get(t.Context(), name, metav1.GetOptions{})
			require.NoError(t, err)
			require.Empty(t, s.Finalizers)
			require.Len(t, s.Status.Conditions, 1)
			return s
		}
		require.Equal(t, remove, len(get("ours").Status.LoadBalancer.Ingress) == 0)
		require.Len(t, get("anothers").Status.LoadBalancer.Ingress, 1)
	}
}
