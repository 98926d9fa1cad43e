package cloud

import (
	"maps"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	"k8s.io/apimachinery/pkg/types"

	"baremetal.cloud/ccm/pkg/announcer/plan"
	"baremetal.cloud/ccm/pkg/ipam"
	"baremetal.cloud/ccm/pkg/loadbalancer"
	"baremetal.cloud/ccm/pkg/reason"
)

// core is the one mutex around the cluster-side core. Its methods take values and give
// values; none waits for anything but the mutex.
type core struct {
	now func() time.Time
	// wake has room for one: "something changed, plan again".
	wake chan struct{}
	// queueServices takes the keys of Services whose status may have to change. It must not
	// block.
	queueServices func(keys ...string)
	// moved has room for one: "there are moves to take".
	moved chan struct{}
	// conflicted has room for one: "there are conflicts to take".
	conflicted chan struct{}
	// departed has room for one: "there are departures to take".
	departed chan struct{}

	mu sync.Mutex
	// lb is guarded by mu, and so is everything below.
	lb *loadbalancer.Balancer
	// keys are the Services' keys by UID.
	keys map[string]string
	// owners remembers which node owns each address.
	owners ownerHistory
	// departures are the deleted nodes with announcers that hear of the deletion.
	departures departures
	// began is when this process began to listen to nodes, lost when the streams ended of
	// those that have none now.
	began time.Time
	lost  map[string]time.Time
}

func newCore(now func() time.Time, settle func(keys ...string)) *core {
	return &core{
		now: now, wake: make(chan struct{}, 1), moved: make(chan struct{}, 1), conflicted: make(chan struct{}, 1), departed: make(chan struct{}, 1),
		queueServices: settle, lb: loadbalancer.New(), keys: map[string]string{}, owners: newOwnerHistory(), departures: newDepartures(),
		began: now(), lost: map[string]time.Time{},
	}
}

// wakePublisher wakes the publish loop.
func (c *core) wakePublisher() {
	select {
	case c.wake <- struct{}{}:
	default:
	}
}

// setConfig takes over a configuration and asks again for every Service. Before anything is
// given out, the newcomers, which it begins to serve, go on with what their status shows.
func (c *core) setConfig(config loadbalancer.Config, newcomers ...loadbalancer.Service) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if err := c.lb.Configure(config); err != nil {
		return err
	}
	c.inspectLocked() // an address of a node is not taken over
	c.lb.Adopt(newcomers)
	for _, s := range newcomers {
		c.keys[s.Holder.UID] = s.Key()
	}
	c.reassignLocked()
	return nil
}

// restoreServices takes over what the Services' status says, under a configuration that may be
// older than the newest one. No Service is given anything before reassignServices.
// Of released only the status shows addresses still.
func (c *core) restoreServices(config loadbalancer.Config, services []loadbalancer.Service, shared map[string]bool, released []loadbalancer.Service) ([]ipam.Finding, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if err := c.lb.Configure(config); err != nil {
		return nil, err
	}
	for _, s := range services {
		c.keys[s.Holder.UID] = s.Key()
	}
	return c.lb.Restore(services, shared, released...), nil
}

// reassignServices asks again for every Service.
func (c *core) reassignServices() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.reassignLocked()
}

func (c *core) reassignLocked() {
	c.inspectLocked() // what is a node's is not given out
	c.queueServicesLocked(c.lb.Reassign(c.now()))
	c.retryLocked()
	c.wakePublisher()
}

// ensureService gives a Service its addresses. The error is a *ipam.Refusal or nil. Its own
// status is the caller's business.
func (c *core) ensureService(s loadbalancer.Service) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.keys[s.Holder.UID] = s.Key()
	c.inspectLocked() // what is a node's is not given out
	err := c.lb.Ensure(s, c.now())
	c.retryLocked()
	c.wakePublisher()
	return err
}

// shownAddresses returns the addresses that have to leave the status of the Service with that UID
// before it is released.
func (c *core) shownAddresses(uid string) []netip.Addr {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.lb.Shown(uid)
}

// isLingering reports whether the status of the Service with that UID may show an address that
// it does not hold.
func (c *core) isLingering(uid string) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.lb.Lingers(uid)
}

// statusShows takes over what the API server said is in a Service's status.
func (c *core) statusShows(uid string, addresses []netip.Addr) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.lb.Lingers(uid) {
		return
	}
	c.lb.StatusShows(uid, addresses)
	c.retryLocked()
}

// knowsService reports whether there is anything to release of the Service with that UID: of the many
// that are no load balancers there is not.
func (c *core) knowsService(uid string) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.knowsLocked(uid)
}

func (c *core) knowsLocked(uid string) bool {
	_, known := c.keys[uid]
	return known || c.lb.Lingers(uid)
}

// releaseService frees what the Service with that UID holds, and returns that.
func (c *core) releaseService(uid string) []ipam.Assignment {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.releaseLocked(uid)
}

// otherUIDs returns the UIDs of the known Services with that key but another UID.
func (c *core) otherUIDs(key, uid string) []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.DeleteFunc(slices.Clone(c.lb.UIDs(key)), func(other string) bool { return other == uid })
}

func (c *core) releaseLocked(uid string) []ipam.Assignment {
	if !c.knowsLocked(uid) {
		return nil
	}
	before, _ := c.lb.Status(uid)
	c.lb.Release(uid, c.now())
	delete(c.keys, uid)
	c.retryLocked()
	c.wakePublisher()
	return before.Held
}

// retryLocked serves Services that wait, where an address has become free. One that is
// served may free another address by it. Services that share with one that changed are queued too.
func (c *core) retryLocked() {
	c.inspectLocked()
	for c.lb.Freed() {
		c.queueServicesLocked(c.lb.Retry(c.now()))
	}
	c.queueServicesLocked(c.lb.Concerned())
}

// statusOf says how a Service fares.
func (c *core) statusOf(uid string) (loadbalancer.Status, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.lb.Status(uid)
}

// invalidPeers returns the BGP peers that nodes have not because of what their labels say.
func (c *core) invalidPeers() []loadbalancer.InvalidPeer {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.lb.InvalidPeers()
}

func (c *core) setNode(n loadbalancer.Node) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.departures.nodeReturned(n.Name)
	c.lb.SetNode(n)
	c.retryLocked()
	c.wakePublisher()
}

// deleteNode takes over that a Node object is gone; uid names it in Events.
func (c *core) deleteNode(name string, uid types.UID) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.lb.DeleteNode(name); c.lb.Departs(name) {
		c.departures.nodeDeleted(name, uid)
	}
	c.retryLocked()
	c.wakePublisher()
}

func (c *core) setEndpoints(key string, e loadbalancer.Endpoints) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.lb.SetEndpoints(key, e) {
		c.wakePublisher()
	}
}

// takeReport takes over what an announcer reports.
func (c *core) takeReport(node string, report plan.Report) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.lost, node)
	changed := c.lb.Observe(node, report)
	c.owners.takeClaims(node, report, changed, c.now())
	c.retryLocked()
	c.queueAddressesLocked(changed)
	c.wakePublisher()
}

func (c *core) streamEnded(node string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	now := c.now()
	maps.DeleteFunc(c.lost, func(_ string, lost time.Time) bool { return now.Sub(lost) > lostStreamDelay })
	c.lost[node] = now
	c.leaveLocked(node, c.lb.Disconnect(node))
	c.wakePublisher() // the owner, or the reason for none, may be another now
}

// lostStreamDelay is for how long a node that lost its stream may still be claiming something that
// it did not report.
const lostStreamDelay = time.Minute

// awaitedNodes returns the nodes that a new leader waits to hear from: those that may hold an
// address and have no stream, unless their peers report them down. Where this process has
// been listening for long enough, a node without a stream has no announcer, unless it had
// one lately.
func (c *core) awaitedNodes() []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	now := c.now()
	if now.Sub(c.began) < claimGatherDelay {
		return c.lb.Awaited()
	}
	return slices.DeleteFunc(c.lb.Awaited(), func(node string) bool {
		lost, ok := c.lost[node]
		return !ok || now.Sub(lost) > lostStreamDelay
	})
}

// planNodes makes the decisions that are due, in the name of a leader. The keys of nodes are made
// from secret. again is when to call it though nothing has changed; 0 is never.
func (c *core) planNodes(cluster string, term uint64, secret []byte) (plans map[string]plan.NodePlan, again time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.lb.SetLeader(cluster, term)
	c.lb.SetSecret(secret)
	c.retryLocked()
	again = shortestTime(c.lb.Rebalance(c.now()), c.inspectLocked(), c.departLocked(), c.lb.UpdateHealth(c.now()), c.lb.RolloutPeers(c.now()))
	plans = c.lb.Plan()
	c.queueAddressesLocked(c.lb.Decided())
	return plans, again
}

// peerRolloutLeft returns how many nodes' BGP sessions have still to begin anew.
func (c *core) peerRolloutLeft() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.lb.PeerRolloutLeft()
}

// peerRestarts returns the BGP sessions that plans end which plan returned since it was called last.
func (c *core) peerRestarts() []loadbalancer.PeerRestart {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.lb.PeerRestarts()
}

// usageSummary returns how many Services there are by the reason of their allocation, and the
// fill of the pools.
func (c *core) usageSummary() (map[reason.Reason]int, []ipam.Usage) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.lb.Reasons(), c.lb.Usage()
}

// underReplicated returns how many addresses have fewer backups than there are nodes for.
func (c *core) underReplicated() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.lb.UnderReplicated()
}

// linkPrefixes returns the on-link prefixes of the nodes' interfaces.
func (c *core) linkPrefixes() []netip.Prefix {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.lb.Links()
}

func (c *core) queueServicesLocked(uids []string) {
	for _, uid := range uids {
		if key, ok := c.keys[uid]; ok {
			c.queueServices(key)
		}
	}
}

func (c *core) queueAddressesLocked(addresses []netip.Addr) {
	c.recordOwnersLocked(addresses)
	for _, address := range addresses {
		c.queueServicesLocked(c.lb.HoldersOf(address))
	}
}

// keysIn returns the keys of the known Services of a namespace.
func (c *core) keysIn(namespace string) []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	var out []string
	for _, key := range c.keys {
		if strings.HasPrefix(key, namespace+"/") {
			out = append(out, key)
		}
	}
	return out
}
