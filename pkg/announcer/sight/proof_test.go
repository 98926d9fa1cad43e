package sight

import (
	"net/netip"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"baremetal.cloud/ccm/pkg/announcer/announcement"
)

// listener is node a, which watches b and c, and hears what they claim.
type listener struct {
	t    *testing.T
	core *Core
	now  time.Duration
	seq  uint64
}

func newListener(t *testing.T, key announcement.Key) *listener {
	l := &listener{t: t, core: NewCore("a", 1), now: time.Hour}
	l.configure(key)
	return l
}

func (l *listener) configure(key announcement.Key) {
	l.core.Configure(l.now, announcement.Sight{
		TransmitInterval: 100 * time.Millisecond, DetectMultiplier: 3, Peers: []announcement.Peer{{Node: "b"}, {Node: "c"}}, ProofKey: key,
	})
	l.core.Settle(l.now)
	l.core.Flush(l.now)
}

// hear has a peer claim vip under stamp with a proof.
func (l *listener) hear(from string, stamp announcement.Stamp, proof announcement.Proof) {
	l.t.Helper()
	l.seq++
	claim := announcement.Claim{Address: proofVIP, Stamp: stamp}
	digest := Digest(0)
	digest.Toggle(claim)
	require.NoError(l.t, l.core.Receive(l.now, Packet{
		From: from, Boot: 2, Seq: l.seq, Heard: Echo{1, l.core.seq}, Hears: true, Detect: 300 * time.Millisecond, Digest: digest,
		Part: &Part{Range: true, Claims: []announcement.Claim{claim}, Proofs: []announcement.Proof{proof}},
	}))
	l.core.Settle(l.now)
}

func (l *listener) put(stamp announcement.Stamp, candidates ...string) {
	l.core.Put(l.now, List{Address: proofVIP, Stamp: stamp, Candidates: candidates, Fit: true, Ready: true})
	l.core.Settle(l.now)
}

var proofVIP = netip.MustParseAddr("192.0.2.200")

// TestFault_K4_4_ClaimsCountByProof: which claims count, by the node's own list or by a proof.
func TestFault_K4_4_ClaimsCountByProof(t *testing.T) {
	keys := map[string]announcement.Key{"a": {1}, "b": {2}, "new": {3}}
	stamp := func(term uint64) announcement.Stamp { return announcement.Stamp{Term: term, Revision: 1} }
	prove := func(key string, claimer string, s announcement.Stamp) announcement.Proof {
		return announcement.NewProver(keys[key]).Prove(claimer, proofVIP, s)
	}
	for name, test := range map[string]struct {
		own        announcement.Stamp
		candidates []string
		claim      announcement.Stamp
		proof      announcement.Proof
		want       bool
	}{
		"the own list":                            {stamp(1), []string{"a", "b"}, stamp(1), announcement.Proof{}, true},
		"an older list, of a candidate":           {stamp(2), []string{"a", "b"}, stamp(1), announcement.Proof{}, true},
		"an older list, of another node":          {stamp(2), []string{"a", "c"}, stamp(1), announcement.Proof{}, false},
		"an older list, with proof":               {stamp(2), []string{"a", "c"}, stamp(1), prove("a", "b", stamp(1)), true},
		"a newer list":                            {stamp(1), []string{"a", "b"}, stamp(9), announcement.Proof{}, false},
		"a newer list, with proof":                {stamp(1), []string{"a", "b"}, stamp(9), prove("a", "b", stamp(9)), true},
		"a proof for another node":                {stamp(1), []string{"a", "b"}, stamp(9), prove("b", "b", stamp(9)), false},
		"another node's proof":                    {stamp(1), []string{"a", "b"}, stamp(9), prove("a", "c", stamp(9)), false},
		"a proof of another list":                 {stamp(1), []string{"a", "b"}, stamp(9), prove("a", "b", stamp(8)), false},
		"the own list, of a node that it has not": {stamp(1), []string{"a", "c"}, stamp(1), announcement.Proof{}, false},
	} {
		t.Run(name, func(t *testing.T) {
			for _, planFirst := range []bool{true, false} {
				l := newListener(t, keys["a"])
				if planFirst {
					l.put(test.own, test.candidates...)
				}
				l.hear("b", test.claim, test.proof)
				l.put(test.own, test.candidates...)
				require.Equal(t, test.want, !l.core.counted(l.core.peers["b"], proofVIP).IsZero())
				require.Equal(t, test.want, l.core.Claimant(proofVIP) == "b")
				// What counted does so under every list to come.
				l.put(stamp(20), "a", "c")
				require.Equal(t, test.want, !l.core.counted(l.core.peers["b"], proofVIP).IsZero())
				l.core.Drop(proofVIP)
				l.put(stamp(21), "a", "c")
				require.Equal(t, test.want, !l.core.counted(l.core.peers["b"], proofVIP).IsZero())
			}
		})
	}
	t.Run("another key", func(t *testing.T) {
		l := newListener(t, keys["a"])
		l.put(stamp(1), "a", "b")
		l.hear("b", stamp(9), prove("new", "b", stamp(9)))
		require.Empty(t, l.core.Claimant(proofVIP))
		l.configure(keys["new"])
		require.True(t, l.core.packet(l.core.peers["b"], nil).Want, "it is asked again")
		l.hear("b", stamp(9), prove("new", "b", stamp(9)))
		require.Equal(t, "b", l.core.Claimant(proofVIP))
		l.hear("c", stamp(8), prove("a", "c", stamp(8)))
		require.NotZero(t, l.core.counted(l.core.peers["c"], proofVIP), "one that does not know of it yet")
	})
}

// A node sends each peer its own proof, also of a claim under the list before.
func TestClaimsCarryProofs(t *testing.T) {
	l := newListener(t, announcement.Key{1})
	given := func(term uint64, candidates, former []string) List {
		a := announcement.Announcement{Address: proofVIP, Stamp: announcement.Stamp{Term: term, Revision: 1}, Candidates: candidates, Former: former}.
			Proven("a", func(checker string) *announcement.Prover { return announcement.NewProver(proofKey(checker)) })
		return List{Address: proofVIP, Stamp: a.Stamp, Candidates: a.Candidates, Former: former, Proofs: a.Proofs, Fit: true, Ready: true}
	}
	check := func(term uint64) {
		t.Helper()
		part := l.core.claims.part(0)
		for _, checker := range []string{"b", "c"} {
			proof := l.core.withProofs(l.core.peers[checker], part).proof(0)
			require.True(t, announcement.NewProver(proofKey(checker)).Proves(proof, "a", proofVIP, announcement.Stamp{Term: term, Revision: 1}), checker)
		}
		require.Nil(t, part.Proofs, "all peers have their own")
	}
	l.core.Put(l.now, given(1, []string{"a", "b"}, []string{"c"}))
	l.core.claim(proofVIP, announcement.Stamp{Term: 1, Revision: 1})
	check(1)
	l.core.Put(l.now, given(2, []string{"b", "a"}, []string{"c"}))
	check(1)
	l.core.Put(l.now, given(3, []string{"b", "a"}, []string{"c"}))
	check(1)
	l.core.claim(proofVIP, announcement.Stamp{Term: 3, Revision: 1})
	check(3)
}
