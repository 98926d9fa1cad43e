package cloud

import (
	"bytes"
	"cmp"
	"fmt"
	"reflect"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"baremetal.cloud/ccm/pkg/loadbalancer"
	"baremetal.cloud/ccm/pkg/reason"
)

// Another controller may write what it finds right into a Service's status, and do so
// again whenever it is put back. Two that insist would write as fast as the API server lets
// them, each time seen by every kube-proxy.
const (
	// contestRewrites within contestWindow are what it takes.
	contestRewrites = 3
	contestWindow   = time.Minute
	// contestPause is the first pause between two writes of ours, which doubles up to
	// contestMaxPause. It is never given up.
	contestPause    = time.Second
	contestMaxPause = time.Minute
	// contestPeace is how long a write has to stand until the contest is over.
	contestPeace = 2 * contestMaxPause
)

// ownManager is the field manager of our writes: the API server takes it from the name of the
// program.
const ownManager = "baremetal-ccm"

// contest is what is known of the writer that competes for one Service's status.
type contest struct {
	// left is what our last write left of the status; nil before the first.
	left *ourStatus
	// seen is the version that was looked at last, and foreign what it showed in place of left;
	// nil where our last write stands.
	seen    string
	foreign *ourStatus
	// rewrites are when others replaced what we wrote, within contestWindow.
	rewrites []time.Time
	last     time.Time
	// active reports that there are too many, manager is the writer, next is when to write
	// again at the earliest and pause how long it is until the write after that.
	active  bool
	manager string
	next    time.Time
	pause   time.Duration
}

// ourStatus is the part of a Service's status that we write.
type ourStatus struct {
	ingress    []corev1.LoadBalancerIngress
	conditions []metav1.Condition
}

func ourStatusOf(svc *corev1.Service) *ourStatus {
	out := &ourStatus{ingress: svc.Status.LoadBalancer.Ingress}
	for _, c := range svc.Status.Conditions {
		if ourCondition(c) {
			out.conditions = append(out.conditions, c)
		}
	}
	slices.SortFunc(out.conditions, func(x, y metav1.Condition) int { return cmp.Compare(x.Type, y.Type) })
	return out
}

func (s *ourStatus) equal(o *ourStatus) bool {
	return reflect.DeepEqual(s.ingress, o.ingress) && reflect.DeepEqual(s.conditions, o.conditions)
}

// look notes whether svc shows that another writer replaced what we wrote last. It reports
// whether a contest has begun by that.
func (c *contest) look(svc *corev1.Service, now time.Time) (begun bool) {
	if c.active && now.Sub(c.last) > contestPeace {
		*c = contest{left: c.left, seen: c.seen}
	}
	if c.left == nil || svc.ResourceVersion == c.seen {
		return false
	}
	c.seen = svc.ResourceVersion
	shown := ourStatusOf(svc)
	if shown.equal(c.left) || c.foreign != nil && shown.equal(c.foreign) {
		return false
	}
	c.foreign = shown
	c.rewrites = slices.DeleteFunc(append(c.rewrites, now), func(t time.Time) bool { return now.Sub(t) > contestWindow })
	c.rewrites = c.rewrites[max(0, len(c.rewrites)-contestRewrites):]
	c.last, c.manager = now, otherManager(svc)
	if c.active || len(c.rewrites) < contestRewrites {
		return false
	}
	c.active, c.pause, c.next = true, contestPause, now.Add(contestPause)
	return true
}

// wrote notes what a write of ours left.
func (c *contest) wrote(svc *corev1.Service, now time.Time) {
	c.left, c.seen, c.foreign = ourStatusOf(svc), svc.ResourceVersion, nil
	if c.active {
		c.next = now.Add(c.pause)
		c.pause = min(2*c.pause, contestMaxPause)
	}
}

// over returns how long it takes until the contest may be over; 0 where there is none.
func (c *contest) over(now time.Time) time.Duration {
	if !c.active {
		return 0
	}
	return max(contestPeace-now.Sub(c.last)+time.Second, time.Second)
}

func (c *contest) String() string {
	return fmt.Sprintf("another controller rewrites the status of this Service (field manager %q); it is written back once a minute at most; "+
		"have that controller leave this Service alone", reason.Quote(c.manager))
}

// otherManager returns the field manager, other than ours, that wrote the Service's status last.
func otherManager(svc *corev1.Service) string {
	var last *metav1.ManagedFieldsEntry
	for i, entry := range svc.ManagedFields {
		status := entry.FieldsV1 != nil && bytes.Contains(entry.FieldsV1.GetRawBytes(), []byte(`"f:status"`))
		if entry.Manager == ownManager || !status {
			continue
		}
		if last == nil || entry.Time != nil && (last.Time == nil || !entry.Time.Before(last.Time)) {
			last = &svc.ManagedFields[i]
		}
	}
	if last == nil {
		return "unknown"
	}
	return last.Manager
}

// contention is what a contest means for the next write.
type contention struct {
	// manager is the other writer where the contest has just begun, else "".
	manager string
	// wait is how long nothing is written, and over when to look whether the contest is over;
	// 0 where there is none.
	wait, over time.Duration
}

// contend looks at svc for rewrites by other writers. While they go on the status says so.
func (s *eventDedup) contend(svc *corev1.Service, status *loadbalancer.Status, now time.Time) (out contention) {
	s.mu.Lock()
	defer s.mu.Unlock()
	c := &s.eventsOf(svc).contest
	if c.look(svc, now) {
		out.manager = c.manager
	}
	if !c.active {
		return out
	}
	if status.Announced.OK || status.Announced.Reason == reason.WaitingForAnnouncer {
		status.Announced = loadbalancer.Verdict{OK: status.Announced.OK, Reason: reason.StatusContested, Message: c.String()}
	}
	out.wait, out.over = max(0, c.next.Sub(now)), c.over(now)
	return out
}

// left remembers what a write of ours left of a Service's status.
func (s *eventDedup) left(svc *corev1.Service, now time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.eventsOf(svc).contest.wrote(svc, now)
}

// tellContest tells, once for each contest, which field manager rewrites the status of svc.
func (p *Provider) tellContest(svc *corev1.Service, manager string) {
	if manager == "" {
		return
	}
	p.recorder.Event(svc, corev1.EventTypeWarning, string(reason.StatusContested), (&contest{manager: manager}).String())
	p.options.Logger.Warn("another controller rewrites the status of a Service", "service", svc.Namespace+"/"+svc.Name,
		"reason", reason.StatusContested, "manager", reason.Quote(manager))
}
