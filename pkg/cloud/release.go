package cloud

import (
	"context"
	"encoding/json"
	"fmt"
	"hash/maphash"
	"net/netip"
	"slices"
	"sync"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	servicehelpers "k8s.io/cloud-provider/service/helpers"
)

// keyLocks makes the writers of one Service's status take turns: our workers, and the stock
// controller when it calls EnsureLoadBalancerDeleted.
type keyLocks struct {
	seed  maphash.Seed
	locks [64]sync.Mutex
}

func newKeyLocks() *keyLocks { return &keyLocks{seed: maphash.MakeSeed()} }

// lockKey waits for its turn and returns what ends it.
func (l *keyLocks) lockKey(key string) (unlock func()) {
	mu := &l.locks[maphash.String(l.seed, key)%uint64(len(l.locks))]
	mu.Lock()
	return mu.Unlock
}

// releaseService frees what svc holds, once the API server has confirmed that its status shows no
// address of ours: service proxies serve what a status shows. With the addresses go our
// conditions and our finalizer. Where the newest version of svc wants its load balancer,
// nothing is released.
func (p *Provider) releaseService(ctx context.Context, svc *corev1.Service) error {
	uid := string(svc.UID)
	shown := p.core.shownAddresses(uid)
	if len(shown) > 0 || isMarked(svc) {
		kept, err := p.writeNewest(ctx, svc, func(newest *corev1.Service) bool {
			if newest.DeletionTimestamp == nil && wantsAddress(newest, p.servedClasses()) {
				return false
			}
			if !p.servedClasses().none && leftBehind(newest) {
				dropFinalizer(newest, servicehelpers.LoadBalancerCleanupFinalizer)
			}
			unmarkService(newest, shown)
			return true
		})
		if err != nil || kept {
			return err // if it is kept, the watch is about to show the version that wants it
		}
	}
	p.logReleased(svc.Namespace+"/"+svc.Name, p.core.releaseService(uid))
	return nil
}

// isMarked reports whether svc bears something that only we write.
func isMarked(svc *corev1.Service) bool {
	return slices.Contains(svc.Finalizers, Finalizer) || slices.ContainsFunc(svc.Status.Conditions, ourCondition)
}

// leftBehind reports whether svc names no class and was served by us, so that the stock
// finalizer on it is the one that our stock controller wrote: a process that serves no such
// Services starts none. Of a Service that had a class of ours, and then none, another
// controller may have written it.
func leftBehind(svc *corev1.Service) bool {
	return svc.Spec.LoadBalancerClass == nil && isMarked(svc) && !slices.Contains(svc.Finalizers, Finalizer)
}

func dropFinalizer(svc *corev1.Service, finalizer string) {
	svc.Finalizers = slices.DeleteFunc(svc.Finalizers, func(f string) bool { return f == finalizer })
}

func ourCondition(c metav1.Condition) bool {
	return c.Type == ConditionAllocated || c.Type == ConditionAnnounced || c.Type == ConditionShared
}

// unmarkService removes from svc those addresses and all else that we wrote.
func unmarkService(svc *corev1.Service, addresses []netip.Addr) {
	dropFinalizer(svc, Finalizer)
	svc.Status.Conditions = slices.DeleteFunc(svc.Status.Conditions, ourCondition)
	svc.Status.LoadBalancer.Ingress = slices.DeleteFunc(svc.Status.LoadBalancer.Ingress, func(i corev1.LoadBalancerIngress) bool {
		address, err := parseAddress(i.IP)
		return err == nil && slices.Contains(addresses, address)
	})
}

// writeAttempts is how often a write is tried that others come before.
const writeAttempts = 5

// writeNewest writes what change makes of the newest version of svc: whatever a cache showed
// is confirmed by the API server or replaced. It reports whether change refused that version.
// Where svc is gone there is nothing to write.
func (p *Provider) writeNewest(ctx context.Context, svc *corev1.Service, change func(newest *corev1.Service) bool) (refused bool, err error) {
	services := p.client.CoreV1().Services(svc.Namespace)
	newest, isLive := svc, false
	for range writeAttempts {
		changed := newest.DeepCopy()
		if change(changed) {
			written, err := services.Patch(ctx, svc.Name, types.MergePatchType, statusPatch(newest, changed), metav1.PatchOptions{}, "status")
			switch {
			case err == nil:
				p.dedup.noteWrite(written)
				return false, nil
			case apierrors.IsNotFound(err):
				return false, nil
			case !apierrors.IsConflict(err):
				return false, fmt.Errorf("write status of Service %s/%s: %w", svc.Namespace, svc.Name, err)
			}
		} else if isLive {
			return true, nil
		}
		if newest, err = p.liveService(ctx, svc); newest == nil {
			return false, err
		}
		isLive = true
	}
	return false, fmt.Errorf("write status of Service %s/%s: it was changed by others %d times meanwhile", svc.Namespace, svc.Name, writeAttempts)
}

// liveService returns svc as the API server has it now, or nil where it is gone. A patch that
// changes nothing is no write, and needs no permission to read.
func (p *Provider) liveService(ctx context.Context, svc *corev1.Service) (*corev1.Service, error) {
	live, err := p.client.CoreV1().Services(svc.Namespace).Patch(ctx, svc.Name, types.MergePatchType, []byte("{}"), metav1.PatchOptions{}, "status")
	switch {
	case apierrors.IsNotFound(err):
		return nil, nil
	case err != nil:
		return nil, fmt.Errorf("read Service %s/%s: %w", svc.Namespace, svc.Name, err)
	case live.UID != svc.UID:
		return nil, nil
	}
	return live, nil
}

// statusPatch is a merge patch of what was removed from a Service. It is refused where the
// Service is not at the version before.
func statusPatch(before, after *corev1.Service) []byte {
	metadata := map[string]any{"uid": before.UID}
	if before.ResourceVersion != "" {
		metadata["resourceVersion"] = before.ResourceVersion
	}
	if len(before.Finalizers) != len(after.Finalizers) {
		metadata["finalizers"] = orNull(after.Finalizers)
	}
	status := map[string]any{}
	if len(before.Status.LoadBalancer.Ingress) != len(after.Status.LoadBalancer.Ingress) {
		status["loadBalancer"] = map[string]any{"ingress": orNull(after.Status.LoadBalancer.Ingress)}
	}
	if len(before.Status.Conditions) != len(after.Status.Conditions) {
		status["conditions"] = orNull(after.Status.Conditions)
	}
	body, err := json.Marshal(map[string]any{"metadata": metadata, "status": status})
	if err != nil {
		panic(err) // the types of the API can be encoded
	}
	return body
}

// orNull returns null for an empty list, which removes the key.
func orNull[E any](list []E) any {
	if len(list) == 0 {
		return nil
	}
	return list
}
