package loadbalancer

import (
	"crypto/hkdf"
	"crypto/sha256"
	"net/netip"
	"slices"
	"strings"
	"time"

	"baremetal.cloud/ccm/pkg/announcer/announcement"
)

// Sight is how quickly nodes notice that another one is gone; see announcement.Sight.
type Sight struct {
	TransmitInterval time.Duration
	DetectMultiplier int
}

// SetSecret hands in the secret from which the keys of every two nodes are made. It is the
// same for all leaders of a cluster. Without one nobody watches anybody.
func (b *Balancer) SetSecret(secret []byte) {
	if string(secret) == string(b.secret) {
		return
	}
	b.secret = slices.Clone(secret)
	b.plan.sights = map[string]announcement.Sight{} // none of the keys is good any more
	b.plan.proveAnew()
	b.watchAll()
}

// watching reports whether nodes are to watch each other at all.
func (b *Balancer) watching() bool { return len(b.secret) > 0 && b.sight.TransmitInterval > 0 }

// watchAll has it decided again whom each node watches.
func (b *Balancer) watchAll() {
	for name := range b.nodes {
		b.sessions.changed[name] = true
	}
	for name := range b.plan.sets {
		b.sessions.changed[name] = true
	}
}

// watchers notes that those who watch node are to hear of its interfaces.
func (b *Balancer) watchers(node string) {
	for _, name := range b.sessions.of(node) {
		b.sessions.changed[name] = true
	}
}

// sightOf returns how node watches whom. A peer whose announcer was never heard is left
// out: nobody knows where it is.
func (b *Balancer) sightOf(node string) announcement.Sight {
	if !b.watching() {
		return announcement.Sight{}
	}
	out := announcement.Sight{TransmitInterval: b.sight.TransmitInterval, DetectMultiplier: b.sight.DetectMultiplier}
	out.ProofKey = b.proofKey(node)
	last := b.plan.sights[node]
	var own []netip.Prefix
	if known := b.announcer[node]; known != nil {
		own = networks(known.interfaces)
	}
	for _, name := range b.sessions.of(node) {
		known, ok := b.announcer[name]
		if !ok || len(known.interfaces) == 0 {
			continue
		}
		peer := announcement.Peer{Node: name, Interfaces: shared(own, known.interfaces), Addresses: b.lasting(name)}
		if i, ok := findPeer(last, name); ok {
			peer.Key = last.Peers[i].Key
		} else {
			peer.Key = b.key(node, name)
		}
		out.Peers = append(out.Peers, peer)
	}
	return out
}

// maxLasting bounds the addresses that peers are told to look for a node at first.
const maxLasting = 4

// lasting returns those addresses of a node's interfaces that its Node has: others there may
// be ones that move from node to node, as keepalived's do.
func (b *Balancer) lasting(name string) []netip.Addr {
	var out []netip.Addr
	for _, a := range b.nodes[name].Addresses {
		here := slices.ContainsFunc(b.announcer[name].interfaces, func(i announcement.Interface) bool {
			return slices.ContainsFunc(i.Prefixes, func(p netip.Prefix) bool { return p.Addr() == a })
		})
		if here && !slices.Contains(out, a) && len(out) < maxLasting {
			out = append(out, a)
		}
	}
	return out
}

// Bounds on what a node is told of a peer's interfaces: enough to reach it by two families
// on two segments, with some to choose from. What a peer reports beyond it costs its peers
// nothing.
const (
	maxPeerPrefixes = 16
	maxOwnNetworks  = 64
)

// networks returns one prefix of each network that interfaces are on, with the own address.
func networks(interfaces []announcement.Interface) []netip.Prefix {
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

// shared returns of a peer's interfaces what a node on the networks own needs: the prefixes
// that both are on, to reach it, and the hardware addresses, to tell it from a stranger.
func shared(own []netip.Prefix, interfaces []announcement.Interface) []announcement.Interface {
	var out []announcement.Interface
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

// key makes the key of two nodes, whichever is named first (HKDF, RFC 5869). A name of a
// node holds no zero byte, so no two pairs have the same key.
func (b *Balancer) key(x, y string) announcement.Key {
	if y < x {
		x, y = y, x
	}
	return b.derive("baremetal.cloud/sight", x, y)
}

// proofKey makes the key of a node by which it checks proofs of others.
func (b *Balancer) proofKey(node string) announcement.Key {
	return b.derive("baremetal.cloud/proof", node)
}

// derive makes the key for what is named.
func (b *Balancer) derive(names ...string) (out announcement.Key) {
	info := strings.Join(names, "\x00")
	key, err := hkdf.Key(sha256.New, b.secret, []byte(b.plan.cluster), info, len(out))
	if err != nil {
		panic(err) // only for keys of more than 255 hashes' length
	}
	copy(out[:], key)
	return out
}

// watch decides for the nodes concerned whom they watch, and notes in changed those for
// whom that is news.
func (b *Balancer) watch(changed changes) {
	p := &b.plan
	b.sessions.touchHeld()
	for name := range b.sessions.changed {
		_, exists := b.nodes[name]
		if !exists && len(p.members[name]) == 0 {
			delete(p.sights, name)
			continue
		}
		now := b.sightOf(name)
		last := p.sets[name]
		news := !sightEqual(last.Sight, now) || last.Health != b.health || last.Pacing != b.pacing
		if news && changed[name] == nil {
			changed[name] = []netip.Addr{}
		}
		p.sights[name] = now
	}
	clear(b.sessions.changed)
}

func findPeer(s announcement.Sight, name string) (int, bool) {
	return slices.BinarySearchFunc(s.Peers, name, func(p announcement.Peer, x string) int { return strings.Compare(p.Node, x) })
}

func watches(s announcement.Sight, name string) bool {
	_, ok := findPeer(s, name)
	return ok
}

func sightEqual(x, y announcement.Sight) bool {
	return x.TransmitInterval == y.TransmitInterval && x.DetectMultiplier == y.DetectMultiplier && x.ProofKey == y.ProofKey &&
		slices.EqualFunc(x.Peers, y.Peers, announcement.Peer.Equal)
}
