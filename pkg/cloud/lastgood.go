package cloud

import (
	"context"
	"errors"
	"fmt"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"

	"baremetal.cloud/ccm/pkg/cloud/cloudconfig"
)

// Started is the cloud-config that a process starts with.
type Started struct {
	Config   *cloudconfig.Config
	Warnings []cloudconfig.Warning
	// Stale is why the file is not what is used, or nil. The last good cloud-config, kept
	// by the leader in a ConfigMap, is used then.
	Stale error
}

// StartConfig reads the cloud-config. Where the file is bad it falls back to the last
// good one; where there is none, it returns the error about the file.
func StartConfig(ctx context.Context, client kubernetes.Interface, namespace, path string) (Started, error) {
	config, warnings, bad := cloudconfig.Load(path)
	if bad == nil {
		return Started{Config: config, Warnings: warnings}, nil
	}
	kept, err := client.CoreV1().ConfigMaps(namespace).Get(ctx, LastGoodConfigMapName, metav1.GetOptions{})
	if err != nil {
		return Started{}, errors.Join(bad, fmt.Errorf("there is no last good cloud-config to go on with: %w", err))
	}
	text := kept.Data[ConfigMapKey]
	if text == "" {
		return Started{}, bad
	}
	config, warnings, err = cloudconfig.Parse([]byte(text), "ConfigMap "+namespace+"/"+LastGoodConfigMapName)
	if err != nil {
		return Started{}, errors.Join(bad, err)
	}
	return Started{Config: config, Warnings: warnings, Stale: bad}, nil
}

// keepConfig stores the cloud-config that was just accepted for the next process.
func (p *Provider) keepConfig(ctx context.Context, text []byte) error {
	configMaps := p.client.CoreV1().ConfigMaps(p.options.Namespace)
	kept, err := configMaps.Get(ctx, LastGoodConfigMapName, metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		return fmt.Errorf("ConfigMap %s/%s is missing; apply the manifests again: %w", p.options.Namespace, LastGoodConfigMapName, err)
	}
	if err != nil {
		return err
	}
	if kept.Data[ConfigMapKey] == string(text) {
		return nil
	}
	changed := kept.DeepCopy()
	changed.Data = map[string]string{ConfigMapKey: string(text)}
	_, err = configMaps.Update(ctx, changed, metav1.UpdateOptions{})
	return err
}
