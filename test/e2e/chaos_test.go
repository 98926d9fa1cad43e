//go:build e2e

package e2e

import (
	"cmp"
	"context"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"

	"baremetal.cloud/ccm/test/e2e/observer"
	"baremetal.cloud/ccm/test/e2e/testbed"
)

const (
	// chaosFailover is the default, and chaosBound transmitInterval × detectMultiplier + 100 ms.
	chaosFailover = "{transmitInterval: 100ms, detectMultiplier: 3}"
	chaosBound    = 400 * time.Millisecond
	// chaosDelay is how long a planned move may delay a new connection.
	chaosDelay = 200 * time.Millisecond
	// shortBound and shortDelay take their place in a short run, which is to say whether
	// anything is broken on whatever machine, not how fast it is.
	shortBound = 1500 * time.Millisecond
	shortDelay = 700 * time.Millisecond
	// chaosTimes is how often a run of some length does each kind of fault at least.
	chaosTimes = 3
	// settling is the time after which whatever was on its way at the end of a round has
	// been seen.
	settling = 500 * time.Millisecond
)

// TestChaos injects faults from a seed, one after the other and some at once, while an
// observer on the LAN records who answers and whether requests get through, and judges
// that record: one owner, always one, and nobody turned away by a planned move. Where
// DURATION says nothing one fault of each of a few kinds is injected, and the bounds are
// wide; `make chaos` sets it, and SEED, FAULTS and NODES, and then each kind has to come
// three times.
func TestChaos(t *testing.T) {
	nodes := 3
	if os.Getenv("NODES") == "2" {
		nodes = 2
	}
	runChaos(t, nodes, "silent cut", "loud cut", "heartbeats blocked", "announcer killed", "announcer stopped", "announcer paused", "leader killed", "node excluded", "API server stopped",
		"IPv4 address lost", "address moves between nodes", "flood of claims", "hostile announcer", "Node deleted")
}

// TestChaosOfTwo is the same with two nodes: there is nobody to agree with.
func TestChaosOfTwo(t *testing.T) {
	runChaos(t, 2, "silent cut", "announcer killed", "announcer paused")
}

// runChaos is one run; few are the kinds of fault of a short one.
func runChaos(t *testing.T, nodes int, few ...string) {
	seed, duration := chaosSeed(t), time.Duration(0)
	names := few
	if text := os.Getenv("DURATION"); text != "" {
		var err error
		duration, err = time.ParseDuration(text)
		require.NoError(t, err, "DURATION is one of Go's, like 10m")
		names = nil
		if list := os.Getenv("FAULTS"); list != "" {
			names = strings.Split(list, ",")
		}
	}
	t.Logf("seed %d; repeat with: make chaos SEED=%d NODES=%d DURATION=%s FAULTS='%s'",
		seed, seed, nodes, cmp.Or(duration, 3*time.Minute), strings.Join(names, ","))
	c := &chaos{
		witness:  up(t, testbed.Options{Nodes: nodes, Proxy: "nftables", Mgmt: "lan", Failover: chaosFailover}).witness(),
		seed:     seed,
		random:   rand.New(rand.NewPCG(seed, 1)),
		injected: map[string]int{},
		all:      kinds,
	}
	c.kinds = c.named(names)
	c.rules = observer.Rules{Bound: chaosBound, Delay: chaosDelay}
	if duration == 0 {
		c.rules = observer.Rules{Bound: shortBound, Delay: shortDelay}
	}
	c.prepare()
	c.watch()
	began := time.Now()
	for cycle := 0; cycle == 0 || time.Since(began) < duration; cycle++ {
		for _, i := range c.random.Perm(len(c.kinds)) {
			if cycle > 0 && time.Since(began) >= duration {
				break
			}
			c.round(c.kinds[i])
		}
	}
	c.summary(duration)
}

func chaosSeed(t *testing.T) uint64 {
	t.Helper()
	text := os.Getenv("SEED")
	if text == "" {
		return uint64(time.Now().UnixNano()) % 1_000_000
	}
	var seed uint64
	_, err := fmt.Sscan(text, &seed)
	require.NoError(t, err, "SEED is a number")
	return seed
}

// chaos is a run. What it draws depends on the seed alone, so that a seed leads to the
// same faults in the same order again; who owns an address then does not.
type chaos struct {
	*witness
	seed   uint64
	random *rand.Rand
	// kinds are those that the run draws from, and all are all.
	kinds, all []kind
	injected   map[string]int
	observer   *observer.Observer
	rules      observer.Rules
	// addresses are those of all Services, and foreign is one that only another cluster gives out.
	addresses        []netip.Addr
	foreign          netip.Addr
	rounds, requests int
	// follows counts what kube-proxies were shown.
	follows int
	worst   observer.Worst
}

// named returns the kinds with those names, or all.
func (c *chaos) named(names []string) []kind {
	c.Helper()
	var out []kind
	for _, k := range c.all {
		if len(names) == 0 || slices.Contains(names, k.name) {
			out = append(out, k)
		}
	}
	if len(names) > 0 {
		require.Len(c, out, len(names), "some of %q is no kind of fault", names)
	}
	return out
}

// kindCalled returns the kind with that name.
func (c *chaos) kindCalled(name string) kind { return c.named([]string{name})[0] }

// prepare makes the Services whose addresses are watched.
func (c *chaos) prepare() {
	c.Helper()
	c.keepReplicas()
	c.configureMore("nodeHealth: {drainOnCordon: true}\n")
	c.create("one", nil)
	c.create("two", nil)
	c.create("six", func(svc *corev1.Service) { svc.Spec.IPFamilies = []corev1.IPFamily{corev1.IPv6Protocol} })
	c.create("both", func(svc *corev1.Service) {
		policy := corev1.IPFamilyPolicyRequireDualStack
		svc.Spec.IPFamilyPolicy = &policy
	})
	c.create("local", func(svc *corev1.Service) { svc.Spec.ExternalTrafficPolicy = corev1.ServiceExternalTrafficPolicyLocal })
	for _, name := range []string{"one", "two", "six"} {
		c.addresses = append(c.addresses, c.address(name))
	}
	c.addresses = append(c.addresses, c.witness.addresses("both", 2)...)
	c.addresses = append(c.addresses, c.witness.addresses("local", 1)...)
	c.foreign = plus(c.c.PoolV4().Addr(), 200)
	c.rules.Nodes = map[netip.Addr][]string{c.foreign: nil}
	for _, a := range c.addresses {
		c.rules.Nodes[a] = c.nodes()
		if a.Is4() {
			c.requested(a)
		}
	}
	c.quiet()
}

// watch begins to observe.
func (c *chaos) watch() {
	c.Helper()
	o, err := observer.New(c.c, c.addresses, []netip.Addr{c.foreign})
	require.NoError(c, err)
	c.observer = o
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- o.Run(ctx) }()
	c.Cleanup(func() {
		cancel()
		assert.NoError(c, <-ended)
	})
	time.Sleep(settling)
	// kube-proxies know all addresses before anything is judged.
	c.eventually(func(t *assert.CollectT) {
		requests := o.History().Requests
		for _, a := range c.addresses {
			require.True(t, slices.ContainsFunc(requests, func(r observer.Request) bool { return r.Address == a && r.Failure == "" }), "no request to %s succeeded", a)
		}
	})
	time.Sleep(settling)
	o.Forget(time.Now())
	time.Sleep(settling)
}

// round injects a fault, perhaps while the control plane is away or with one on another
// node at about the same time, ends it and judges what was seen.
func (c *chaos) round(k kind) {
	c.Helper()
	c.rounds++
	victim := c.victim()
	before, after := c.company(k, victim)
	hold := k.least + c.draw(k.most-k.least)
	time.Sleep(c.draw(200 * time.Millisecond)) // Faults are to meet timers at any phase.
	c.Logf("%s round %d: %s, %s", time.Now().UTC().Format("15:04:05.000"), c.rounds, k.name, victim)
	var ends []func()
	if before != nil {
		ends = append(ends, c.inject(*before, victim))
	}
	ends = append(ends, c.inject(k, victim))
	if after != nil {
		ends = append(ends, after())
	}
	time.Sleep(hold)
	for _, end := range slices.Backward(ends) {
		end()
	}
	c.quiet()
	// Hosts that did not find each other ask again after a second.
	time.Sleep(2 * settling)
	c.observer.Recovered()
	c.judge()
}

// draw draws a time below a limit.
func (c *chaos) draw(below time.Duration) time.Duration {
	return time.Duration(c.random.Float64() * float64(below))
}

// company draws what is injected before a fault, and after it, if anything. Of two nodes
// only one has a fault at a time, or nobody would be left.
func (c *chaos) company(k kind, victim string) (before *kind, after func() (end func())) {
	c.Helper()
	dice, delay := c.random.IntN(8), c.draw(chaosBound)
	first := c.kindCalled(companions[c.random.IntN(len(companions))])
	second := c.kindCalled(seconds[c.random.IntN(len(seconds))])
	others := slices.DeleteFunc(slices.Clone(c.nodes()), func(n string) bool { return n == victim })
	other := others[c.random.IntN(len(others))]
	switch {
	case k.needs || dice > 2 || dice == 2 && len(c.nodes()) < 3:
		return nil, nil
	case dice == 2:
		return nil, func() func() {
			time.Sleep(delay)
			return c.inject(second, other)
		}
	}
	return &first, nil
}

// victim draws a node, or an address whose owner it is.
func (c *chaos) victim() string {
	i, address := c.random.IntN(2*len(c.nodes())), c.addresses[c.random.IntN(len(c.addresses))]
	if i < len(c.nodes()) {
		return c.nodes()[i]
	}
	for _, a := range slices.Backward(c.observer.History().Answers) {
		if a.Address == address && slices.Contains(c.nodes(), a.Node) {
			return a.Node
		}
	}
	return c.nodes()[0]
}

// inject begins a fault and returns what ends it.
func (c *chaos) inject(k kind, node string) (end func()) {
	c.Helper()
	c.injected[k.name]++
	effect := observer.Effect{}
	if k.effect != nil {
		effect = k.effect(c, node)
	}
	c.note("%s, %s", k.name, node)
	begun, ended := c.observer.Begin(k.name+", "+node, effect)
	heal := k.inject(c, node)
	begun()
	return func() {
		if heal != nil {
			c.observer.Note("    is about to end: %s, %s", k.name, node)
			heal()
		}
		ended()
	}
}

// judge judges what was seen since the last time.
func (c *chaos) judge() {
	c.Helper()
	h := c.observer.History()
	c.requests += len(h.Requests)
	complaints, worst := h.Judge(c.rules)
	c.worst = c.worst.And(worst)
	if len(complaints) > 0 {
		h.Notes = append(h.Notes, c.logLines()...)
		for _, complaint := range complaints[:min(len(complaints), 2)] {
			c.Errorf("seed %d, round %d: %s\n%s", c.seed, c.rounds, complaint,
				h.Timeline(complaint.Address, complaint.From, complaint.Until, c.rules.Delay))
		}
		for _, complaint := range complaints[min(len(complaints), 2):] {
			c.Logf("also: %s", complaint)
		}
	}
	c.innocent()
	// What is at the edge is judged with what comes.
	c.observer.Forget(time.Now().Add(-settling))
}

// summary says what was done.
func (c *chaos) summary(duration time.Duration) {
	c.Helper()
	for _, k := range c.kinds {
		c.Logf("%3d × %s", c.injected[k.name], k.name)
		if duration > 0 {
			assert.GreaterOrEqual(c, c.injected[k.name], chaosTimes, "%s was not injected often enough: give it more time or fewer FAULTS", k.name)
		}
	}
	c.Logf("seed %d, %d nodes: %d rounds, %d requests; at worst nobody answered for %s, two did for %s, and a request took %s, with nothing to excuse it; moves broke %d open connections",
		c.seed, len(c.nodes()), c.rounds, c.requests, ms(c.worst.Silence), ms(c.worst.Together), ms(c.worst.Request), c.worst.Broken)
}

func ms(d time.Duration) time.Duration { return d.Round(time.Millisecond) }
