package testbed

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/client-go/util/connrotation"

	"baremetal.cloud/ccm/test/e2e/testbed/controlplane"
	"baremetal.cloud/ccm/test/e2e/testbed/kubelet"
	"baremetal.cloud/ccm/test/e2e/testbed/lan"
	"baremetal.cloud/ccm/test/e2e/testbed/netns"
	"baremetal.cloud/ccm/test/e2e/testbed/proc"
)

// supervisor owns everything that runs in a testbed.
type supervisor struct {
	record
	layout  lan.Layout
	config  controlplane.Config
	spawner *proc.Spawner
	logger  *slog.Logger
	// progress tells the process that boots the testbed what happens.
	progress func(format string, args ...any)
	// changed wakes the writer of the env file.
	changed chan struct{}

	envMu                sync.Mutex
	listener             net.Listener
	etcd, apiserver, kcm *proc.Service
	nodes                []*node
	routers              []*proc.Service
	admin                kubernetes.Interface
}

// node is what runs for one node beside its Pods.
type node struct {
	agent *kubelet.Agent
	proxy *proc.Service
}

func (s *supervisor) bin() string            { return filepath.Join(s.Dir, "bin") }
func (s *supervisor) logs() string           { return filepath.Join(s.Dir, logsDir) }
func (s *supervisor) hostKubeconfig() string { return filepath.Join(s.Dir, "kubeconfig") }

// newSupervisor prepares what needs no process: directories, keys and clients.
func newSupervisor(r record, logger *slog.Logger, progress func(string, ...any)) (*supervisor, error) {
	layout, err := r.layout()
	if err != nil {
		return nil, err
	}
	s := &supervisor{
		record: r, layout: layout, logger: logger, progress: progress,
		spawner: proc.NewSpawner(), changed: make(chan struct{}, 1),
	}
	s.config = controlplane.Config{
		Dir: filepath.Join(s.Dir, "cluster"), Bin: s.BinDir, Layout: layout, ProxyMode: s.Proxy,
	}
	for _, dir := range []string{"root", "pods", "host"} {
		if err := os.MkdirAll(filepath.Join(s.Dir, dir), 0o755); err != nil {
			return nil, err
		}
	}
	if err := s.installPrograms(); err != nil {
		return nil, err
	}
	if err := s.config.WriteKeys(); err != nil {
		return nil, err
	}
	if err := s.listen(); err != nil {
		return nil, err
	}
	if err := s.controlPlane(); err != nil {
		return nil, err
	}
	for i, n := range layout.Nodes {
		if err := s.addNode(n, nodeLabels(i)); err != nil {
			return nil, err
		}
	}
	return s, nil
}

// listen opens the door through which the host reaches the API server.
func (s *supervisor) listen() error {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	s.listener = l
	s.Port = l.Addr().(*net.TCPAddr).Port
	if err := s.write(); err != nil {
		return err
	}
	return s.config.WriteHostKubeconfig(s.hostKubeconfig(), s.Port)
}

func (s *supervisor) controlPlane() error {
	s.etcd = s.service("etcd", s.config.Etcd)
	s.apiserver = s.service("kube-apiserver", s.config.APIServer)
	s.kcm = s.service("kube-controller-manager", s.config.ControllerManager)
	client, _, err := s.client("admin", s.layout.ControlPlane.NetNS)
	s.admin = client
	return err
}

func (s *supervisor) service(name string, command func() proc.Command) *proc.Service {
	return &proc.Service{
		Name:    name,
		Command: func(context.Context) (proc.Command, error) { return command(), nil },
		Log:     filepath.Join(s.logs(), name+".log"),
		// Enough to close files; draining connections takes kube-apiserver much longer.
		Grace:   3 * time.Second,
		Changed: s.poke,
		Logger:  s.logger,
		Spawner: s.spawner,
	}
}

// client speaks to the API server as user, from inside a network namespace.
func (s *supervisor) client(user, ns string) (kubernetes.Interface, *connrotation.Dialer, error) {
	config, err := clientcmd.BuildConfigFromFlags("", s.config.Kubeconfig(user))
	if err != nil {
		return nil, nil, err
	}
	dialer := connrotation.NewDialer(connrotation.DialFunc(netns.Dialer(ns)))
	config.Dial = dialer.DialContext
	config.QPS = -1
	config.UserAgent = "testbed/" + user
	client, err := kubernetes.NewForConfig(config)
	return client, dialer, err
}

func (s *supervisor) addNode(n lan.Node, labels map[string]string) error {
	client, dialer, err := s.client(n.Name, n.NetNS)
	if err != nil {
		return err
	}
	file := filepath.Join(s.Dir, "cluster", "kube-proxy-"+n.Name+".yaml")
	if err := s.config.WriteProxyConfig(n, file); err != nil {
		return err
	}
	s.nodes = append(s.nodes, &node{
		agent: &kubelet.Agent{
			Node: n, TestbedID: s.layout.ID, Labels: labels, External: s.External,
			Client: client, CloseConnections: dialer.CloseAll,
			ServiceAddress: net.JoinHostPort(s.layout.ServiceV4.Addr().Next().String(), "443"),
			Images:         s.images(),
			Dir:            s.Dir, Logs: s.logs(), Root: filepath.Join(s.Dir, "root"),
			Spawner: s.spawner, Logger: s.logger.With("node", n.Name), Changed: s.poke,
		},
		proxy: s.service("kube-proxy-"+n.Name, func() proc.Command { return s.config.Proxy(n, file) }),
	})
	return nil
}

func (s *supervisor) images() map[string]kubelet.Image {
	return map[string]kubelet.Image{
		ccmImage:       {Program: filepath.Join(s.bin(), ccmImage), Entrypoint: "/baremetal-ccm"},
		announcerImage: {Program: filepath.Join(s.bin(), announcerImage), Entrypoint: "/baremetal-announcer"},
		webImage:       {Program: filepath.Join(s.bin(), "web"), Entrypoint: "/web"},
	}
}

func (s *supervisor) poke() {
	select {
	case s.changed <- struct{}{}:
	default:
	}
}

// run serves the testbed until ctx ends, and calls booted once it is up. Whatever it
// returns, the caller removes what is left.
func (s *supervisor) run(ctx context.Context, booted func()) error {
	group, ctx := errgroup.WithContext(ctx)
	// The spawner outlives the services: its end kills their processes.
	spawning, stopSpawner := context.WithCancel(context.WithoutCancel(ctx))
	go func() { _ = s.spawner.Run(spawning) }()
	defer stopSpawner()
	group.Go(func() error { return s.serveControl(ctx) })
	group.Go(func() error {
		<-ctx.Done()
		// At the end nobody gets the time that a graceful stop would take.
		return lan.Kill(context.WithoutCancel(ctx), s.layout.ID)
	})
	group.Go(func() error { return s.keepEnv(ctx) })
	group.Go(func() error {
		dial := netns.Dialer(s.layout.ControlPlane.NetNS)
		return forward(ctx, s.listener, dial, s.config.Address())
	})
	group.Go(func() error {
		if err := s.boot(ctx, group); err != nil {
			return err
		}
		booted()
		return nil
	})
	return group.Wait()
}

// keepEnv rewrites the env file whenever a process has started or ended.
func (s *supervisor) keepEnv(ctx context.Context) error {
	for {
		select {
		case <-s.changed:
		case <-ctx.Done():
			return nil
		}
		if err := s.writeEnv(); err != nil {
			return err
		}
	}
}

func (s *supervisor) writeEnv() error {
	s.envMu.Lock()
	defer s.envMu.Unlock()
	return writeFile(filepath.Join(s.Dir, envFile), s.env())
}

// await tries until check succeeds.
func await(ctx context.Context, patience time.Duration, what string, check func(context.Context) error) error {
	ctx, cancel := context.WithTimeoutCause(ctx, patience, errors.New("timed out"))
	defer cancel()
	var last error
	for {
		err := check(ctx)
		if err == nil {
			return nil
		}
		// What the end of the patience interrupts says nothing about the cause.
		if ctx.Err() == nil || last == nil {
			last = err
		}
		select {
		case <-time.After(50 * time.Millisecond):
		case <-ctx.Done():
			return fmt.Errorf("%s: %w after %s; last: %w", what, context.Cause(ctx), patience, last)
		}
	}
}
