package observer

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"baremetal.cloud/ccm/test/e2e/testbed"
)

const (
	// AskInterval is the time between two rounds of the prober, which asks the LAN for
	// every address in each.
	AskInterval = 25 * time.Millisecond
	// requestInterval is the time between two requests, where RequestEvery says nothing.
	requestInterval = 10 * time.Millisecond
	// requestPatience is how long a request may take.
	requestPatience = time.Second
	// port is where requests go to.
	port = 80
)

// Observer watches a testbed.
type Observer struct {
	cluster *testbed.Cluster
	// addresses are asked for, and those of services requested too.
	addresses, services []netip.Addr
	// nodes are the nodes' names by hardware address.
	nodes   map[string]string
	capture *capture
	// requestEvery is the time between two requests.
	requestEvery time.Duration

	mu      sync.Mutex
	history History
}

// New returns an Observer of who answers for the addresses of services, and for others that
// nobody serves. It sees frames from now on; Run closes what it opened.
func New(cluster *testbed.Cluster, services, others []netip.Addr) (*Observer, error) {
	o := &Observer{cluster: cluster, addresses: slices.Concat(services, others), services: services, nodes: map[string]string{}, requestEvery: requestInterval}
	for _, node := range cluster.Nodes() {
		o.nodes[cluster.NodeMAC(node)] = node
	}
	var err error
	o.capture, err = openCapture(cluster)
	return o, err
}

// RequestEvery sets the time between two requests. It is called before Run.
func (o *Observer) RequestEvery(interval time.Duration) { o.requestEvery = interval }

// Run captures, asks and requests until ctx ends. It fails if frames were lost on their
// way from the kernel: a history with holes cannot be judged.
func (o *Observer) Run(ctx context.Context) error {
	defer o.capture.Close()
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return o.capture.run(ctx, o.heard) })
	group.Go(func() error { return o.probe(ctx) })
	group.Go(func() error { return o.request(ctx) })
	group.Go(func() error { return testbed.Heartbeats(ctx, o.stalled) })
	group.Go(func() error { return o.cluster.Heartbeats(ctx, o.stalled) })
	if err := group.Wait(); err != nil && !errors.Is(err, context.Canceled) {
		return err
	}
	if lost, err := o.capture.lost(); err != nil || lost > 0 {
		return errors.Join(err, fmt.Errorf("the kernel dropped %d frames before they were read", lost))
	}
	return nil
}

// Note writes something into the history.
func (o *Observer) Note(format string, args ...any) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.history.Notes = append(o.history.Notes, Note{time.Now(), fmt.Sprintf(format, args...)})
}

// Begin takes note that a fault is about to begin, and returns what to call when it has
// begun and when it has ended.
func (o *Observer) Begin(name string, effect Effect) (begun, ended func()) {
	o.mu.Lock()
	defer o.mu.Unlock()
	at := len(o.history.Faults)
	o.history.Faults = append(o.history.Faults, Fault{Name: name, Since: time.Now(), Effect: effect})
	set := func(change func(*Fault)) func() {
		return func() {
			o.mu.Lock()
			defer o.mu.Unlock()
			change(&o.history.Faults[at])
		}
	}
	return set(func(f *Fault) { f.Begun = time.Now() }), set(func(f *Fault) { f.Until = time.Now() })
}

// Recovered takes note that everything is as it was before the faults that have ended.
func (o *Observer) Recovered() {
	o.mu.Lock()
	defer o.mu.Unlock()
	for i, f := range o.history.Faults {
		if !f.Until.IsZero() && f.Recovered.IsZero() {
			o.history.Faults[i].Recovered = time.Now()
		}
	}
}

// History returns what was seen so far. Frames may be under way.
func (o *Observer) History() History {
	o.mu.Lock()
	defer o.mu.Unlock()
	h := History{
		Asked: slices.Clone(o.history.Asked), Answers: slices.Clone(o.history.Answers),
		Requests: slices.Clone(o.history.Requests), Stalls: slices.Clone(o.history.Stalls),
		Faults: slices.Clone(o.history.Faults), Notes: slices.Clone(o.history.Notes),
	}
	return h.sorted()
}

// Forget drops what was seen before at, so that a long run needs no more memory than a
// short one. Faults stay.
func (o *Observer) Forget(at time.Time) {
	o.mu.Lock()
	defer o.mu.Unlock()
	h := &o.history
	h.Asked = slices.DeleteFunc(h.Asked, func(t time.Time) bool { return t.Before(at) })
	h.Answers = slices.DeleteFunc(h.Answers, func(a Answer) bool { return a.At.Before(at) })
	h.Requests = slices.DeleteFunc(h.Requests, func(r Request) bool { return r.At.Before(at) })
	h.Stalls = slices.DeleteFunc(h.Stalls, func(s Stall) bool { return s.Until.Before(at) })
	h.Notes = slices.DeleteFunc(h.Notes, func(n Note) bool { return n.At.Before(at) })
}

// heard takes a frame that said where an address is.
func (o *Observer) heard(at time.Time, c claim, delivered bool) {
	if !slices.Contains(o.addresses, c.address) || isForged(c.mac) {
		return
	}
	node, known := o.nodes[c.mac.String()]
	if !known {
		node = c.mac.String()
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	o.history.Answers = append(o.history.Answers, Answer{at, c.address, node, delivered, c.unasked})
}

func (o *Observer) asked(at time.Time) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.history.Asked = append(o.history.Asked, at)
}

func (o *Observer) requested(r Request) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.history.Requests = append(o.history.Requests, r)
}

func (o *Observer) stalled(s testbed.Stall) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.history.Stalls = append(o.history.Stalls, Stall(s))
}
