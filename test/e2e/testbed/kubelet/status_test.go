package kubelet

import (
	"log/slog"
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes/fake"
)

// The control plane calls the Pods of a node that was away not ready, and nobody but the
// kubelet can know better.
func TestStatusThatAnotherWroteIsPutRight(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		object := &corev1.Pod{
			ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "web", UID: "1"},
			Spec:       corev1.PodSpec{Containers: []corev1.Container{{Name: "web"}}},
		}
		a := newAgent(t, false, false)
		a.Client, a.Logger, a.Changed = fake.NewClientset(object), slog.New(slog.DiscardHandler), func() {}
		pods := a.Client.CoreV1().Pods("default")
		p := newPod(a, object)
		p.containers = []*container{}
		go p.report(t.Context())
		synctest.Wait()

		seen, err := pods.Get(t.Context(), "web", metav1.GetOptions{})
		require.NoError(t, err)
		require.True(t, podReady(seen))
		setCondition(&seen.Status, corev1.PodReady, false)
		seen, err = pods.UpdateStatus(t.Context(), seen, metav1.UpdateOptions{})
		require.NoError(t, err)
		p.update(seen)
		synctest.Wait()

		seen, err = pods.Get(t.Context(), "web", metav1.GetOptions{})
		require.NoError(t, err)
		require.True(t, podReady(seen))
	})
}

// TestPhase: a Pod has succeeded or failed when none of its containers is started again.
func TestPhase(t *testing.T) {
	ended := func(code int32) corev1.ContainerStatus {
		return corev1.ContainerStatus{State: corev1.ContainerState{Terminated: &corev1.ContainerStateTerminated{ExitCode: code}}}
	}
	running := corev1.ContainerStatus{State: corev1.ContainerState{Running: &corev1.ContainerStateRunning{}}}
	require.Equal(t, corev1.PodPending, phase(nil, false))
	require.Equal(t, corev1.PodRunning, phase([]corev1.ContainerStatus{running}, true))
	require.Equal(t, corev1.PodRunning, phase([]corev1.ContainerStatus{running, ended(0)}, true))
	require.Equal(t, corev1.PodSucceeded, phase([]corev1.ContainerStatus{ended(0), ended(0)}, true))
	require.Equal(t, corev1.PodFailed, phase([]corev1.ContainerStatus{ended(0), ended(1)}, true))
	require.True(t, endsAfter(corev1.RestartPolicyNever)(1))
	require.False(t, endsAfter(corev1.RestartPolicyOnFailure)(1))
	require.True(t, endsAfter(corev1.RestartPolicyOnFailure)(0))
	require.Nil(t, endsAfter(corev1.RestartPolicyAlways))
}

func podReady(object *corev1.Pod) bool {
	for _, c := range object.Status.Conditions {
		if c.Type == corev1.PodReady {
			return c.Status == corev1.ConditionTrue
		}
	}
	return false
}
