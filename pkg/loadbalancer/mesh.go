package loadbalancer

import (
	"crypto/hkdf"
	"crypto/sha256"
	"net/netip"
	"slices"
	"strings"
	"time"

	"baremetal.cloud/ccm/pkg/announcer/plan"
)

// Failover is how quickly nodes notice that another one is gone; see plan.Failover.
type Failover struct {
	TransmitInterval time.Duration
	DetectMultiplier int
}

// SetSecret hands in the secret from which the keys of every two nodes are made. It is the
// same for all leaders of a cluster. Without a secret no node watches another.
func (b *Balancer) SetSecret(secret []byte) {
	if string(secret) == string(b.secret) {
		return
	}
	b.secret = slices.Clone(secret)
	b.plan.peerSets = map[string]plan.Failover{} // all keys were of the old secret
	b.plan.markProofsDirty()
	b.markAllWatches()
}

// failoverOn reports whether nodes watch each other at all.
func (b *Balancer) failoverOn() bool { return len(b.secret) > 0 && b.failover.TransmitInterval > 0 }

// markAllWatches marks every node, so that the peers that it watches are decided again.
func (b *Balancer) markAllWatches() {
	for name := range b.nodes {
		b.sessions.changed[name] = true
	}
	for name := range b.plan.sets {
		b.sessions.changed[name] = true
	}
}

// markWatchers marks the nodes that watch node, as they need to hear of its interfaces.
func (b *Balancer) markWatchers(node string) {
	for _, name := range b.sessions.watchedBy(node) {
		b.sessions.changed[name] = true
	}
}

// peerSetOf returns which peers node watches, and how. A peer with an announcer that was
// never heard is left out: its place is unknown.
func (b *Balancer) peerSetOf(node string) plan.Failover {
	if !b.failoverOn() {
		return plan.Failover{}
	}
	out := plan.Failover{TransmitInterval: b.failover.TransmitInterval, DetectMultiplier: b.failover.DetectMultiplier}
	out.ProofKey = b.proofKey(node)
	last := b.plan.peerSets[node]
	var own []netip.Prefix
	if known := b.announcer[node]; known != nil {
		own = networksOf(known.interfaces)
	}
	for _, name := range b.sessions.watchedBy(node) {
		known, ok := b.announcer[name]
		if !ok || len(known.interfaces) == 0 {
			continue
		}
		peer := plan.Peer{Node: name, Interfaces: sharedInterfaces(own, known.interfaces), Addresses: b.lastingAddresses(name)}
		if i, ok := findPeer(last, name); ok {
			peer.Key = last.Peers[i].Key
		} else {
			peer.Key = b.pairKey(node, name)
		}
		out.Peers = append(out.Peers, peer)
	}
	return out
}

// maxLasting bounds the addresses at which peers look for a node first.
const maxLasting = 4

// lastingAddresses returns those addresses of a node's interfaces that its Node has: others there may
// be ones that move from node to node, as keepalived's do.
func (b *Balancer) lastingAddresses(name string) []netip.Addr {
	var out []netip.Addr
	for _, a := range b.nodes[name].Addresses {
		here := slices.ContainsFunc(b.announcer[name].interfaces, func(i plan.Interface) bool {
			return slices.ContainsFunc(i.Prefixes, func(p netip.Prefix) bool { return p.Addr() == a })
		})
		if here && !slices.Contains(out, a) && len(out) < maxLasting {
			out = append(out, a)
		}
	}
	return out
}

// Bounds on what the plan tells a node of a peer's interfaces: enough to reach it by two
// families on two segments, with some to choose from. What a peer reports beyond it costs
// its peers nothing.
const (
	maxPeerPrefixes = 16
	maxOwnNetworks  = 64
)

// networksOf returns one prefix of each network that interfaces are on, with the own address.
func networksOf(interfaces []plan.Interface) []netip.Prefix {
	seen := map[netip.Prefix]bool{}
	var out []netip.Prefix
	for _, i := range interfaces {
		for _, prefix := range i.Prefixes {
			if masked := prefix.Masked(); !seen[masked] && len(out) < maxOwnNetworks {
				seen[masked] = true
				out = append(out, prefix)
			}
		}
	}
	return out
}

// sharedInterfaces returns of a peer's interfaces what a node on the networks own needs: the prefixes
// that both are on, to reach it, and the hardware addresses, to tell it from a stranger.
func sharedInterfaces(own []netip.Prefix, interfaces []plan.Interface) []plan.Interface {
	var out []plan.Interface
	left := maxPeerPrefixes
	for _, i := range interfaces {
		var prefixes []netip.Prefix
		for _, its := range i.Prefixes {
			if left > 0 && slices.ContainsFunc(own, func(mine netip.Prefix) bool { return mine.Contains(its.Addr()) && its.Contains(mine.Addr()) }) {
				prefixes = append(prefixes, its)
				left--
			}
		}
		i.Prefixes = prefixes
		i.Destinations, i.NoIPv4, i.NoIPv6 = nil, false, false
		out = append(out, i)
	}
	return out
}

// pairKey makes the key of two nodes, whichever is named first (HKDF, RFC 5869). A name of a
// node holds no zero byte, so no two pairs have the same key.
func (b *Balancer) pairKey(x, y string) plan.Key {
	if y < x {
		x, y = y, x
	}
	return b.deriveKey("baremetal.cloud/failover", x, y)
}

// proofKey makes the key of a node by which it checks proofs of others.
func (b *Balancer) proofKey(node string) plan.Key {
	return b.deriveKey("baremetal.cloud/proof", node)
}

// deriveKey makes the key for what is named.
func (b *Balancer) deriveKey(names ...string) (out plan.Key) {
	info := strings.Join(names, "\x00")
	key, err := hkdf.Key(sha256.New, b.secret, []byte(b.plan.cluster), info, len(out))
	if err != nil {
		panic(err) // only for keys of more than 255 hashes' length
	}
	copy(out[:], key)
	return out
}

// planWatches decides which peers the nodes concerned watch, and notes in changed the nodes
// for which that is news.
func (b *Balancer) planWatches(changed changes) {
	p := &b.plan
	b.sessions.touchHeld()
	for name := range b.sessions.changed {
		_, exists := b.nodes[name]
		if !exists && len(p.addressesByNode[name]) == 0 {
			delete(p.peerSets, name)
			continue
		}
		now := b.peerSetOf(name)
		last := p.sets[name]
		news := !equalPeerSets(last.Failover, now) || last.Health != b.health || last.Pacing != b.pacing
		if news && changed[name] == nil {
			changed[name] = []netip.Addr{}
		}
		p.peerSets[name] = now
	}
	clear(b.sessions.changed)
}

func findPeer(s plan.Failover, name string) (int, bool) {
	return slices.BinarySearchFunc(s.Peers, name, func(p plan.Peer, x string) int { return strings.Compare(p.Node, x) })
}

func watchesPeer(s plan.Failover, name string) bool {
	_, ok := findPeer(s, name)
	return ok
}

func equalPeerSets(x, y plan.Failover) bool {
	return x.TransmitInterval == y.TransmitInterval && x.DetectMultiplier == y.DetectMultiplier && x.ProofKey == y.ProofKey &&
		slices.EqualFunc(x.Peers, y.Peers, plan.Peer.Equal)
}
