package bgp

import (
	"cmp"
	"fmt"
	"slices"

	"baremetal.cloud/ccm/pkg/announcer/bfd"
	"baremetal.cloud/ccm/pkg/announcer/plan"
)

// BFD watches the paths to routers; *bfd.Runner is one.
type BFD interface {
	// Set makes configs all that is watched. Those that cannot be are left out, and the error
	// names each. It does not wait.
	Set(configs []bfd.SessionConfig) error
}

var _ BFD = (*bfd.Runner)(nil)

// watched is what is known of a path.
type watched struct {
	state    plan.BFDState
	failures uint64
}

// breakdown is that the path to a peer failed.
type breakdown struct{ Peer, Message string }

// bfdConfig returns how the path to p is watched, or false where it is not. Over several hops it is
// where the session may go over several, and to an internal peer that is on no network of the
// node's: so do FRR and, for all but the latter, BIRD.
func (p Peer) bfdConfig() (bfd.SessionConfig, bool) {
	c := bfd.SessionConfig{
		Key:              bfd.Key{Peer: p.Address.WithZone(""), Local: p.SourceAddress.WithZone(""), Multihop: p.SeveralHops() || p.Internal() && !p.Adjacent},
		TransmitInterval: p.BFD.TransmitInterval, ReceiveInterval: p.BFD.ReceiveInterval, DetectMultiplier: p.BFD.DetectMultiplier,
	}
	switch {
	case !c.Multihop:
		c.Interface = cmp.Or(p.Interface, p.Address.Zone())
	case p.Interface != "": // Such a session is bound to no interface (RFC 5883), but to its address.
		c.Local, c.MinimumTTL = p.hopLike(p.Address), p.BFD.MinimumTTL
	default:
		c.MinimumTTL = p.BFD.MinimumTTL
	}
	return c, p.BFD.Watches()
}

// watchPaths makes BFD watch the paths that are wanted now. The caller holds mu.
func (s *Speaker) watchPaths() {
	if s.options.BFD == nil {
		return
	}
	wanted := map[bfd.Key]bfd.SessionConfig{}
	var configs []bfd.SessionConfig
	for _, p := range s.want.Peers {
		c, ok := p.bfdConfig()
		if _, twice := wanted[c.Key]; ok && !twice {
			wanted[c.Key] = c
			configs = append(configs, c)
		}
	}
	for key := range s.paths {
		if _, ok := wanted[key]; !ok {
			delete(s.paths, key)
		}
	}
	refused := ""
	if err := s.options.BFD.Set(configs); err != nil {
		refused = err.Error()
	}
	if refused != s.unwatched && refused != "" {
		s.log.Error("not every path can be watched", "error", refused)
	}
	s.unwatched = refused
}

// watchesAny reports whether any path is watched.
func (s *Speaker) watchesAny() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.ContainsFunc(s.want.Peers, func(p Peer) bool { return p.BFD.Watches() })
}

// OnBFD takes that the state of a path has changed. Sessions over one that failed are ended
// at once. Any goroutine may call it, and it does not wait.
func (s *Speaker) OnBFD(e bfd.Event) {
	if !s.noteBFD(e) {
		return
	}
	s.wakeRun()
	s.updateState(func(st *State) {
		s.mu.Lock()
		defer s.mu.Unlock()
		st.Sessions = slices.Clone(st.Sessions)
		s.addPaths(st.Sessions)
	})
}

// noteBFD takes e over, and reports whether it is about a path that is wanted.
func (s *Speaker) noteBFD(e bfd.Event) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	var peers []string
	for _, p := range s.want.Peers {
		if c, ok := p.bfdConfig(); ok && c.Key == e.Key {
			peers = append(peers, p.Name)
		}
	}
	if len(peers) == 0 {
		return false
	}
	x := s.paths[e.Key]
	x.state = stateOf(e)
	if e.Failure() {
		x.failures++
		for _, name := range peers {
			s.broken = append(s.broken, breakdown{name, explainFailure(e)})
		}
	}
	s.paths[e.Key] = x
	return true
}

// addPaths says of sessions how the paths to their peers are. The caller holds mu.
func (s *Speaker) addPaths(sessions []Session) {
	for i := range sessions {
		x := &sessions[i]
		x.BFD, x.BFDFailures = "", 0
		for _, p := range s.want.Peers {
			if c, ok := p.bfdConfig(); ok && p.Name == x.Peer {
				found := s.paths[c.Key]
				x.BFD, x.BFDFailures = cmp.Or(found.state, plan.BFDDown), found.failures
			}
		}
	}
}

// stateOf returns e's state. One that the router took down on purpose is not merely down.
func stateOf(e bfd.Event) plan.BFDState {
	switch {
	case e.State == bfd.Up:
		return plan.BFDUp
	case e.State == bfd.Init:
		return plan.BFDInit
	case e.RemoteState == bfd.AdminDown:
		return plan.BFDAdminDown
	}
	return plan.BFDDown
}

// explainFailure says for a person what e found.
func explainFailure(e bfd.Event) string {
	if e.Diagnostic == bfd.NeighborSignaledDown {
		return fmt.Sprintf("BFD: the router says that it does not hear the node (%s)", e.RemoteDiagnostic)
	}
	return "BFD: nothing was heard of the router for the detection time"
}
