package cloud

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/resourceversion"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/kubernetes/scheme"
	typedcorev1 "k8s.io/client-go/kubernetes/typed/core/v1"
	"k8s.io/client-go/tools/record"

	"baremetal.cloud/ccm/pkg/ipam"
	"baremetal.cloud/ccm/pkg/loadbalancer"
	"baremetal.cloud/ccm/pkg/reason"
)

// newRecorder returns a recorder of our own, so that the stock controller's Events do
// not use up the allowance that client-go's spam filter gives each source.
func newRecorder(client kubernetes.Interface, stop <-chan struct{}) record.EventRecorder {
	broadcaster := record.NewBroadcaster()
	broadcaster.StartRecordingToSink(&typedcorev1.EventSinkImpl{Interface: client.CoreV1().Events("")})
	go func() { <-stop; broadcaster.Shutdown() }()
	return bounded{broadcaster.NewRecorder(scheme.Scheme, corev1.EventSource{Component: EventSource})}
}

// bounded is a recorder whose messages fit into what the API server takes.
type bounded struct{ record.EventRecorder }

// Event implements record.EventRecorder.
func (b bounded) Event(object runtime.Object, kind, why, message string) {
	b.EventRecorder.Event(object, kind, why, reason.Message(message, ""))
}

// Eventf implements record.EventRecorder.
func (b bounded) Eventf(object runtime.Object, kind, why, format string, args ...any) {
	b.Event(object, kind, why, fmt.Sprintf(format, args...))
}

// eventDedup remember what was told of each Service, so that an Event tells of a change
// and not of a repetition.
type eventDedup struct {
	mu sync.Mutex
	// by is guarded by mu; by the Service's key.
	by map[string]*serviceEvents
	// rewords paces changes of sentences.
	rewords pacer
	// released are the Services by key, guarded by mu, that were let go of a short while ago.
	released map[string]recentlyReleased
}

// recentlyReleased is a Service that was let go of: it was deleted, or it no longer wanted a load
// balancer, which it may change again.
type recentlyReleased struct {
	uid     string
	deleted bool
	at      time.Time
}

// releasedDelay is for how long it is known that a Service was let go of: longer than the
// stock controller takes for its last write.
const releasedDelay = time.Minute

type serviceEvents struct {
	uid                  string
	allocated, announced string
	// answering is, by address, what was told of it last. What is not in it was not told of:
	// a leader before may have.
	answering map[netip.Addr]addressEvent
	// began is since when a new Service has been about to be announced.
	began time.Time
	// written is what our last write left, until the watch has shown it.
	written *corev1.Service
	// waiting is since when what its condition says has been about to change.
	waiting time.Time
	// bare is since when it has had no endpoints without an Event of it.
	bare time.Time
	// warned reports that the last Event of its announcement was a Warning.
	warned bool
	// reword is when the sentence of its condition may be written anew; see sayings.reword.
	reword time.Time
	// held are the addresses that were logged; nil before the first look.
	held []ipam.Assignment
	// annotations are those of which was told that they are not read; inherited reports that a
	// leader before may have told so.
	annotations []annotationNotice
	inherited   bool
	contest     contest
}

// addressEvent is what was told of one address.
type addressEvent struct {
	// node is the last that answered for it, or "" for none.
	node string
	// silent reports whether it was told that no node answers.
	silent bool
}

// eventsOf returns what was said of svc. What its conditions say was said by a leader before.
func (s *eventDedup) eventsOf(svc *corev1.Service) *serviceEvents {
	key := svc.Namespace + "/" + svc.Name
	if known, ok := s.by[key]; ok && known.uid == string(svc.UID) {
		return known
	}
	fresh := &serviceEvents{uid: string(svc.UID)}
	if c := conditionOf(svc, ConditionAllocated); c != nil {
		fresh.allocated = c.Reason + c.Message
	}
	if c := conditionOf(svc, ConditionAnnounced); c != nil {
		fresh.announced = c.Reason
		fresh.warned = eventType(loadbalancer.Verdict{Reason: reason.Reason(c.Reason)}) == corev1.EventTypeWarning && c.Reason != string(reason.NothingAllocated)
	}
	fresh.inherited = conditionOf(svc, ConditionAllocated) != nil
	if s.by == nil {
		s.by = map[string]*serviceEvents{}
	}
	s.by[key] = fresh
	return fresh
}

// noteWrite remembers what a write of ours left.
func (s *eventDedup) noteWrite(svc *corev1.Service) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.eventsOf(svc).written = svc
}

// newestWritten returns svc as our last write left it, where the watch has not come as far yet.
// Otherwise whatever happens in between would cause the same write again.
func (s *eventDedup) newestWritten(svc *corev1.Service) *corev1.Service {
	s.mu.Lock()
	defer s.mu.Unlock()
	known, ok := s.by[svc.Namespace+"/"+svc.Name]
	if !ok || known.written == nil {
		return svc
	}
	order, err := resourceversion.CompareResourceVersion(svc.ResourceVersion, known.written.ResourceVersion)
	if known.uid != string(svc.UID) || err != nil || order >= 0 {
		known.written = nil
		return svc
	}
	return known.written
}

// forgetService drops a Service that was deleted or no longer wants a load balancer.
func (s *eventDedup) forgetService(key string, deleted bool, now time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.forgetServiceLocked(key, deleted, now)
}

func (s *eventDedup) forgetServiceLocked(key string, deleted bool, now time.Time) {
	known, ok := s.by[key]
	if !ok {
		return
	}
	delete(s.by, key)
	maps.DeleteFunc(s.released, func(_ string, p recentlyReleased) bool { return now.Sub(p.at) > releasedDelay })
	if s.released == nil {
		s.released = map[string]recentlyReleased{}
	}
	s.released[key] = recentlyReleased{uid: known.uid, deleted: deleted, at: now}
}

// wasJustReleased reports whether the stock controller may still be about to empty the status of
// what is now svc: it does so by name, at the end of its work for a Service that was
// deleted or no longer wanted a load balancer. It does one thing at a time for a name:
// once it asks for svc, that is over.
func (s *eventDedup) wasJustReleased(svc *corev1.Service, now time.Time) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	key := svc.Namespace + "/" + svc.Name
	if known, ok := s.by[key]; ok && known.uid != string(svc.UID) {
		s.forgetServiceLocked(key, true, now)
	}
	p, ok := s.released[key]
	return ok && now.Sub(p.at) <= releasedDelay
}

// noteAsked notes that the stock controller asks for svc.
func (s *eventDedup) noteAsked(svc *corev1.Service) {
	s.mu.Lock()
	defer s.mu.Unlock()
	key := svc.Namespace + "/" + svc.Name
	if p := s.released[key]; !p.deleted || p.uid != string(svc.UID) {
		delete(s.released, key)
	}
}

// emitEvents emits an Event for each condition whose reason changed and for each address that is
// answered for the first time, or again after no node answered. followMoves tells of moves. It
// returns when to tell of what is no news yet; 0 where there is nothing more to tell.
func (s *eventDedup) emitEvents(recorder record.EventRecorder, svc *corev1.Service, status loadbalancer.Status, now time.Time) time.Duration {
	s.mu.Lock()
	defer s.mu.Unlock()
	said := s.eventsOf(svc)
	if text := string(status.Allocated.Reason) + status.Allocated.Message; text != said.allocated {
		said.allocated = text
		recorder.Event(svc, eventType(status.Allocated), string(status.Allocated.Reason), status.Allocated.Message+noLonger(svc, status))
	}
	if left := said.starting(svc, status.Announced.Reason, now); left > 0 {
		return left
	}
	first := said.announced != string(status.Announced.Reason)
	said.announced = string(status.Announced.Reason)
	if first && !status.Announced.OK && !saysItAll(status) {
		recorder.Event(svc, eventType(status.Announced), string(status.Announced.Reason), status.Announced.Message)
	}
	tells := false
	for _, address := range slices.SortedFunc(maps.Keys(status.Owners), netip.Addr.Compare) {
		if said.setOwner(address, status.Owners[address], first) {
			tells = true
			recorder.Event(svc, corev1.EventTypeNormal, string(reason.Announced), fmt.Sprintf("node %s answers for %s", status.Owners[address], address))
		}
	}
	if said.announces(status, first) && !tells {
		recorder.Event(svc, corev1.EventTypeNormal, string(status.Announced.Reason), status.Announced.Message)
	}
	if first {
		said.markSilent(status)
	}
	maps.DeleteFunc(said.answering, func(a netip.Addr, _ addressEvent) bool {
		return !slices.ContainsFunc(status.Held, func(h ipam.Assignment) bool { return h.Address == a })
	})
	return 0
}

// announces notes whether there is something to warn of, and reports whether all being well is
// news of its own: a Warning is over, or routers hear of the addresses, of which no node tells.
func (s *serviceEvents) announces(status loadbalancer.Status, first bool) (news bool) {
	switch {
	case status.Announced.Reason == reason.Announced:
		news = s.warned || first && len(status.Owners) == 0
		s.warned = false
	case eventType(status.Announced) == corev1.EventTypeWarning && !saysItAll(status):
		s.warned = true
	}
	return news
}

const (
	// startGrace is how old a Service is before there is an Event that it has no endpoints:
	// its Pods are starting. bareGrace is for how long any Service has none before.
	startGrace = 30 * time.Second
	bareGrace  = 5 * time.Second
)

// starting returns for how long it is no news that svc has no endpoints; 0 where it has, or
// where that is news or was told.
func (s *serviceEvents) starting(svc *corev1.Service, why reason.Reason, now time.Time) time.Duration {
	if why != reason.NoEndpoints && why != reason.NoLocalEndpoints {
		s.bare = time.Time{}
		return 0
	}
	if s.announced == string(why) {
		return 0
	}
	if s.bare.IsZero() {
		s.bare = now
	}
	return max(0, startGrace-now.Sub(svc.CreationTimestamp.Time), bareGrace-now.Sub(s.bare))
}

// setOwner notes which node owns address, and reports whether that is news to tell here:
// followMoves tells of a move to another node.
func (s *serviceEvents) setOwner(address netip.Addr, node string, first bool) (news bool) {
	before, known := s.answering[address]
	s.noteAddress(address, addressEvent{node: node})
	if !known {
		return first
	}
	return before.silent && (before.node == "" || before.node == node)
}

// markSilent notes for which addresses it was said that no node answers: once a node answers,
// it is news which one.
func (s *serviceEvents) markSilent(status loadbalancer.Status) {
	for _, held := range status.Held {
		if status.Owners[held.Address] == "" {
			s.noteAddress(held.Address, addressEvent{node: s.answering[held.Address].node, silent: true})
		}
	}
}

func (s *serviceEvents) noteAddress(address netip.Addr, t addressEvent) {
	if s.answering == nil {
		s.answering = map[netip.Addr]addressEvent{}
	}
	s.answering[address] = t
}

// noLonger names the addresses in svc's status that it no longer holds.
func noLonger(svc *corev1.Service, status loadbalancer.Status) string {
	var lost []string
	for _, address := range publishedAddresses(svc) {
		if !slices.ContainsFunc(status.Held, func(h ipam.Assignment) bool { return h.Address == address }) {
			lost = append(lost, address.String())
		}
	}
	if len(lost) == 0 {
		return ""
	}
	return "; no longer " + strings.Join(lost, ", ")
}

// saysItAll reports whether the Event about the addresses themselves says all that could be
// said of their announcement.
func saysItAll(status loadbalancer.Status) bool {
	return status.Announced.Reason == reason.NothingAllocated || status.Announced.Reason == status.Allocated.Reason
}

func eventType(v loadbalancer.Verdict) string {
	switch v.Reason {
	case reason.Allocated, reason.PartiallyAllocated, reason.Announced, reason.WaitingForAnnouncer:
		return corev1.EventTypeNormal
	}
	return corev1.EventTypeWarning
}
