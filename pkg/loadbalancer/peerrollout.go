package loadbalancer

import (
	"maps"
	"slices"
	"time"

	"baremetal.cloud/ccm/pkg/announcer/plan"
)

// sessionPatience is how long the BGP sessions of a node may take to be established again before the
// next node ends its own.
const sessionPatience = 15 * time.Second

// peerRollout gives changes of peers that end BGP sessions to one node after the other: were the
// sessions of all nodes to end at the same time, no router would have a route.
type peerRollout struct {
	// waiting are the nodes that have such a change before them.
	waiting map[string]bool
	// node is the one that ends its sessions and begins them anew, "" where there is none. until is
	// when the next one has its turn in any case.
	node  string
	until time.Time
	// version is the least one of a plan that has the change, and awaited the peers with
	// sessions that were established before it, sorted.
	version plan.Version
	awaited []string
	// begun are those that PeerRestarts returns next.
	begun []PeerRestart
}

// PeerRestart is a change by which sessions of a node end and begin anew.
type PeerRestart struct {
	Node string
	// Peers are the peers of the sessions concerned, and Keys the keys of the cloud-config that
	// changed of them, both sorted.
	Peers, Keys []string
	// Waiting is how many nodes follow.
	Waiting int
}

// negotiatedKeys are the keys of a peer by which a session ends when they change. What is not in
// it changes while the session goes on.
var negotiatedKeys = []struct {
	key  string
	same func(x, y plan.BGPPeer) bool
}{
	{"address", func(x, y plan.BGPPeer) bool { return x.Address == y.Address }},
	{"port", func(x, y plan.BGPPeer) bool { return x.Port == y.Port }},
	{"localASN", func(x, y plan.BGPPeer) bool { return x.LocalASN == y.LocalASN }},
	{"peerASN", func(x, y plan.BGPPeer) bool { return x.PeerASN == y.PeerASN }},
	{"holdTime", func(x, y plan.BGPPeer) bool { return x.HoldTime == y.HoldTime }},
	{"sourceAddress", func(x, y plan.BGPPeer) bool { return x.SourceAddress == y.SourceAddress }},
	{"interface", func(x, y plan.BGPPeer) bool { return x.Interface == y.Interface }},
	{"routerID", func(x, y plan.BGPPeer) bool { return x.RouterID == y.RouterID }},
	{"passwordFile", func(x, y plan.BGPPeer) bool { return x.PasswordFile == y.PasswordFile }},
	{"gracefulRestart", func(x, y plan.BGPPeer) bool { return x.GracefulRestart == y.GracefulRestart }},
	{"families", func(x, y plan.BGPPeer) bool { return x.IPv4 == y.IPv4 && x.IPv6 == y.IPv6 }},
	{"extendedNextHop", func(x, y plan.BGPPeer) bool { return x.ExtendedNextHop == y.ExtendedNextHop }},
}

// changedSessions returns the names of the peers that are in both and lose their sessions by the change
// from have to want, and the keys that changed, both sorted.
func changedSessions(have, want []plan.BGPPeer) (peers, keys []string) {
	for _, now := range want {
		before, ok := peerNamed(have, now.Name)
		if !ok {
			continue
		}
		ends := false
		for _, k := range negotiatedKeys {
			if !k.same(before, now) {
				ends, keys = true, append(keys, k.key)
			}
		}
		if ends {
			peers = append(peers, now.Name)
		}
	}
	slices.Sort(keys)
	return peers, slices.Compact(keys)
}

func peerNamed(peers []plan.BGPPeer, name string) (plan.BGPPeer, bool) {
	i := slices.IndexFunc(peers, func(p plan.BGPPeer) bool { return p.Name == name })
	if i < 0 {
		return plan.BGPPeer{}, false
	}
	return peers[i], true
}

// setPeers decides the peers of a node. What would end sessions waits for the node's turn.
func (b *Balancer) setPeers(n Node) {
	out := b.wantedPeers(n)
	out.peers = b.rollout.holdPeers(n.Name, b.peers[n.Name].peers, out.peers)
	b.peers[n.Name] = out
}

// holdPeers returns the peers that node has until its turn. Peers that it had and that would lose their
// sessions stay as before, and all others are as wanted. It notes whether the node waits.
func (r *peerRollout) holdPeers(node string, have, want []plan.BGPPeer) []plan.BGPPeer {
	held, _ := changedSessions(have, want)
	if len(held) == 0 {
		delete(r.waiting, node)
		return want
	}
	r.waiting[node] = true
	out := slices.Clone(want)
	for i, p := range out {
		if slices.Contains(held, p.Name) {
			out[i], _ = peerNamed(have, p.Name)
		}
	}
	return out
}

// dropNode forgets a node that is gone.
func (r *peerRollout) dropNode(node string) {
	delete(r.waiting, node)
	if r.node == node {
		r.node = ""
	}
}

// RolloutPeers makes the next Plan give changes of peers that end BGP sessions to one node, unless
// those of another one are not established again yet. It returns how long after now to call it again
// though nothing has changed; 0 is never. A node without a stream can be told nothing, and waits until
// it has one.
func (b *Balancer) RolloutPeers(now time.Time) (again time.Duration) {
	r := &b.rollout
	if r.node != "" {
		if left := r.until.Sub(now); left > 0 && !b.sessionsRestored() {
			return left
		}
		r.node = ""
	}
	for _, name := range slices.Sorted(maps.Keys(r.waiting)) {
		if !b.isConnected(name) {
			continue
		}
		delete(r.waiting, name)
		have, want := b.peers[name], b.wantedPeers(b.nodes[name])
		peers, keys := changedSessions(have.peers, want.peers)
		b.peers[name] = want
		b.plan.routing.renew = true
		b.markNodeDirty(name)
		r.node, r.until = name, now.Add(sessionPatience)
		r.version = plan.Version{Term: b.plan.version.Term, Revision: b.plan.version.Revision + 1}
		r.awaited = slices.DeleteFunc(slices.Clone(peers), func(peer string) bool { return !b.sessionEstablished(name, peer) })
		r.begun = append(r.begun, PeerRestart{Node: name, Peers: peers, Keys: keys, Waiting: len(r.waiting)})
		return sessionPatience
	}
	return 0
}

// PeerRolloutLeft returns how many nodes have a change of peers before them that ends sessions, or
// have not got these back yet.
func (b *Balancer) PeerRolloutLeft() int {
	if b.rollout.node == "" {
		return len(b.rollout.waiting)
	}
	return len(b.rollout.waiting) + 1
}

// sessionsRestored reports whether the node that has its turn has the change, and the sessions that it
// had.
func (b *Balancer) sessionsRestored() bool {
	r := &b.rollout
	if !b.isConnected(r.node) || b.announcer[r.node].report.BGP.Plan.Compare(r.version) < 0 {
		return false
	}
	known := b.plan.routing.sessions[r.node].Peers
	return !slices.ContainsFunc(r.awaited, func(peer string) bool {
		_, wanted := peerNamed(known, peer) // A peer may be gone meanwhile.
		return wanted && !b.sessionEstablished(r.node, peer)
	})
}

func (b *Balancer) sessionEstablished(node, peer string) bool {
	return slices.ContainsFunc(b.announcer[node].report.BGP.Sessions, func(s plan.BGPSession) bool {
		return s.Peer == peer && s.State == plan.BGPEstablished
	})
}

// PeerRestarts returns the changes that RolloutPeers has begun since it was called last, in
// their order.
func (b *Balancer) PeerRestarts() []PeerRestart {
	out := b.rollout.begun
	b.rollout.begun = nil
	return out
}
