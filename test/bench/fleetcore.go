package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	goruntime "runtime"
	"runtime/debug"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"
	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/kubernetes/fake"
	"k8s.io/client-go/kubernetes/scheme"
	clientrest "k8s.io/client-go/rest"
	kubetesting "k8s.io/client-go/testing"

	"baremetal.cloud/ccm/pkg/cloud"
	"baremetal.cloud/ccm/pkg/cloud/auth"
	"baremetal.cloud/ccm/pkg/cloud/config"
	"baremetal.cloud/ccm/pkg/cloud/leader"
	"baremetal.cloud/ccm/pkg/cloud/livewatch"
)

// fleetCoreCommand is the argument that makes this program the process that is measured.
const fleetCoreCommand = "fleet-core"

// fleetRequest is what the measuring process asks of the measured one, a line of JSON each.
type fleetRequest struct {
	// Move, if not nil, says that the Pods of a Service are on other nodes from now on. The
	// answer says when that was. Without anything the answer says how often Services were
	// written.
	Move *fleetMove `json:"move,omitempty"`
	// Collect asks for what is left when everything that is not used any more is collected.
	Collect bool `json:"collect,omitempty"`
}

// fleetMove is a change of a Service's endpoints.
type fleetMove struct {
	Service int      `json:"service"`
	Nodes   []string `json:"nodes"`
}

// fleetAnswer is what it answers, and says by itself when it begins.
type fleetAnswer struct {
	// Address is where announcers are served, StandIn the bytes of resident memory that the
	// process had before anything of ours ran. Both are said once.
	Address string  `json:"address,omitempty"`
	StandIn float64 `json:"standIn,omitempty"`
	// At is the time of a Move by the clock that all processes of a machine share.
	At time.Duration `json:"at,omitempty"`
	// Live is how many bytes were left after a Collect.
	Live float64 `json:"live,omitempty"`
	// Writes is how often Services have been written.
	Writes int64 `json:"writes,omitempty"`
}

// sinceBoot is a clock that all processes of a machine share.
func sinceBoot() (time.Duration, error) {
	var t unix.Timespec
	err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &t)
	return time.Duration(t.Nano()), err
}

// fleetCore is the measured process: the provider, its control server, its election and its
// certificates as cmd/baremetal-ccm puts them together. A fake of client-go stands in for
// the API server.
type fleetCore struct {
	client   *fake.Clientset
	dir      string
	address  string
	standIn  float64
	writes   atomic.Int64
	elector  *leader.Elector
	keeper   *auth.CertManager
	provider *cloud.Provider
}

// runFleetCore serves announcers, and answers requests from in until there are no more.
func runFleetCore(ctx context.Context, dir string, in io.Reader, out io.Writer) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	c := &fleetCore{dir: dir}
	var err error
	if c.client, err = c.newAPIServer(); err != nil {
		return err
	}
	if err := c.build(); err != nil {
		return err
	}
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return c.keeper.Run(ctx) })
	group.Go(func() error { return c.provider.Watch(ctx) })
	group.Go(func() error { return c.provider.Run(ctx) })
	group.Go(func() error { return c.lead(ctx, group) })
	group.Go(func() error {
		defer cancel()
		return c.answer(ctx, in, json.NewEncoder(out))
	})
	return group.Wait()
}

// newAPIServer makes what stands in for the API server: a fake of client-go without managed
// fields, which would cost it more than all that is measured. Events are not kept.
func (c *fleetCore) newAPIServer() (*fake.Clientset, error) {
	watch.DefaultChanSize = 1 << 16 // a fake watch panics where its reader is slow
	tracker := kubetesting.NewObjectTracker(scheme.Scheme, scheme.Codecs.UniversalDecoder())
	for _, object := range fleetObjects() {
		if err := tracker.Add(object); err != nil {
			return nil, err
		}
	}
	client := &fake.Clientset{}
	client.AddReactor("*", "*", kubetesting.ObjectReaction(tracker))
	client.AddWatchReactor("*", func(action kubetesting.Action) (bool, watch.Interface, error) {
		w, err := tracker.Watch(action.GetResource(), action.GetNamespace())
		return true, w, err
	})
	client.PrependReactor("create", "tokenreviews", func(action kubetesting.Action) (bool, runtime.Object, error) {
		review, ok := action.(kubetesting.CreateAction).GetObject().(*authenticationv1.TokenReview)
		if !ok {
			return true, nil, fmt.Errorf("%T is no TokenReview", action)
		}
		answer := review.DeepCopy()
		var err error
		answer.Status, err = fleetReview(review.Spec.Token)
		return true, answer, err
	})
	client.PrependReactor("*", "events", func(kubetesting.Action) (bool, runtime.Object, error) {
		return true, &corev1.Event{}, nil
	})
	client.PrependReactor("patch", "services", func(kubetesting.Action) (bool, runtime.Object, error) {
		c.writes.Add(1)
		return false, nil, nil
	})
	return client, nil
}

// build puts the parts together, as cmd/baremetal-ccm does.
func (c *fleetCore) build() error {
	debug.FreeOSMemory()
	var err error
	if c.standIn, err = processMemory(os.Getpid(), "VmRSS"); err != nil {
		return err
	}
	if c.address, err = freePort(); err != nil {
		return err
	}
	path := filepath.Join(c.dir, "cloud-config.yaml")
	if err := os.WriteFile(path, []byte(fleetConfig), 0o600); err != nil {
		return err
	}
	cfg, _, err := config.Load(path)
	if err != nil {
		return err
	}
	log := slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelWarn}))
	if c.elector, err = leader.New(leader.Options{
		Leases: c.client.CoordinationV1(), Namespace: system, Name: cloud.LeaseName, Identity: "bench", Elect: true,
		LeaseDuration: 10 * time.Second, RenewDeadline: 6 * time.Second, RetryPeriod: time.Second, Logger: log,
	}); err != nil {
		return err
	}
	if c.keeper, err = auth.NewCertManager(auth.CertManagerOptions{
		Client: c.client, Namespace: system, Secret: fleetSecret, ConfigMap: fleetCA, Logger: log,
	}); err != nil {
		return err
	}
	nodes := auth.NewNodes()
	c.provider, err = cloud.New(cloud.Options{
		ConfigPath: path, Config: cfg, Elector: c.elector,
		Authenticator: auth.NewAuthenticator(auth.AuthenticatorOptions{
			Client: c.client, Namespace: system, ServiceAccount: fleetAccount, Audience: fleetAudience, Nodes: nodes,
		}),
		Nodes: nodes,
		TLS:   c.keeper, Secret: c.keeper.Secret, ListenAddress: c.address, Client: c.client,
		Informers: informers.NewSharedInformerFactory(c.client, 0), Watches: livewatch.NewSet(log), Namespace: system, Software: "bench", Logger: log,
	})
	return err
}

// freePort returns a loopback address that nobody listens on.
func freePort() (string, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	return l.Addr().String(), l.Close()
}

// lead stands for election once everything is listed, and then runs the controller.
func (c *fleetCore) lead(ctx context.Context, group *errgroup.Group) error {
	select {
	case <-c.provider.Warm():
	case <-ctx.Done():
		return nil
	}
	group.Go(func() error { return c.elector.Run(ctx) })
	c.provider.Initialize(fleetClients{c.client}, ctx.Done())
	return c.provider.RunController(ctx)
}

// answer says where announcers are served, and then answers requests.
func (c *fleetCore) answer(ctx context.Context, in io.Reader, out *json.Encoder) error {
	select {
	case <-c.keeper.Ready():
	case <-ctx.Done():
		return nil
	}
	if err := c.writeCA(ctx); err != nil {
		return err
	}
	if err := out.Encode(fleetAnswer{Address: c.address, StandIn: c.standIn}); err != nil {
		return err
	}
	lines := bufio.NewScanner(in)
	for lines.Scan() {
		var request fleetRequest
		if err := json.Unmarshal(lines.Bytes(), &request); err != nil {
			return err
		}
		answer, err := c.do(ctx, request)
		if err != nil {
			return err
		}
		if err := out.Encode(answer); err != nil {
			return err
		}
	}
	return lines.Err()
}

// writeCA puts the authority where the announcers read it.
func (c *fleetCore) writeCA(ctx context.Context) error {
	published, err := c.client.CoreV1().ConfigMaps(system).Get(ctx, fleetCA, metav1.GetOptions{})
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(c.dir, "ca.crt"), []byte(published.Data["ca.crt"]), 0o600)
}

// do carries out one request. What the fake remembers of what it was asked is no part of
// what is measured.
func (c *fleetCore) do(ctx context.Context, request fleetRequest) (fleetAnswer, error) {
	c.client.ClearActions()
	if request.Collect {
		var stats goruntime.MemStats
		goruntime.GC()
		goruntime.ReadMemStats(&stats)
		return fleetAnswer{Live: float64(stats.HeapAlloc + stats.StackInuse)}, nil
	}
	if request.Move == nil {
		return fleetAnswer{Writes: c.writes.Load()}, nil
	}
	slice := fleetSlice(request.Move.Service, request.Move.Nodes)
	at, err := sinceBoot()
	if err != nil {
		return fleetAnswer{}, err
	}
	_, err = c.client.DiscoveryV1().EndpointSlices(slice.Namespace).Update(ctx, slice, metav1.UpdateOptions{})
	return fleetAnswer{At: at}, err
}

// fleetClients hands out the one client.
type fleetClients struct{ client kubernetes.Interface }

func (c fleetClients) Config(string) (*clientrest.Config, error) {
	return nil, errors.New("there is no API server")
}
func (c fleetClients) ConfigOrDie(string) *clientrest.Config       { panic("there is no API server") }
func (c fleetClients) Client(string) (kubernetes.Interface, error) { return c.client, nil }
func (c fleetClients) ClientOrDie(string) kubernetes.Interface     { return c.client }
