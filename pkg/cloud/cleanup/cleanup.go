// Package cleanup undoes what the CCM put on Services, before it is uninstalled.
//
// A finalizer keeps a Service from being deleted until its load balancer is gone. When
// nothing is left that removes the finalizer, a deleted Service stays in Terminating for ever.
// Our conditions end with it: from then on no node answers. Addresses in status are left as they
// are, so that a CCM that is installed again finds them, unless Options.RemoveAddresses is set.
package cleanup

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"
	servicehelper "k8s.io/cloud-provider/service/helpers"
	"k8s.io/utils/ptr"
)

// ClassFinalizer is the finalizer of our controller of Services with a loadBalancerClass.
const ClassFinalizer = "baremetal.cloud/load-balancer-cleanup"

// domain begins the types of our conditions on a Service.
const domain = "baremetal.cloud/"

// pageSize is how many Services are read at once.
const pageSize = 500

// ErrRunning is returned where a CCM holds the Lease: it would put the finalizers back.
var ErrRunning = errors.New("a CCM is running")

// Options are what Run needs.
type Options struct {
	Client kubernetes.Interface
	// Namespace and Lease are where a running CCM shows itself.
	Namespace, Lease string
	// OptIn reports whether Services without a loadBalancerClass were not ours to serve, unless they
	// bear a condition of ours.
	OptIn bool
	// Deployment is that of the CCM, in Namespace: Stop scales it to 0.
	Deployment string
	// RemoveAddresses takes the addresses from the status of Services that bear a condition of
	// ours, beside finalizers and conditions.
	RemoveAddresses bool
	// Now is the wall clock; nil means time.Now.
	Now    func() time.Time
	Logger *slog.Logger
}

// Run removes our conditions, our finalizer, and the stock service controller's, from every
// Service that was ours to serve: all that have no loadBalancerClass, unless OptIn leaves those
// to another controller, and of the others the ones that bear our finalizer or a condition of
// ours. It returns how many it changed, and every Service that it could not change.
func Run(ctx context.Context, options Options) (int, error) {
	if options.Now == nil {
		options.Now = time.Now
	}
	if err := checkLeaseIdle(ctx, options); err != nil {
		return 0, err
	}
	changed, failed := 0, []error(nil)
	page := metav1.ListOptions{Limit: pageSize}
	for {
		services, err := options.Client.CoreV1().Services(metav1.NamespaceAll).List(ctx, page)
		if err != nil {
			return changed, errors.Join(append(failed, fmt.Errorf("list Services: %w", err))...)
		}
		for _, service := range services.Items {
			done, err := releaseService(ctx, options, &service)
			if err != nil {
				failed = append(failed, fmt.Errorf("free Service %s/%s: %w", service.Namespace, service.Name, err))
			}
			if done {
				changed++
			}
		}
		if page.Continue = services.Continue; page.Continue == "" {
			return changed, errors.Join(failed...)
		}
	}
}

// checkLeaseIdle returns nil if no CCM holds the Lease.
func checkLeaseIdle(ctx context.Context, options Options) error {
	lease, err := options.Client.CoordinationV1().Leases(options.Namespace).Get(ctx, options.Lease, metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("read Lease %s/%s: %w", options.Namespace, options.Lease, err)
	}
	holder, renewed := ptr.Deref(lease.Spec.HolderIdentity, ""), lease.Spec.RenewTime
	if holder == "" || renewed == nil {
		return nil
	}
	ends := renewed.Add(time.Duration(ptr.Deref(lease.Spec.LeaseDurationSeconds, 0)) * time.Second)
	if !options.Now().Before(ends) {
		return nil
	}
	return fmt.Errorf("%w: %s holds Lease %s/%s until %s; delete its Deployment first",
		ErrRunning, holder, options.Namespace, options.Lease, ends.UTC().Format(time.RFC3339))
}

// releaseService removes the finalizers and conditions from one Service, as it is now if it changed
// since it was listed, and reports whether there were any.
func releaseService(ctx context.Context, options Options, service *corev1.Service) (bool, error) {
	services := options.Client.CoreV1().Services(service.Namespace)
	for {
		kept, conditions := remainingFinalizers(service, options.OptIn), otherConditions(service)
		if len(kept) == len(service.Finalizers) && len(conditions) == len(service.Status.Conditions) {
			return false, nil
		}
		status := map[string]any{"conditions": conditions}
		if options.RemoveAddresses && len(conditions) < len(service.Status.Conditions) {
			status["loadBalancer"] = nil
		}
		patch, err := json.Marshal(map[string]any{
			"metadata": map[string]any{
				"resourceVersion": service.ResourceVersion, // so that no finalizer of another is lost
				"finalizers":      kept,
			},
			"status": status,
		})
		if err != nil {
			return false, fmt.Errorf("encode patch: %w", err)
		}
		// The status subresource is what the CCM may write; metadata goes with it.
		_, err = services.Patch(ctx, service.Name, types.MergePatchType, patch, metav1.PatchOptions{}, "status")
		switch {
		case apierrors.IsNotFound(err):
			return false, nil
		case apierrors.IsConflict(err):
			if service, err = services.Get(ctx, service.Name, metav1.GetOptions{}); err != nil {
				return false, err
			}
			continue
		case err != nil:
			return false, err
		}
		options.Logger.Info("removed finalizers and conditions", "service", service.Namespace+"/"+service.Name)
		return true, nil
	}
}

// remainingFinalizers returns the finalizers that service keeps.
func remainingFinalizers(service *corev1.Service, optIn bool) []string {
	ours := wasServed(service)
	if optIn {
		// Another controller uses the stock finalizer too. What our own controller serves has
		// our finalizer: the stock one beside it is not ours.
		ours = service.Spec.LoadBalancerClass == nil && conditioned(service) && !slices.Contains(service.Finalizers, ClassFinalizer)
	}
	kept := make([]string, 0, len(service.Finalizers))
	for _, finalizer := range service.Finalizers {
		if finalizer == ClassFinalizer || ours && finalizer == servicehelper.LoadBalancerCleanupFinalizer {
			continue
		}
		kept = append(kept, finalizer)
	}
	return kept
}

// otherConditions returns the conditions of service that are not ours.
func otherConditions(service *corev1.Service) []metav1.Condition {
	kept := make([]metav1.Condition, 0, len(service.Status.Conditions))
	for _, c := range service.Status.Conditions {
		if !strings.HasPrefix(c.Type, domain) {
			kept = append(kept, c)
		}
	}
	return kept
}

// wasServed reports whether service was ours to serve.
func wasServed(service *corev1.Service) bool {
	return service.Spec.LoadBalancerClass == nil ||
		slices.Contains(service.Finalizers, ClassFinalizer) ||
		conditioned(service)
}

// conditioned reports whether service bears a condition of ours.
func conditioned(service *corev1.Service) bool {
	return slices.ContainsFunc(service.Status.Conditions, func(c metav1.Condition) bool { return strings.HasPrefix(c.Type, domain) })
}
