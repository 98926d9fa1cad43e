package cloud

import (
	"context"
	"errors"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/kubernetes"

	"baremetal.cloud/ccm/pkg/cloud/config"
)

// configOrigin is where a text of the cloud-config comes from: a version of a ConfigMap, or
// with the zero value the file.
type configOrigin struct {
	// configMap is "namespace/name".
	configMap       string
	uid             types.UID
	resourceVersion string
}

// configText is a text of the cloud-config.
type configText struct {
	// text is nil where err says why there is none.
	text []byte
	err  error
	// name is what positions in the text are given in.
	name   string
	origin configOrigin
}

func fileText(path string) configText {
	if path == "" {
		return configText{err: errors.New("there is neither the ConfigMap of --cloud-config-map nor a file of --cloud-config")}
	}
	text, err := config.Read(path)
	return configText{text: text, err: err, name: path}
}

// readConfigMap asks the API server for the ConfigMap that holds the cloud-config: what such
// a read returns is the newest by definition. exists is false where there is none; err reports
// that the API server gave no answer.
func readConfigMap(ctx context.Context, client kubernetes.Interface, name types.NamespacedName) (_ configText, exists bool, err error) {
	found, err := client.CoreV1().ConfigMaps(name.Namespace).Get(ctx, name.Name, metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		return configText{}, false, nil
	}
	if err != nil {
		return configText{}, false, fmt.Errorf("ConfigMap %s cannot be read: %w", name, err)
	}
	out := configText{
		name:   "ConfigMap " + name.String(),
		origin: configOrigin{configMap: name.String(), uid: found.UID, resourceVersion: found.ResourceVersion},
	}
	if text, ok := found.Data[ConfigMapKey]; ok {
		out.text = []byte(text)
	} else {
		out.err = fmt.Errorf("%s has no key %s", out.name, ConfigMapKey)
	}
	return out, true, nil
}

// withoutConfigMap is what counts while the ConfigMap does not exist: the file, but never in
// place of what came from the ConfigMap before.
func withoutConfigMap(path string, name types.NamespacedName, cameFromIt bool) configText {
	if cameFromIt {
		return configText{err: fmt.Errorf("ConfigMap %s does not exist any longer; create it again, or remove --cloud-config-map to go on with a file", name)}
	}
	return fileText(path)
}

const (
	// configMapPause is the time between two attempts to watch the ConfigMap, and
	// configMapGather is for how long changes are gathered before it is read.
	configMapPause  = time.Second
	configMapGather = 50 * time.Millisecond
	// configMapWatch is how long one watch lasts: then the ConfigMap is read again, should a
	// change have been missed.
	configMapWatch = 5 * time.Minute
)

// watchConfigMap reads the ConfigMap that holds the cloud-config whenever it changes, until
// ctx ends. Without --cloud-config-map it does nothing.
func (p *Provider) watchConfigMap(ctx context.Context) error {
	if p.options.ConfigMap.Name == "" {
		<-ctx.Done()
		return nil
	}
	failed := false
	for ctx.Err() == nil {
		err := p.watchConfigMapOnce(ctx)
		if err != nil && ctx.Err() == nil && !failed {
			p.options.Logger.Warn("the ConfigMap of the cloud-config is not followed; trying on", "configmap", p.options.ConfigMap.String(), "err", err)
		}
		failed = err != nil
		select {
		case <-ctx.Done():
		case <-time.After(configMapPause):
		}
	}
	return nil
}

// watchConfigMapOnce returns when a watch ends. The first read comes after the watch began,
// so that no change falls between the two.
func (p *Provider) watchConfigMapOnce(ctx context.Context) error {
	name := p.options.ConfigMap
	seconds := int64(configMapWatch / time.Second)
	changes, err := p.options.Client.CoreV1().ConfigMaps(name.Namespace).Watch(ctx, metav1.ListOptions{
		FieldSelector:  fields.OneTermEqualSelector(metav1.ObjectNameField, name.Name).String(),
		TimeoutSeconds: &seconds,
	})
	if err != nil {
		return fmt.Errorf("watch: %w", err)
	}
	defer changes.Stop()
	for {
		if err := p.lookAtConfigMap(ctx); err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return nil
		case event, open := <-changes.ResultChan():
			if !open {
				return nil
			}
			if event.Type == watch.Error {
				return apierrors.FromObject(event.Object)
			}
		}
		collectEvents(ctx, changes.ResultChan())
	}
}

// collectEvents drains what comes within configMapGather. A channel that is closed meanwhile is
// found closed by the caller.
func collectEvents(ctx context.Context, events <-chan watch.Event) {
	timer := time.NewTimer(configMapGather)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
			return
		case _, open := <-events:
			if !open {
				return
			}
		}
	}
}

// seenConfigMap is what a read of the ConfigMap returned.
type seenConfigMap struct {
	configText
	exists bool
}

// lookAtConfigMap reads the ConfigMap and wakes followConfig to look at it.
func (p *Provider) lookAtConfigMap(ctx context.Context) error {
	text, exists, err := readConfigMap(ctx, p.options.Client, p.options.ConfigMap)
	if err != nil {
		return err
	}
	p.seenConfig.Store(&seenConfigMap{text, exists})
	select {
	case p.configSeen <- struct{}{}:
	default:
	}
	return nil
}

// newestConfig returns the text of the cloud-config that counts now.
func (p *Provider) newestConfig() configText {
	if p.options.ConfigMap.Name == "" {
		return fileText(p.options.ConfigPath)
	}
	if seen := p.seenConfig.Load(); seen != nil && seen.exists {
		return seen.configText
	}
	return withoutConfigMap(p.options.ConfigPath, p.options.ConfigMap, p.fromConfigMap.Load())
}

// uidTimeout is how long an Event waits for the UID of the ConfigMap that it is about.
const uidTimeout = 2 * time.Second

// configMap returns the ConfigMap that Events about the cloud-config are attached to: kubectl
// describe shows those that have its UID. Where it was not read, as a file alone counts, it is
// looked up.
func (p *Provider) configMap() *corev1.ConfigMap {
	name := p.options.ConfigMap
	if name.Name == "" {
		name = types.NamespacedName{Namespace: p.options.Namespace, Name: ConfigMapName}
	}
	out := &corev1.ConfigMap{
		TypeMeta:   metav1.TypeMeta{APIVersion: "v1", Kind: "ConfigMap"},
		ObjectMeta: metav1.ObjectMeta{Namespace: name.Namespace, Name: name.Name},
	}
	if seen := p.seenConfig.Load(); seen != nil && seen.exists {
		out.UID = seen.origin.uid
		return out
	}
	if p.options.Client == nil {
		return out
	}
	ctx, cancel := context.WithTimeout(context.Background(), uidTimeout)
	defer cancel()
	if live, err := p.options.Client.CoreV1().ConfigMaps(name.Namespace).Get(ctx, name.Name, metav1.GetOptions{}); err == nil {
		out.UID = live.UID
	}
	return out
}
