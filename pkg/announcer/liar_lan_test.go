package announcer_test

import (
	"math"
	"net/netip"
	"testing"

	"baremetal.cloud/ccm/pkg/announcer/failover"
	"baremetal.cloud/ccm/pkg/announcer/plan"
)

// TestFault_K4_4_AFarTermTakesNothing: a candidate with its own keys claims an address under the
// highest term there is, and answers for nothing. The node that has the address goes on, and when
// it ends the next one takes over.
func TestFault_K4_4_AFarTermTakesNothing(t *testing.T) {
	b := newBridged(t, 3, true)
	b.proofs = true
	first, second, liar := b.nodes[0], b.nodes[1], b.nodes[2]
	b.end(liar)
	b.begin(fast, vip4)
	b.awaitClaims(first, 1)
	b.lie(liar, first, second)
	b.awaitPeers(first, 2)
	b.awaitPeers(second, 2)
	b.staysQuiet("a node lies", first, second)
	b.resolve(vip4, b.macOf(first))

	b.end(first)
	b.awaitClaims(second, 1)
	b.resolve(vip4, b.macOf(second))
}

// lie has a node that does not run tell the others that it claims vip4, whenever they say something.
func (b *bridged) lie(liar *member, others ...*member) {
	claim := plan.Claim{Address: netip.MustParseAddr(vip4), Version: plan.Version{Term: math.MaxUint64, Revision: math.MaxUint64}}
	digest := failover.Digest(0)
	digest.Toggle(claim)
	var peers []plan.Peer
	byName := map[string]*member{}
	for _, m := range others {
		peers = append(peers, plan.Peer{Node: m.name, Key: key(liar.name, m.name)})
		byName[m.name] = m
	}
	ring, heard := failover.NewKeyring(liar.name, peers), b.record(liar.name, 10, 11)
	done, ended := make(chan struct{}), make(chan struct{})
	b.t.Cleanup(func() { close(done); <-ended })
	go func() {
		defer close(ended)
		for seq := uint64(1); ; seq++ {
			select {
			case <-done:
				return
			case datagram := <-heard:
				p, err := ring.Open(datagram)
				if err != nil {
					continue
				}
				lie := failover.Packet{
					From: liar.name, Incarnation: 1, Seq: seq, Heard: failover.Echo{Incarnation: p.Incarnation, Seq: p.Seq}, Hears: seq%2 == 0, Detect: fast.TransmitInterval * 50,
					Digest: digest, Part: &failover.Part{Range: true, Claims: []plan.Claim{claim}, Proofs: []plan.Proof{{1}}},
				}
				to := byName[p.From]
				b.injectFrom(to, 255, failover.NewSealer(key(liar.name, to.name), liar.name, to.name).Seal(lie))
			}
		}
	}()
}
