package cloud

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/record"
	"k8s.io/client-go/util/workqueue"
	cloudprovider "k8s.io/cloud-provider"

	"baremetal.cloud/ccm/pkg/announcer/control"
	"baremetal.cloud/ccm/pkg/announcer/plan"
	"baremetal.cloud/ccm/pkg/cloud/auth"
	"baremetal.cloud/ccm/pkg/cloud/config"
	"baremetal.cloud/ccm/pkg/cloud/leader"
	"baremetal.cloud/ccm/pkg/cloud/livewatch"
)

// Options are what a Provider is built from. All are required but ReviewEvery.
type Options struct {
	// ConfigMap holds the cloud-config; it is empty where only the file ConfigPath does, which
	// counts while there is no ConfigMap and may be "". Config is what was in it at the start,
	// or what was last good.
	ConfigMap  types.NamespacedName
	ConfigPath string
	Config     *config.Config
	// Elector decides which replica leads. The owner of the Provider runs it.
	Elector *leader.Elector
	// Authenticator and TLS secure the control channel, ListenAddress is where it listens.
	Authenticator control.Authenticator
	TLS           *auth.CertManager
	// Nodes follows which addresses Nodes have; the Authenticator asks it too.
	Nodes         *auth.Nodes
	ListenAddress string
	// ReviewEvery is how long a stream may outlive its Pod; 0 is control's default.
	ReviewEvery time.Duration
	// Secret returns what the keys are made from by which nodes know each other, or nil,
	// and a channel that is closed once there is something.
	Secret func() ([]byte, <-chan struct{})
	// Client is not fenced: it works on standbys too. Writes that only a leader may do go
	// through the client that Initialize is given.
	Client kubernetes.Interface
	// Informers are made of Client and not started yet. Give the stock controllers the same,
	// so that nothing is watched twice.
	Informers informers.SharedInformerFactory
	// Watches takes the Sources that feed the informers. The election asks it too.
	Watches *livewatch.Set
	// Namespace is our own.
	Namespace string
	Software  string
	Logger    *slog.Logger
}

// Provider is the cloud provider "baremetal".
type Provider struct {
	options Options
	core    *core
	server  *control.Server
	queue   workqueue.TypedRateLimitingInterface[string]
	config  atomic.Pointer[config.Config]
	// nodes is how nodes are initialised; nil from the start on if they are not.
	nodes atomic.Pointer[config.Nodes]
	// configError is why the newest cloud-config is not the one in use, or nil.
	configError atomic.Pointer[string]
	// configHash is the SHA-256 of the text in use, in hex; nil on a replica that never led.
	configHash atomic.Pointer[string]
	// stranded reports that the only fault of the newest one is that a Service holds an address
	// that it leaves out.
	stranded atomic.Bool
	// terms are the least terms that this replica may lead under: above what any other
	// leader said to a node. implausible counts those that nothing is raised for.
	terms       terms
	implausible atomic.Uint64
	// seenConfig is what the last read of the ConfigMap returned, and configSeen has room for
	// one: "there is something new". fromConfigMap reports that what is in use came from it.
	seenConfig    atomic.Pointer[seenConfigMap]
	configSeen    chan struct{}
	fromConfigMap atomic.Bool
	// networksChanged reports that Nodes, Services or interfaces may have changed since the
	// cloud-config was looked at for doubts.
	networksChanged atomic.Bool
	// newest is the version of the newest plan that this replica published; nil before.
	newest atomic.Pointer[plan.Version]

	initialize sync.Once
	stop       <-chan struct{}
	// client is fenced; it is set by Initialize.
	client   kubernetes.Interface
	recorder record.EventRecorder
	// mover tells of moves. It has a queue of its own: what is too much for one is dropped,
	// and many new Services must not hide that a node has died.
	mover record.EventRecorder
	// sessions are the nodes' BGP sessions as Events told of them.
	sessions sessions
	listers  listers
	synced   []func() bool
	// services feeds the informer of Services.
	services *livewatch.Source
	// withoutClass says whether Services without a class are served by this process while the
	// cloud-config asks for it; nil until that is decided.
	withoutClass atomic.Pointer[bool]
	// warm is closed once everything that is watched has been seen.
	warm chan struct{}
	// restored is closed once the core knows what every Service holds.
	restored chan struct{}
	// publishing reports whether this replica's plans go out.
	publishing atomic.Bool
	// toldBehind is when it was last logged that nothing is released, in Unix nanoseconds.
	toldBehind atomic.Int64
	writers    *keyLocks
	dedup      eventDedup
}

var (
	_ cloudprovider.Interface    = (*Provider)(nil)
	_ cloudprovider.LoadBalancer = (*Provider)(nil)
	_ control.Observer           = (*Provider)(nil)
)

// New returns a Provider. It starts nothing and asks the API server nothing.
func New(options Options) (*Provider, error) {
	p := &Provider{
		options:  options,
		queue:    newQueue(),
		warm:     make(chan struct{}),
		restored: make(chan struct{}),
		writers:  newKeyLocks(),

		configSeen: make(chan struct{}, 1),
	}
	p.core = newCore(time.Now, func(keys ...string) {
		for _, key := range keys {
			p.queue.Add(key)
		}
	})
	p.server = control.NewServer(control.ServerOptions{
		Authenticator: options.Authenticator,
		Observer:      p,
		Nodes:         options.Nodes,
		Logger:        options.Logger.With("component", "control"),
		Software:      options.Software,
		Limits:        control.Limits{ReviewEvery: options.ReviewEvery},
		// Asked right before each plan leaves: a leader in doubt says nothing.
		Fence: func() error { return options.Elector.Fence().Err() },
	})
	if err := p.core.setConfig(coreConfig(options.Config)); err != nil {
		return nil, fmt.Errorf("cloud-config: %w", err)
	}
	p.config.Store(options.Config)
	p.nodes.Store(options.Config.Nodes)
	p.addHandlers(options.Informers)
	return p, nil
}

// Run serves the control channel, on a standby as well as on the leader, until ctx ends.
func (p *Provider) Run(ctx context.Context) error {
	listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", p.options.ListenAddress)
	if err != nil {
		return fmt.Errorf("control channel: %w", err)
	}
	return p.server.Run(ctx, listener, p.options.TLS.TLSConfig())
}

// Initialize waits until this replica leads: everything that the cloud-controller-manager
// does after it is the leader's work (k8s.io/cloud-provider app.startControllers).
func (p *Provider) Initialize(clientBuilder cloudprovider.ControllerClientBuilder, stop <-chan struct{}) {
	p.initialize.Do(func() {
		p.stop = stop
		p.client = clientBuilder.ClientOrDie("baremetal-ccm")
		p.recorder, p.mover = newRecorder(p.client, stop), newRecorder(p.client, stop)
		p.options.Logger.Info("standing by until this replica leads")
		select {
		case <-p.options.Elector.Leading():
			p.options.Logger.Info("this replica leads", "term", p.options.Elector.Term())
		case <-stop:
		}
	})
}

// ProviderName returns "baremetal".
func (p *Provider) ProviderName() string { return ProviderName }

// HasClusterID returns true: addresses are not tagged with a cluster.
func (p *Provider) HasClusterID() bool { return true }

// LoadBalancer returns the implementation of Services of type LoadBalancer.
func (p *Provider) LoadBalancer() (cloudprovider.LoadBalancer, bool) { return p, true }

// Instances is not implemented; it is superseded by InstancesV2.
func (p *Provider) Instances() (cloudprovider.Instances, bool) { return nil, false }

// Zones is not implemented; it is superseded by InstancesV2.
func (p *Provider) Zones() (cloudprovider.Zones, bool) { return nil, false }

// Clusters is not implemented.
func (p *Provider) Clusters() (cloudprovider.Clusters, bool) { return nil, false }

// Routes is not implemented: Pod routes belong to the network plugin.
func (p *Provider) Routes() (cloudprovider.Routes, bool) { return nil, false }
