package kubelet

import (
	"context"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/util/retry"

	"baremetal.cloud/ccm/test/e2e/testbed/proc"
)

// postStatus writes the Pod's status if it differs from what the API server has.
func (p *pod) postStatus(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	object := p.object()
	pods := p.agent.Client.CoreV1().Pods(object.Namespace)
	return retry.RetryOnConflict(retry.DefaultRetry, func() error {
		next := object.DeepCopy()
		p.fillStatus(&next.Status)
		if equality.Semantic.DeepEqual(next.Status, object.Status) {
			return nil
		}
		_, err := pods.UpdateStatus(ctx, next, metav1.UpdateOptions{})
		if apierrors.IsConflict(err) {
			fresh, getErr := pods.Get(ctx, object.Name, metav1.GetOptions{})
			if getErr != nil {
				return getErr
			}
			if fresh.UID != object.UID {
				return nil
			}
			object = fresh
		}
		return err
	})
}

func (p *pod) fillStatus(s *corev1.PodStatus) {
	address, primary := p.addresses(), p.agent.Node.Primary()
	s.HostIP = primary.V4.String()
	s.HostIPs = []corev1.HostIP{{IP: primary.V4.String()}, {IP: primary.V6.String()}}
	if address.V4.IsValid() {
		s.PodIP = address.V4.String()
		s.PodIPs = []corev1.PodIP{{IP: address.V4.String()}, {IP: address.V6.String()}}
	}
	if s.StartTime == nil {
		now := metav1.Now()
		s.StartTime = &now
	}
	running, ready := p.containerStatuses(s)
	s.Phase = phase(s.ContainerStatuses, running)
	setCondition(s, corev1.PodInitialized, true)
	setCondition(s, corev1.ContainersReady, ready)
	setCondition(s, corev1.PodReady, ready)
}

// phase is Succeeded or Failed once every container has ended and is not started again.
func phase(containers []corev1.ContainerStatus, running bool) corev1.PodPhase {
	ended, failed := 0, false
	for _, c := range containers {
		if end := c.State.Terminated; end != nil {
			ended++
			failed = failed || end.ExitCode != 0
		}
	}
	switch {
	case ended > 0 && ended == len(containers) && failed:
		return corev1.PodFailed
	case ended > 0 && ended == len(containers):
		return corev1.PodSucceeded
	case running:
		return corev1.PodRunning
	}
	return corev1.PodPending
}

// containerStatuses reports whether every container has run once, and whether all are
// ready.
func (p *pod) containerStatuses(s *corev1.PodStatus) (running, ready bool) {
	p.mu.Lock()
	containers, problem, specs := p.containers, p.problem, p.current.Spec.Containers
	p.mu.Unlock()
	if containers == nil {
		s.ContainerStatuses = nil
		for _, c := range specs {
			s.ContainerStatuses = append(s.ContainerStatuses, corev1.ContainerStatus{
				Name: c.Name, Image: c.Image, Started: new(bool),
				State: waiting("ContainerCreating", problem),
			})
		}
		return false, false
	}
	running, ready = true, true
	s.ContainerStatuses = nil
	for _, c := range containers {
		status := c.status()
		running = running && (status.State.Running != nil || status.State.Terminated != nil || status.RestartCount > 0)
		ready = ready && status.Ready
		s.ContainerStatuses = append(s.ContainerStatuses, status)
	}
	return running, ready
}

func (c *container) status() corev1.ContainerStatus {
	state := c.service.State()
	started, ready := c.flags()
	ready = ready && state.PID != 0
	status := corev1.ContainerStatus{
		Name: c.spec.Name, Image: c.spec.Image, ImageID: c.spec.Image,
		ContainerID: "testbed://" + c.service.Name,
		Started:     &started, Ready: ready, RestartCount: restarts(state),
	}
	if state.Exits > 0 {
		end := &corev1.ContainerStateTerminated{
			ExitCode: int32(state.ExitCode), Reason: endReason(state.ExitCode),
			FinishedAt: metav1.NewTime(state.Finished.Truncate(time.Second)),
		}
		if state.Completed {
			status.State.Terminated = end
			return status
		}
		status.LastTerminationState.Terminated = end
	}
	if state.PID != 0 {
		status.State.Running = &corev1.ContainerStateRunning{StartedAt: metav1.NewTime(state.Started.Truncate(time.Second))}
	} else {
		status.State = waiting(state.Waiting, state.Message)
	}
	return status
}

// restarts counts the starts after the first.
func restarts(state proc.State) int32 {
	if state.PID == 0 {
		return int32(max(state.Exits-1, 0))
	}
	return int32(state.Exits)
}

func endReason(code int) string {
	if code == 0 {
		return "Completed"
	}
	return "Error"
}

func waiting(reason, message string) corev1.ContainerState {
	return corev1.ContainerState{Waiting: &corev1.ContainerStateWaiting{Reason: reason, Message: message}}
}

func setCondition(s *corev1.PodStatus, kind corev1.PodConditionType, ok bool) {
	status := corev1.ConditionFalse
	if ok {
		status = corev1.ConditionTrue
	}
	for i := range s.Conditions {
		c := &s.Conditions[i]
		if c.Type != kind {
			continue
		}
		if c.Status != status {
			c.Status, c.LastTransitionTime = status, metav1.Now()
		}
		return
	}
	s.Conditions = append(s.Conditions, corev1.PodCondition{Type: kind, Status: status, LastTransitionTime: metav1.Now()})
}
