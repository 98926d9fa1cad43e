package auth

import (
	"context"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// updateSecret reads the Secret, and writes it if judge changed it.
func (k *CertManager) updateSecret(ctx context.Context, judge func(*corev1.Secret) error) (changed bool, err error) {
	secrets, name := k.options.Client.CoreV1().Secrets(k.options.Namespace), k.options.Namespace+"/"+k.options.Secret
	found, err := secrets.Get(ctx, k.options.Secret, metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		return false, fmt.Errorf("no Secret %s: apply the manifests, which ship it empty: %w", name, err)
	}
	if err != nil {
		return false, fmt.Errorf("read Secret %s: %w", name, err)
	}
	secret := found.DeepCopy()
	if err := judge(secret); err != nil {
		return false, fmt.Errorf("read Secret %s: %w; correct it, or empty its data to have all of it made anew", name, err)
	}
	if equality.Semantic.DeepEqual(secret, found) {
		return false, nil
	}
	if _, err := secrets.Update(ctx, secret, metav1.UpdateOptions{}); err != nil {
		return false, fmt.Errorf("write Secret %s: %w", name, err)
	}
	return true, nil
}

func (k *CertManager) configMap(ctx context.Context) (*corev1.ConfigMap, error) {
	name := k.options.Namespace + "/" + k.options.ConfigMap
	configMap, err := k.options.Client.CoreV1().ConfigMaps(k.options.Namespace).Get(ctx, k.options.ConfigMap, metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		return nil, fmt.Errorf("no ConfigMap %s: apply the manifests, which ship it empty: %w", name, err)
	}
	if err != nil {
		return nil, fmt.Errorf("read ConfigMap %s: %w", name, err)
	}
	return configMap, nil
}

// toldBy reads what the ConfigMap tells announcers.
func toldBy(configMap *corev1.ConfigMap) published {
	since, _ := time.Parse(time.RFC3339, configMap.Annotations[sinceAnnotation]) // zero if it cannot be read
	return published{ca: []byte(configMap.Data[keyCA]), since: since}
}

// publishCA writes the authorities' certificates to where announcers read them, if they are
// not there. Announcers trust an authority before any replica serves with its certificate.
func (k *CertManager) publishCA(ctx context.Context, was *corev1.ConfigMap, ca []byte) error {
	now := k.options.Now()
	if toldBy(was).isCurrent(ca, now) {
		return nil
	}
	configMap := was.DeepCopy()
	if configMap.Data == nil {
		configMap.Data = map[string]string{}
	}
	configMap.Data[keyCA] = string(ca)
	metav1.SetMetaDataAnnotation(&configMap.ObjectMeta, sinceAnnotation, now.UTC().Format(time.RFC3339))
	name := k.options.Namespace + "/" + k.options.ConfigMap
	if _, err := k.options.Client.CoreV1().ConfigMaps(k.options.Namespace).Update(ctx, configMap, metav1.UpdateOptions{}); err != nil {
		return fmt.Errorf("write ConfigMap %s: %w", name, err)
	}
	k.log.Info("published what announcers trust", "configMap", name)
	return nil
}
