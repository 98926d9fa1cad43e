package cloud

import (
	"context"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"

	"baremetal.cloud/ccm/pkg/cloud/config"
)

// eventRestartNeeded is the reason of an Event on the ConfigMap: a key of the cloud-config
// takes effect only at the next start.
const eventRestartNeeded = "RestartNeeded"

// OptIn reports whether the last good cloud-config leaves Services without a class alone.
func OptIn(ctx context.Context, client kubernetes.Interface, namespace string) (bool, error) {
	kept, err := client.CoreV1().ConfigMaps(namespace).Get(ctx, LastGoodConfigMapName, metav1.GetOptions{})
	if err != nil {
		return false, fmt.Errorf("last good cloud-config: %w", err)
	}
	if kept.Data[ConfigMapKey] == "" {
		return false, fmt.Errorf("ConfigMap %s/%s holds no cloud-config", namespace, LastGoodConfigMapName)
	}
	cfg, err := parseLastGood(kept)
	if err != nil {
		return false, err
	}
	return !cfg.ServicesWithoutClass, nil
}

// servedClasses returns the loadBalancerClasses that are served now.
func (p *Provider) servedClasses() classes { return p.classesOf(p.config.Load()) }

// classesOf returns the loadBalancerClasses that are served under config.
func (p *Provider) classesOf(cfg *config.Config) classes {
	none := cfg.ServicesWithoutClass
	if decided := p.withoutClass.Load(); decided != nil {
		none = none && *decided
	}
	return classes{none: none, named: cfg.LoadBalancerClasses}
}

// decideWithoutClass decides whether Services without a class are served by this process, by
// the cloud-config in use once the addresses are restored: the newest one may have been
// refused. The stock service controller runs then, or never.
func (p *Provider) decideWithoutClass() {
	decided := p.config.Load().ServicesWithoutClass
	p.withoutClass.Store(&decided)
	if !decided {
		p.options.Logger.Info("Services without a loadBalancerClass are left alone", "classes", p.servedClasses().named)
	}
}

// followWithoutClass reports a change of servicesWithoutClass that this process cannot follow
// whole. Without a stock service controller nothing would hold a deleted Service until its
// addresses are free, and one that runs goes on writing its finalizer.
func (p *Provider) followWithoutClass(wanted bool) {
	decided := p.withoutClass.Load()
	if decided == nil || *decided == wanted {
		return
	}
	message := "servicesWithoutClass is true now: Services without a class are served once baremetal-ccm is restarted"
	if !wanted {
		message = "servicesWithoutClass is false now: Services without a class get no address any longer, " +
			"but their finalizer until baremetal-ccm is restarted; restart it before another load balancer serves them"
	}
	p.options.Logger.Warn("cloud-config: "+message, "reason", eventRestartNeeded)
	p.recorder.Event(p.configMap(), corev1.EventTypeWarning, eventRestartNeeded, message)
}
