package bgp

import (
	"slices"

	"baremetal.cloud/ccm/pkg/announcer/plan"
)

// logChanges writes what has become of sessions.
func (s *Speaker) logChanges(before, after []Session) {
	for _, now := range after {
		i := slices.IndexFunc(before, func(x Session) bool { return x.Peer == now.Peer })
		var was Session
		if i >= 0 {
			was = before[i]
		}
		up, wasUp := now.State == plan.BGPEstablished, was.State == plan.BGPEstablished
		switch {
		case up && !wasUp:
			s.log.Info("BGP session established", "peer", now.Peer, "routes", now.Routes)
		case wasUp && !up && now.Reason == "":
			s.log.Info("BGP session begun anew: the peer has another address or configuration", "peer", now.Peer)
		case up && now.Reason != "" && now.Reason != was.Reason:
			s.log.Warn("BGP session is established", "peer", now.Peer, "reason", now.Reason, "message", now.Message)
		case wasUp && !up:
			s.log.Warn("BGP session lost", "peer", now.Peer, "reason", now.Reason, "message", now.Message)
		case !up && now.Reason != "" && now.Reason != was.Reason:
			s.log.Warn("BGP session cannot be established", "peer", now.Peer, "reason", now.Reason, "message", now.Message)
		}
	}
	for _, was := range before {
		if !slices.ContainsFunc(after, func(x Session) bool { return x.Peer == was.Peer }) {
			s.log.Info("BGP session ended: the plan does not name the peer any more", "peer", was.Peer)
		}
	}
}
