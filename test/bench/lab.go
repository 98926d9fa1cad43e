package main

import (
	"context"
	"errors"
	"maps"
	"os"
	"path/filepath"

	"golang.org/x/sync/errgroup"
	"gopkg.in/yaml.v3"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/clientcmd"

	"baremetal.cloud/ccm/test/e2e/testbed"
)

// system is where our programs run, namespace where the Services are made.
const (
	system    = "baremetal-ccm"
	namespace = "default"
)

// lab is a testbed and what is needed to measure on it.
type lab struct {
	cluster *testbed.Cluster
	client  kubernetes.Interface
	watch   *watcher
	// stop ends the watch, which runs in group.
	stop  context.CancelFunc
	group *errgroup.Group
	// remove removes the testbed, unless it was there before.
	remove func() error
}

// lab boots a testbed, or takes the one that it was told of, and begins to watch its
// Services.
func (s settings) lab(ctx context.Context) (*lab, error) {
	bed := &lab{watch: newWatcher(), stop: func() {}, group: &errgroup.Group{}, remove: func() error { return nil }}
	var err error
	if s.bed != "" {
		bed.cluster, err = testbed.Attach(s.bed)
	} else {
		err = bed.up(ctx, testbed.Options{Nodes: s.nodes, Routers: s.routers})
	}
	if err != nil {
		return nil, err
	}
	if err := bed.begin(ctx); err != nil {
		return nil, errors.Join(err, bed.down())
	}
	return bed, nil
}

// up boots a testbed. Should that fail, its logs stay.
func (l *lab) up(ctx context.Context, options testbed.Options) error {
	dir, err := os.MkdirTemp("", "baremetal-bench-")
	if err != nil {
		return err
	}
	options.Dir, options.OwnerPID, options.Progress = filepath.Join(dir, "testbed"), os.Getpid(), os.Stdout
	l.cluster, err = testbed.Up(ctx, options)
	// Not with ctx: what was made is removed after an interrupt too.
	l.remove = func() error { return errors.Join(l.cluster.Down(context.Background()), os.RemoveAll(dir)) }
	return err
}

func (l *lab) begin(ctx context.Context) error {
	config, err := clientcmd.BuildConfigFromFlags("", l.cluster.HostKubeconfig())
	if err != nil {
		return err
	}
	config.QPS = -1 // no limit: it would be what is measured
	config.ContentType = runtime.ContentTypeProtobuf
	config.AcceptContentTypes = runtime.ContentTypeProtobuf + "," + runtime.ContentTypeJSON
	if l.client, err = kubernetes.NewForConfig(config); err != nil {
		return err
	}
	services := l.client.CoreV1().Services(namespace)
	version, err := l.watch.list(ctx, services)
	if err != nil {
		return err
	}
	ctx, l.stop = context.WithCancel(ctx)
	l.group.Go(func() error { return l.watch.run(ctx, services, version) })
	return nil
}

// down ends the watch and removes the testbed. An error of the watch counts: its figures
// would be wrong.
func (l *lab) down() error {
	l.stop()
	return errors.Join(l.group.Wait(), l.remove())
}

// addPool adds a pool to the cloud-config that only Services which name it use. It is in
// use once such a Service has an address. Settings are further fields of the pool.
func (l *lab) addPool(ctx context.Context, name, prefix string, settings map[string]any) error {
	return l.configure(ctx, func(config map[string]any) error { return addPool(config, name, prefix, settings) })
}

// configure edits the cloud-config.
func (l *lab) configure(ctx context.Context, edit func(config map[string]any) error) error {
	configs := l.client.CoreV1().ConfigMaps(system)
	object, err := configs.Get(ctx, "baremetal-cloud-config", metav1.GetOptions{})
	if err != nil {
		return err
	}
	const key = "cloud-config.yaml"
	if object.Data[key], err = edited(object.Data[key], edit); err != nil {
		return err
	}
	_, err = configs.Update(ctx, object, metav1.UpdateOptions{})
	return err
}

func edited(config string, edit func(config map[string]any) error) (string, error) {
	var parsed map[string]any
	if err := yaml.Unmarshal([]byte(config), &parsed); err != nil {
		return "", err
	}
	if err := edit(parsed); err != nil {
		return "", err
	}
	out, err := yaml.Marshal(parsed)
	return string(out), err
}

// addPool adds a pool to a parsed cloud-config, unless it is there.
func addPool(config map[string]any, name, prefix string, settings map[string]any) error {
	list, ok := config["pools"].([]any)
	if !ok {
		return errors.New("the cloud-config has no pools")
	}
	for _, one := range list {
		if pool, ok := one.(map[string]any); ok && pool["name"] == name {
			return nil
		}
	}
	pool := map[string]any{"name": name, "addresses": []string{prefix}, "autoAssign": false}
	maps.Copy(pool, settings)
	config["pools"] = append(list, pool)
	return nil
}

// fromPool makes a Service ask for one pool.
func fromPool(pool string) func(*corev1.Service) {
	return func(svc *corev1.Service) {
		svc.Annotations = map[string]string{"baremetal.cloud/pool": pool}
	}
}
