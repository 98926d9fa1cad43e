package kubelet

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// Heartbeat periods, as kubelet's defaults.
const (
	leaseDuration = 40 * time.Second
	leasePeriod   = 10 * time.Second
	// soon is how long a failed heartbeat waits for its next try.
	soon = time.Second
)

// heartbeat registers the node and says that it lives, until ctx ends.
func (a *Agent) heartbeat(ctx context.Context) {
	for {
		wait := leasePeriod
		if err := a.beat(ctx); err != nil {
			if ctx.Err() != nil {
				return
			}
			a.Logger.Warn("heartbeat failed", "err", err)
			// A connection that hangs would delay the next one, too.
			a.CloseConnections()
			wait = soon
		}
		select {
		case <-time.After(wait):
		case <-ctx.Done():
			return
		}
	}
}

func (a *Agent) beat(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, leasePeriod/2)
	defer cancel()
	if err := a.postNode(ctx); err != nil {
		return fmt.Errorf("node: %w", err)
	}
	if err := a.renewLease(ctx); err != nil {
		return fmt.Errorf("lease: %w", err)
	}
	return nil
}

// postNode creates the Node object when it is called first, or puts right the status that is
// ours. As a real kubelet does, which registers its node when it starts and never again, it
// does not bring back a Node that was deleted since.
func (a *Agent) postNode(ctx context.Context) error {
	nodes := a.Client.CoreV1().Nodes()
	node, err := nodes.Get(ctx, a.Node.Name, metav1.GetOptions{})
	switch {
	case apierrors.IsNotFound(err) && a.hasRegistered.Load():
		return nil
	case apierrors.IsNotFound(err):
		node, err = nodes.Create(ctx, a.newNode(), metav1.CreateOptions{})
	}
	if err != nil {
		return err
	}
	a.hasRegistered.Store(true)
	if ready(node) {
		return nil
	}
	node = node.DeepCopy()
	a.fill(node)
	_, err = nodes.UpdateStatus(ctx, node, metav1.UpdateOptions{})
	return err
}

// Register creates the Node object if it was deleted, as a kubelet does that is restarted.
func (a *Agent) Register(ctx context.Context) error {
	a.hasRegistered.Store(false)
	if err := a.postNode(ctx); !apierrors.IsAlreadyExists(err) {
		return err
	}
	return nil // The heartbeat was quicker.
}

func ready(node *corev1.Node) bool {
	for _, c := range node.Status.Conditions {
		if c.Type == corev1.NodeReady {
			return c.Status == corev1.ConditionTrue
		}
	}
	return false
}

// newNode returns the Node as it is registered.
func (a *Agent) newNode() *corev1.Node {
	node := &corev1.Node{
		ObjectMeta: metav1.ObjectMeta{
			Name: a.Node.Name,
			Labels: map[string]string{
				corev1.LabelHostname:   a.Node.Name,
				corev1.LabelOSStable:   "linux",
				corev1.LabelArchStable: "amd64",
			},
		},
		Spec: corev1.NodeSpec{
			PodCIDR:  a.Node.PodV4.String(),
			PodCIDRs: []string{a.Node.PodV4.String(), a.Node.PodV6.String()},
		},
	}
	maps.Copy(node.Labels, a.Labels)
	if a.External {
		node.Spec.Taints = []corev1.Taint{uninitialized}
	}
	a.fill(node)
	return node
}

// fill writes what a kubelet says about its node: that it is ready, and where.
func (a *Agent) fill(node *corev1.Node) {
	now, status := metav1.Now(), &node.Status
	conditions := []corev1.NodeCondition{
		{Type: corev1.NodeMemoryPressure, Status: corev1.ConditionFalse, Reason: "KubeletHasSufficientMemory"},
		{Type: corev1.NodeDiskPressure, Status: corev1.ConditionFalse, Reason: "KubeletHasNoDiskPressure"},
		{Type: corev1.NodePIDPressure, Status: corev1.ConditionFalse, Reason: "KubeletHasSufficientPID"},
		{Type: corev1.NodeReady, Status: corev1.ConditionTrue, Reason: "KubeletReady", Message: "the testbed's stand-in for kubelet runs"},
	}
	for _, c := range conditions {
		c.LastHeartbeatTime, c.LastTransitionTime = now, now
		setNodeCondition(status, c)
	}
	a.fillAddresses(node)
	status.Capacity = corev1.ResourceList{
		corev1.ResourceCPU:    resource.MustParse("2"),
		corev1.ResourceMemory: resource.MustParse("4Gi"),
		corev1.ResourcePods:   resource.MustParse("110"),
	}
	status.Allocatable = status.Capacity
	status.NodeInfo.OperatingSystem, status.NodeInfo.Architecture = "linux", "amd64"
	status.NodeInfo.KubeletVersion, status.NodeInfo.ContainerRuntimeVersion = "v1.37.1", "testbed://1"
}

func setNodeCondition(status *corev1.NodeStatus, c corev1.NodeCondition) {
	for i, old := range status.Conditions {
		if old.Type != c.Type {
			continue
		}
		if old.Status == c.Status {
			c.LastTransitionTime = old.LastTransitionTime
		}
		status.Conditions[i] = c
		return
	}
	status.Conditions = append(status.Conditions, c)
}

func (a *Agent) renewLease(ctx context.Context) error {
	leases := a.Client.CoordinationV1().Leases(corev1.NamespaceNodeLease)
	now, seconds := metav1.NowMicro(), int32(leaseDuration/time.Second)
	lease, err := leases.Get(ctx, a.Node.Name, metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		_, err = leases.Create(ctx, &coordinationv1.Lease{
			ObjectMeta: metav1.ObjectMeta{Name: a.Node.Name},
			Spec: coordinationv1.LeaseSpec{
				HolderIdentity: &a.Node.Name, LeaseDurationSeconds: &seconds, RenewTime: &now,
			},
		}, metav1.CreateOptions{})
		// The namespace is made by the API server itself, shortly after its start.
		if apierrors.IsNotFound(err) {
			return errors.New("the namespace of node leases is not there yet")
		}
		return err
	}
	if err != nil {
		return err
	}
	lease = lease.DeepCopy()
	lease.Spec.HolderIdentity, lease.Spec.LeaseDurationSeconds, lease.Spec.RenewTime = &a.Node.Name, &seconds, &now
	_, err = leases.Update(ctx, lease, metav1.UpdateOptions{})
	return err
}
