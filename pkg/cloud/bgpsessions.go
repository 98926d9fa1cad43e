package cloud

import (
	"fmt"
	"slices"
	"strings"
	"sync"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"baremetal.cloud/ccm/pkg/announcer/plan"
	"baremetal.cloud/ccm/pkg/loadbalancer"
	"baremetal.cloud/ccm/pkg/reason"
)

// The reasons of Events on a Node about its BGP sessions.
const (
	eventSessionLost        = "BGPSessionLost"
	eventSessionEstablished = "BGPSessionEstablished"
	eventSessionRestarting  = "BGPSessionRestarting"
)

// sessions remember what nodes said of their BGP sessions, so that an Event tells of a change
// and not of a repetition.
type sessions struct {
	mu sync.Mutex
	// known are, by node and peer, those that were established once. It is guarded by mu.
	known map[string]map[string]knownSession
}

// knownSession is what was told of a session: that it is lost, and that it brings many routes.
type knownSession struct{ lost, many bool }

// sessionEvent is something to tell of a session.
type sessionEvent struct{ kind, reason, message string }

// takeSessions takes what node says of its sessions and returns the events to tell of them: that
// one was lost, that such a one is established again, and that one brings many routes. How a
// session comes about the first time is no event, as its absence shows in metrics and conditions;
// nor is one that the node ended itself, as its announcer restarts or has another configuration.
func (s *sessions) takeSessions(node string, now []plan.BGPSession) []sessionEvent {
	s.mu.Lock()
	defer s.mu.Unlock()
	known := s.known[node]
	if known == nil {
		known = map[string]knownSession{}
		if s.known == nil {
			s.known = map[string]map[string]knownSession{}
		}
		s.known[node] = known
	}
	for peer := range known {
		if !slices.ContainsFunc(now, func(x plan.BGPSession) bool { return x.Peer == peer }) {
			delete(known, peer)
		}
	}
	var out []sessionEvent
	for _, x := range now {
		before, was := known[x.Peer]
		after, events := before.next(x)
		if was || x.State == plan.BGPEstablished {
			known[x.Peer] = after
			out = append(out, events...)
		}
	}
	return out
}

// next returns what is known of a session that was k once it is x, and the events to tell.
func (k knownSession) next(x plan.BGPSession) (knownSession, []sessionEvent) {
	if x.State != plan.BGPEstablished {
		if k.lost || x.Reason == "" {
			return knownSession{lost: k.lost}, nil
		}
		return knownSession{lost: true}, []sessionEvent{{
			corev1.EventTypeWarning, eventSessionLost, fmt.Sprintf("the BGP session to %s was lost: %s: %s", x.Peer, x.Reason, x.Message),
		}}
	}
	var out []sessionEvent
	if k.lost {
		out = append(out, sessionEvent{corev1.EventTypeNormal, eventSessionEstablished, fmt.Sprintf("the BGP session to %s is established again", x.Peer)})
	}
	many := x.Reason == reason.TooManyRoutes
	if many && !k.many {
		out = append(out, sessionEvent{corev1.EventTypeWarning, string(x.Reason), fmt.Sprintf("the BGP session to %s: %s", x.Peer, x.Message)})
	}
	return knownSession{many: k.many || many}, out
}

// tellSessions writes an Event on the Node for each session that was lost, or is back. A
// standby only takes note.
func (p *Provider) tellSessions(node string, now []plan.BGPSession) {
	events := p.sessions.takeSessions(node, now)
	if len(events) == 0 || !p.publishing.Load() {
		return
	}
	object := p.nodeObject(node)
	for _, e := range events {
		p.recorder.Event(object, e.kind, e.reason, e.message)
	}
}

// tellPeerRestarts writes an Event on each Node that ends BGP sessions by its next plan, before that
// plan is published.
func (p *Provider) tellPeerRestarts(restarts []loadbalancer.PeerRestart) {
	for _, r := range restarts {
		p.recorder.Event(p.nodeObject(r.Node), corev1.EventTypeWarning, eventSessionRestarting, restartMessage(r))
		p.options.Logger.Info("bgp sessions restart with another configuration", "node", r.Node, "peers", r.Peers, "keys", r.Keys, "waiting", r.Waiting)
	}
}

// restartMessage is the sentence about r.
func restartMessage(r loadbalancer.PeerRestart) string {
	out := fmt.Sprintf("BGP sessions end and begin anew, as %s changed, to %s", strings.Join(r.Keys, ", "), strings.Join(r.Peers, ", "))
	switch r.Waiting {
	case 0:
		return out
	case 1:
		return out + "; 1 node follows"
	}
	return fmt.Sprintf("%s; %d nodes follow, one after the other", out, r.Waiting)
}

// nodeObject returns what Events on a node are attached to.
func (p *Provider) nodeObject(name string) *corev1.Node {
	object, err := p.listers.nodes.Get(name)
	if err != nil { // it is gone: kubectl get events still shows it
		return &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name}}
	}
	return object
}
