package cloud

import (
	"context"
	"reflect"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"baremetal.cloud/ccm/pkg/loadbalancer"
	"baremetal.cloud/ccm/pkg/reason"
)

// handoverDelay is how long an address that was announced may be between two nodes before
// the condition says so. A move changes no condition: with a thousand addresses on a
// node it would be a thousand writes that every kube-proxy sees.
const handoverDelay = 10 * time.Second

// firstAnnouncementDelay is how long a new Service, of which nothing was said yet, may wait for its
// first announcement before the condition reports that it waits. Nearly always the
// acknowledgement comes within milliseconds: then everything is one write, which does
// not queue behind another that is outdated when it lands.
const firstAnnouncementDelay = 500 * time.Millisecond

// writeStatus brings addresses and conditions in line with the core, in one patch, and
// tells of what changed in Events.
func (p *Provider) writeStatus(ctx context.Context, svc *corev1.Service) error {
	status, ok := p.core.statusOf(string(svc.UID))
	if !ok {
		return nil
	}
	status.Allocated.Message = reason.Advised(status.Allocated.Reason, status.Allocated.Message)
	status.Announced.Message = reason.Advised(status.Announced.Reason, status.Announced.Message)
	key := svc.Namespace + "/" + svc.Name
	if wait := p.dedup.waitFirstAnnouncement(svc, status, p.core.now()); wait > 0 {
		p.queue.AddAfter(key, wait)
		return nil
	}
	if wait := p.dedup.waitHandover(svc, &status, p.core.now()); wait > 0 {
		p.queue.AddAfter(key, wait)
	}
	contention := p.dedup.contend(svc, &status, p.core.now())
	p.tellContest(svc, contention.manager)
	if wait := p.dedup.reword(svc, &status, p.core.now()); wait > 0 {
		p.queue.AddAfter(key, wait)
	}
	if contention.over > 0 {
		p.queue.AddAfter(key, contention.over)
	}
	p.logHeld(svc, status)
	p.dedup.tellAnnotations(p.recorder, svc)
	changed := svc.DeepCopy()
	if want := statusOf(status.Published, status.Yielding); !reflect.DeepEqual(want.Ingress, svc.Status.LoadBalancer.Ingress) {
		changed.Status.LoadBalancer = *want
	}
	now := metav1.NewTime(p.core.now())
	setCondition(changed, ConditionAllocated, status.Allocated, now)
	setCondition(changed, ConditionAnnounced, status.Announced, now)
	setShared(changed, status, now)
	if !reflect.DeepEqual(svc.Status, changed.Status) {
		if contention.wait > 0 {
			p.queue.AddAfter(key, contention.wait)
			return nil
		}
		if err := p.patchService(ctx, svc, changed); err != nil {
			return err
		}
	} else if p.core.isLingering(string(svc.UID)) {
		return p.confirmStatus(ctx, svc)
	}
	if wait := p.dedup.emitEvents(p.recorder, svc, status, p.core.now()); wait > 0 {
		p.queue.AddAfter(key, wait)
	}
	return nil
}

// confirmStatus asks the API server what svc's status shows, where something that it must not show
// keeps an address from being free: svc, which reports that all is well, may be outdated.
func (p *Provider) confirmStatus(ctx context.Context, svc *corev1.Service) error {
	live, err := p.liveService(ctx, svc)
	if err != nil || live == nil {
		return err
	}
	p.dedup.noteWrite(live)
	p.core.statusShows(string(live.UID), publishedAddresses(live))
	p.queue.Add(svc.Namespace + "/" + svc.Name)
	return nil
}

func setCondition(svc *corev1.Service, kind string, v loadbalancer.Verdict, now metav1.Time) {
	status := metav1.ConditionFalse
	if v.OK {
		status = metav1.ConditionTrue
	}
	meta.SetStatusCondition(&svc.Status.Conditions, metav1.Condition{
		Type:               kind,
		Status:             status,
		Reason:             string(v.Reason),
		Message:            reason.Message(v.Message, ""),
		LastTransitionTime: now,
	})
}

// setShared sets or removes the condition that the Service's address is shared.
func setShared(svc *corev1.Service, status loadbalancer.Status, now metav1.Time) {
	v := loadbalancer.Verdict{OK: true, Reason: reason.Allocated, Message: "other Services hold its address too"}
	switch {
	case !status.Shared:
		meta.RemoveStatusCondition(&svc.Status.Conditions, ConditionShared)
		return
	case status.Allocated.Reason == reason.SharingKeyMissing:
		v.Reason, v.Message = reason.SharingKeyMissing, "other Services hold its address too, without a common key"
	case len(status.Clashes) > 0:
		v.Reason, v.Message = reason.SharingClash, "an edit makes it clash with another Service that holds its address: "+status.Clashes[0].Why
	}
	setCondition(svc, ConditionShared, v, now)
}

func conditionOf(svc *corev1.Service, kind string) *metav1.Condition {
	return meta.FindStatusCondition(svc.Status.Conditions, kind)
}

// waitFirstAnnouncement returns for how long nothing needs to be said of a new Service, because a node
// was told just now to answer for its address; 0 where there is something to say.
func (s *eventDedup) waitFirstAnnouncement(svc *corev1.Service, status loadbalancer.Status, now time.Time) time.Duration {
	if status.Announced.Reason != reason.WaitingForAnnouncer || len(status.Published) > 0 || conditionOf(svc, ConditionAnnounced) != nil {
		return 0
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	said := s.eventsOf(svc)
	if said.began.IsZero() {
		said.began = now
	}
	return firstAnnouncementDelay - now.Sub(said.began)
}

// waitHandover replaces a verdict that is likely to pass, while nodes hand an address over or
// a new leader has not decided yet, by what the condition says now, and returns when to
// look again; 0 where there is nothing to wait for.
func (s *eventDedup) waitHandover(svc *corev1.Service, status *loadbalancer.Status, now time.Time) time.Duration {
	s.mu.Lock()
	defer s.mu.Unlock()
	said := s.eventsOf(svc)
	before := conditionOf(svc, ConditionAnnounced)
	if status.Announced.Reason != reason.WaitingForAnnouncer || before == nil || before.Reason == string(reason.WaitingForAnnouncer) || before.Reason == string(reason.NothingAllocated) {
		said.waiting = time.Time{}
		return 0
	}
	if said.waiting.IsZero() {
		said.waiting = now
	}
	left := handoverDelay - now.Sub(said.waiting)
	if left <= 0 {
		return 0
	}
	status.Announced = loadbalancer.Verdict{OK: before.Status == metav1.ConditionTrue, Reason: reason.Reason(before.Reason), Message: before.Message}
	return left
}

// rewordInterval is the time between two writes of conditions whose sentence alone changed,
// among all Services, after a first few that are written at once. The sentence names the
// nodes that announce: a dead node with a thousand addresses must not cause a thousand writes
// at once, each of which every kube-proxy sees.
const rewordInterval = 200 * time.Millisecond

// pacer gives out times that are an interval apart, after a few at once.
type pacer struct{ next time.Time }

func (p *pacer) reserve(now time.Time) time.Time {
	if earliest := now.Add(-moveEventsLimit * rewordInterval); p.next.Before(earliest) {
		p.next = earliest
	}
	p.next = p.next.Add(rewordInterval)
	if p.next.Before(now) {
		return now
	}
	return p.next
}

// reword replaces a verdict that differs from what the condition says in its sentence alone
// by that, until it is its turn to be written. It returns when to look again; 0 where there is
// nothing to wait for.
func (s *eventDedup) reword(svc *corev1.Service, status *loadbalancer.Status, now time.Time) time.Duration {
	s.mu.Lock()
	defer s.mu.Unlock()
	said := s.eventsOf(svc)
	before := conditionOf(svc, ConditionAnnounced)
	same := before != nil && before.Reason == string(status.Announced.Reason) && (before.Status == metav1.ConditionTrue) == status.Announced.OK
	if !same || before.Message == reason.Message(status.Announced.Message, "") {
		said.reword = time.Time{}
		return 0
	}
	if said.reword.IsZero() {
		said.reword = s.rewords.reserve(now)
	}
	left := said.reword.Sub(now)
	if left <= 0 {
		return 0
	}
	status.Announced.Message = before.Message
	return left
}
