package cloud

import (
	"fmt"
	"slices"
	"sync"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"baremetal.cloud/ccm/pkg/announcer/announcement"
)

// The reasons of Events on a Node about its BGP sessions.
const (
	eventSessionLost        = "BGPSessionLost"
	eventSessionEstablished = "BGPSessionEstablished"
)

// sessions remember what nodes said of their BGP sessions, so that an Event tells of a loss
// and not of a repetition.
type sessions struct {
	mu sync.Mutex
	// lost are, by node and peer, those that were established once; true while they are not.
	// It is guarded by mu.
	lost map[string]map[string]bool
}

// sessionEvent is something to tell of a session.
type sessionEvent struct{ kind, reason, message string }

// heard takes what node says of its sessions and returns what is to be told of them: that
// one was lost, and that such a one is established again. How a session comes about the first
// time is no event, as its absence shows in metrics and conditions.
func (s *sessions) heard(node string, now []announcement.BGPSession) []sessionEvent {
	s.mu.Lock()
	defer s.mu.Unlock()
	known := s.lost[node]
	if known == nil {
		known = map[string]bool{}
		if s.lost == nil {
			s.lost = map[string]map[string]bool{}
		}
		s.lost[node] = known
	}
	for peer := range known {
		if !slices.ContainsFunc(now, func(x announcement.BGPSession) bool { return x.Peer == peer }) {
			delete(known, peer)
		}
	}
	var out []sessionEvent
	for _, x := range now {
		lost, was := known[x.Peer]
		switch up := x.State == announcement.BGPEstablished; {
		case up && lost:
			out = append(out, sessionEvent{corev1.EventTypeNormal, eventSessionEstablished, fmt.Sprintf("the BGP session to %s is established again", x.Peer)})
			known[x.Peer] = false
		case up:
			known[x.Peer] = false
		case was && !lost:
			out = append(out, sessionEvent{corev1.EventTypeWarning, eventSessionLost, fmt.Sprintf("the BGP session to %s was lost: %s: %s", x.Peer, x.Reason, x.Message)})
			known[x.Peer] = true
		}
	}
	return out
}

// tellSessions writes an Event on the Node for each session that was lost, or is back. A
// standby only takes note.
func (p *Provider) tellSessions(node string, now []announcement.BGPSession) {
	events := p.sessions.heard(node, now)
	if len(events) == 0 || !p.publishing.Load() {
		return
	}
	object := p.nodeObject(node)
	for _, e := range events {
		p.recorder.Event(object, e.kind, e.reason, e.message)
	}
}

// nodeObject returns what Events on a node are attached to.
func (p *Provider) nodeObject(name string) *corev1.Node {
	object, err := p.listers.nodes.Get(name)
	if err != nil { // it is gone: kubectl get events still shows it
		return &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name}}
	}
	return object
}
