package kubelet

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"time"

	corev1 "k8s.io/api/core/v1"
)

// volumes keeps a Pod's volumes filled. ConfigMaps and Secrets follow their objects at
// once, where kubelet may take a minute; tokens are renewed after 80 % of their life,
// as kubelet's are.
type volumes struct {
	pod *pod
	// dir holds one directory per volume.
	dir     string
	wake    chan struct{}
	objects map[objectRef]*object
	tokens  map[tokenRef]*token
}

type objectRef struct {
	kind objectKind
	name string
}

func newVolumes(p *pod, dir string) *volumes {
	v := &volumes{pod: p, dir: dir, wake: make(chan struct{}, 1),
		objects: map[objectRef]*object{}, tokens: map[tokenRef]*token{}}
	for _, volume := range p.object().Spec.Volumes {
		for _, ref := range references(volume) {
			v.objects[ref] = &object{
				client: p.agent.Client, kind: ref.kind, name: ref.name,
				namespace: p.object().Namespace, changed: v.poke,
			}
		}
	}
	return v
}

// references are the objects that a volume is filled from.
func references(volume corev1.Volume) []objectRef {
	var refs []objectRef
	for _, source := range projections(volume) {
		switch {
		case source.ConfigMap != nil:
			refs = append(refs, objectRef{configMap, source.ConfigMap.Name})
		case source.Secret != nil:
			refs = append(refs, objectRef{secret, source.Secret.Name})
		}
	}
	return refs
}

// projections sees every kind of volume that comes from the API as a projected one.
func projections(volume corev1.Volume) []corev1.VolumeProjection {
	switch {
	case volume.Projected != nil:
		return volume.Projected.Sources
	case volume.ConfigMap != nil:
		return []corev1.VolumeProjection{{ConfigMap: &corev1.ConfigMapProjection{
			LocalObjectReference: volume.ConfigMap.LocalObjectReference,
			Items:                volume.ConfigMap.Items, Optional: volume.ConfigMap.Optional,
		}}}
	case volume.Secret != nil:
		return []corev1.VolumeProjection{{Secret: &corev1.SecretProjection{
			LocalObjectReference: corev1.LocalObjectReference{Name: volume.Secret.SecretName},
			Items:                volume.Secret.Items, Optional: volume.Secret.Optional,
		}}}
	case volume.DownwardAPI != nil:
		return []corev1.VolumeProjection{{DownwardAPI: &corev1.DownwardAPIProjection{Items: volume.DownwardAPI.Items}}}
	}
	return nil
}

func (v *volumes) poke() {
	select {
	case v.wake <- struct{}{}:
	default:
	}
}

// run keeps the volumes current until ctx ends. It calls ready once, when all of them
// are there for the first time, and failed with what is missing until then.
func (v *volumes) run(ctx context.Context, ready func(), failed func(error)) {
	for _, o := range v.objects {
		go o.run(ctx)
	}
	v.poke()
	done := false
	for {
		next := time.NewTimer(v.renewal())
		select {
		case <-v.wake:
		case <-next.C:
		case <-ctx.Done():
			next.Stop()
			return
		}
		next.Stop()
		err := v.fill(ctx)
		switch {
		case err != nil && !done:
			failed(err)
			time.AfterFunc(200*time.Millisecond, v.poke)
		case err != nil:
			v.pod.agent.Logger.Warn("volume kept as it was", "pod", v.pod.key(), "err", err)
			time.AfterFunc(10*time.Second, v.poke)
		case !done:
			done = true
			ready()
		}
	}
}

// renewal is how long the first token lasts.
func (v *volumes) renewal() time.Duration {
	wait := time.Hour
	for _, t := range v.tokens {
		wait = min(wait, time.Until(t.renew))
	}
	return max(wait, time.Second)
}

func (v *volumes) fill(ctx context.Context) error {
	for _, volume := range v.pod.object().Spec.Volumes {
		if err := v.fillOne(ctx, volume); err != nil {
			return fmt.Errorf("volume %s: %w", volume.Name, err)
		}
	}
	return nil
}

func (v *volumes) fillOne(ctx context.Context, volume corev1.Volume) error {
	switch {
	case volume.EmptyDir != nil:
		return emptyDir(v.path(volume))
	case volume.HostPath != nil:
		return os.MkdirAll(v.path(volume), 0o755)
	case len(projections(volume)) == 0 && volume.Projected == nil:
		return fmt.Errorf("this kind of volume is not supported by the testbed")
	}
	files := map[string]file{}
	for _, source := range projections(volume) {
		if err := v.project(ctx, source, mode(volume), files); err != nil {
			return err
		}
	}
	return writeAtomic(v.path(volume), files)
}

// emptyDir is writable for whoever the container runs as.
func emptyDir(path string) error {
	if err := os.MkdirAll(path, 0o777); err != nil {
		return err
	}
	return os.Chmod(path, 0o777)
}

// path is where the volume's content lies on this machine. A host path lies in a
// directory of the node's own: all nodes share one real file system.
func (v *volumes) path(volume corev1.Volume) string {
	if volume.HostPath != nil {
		return HostPath(v.pod.agent.Dir, v.pod.agent.Node.Name, volume.HostPath.Path)
	}
	return filepath.Join(v.dir, volume.Name)
}

// HostPath is where a path of a node's own file system lies on this machine, in a testbed
// with the directory dir.
func HostPath(dir, node, path string) string { return filepath.Join(dir, "host", node, path) }

func mode(volume corev1.Volume) os.FileMode {
	var m *int32
	switch {
	case volume.Projected != nil:
		m = volume.Projected.DefaultMode
	case volume.ConfigMap != nil:
		m = volume.ConfigMap.DefaultMode
	case volume.Secret != nil:
		m = volume.Secret.DefaultMode
	}
	if m == nil {
		return 0o644
	}
	return os.FileMode(*m)
}

// project adds the files of one source.
func (v *volumes) project(ctx context.Context, source corev1.VolumeProjection, mode os.FileMode, files map[string]file) error {
	switch {
	case source.ConfigMap != nil:
		c := source.ConfigMap
		return v.projectObject(objectRef{configMap, c.Name}, c.Items, c.Optional, mode, files)
	case source.Secret != nil:
		s := source.Secret
		return v.projectObject(objectRef{secret, s.Name}, s.Items, s.Optional, mode, files)
	case source.ServiceAccountToken != nil:
		t := source.ServiceAccountToken
		data, err := v.token(ctx, tokenRef{t.Audience, *t.ExpirationSeconds})
		files[t.Path] = file{data: data, mode: 0o600, owner: v.pod.user()}
		return err
	case source.DownwardAPI != nil:
		for _, item := range source.DownwardAPI.Items {
			value, err := v.pod.field(item.FieldRef.FieldPath)
			if err != nil {
				return err
			}
			files[item.Path] = file{data: []byte(value), mode: mode}
		}
		return nil
	}
	return fmt.Errorf("this kind of projection is not supported by the testbed")
}

func (v *volumes) projectObject(ref objectRef, items []corev1.KeyToPath, optional *bool, mode os.FileMode, files map[string]file) error {
	data, known := v.objects[ref].content()
	optionally := optional != nil && *optional
	switch {
	case !known:
		return fmt.Errorf("%s %s has not been read yet", ref.kind, ref.name)
	case data == nil && optionally:
		return nil
	case data == nil:
		return fmt.Errorf("%s %s does not exist", ref.kind, ref.name)
	case len(items) == 0:
		for key, value := range data {
			files[key] = file{data: value, mode: mode}
		}
		return nil
	}
	for _, item := range items {
		value, ok := data[item.Key]
		if !ok && optionally {
			continue
		}
		if !ok {
			return fmt.Errorf("%s %s has no key %s", ref.kind, ref.name, item.Key)
		}
		files[item.Path] = file{data: value, mode: mode}
	}
	return nil
}
