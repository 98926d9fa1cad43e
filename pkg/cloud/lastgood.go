package cloud

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"maps"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"

	"baremetal.cloud/ccm/pkg/cloud/config"
)

// Keys of the ConfigMap with the last good cloud-config, beside ConfigMapKey: the ConfigMap
// that it came from, absent where it came from a file, and the hash of the text.
const (
	lastGoodSource  = "source"
	lastGoodUID     = "source-uid"
	lastGoodVersion = "source-resource-version"
	lastGoodHash    = "sha256"
)

// Started is the cloud-config that a process starts with.
type Started struct {
	Config *config.Config
	// Stale is why the newest cloud-config is not what is used, or nil. The last good one, kept
	// by the leader in a ConfigMap, is used then.
	Stale error
}

// ConfigSource is where the cloud-config comes from.
type ConfigSource struct {
	// ConfigMap is that of --cloud-config-map; empty without it. Path is the file of
	// --cloud-config, or "".
	ConfigMap types.NamespacedName
	Path      string
}

// StartConfig reads the cloud-config. Where it is bad, it falls back to the last good one;
// where there is none, it returns the error about the bad one.
func StartConfig(ctx context.Context, client kubernetes.Interface, namespace string, source ConfigSource) (Started, error) {
	newest := fileText(source.Path)
	if source.ConfigMap.Name != "" {
		text, exists, err := readConfigMap(ctx, client, source.ConfigMap)
		switch {
		case err != nil:
			newest = configText{err: err}
		case exists:
			newest = text
		default:
			// An error is reported below, where the last good one is fetched again.
			kept, _ := client.CoreV1().ConfigMaps(namespace).Get(ctx, LastGoodConfigMapName, metav1.GetOptions{})
			newest = withoutConfigMap(source.Path, source.ConfigMap, kept != nil && originOf(kept).configMap == source.ConfigMap.String())
		}
	}
	bad := newest.err
	if bad == nil {
		var started Started
		if started.Config, _, bad = config.Parse(newest.text, newest.name); bad == nil {
			return started, nil
		}
	}
	return fallBack(ctx, client, namespace, bad)
}

// fallBack returns the last good cloud-config in place of a bad one.
func fallBack(ctx context.Context, client kubernetes.Interface, namespace string, bad error) (Started, error) {
	kept, err := client.CoreV1().ConfigMaps(namespace).Get(ctx, LastGoodConfigMapName, metav1.GetOptions{})
	if err != nil {
		return Started{}, errors.Join(bad, fmt.Errorf("there is no last good cloud-config to go on with: %w", err))
	}
	if kept.Data[ConfigMapKey] == "" {
		return Started{}, bad
	}
	cfg, err := parseLastGood(kept)
	if err != nil {
		return Started{}, errors.Join(bad, err)
	}
	return Started{Config: cfg, Stale: bad}, nil
}

// parseLastGood reads the last good cloud-config, if it is as it was kept.
func parseLastGood(kept *corev1.ConfigMap) (*config.Config, error) {
	text, name := kept.Data[ConfigMapKey], "ConfigMap "+kept.Namespace+"/"+kept.Name
	if want := kept.Data[lastGoodHash]; want != "" && want != hashOf(text) {
		return nil, fmt.Errorf("%s was changed by hand: its text does not have the hash %s; empty it, or put the text back", name, want)
	}
	cfg, _, err := config.Parse([]byte(text), name)
	return cfg, err
}

// originOf returns where the last good cloud-config came from.
func originOf(kept *corev1.ConfigMap) configOrigin {
	return configOrigin{
		configMap:       kept.Data[lastGoodSource],
		uid:             types.UID(kept.Data[lastGoodUID]),
		resourceVersion: kept.Data[lastGoodVersion],
	}
}

func hashOf(text string) string {
	sum := sha256.Sum256([]byte(text))
	return hex.EncodeToString(sum[:])
}

// lastGoodData is what is kept of a cloud-config.
func lastGoodData(c configText) map[string]string {
	data := map[string]string{ConfigMapKey: string(c.text), lastGoodHash: hashOf(string(c.text))}
	if c.origin.configMap != "" {
		data[lastGoodSource] = c.origin.configMap
		data[lastGoodUID] = string(c.origin.uid)
		data[lastGoodVersion] = c.origin.resourceVersion
	}
	return data
}

// keepConfig stores the cloud-config that was just accepted for the next process.
func (p *Provider) keepConfig(ctx context.Context, cfg configText) error {
	configMaps := p.client.CoreV1().ConfigMaps(p.options.Namespace)
	kept, err := configMaps.Get(ctx, LastGoodConfigMapName, metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		return fmt.Errorf("ConfigMap %s/%s is missing; apply the manifests again: %w", p.options.Namespace, LastGoodConfigMapName, err)
	}
	if err != nil {
		return err
	}
	data := lastGoodData(cfg)
	if maps.Equal(kept.Data, data) {
		return nil
	}
	changed := kept.DeepCopy()
	changed.Data = data
	_, err = configMaps.Update(ctx, changed, metav1.UpdateOptions{})
	return err
}

// keptConfig is a cloud-config that a leader kept; config is nil where there is none.
type keptConfig struct {
	config *config.Config
	origin configOrigin
	hash   string // SHA-256 of its text, in hex
}

// lastGood returns the cloud-config that the leader before used. It asks until the API server
// answers or ctx ends.
func (p *Provider) lastGood(ctx context.Context) keptConfig {
	for {
		kept, err := p.client.CoreV1().ConfigMaps(p.options.Namespace).Get(ctx, LastGoodConfigMapName, metav1.GetOptions{})
		switch {
		case apierrors.IsNotFound(err) || err == nil && kept.Data[ConfigMapKey] == "":
			return keptConfig{}
		case err == nil:
			cfg, err := parseLastGood(kept)
			if err != nil {
				p.options.Logger.Warn("the last good cloud-config cannot be read; going on without it", "err", err)
			}
			return keptConfig{config: cfg, origin: originOf(kept), hash: hashOf(kept.Data[ConfigMapKey])}
		}
		p.options.Logger.Warn("the last good cloud-config cannot be fetched; trying on", "err", err)
		select {
		case <-ctx.Done():
			return keptConfig{}
		case <-time.After(time.Second):
		}
	}
}
