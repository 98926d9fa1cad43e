package control

import (
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"baremetal.cloud/ccm/pkg/announcer/plan"
)

const (
	// resolveEvery is how often the controllers' names are looked up while all is well.
	resolveEvery = 30 * time.Second
	// resolvePause is the least time between look-ups while streams fail.
	resolvePause = 3 * time.Second
	// dialTimeout bounds the TCP connection to a replica.
	dialTimeout = 5 * time.Second
	// welcomeTimeout bounds an attempt from the first packet to Welcome: the replica may
	// wait for its turn and ask the API server in between.
	welcomeTimeout = 25 * time.Second
	// leaveTimeout bounds how long the last report may take when Run ends.
	leaveTimeout = time.Second
)

// ClientOptions are what a Client needs.
type ClientOptions struct {
	// Node is the name of the Node that this process runs on.
	Node string
	// Software is this build's version, for people.
	Software string
	// Controllers name the replicas as HOST:PORT. A host may resolve to many addresses;
	// each is a replica.
	Controllers []string
	// ServerName is the DNS name that a replica's certificate must have, whatever was dialled.
	ServerName string
	// CAFile holds the certificates, in PEM, to verify replicas by. It is read at each
	// dial and may be missing or empty at first.
	CAFile string
	// TokenFile holds the token that proves the client's identity. It is read for each stream.
	TokenFile string
	// Dial, if not nil, connects to a replica, ADDRESS:PORT, in place of plain TCP: from
	// another address than the system would choose, say. TLS runs over what it returns.
	Dial func(ctx context.Context, address string) (net.Conn, error)
	// Logger takes connects, disconnects and their causes; nil discards them.
	Logger *slog.Logger
	// OnPlan, if not nil, takes each plan that a replica sends, whole. It is called from one
	// goroutine per replica, and while it runs that replica waits. The set is the callee's
	// to keep and to read. Which replica's plan counts is for the callee to say.
	OnPlan func(replica string, set plan.NodePlan)
	// OnStream, if not nil, hears of a stream to replica that was accepted or has ended. It
	// is called from the same goroutine as OnPlan for that replica.
	OnStream func(replica string, up bool)
}

// Client is the half of the control channel that runs in each announcer. Its methods may
// be called from any goroutine.
type Client struct {
	options  ClientOptions
	log      *slog.Logger
	reports  *mailbox[plan.Report]
	replicas *activeReplicas
	failed   chan struct{}          // of one: a stream failed, look the names up again
	cut      atomic.Pointer[string] // what was left out of the last report

	lookup lookupFunc
	random func() float64
}

// NewClient returns a Client that does nothing until Run.
func NewClient(options ClientOptions) *Client {
	if options.Logger == nil {
		options.Logger = slog.New(slog.DiscardHandler)
	}
	if options.OnPlan == nil {
		options.OnPlan = func(string, plan.NodePlan) {}
	}
	if options.OnStream == nil {
		options.OnStream = func(string, bool) {}
	}
	if options.Dial == nil {
		options.Dial = dialTCP
	}
	return &Client{
		options:  options,
		log:      options.Logger,
		reports:  newMailbox[plan.Report](),
		replicas: newActiveReplicas(),
		failed:   make(chan struct{}, 1),
		lookup:   lookupIP,
		random:   rand.Float64,
	}
}

// SetReport replaces what replicas hear about this node. The newest call wins; it never waits for
// a replica. The report is copied, sorted and cut to the channel's bounds; what was cut is logged
// when it changes.
func (c *Client) SetReport(r plan.Report) {
	normal, cut := sanitizeReport(r)
	c.reports.putNewest(normal)
	text := strings.Join(cut, "; ")
	if was := c.cut.Swap(&text); text != "" && (was == nil || *was != text) {
		c.log.Warn("report cut to the limits of the control channel", "cut", text)
	}
}

// Run keeps a stream to every replica until ctx is done. It dials no replica before the first SetReport,
// because Hello carries what the node claims, and an empty report would report that it claims nothing. When
// ctx is done each replica gets the newest report before its stream ends, which takes a second or two where
// a replica is dead, and Run returns nil. An error means that the options cannot be used.
func (c *Client) Run(ctx context.Context) error {
	controllers, err := parseControllers(c.options.Controllers)
	if err != nil {
		return fmt.Errorf("control client: %w", err)
	}
	if err := checkName("node", c.options.Node); err != nil {
		return fmt.Errorf("control client: %w", err)
	}
	if c.awaitReport(ctx) && c.awaitCredentials(ctx) {
		c.followReplicas(ctx, controllers)
	}
	return nil
}

func (c *Client) awaitReport(ctx context.Context) bool {
	for {
		_, ok, changed := c.reports.getNewest()
		if ok {
			return true
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return false
		}
	}
}

// awaitCredentials waits until both files are there, so that their lack, normal while a
// cluster is being set up, is one line in the log and not one for each replica.
func (c *Client) awaitCredentials(ctx context.Context) bool {
	waiting := onceLogger{logger: c.log}
	for failures := 1; ; failures++ {
		_, err := readCredentials(c.options)
		if err == nil {
			if waiting.endTrouble() {
				c.log.Info("CA and token are there")
			}
			return true
		}
		waiting.logOnce("waiting for CA and token; baremetal-ccm fills the ConfigMap baremetal-ccm-ca when it first runs", err)
		if !sleepFor(ctx, backoffPause(failures, backoffMax, c.random())) {
			return false
		}
	}
}

// followReplicas keeps one follower per replica address. A name that cannot be resolved removes
// none, and an address that is gone from DNS only goes once its stream is down: DNS is
// fed by the API server, and nothing may depend on that being there.
func (c *Client) followReplicas(ctx context.Context, controllers []controller) {
	var running sync.WaitGroup
	defer running.Wait()
	conns := map[netip.AddrPort]*replicaConn{}
	resolving := onceLogger{logger: c.log}
	for {
		replicas, err := resolveAll(ctx, controllers, c.lookup)
		if ctx.Err() != nil {
			return
		}
		if err != nil {
			resolving.logOnce("cannot find the replicas of baremetal-ccm", err)
		} else {
			resolving.endTrouble()
			removeGone(conns, replicas)
		}
		for _, replica := range replicas {
			if conns[replica] == nil {
				f := newReplicaConn(ctx, c, replica)
				conns[replica] = f
				running.Go(f.runUntilStopped)
			}
		}
		if !c.awaitResolve(ctx, err != nil) {
			return
		}
	}
}

func removeGone(conns map[netip.AddrPort]*replicaConn, replicas []netip.AddrPort) {
	wanted := map[netip.AddrPort]bool{}
	for _, replica := range replicas {
		wanted[replica] = true
	}
	for replica, f := range conns {
		if !wanted[replica] && !f.up.Load() {
			f.stop()
			delete(conns, replica)
		}
	}
}

// awaitResolve waits until it is time to look names up again: soon where something failed.
func (c *Client) awaitResolve(ctx context.Context, failed bool) bool {
	if !sleepFor(ctx, resolvePause) {
		return false
	}
	if failed {
		return true
	}
	timer := time.NewTimer(resolveEvery - resolvePause)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-c.failed:
	case <-ctx.Done():
		return false
	}
	return true
}

// streamFailed asks for the names to be looked up again.
func (c *Client) streamFailed() {
	select {
	case c.failed <- struct{}{}:
	default:
	}
}

// sleepFor reports whether the whole pause passed before ctx was done.
func sleepFor(ctx context.Context, pause time.Duration) bool {
	timer := time.NewTimer(pause)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}

func dialTCP(ctx context.Context, address string) (net.Conn, error) {
	dialer := net.Dialer{Timeout: dialTimeout}
	return dialer.DialContext(ctx, "tcp", address)
}
