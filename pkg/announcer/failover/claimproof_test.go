package failover

import (
	"net/netip"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"baremetal.cloud/ccm/pkg/announcer/plan"
)

// listener is node a, which watches b and c, and hears what they claim.
type listener struct {
	t    *testing.T
	core *Node
	now  time.Duration
	seq  uint64
}

func newListener(t *testing.T, key plan.Key) *listener {
	l := &listener{t: t, core: NewNode("a", 1), now: time.Hour}
	l.configure(key)
	return l
}

func (l *listener) configure(key plan.Key) {
	l.core.Configure(l.now, plan.Failover{
		TransmitInterval: 100 * time.Millisecond, DetectMultiplier: 3, Peers: []plan.Peer{{Node: "b"}, {Node: "c"}}, ProofKey: key,
	})
	l.core.Reconcile(l.now)
	l.core.Flush(l.now)
}

// hear has a peer claim vip under version with a proof.
func (l *listener) hear(from string, version plan.Version, proof plan.Proof) {
	l.t.Helper()
	l.seq++
	claim := plan.Claim{Address: proofVIP, Version: version}
	digest := Digest(0)
	digest.Toggle(claim)
	require.NoError(l.t, l.core.Receive(l.now, Packet{
		From: from, Incarnation: 2, Seq: l.seq, Heard: Echo{1, l.core.seq}, Hears: true, Detect: 300 * time.Millisecond, Digest: digest,
		Part: &Part{Range: true, Claims: []plan.Claim{claim}, Proofs: []plan.Proof{proof}},
	}))
	l.core.Reconcile(l.now)
}

func (l *listener) put(version plan.Version, candidates ...string) {
	l.core.Put(l.now, List{Address: proofVIP, Version: version, Candidates: candidates, Able: true, Ready: true})
	l.core.Reconcile(l.now)
}

var proofVIP = netip.MustParseAddr("192.0.2.200")

// TestFault_K4_4_ClaimsCountByProof: which claims count, by the node's own list or by a proof.
func TestFault_K4_4_ClaimsCountByProof(t *testing.T) {
	keys := map[string]plan.Key{"a": {1}, "b": {2}, "new": {3}}
	version := func(term uint64) plan.Version { return plan.Version{Term: term, Revision: 1} }
	prove := func(key string, claimer string, s plan.Version) plan.Proof {
		return plan.NewProver(keys[key]).Prove(claimer, proofVIP, s)
	}
	for name, test := range map[string]struct {
		own        plan.Version
		candidates []string
		claim      plan.Version
		proof      plan.Proof
		want       bool
	}{
		"the own list":                            {version(1), []string{"a", "b"}, version(1), plan.Proof{}, true},
		"an older list, of a candidate":           {version(2), []string{"a", "b"}, version(1), plan.Proof{}, true},
		"an older list, of another node":          {version(2), []string{"a", "c"}, version(1), plan.Proof{}, false},
		"an older list, with proof":               {version(2), []string{"a", "c"}, version(1), prove("a", "b", version(1)), true},
		"a newer list":                            {version(1), []string{"a", "b"}, version(9), plan.Proof{}, false},
		"a newer list, with proof":                {version(1), []string{"a", "b"}, version(9), prove("a", "b", version(9)), true},
		"a proof for another node":                {version(1), []string{"a", "b"}, version(9), prove("b", "b", version(9)), false},
		"another node's proof":                    {version(1), []string{"a", "b"}, version(9), prove("a", "c", version(9)), false},
		"a proof of another list":                 {version(1), []string{"a", "b"}, version(9), prove("a", "b", version(8)), false},
		"the own list, of a node that it has not": {version(1), []string{"a", "c"}, version(1), plan.Proof{}, false},
	} {
		t.Run(name, func(t *testing.T) {
			for _, planFirst := range []bool{true, false} {
				l := newListener(t, keys["a"])
				if planFirst {
					l.put(test.own, test.candidates...)
				}
				l.hear("b", test.claim, test.proof)
				l.put(test.own, test.candidates...)
				require.Equal(t, test.want, !l.core.countedClaim(l.core.peers["b"], proofVIP).IsZero())
				require.Equal(t, test.want, l.core.Claimant(proofVIP) == "b")
				// What counted does so under every list to come.
				l.put(version(20), "a", "c")
				require.Equal(t, test.want, !l.core.countedClaim(l.core.peers["b"], proofVIP).IsZero())
				l.core.Drop(proofVIP)
				l.put(version(21), "a", "c")
				require.Equal(t, test.want, !l.core.countedClaim(l.core.peers["b"], proofVIP).IsZero())
			}
		})
	}
	t.Run("another key", func(t *testing.T) {
		l := newListener(t, keys["a"])
		l.put(version(1), "a", "b")
		l.hear("b", version(9), prove("new", "b", version(9)))
		require.Empty(t, l.core.Claimant(proofVIP))
		l.configure(keys["new"])
		require.True(t, l.core.nextPacket(l.core.peers["b"], nil).Want, "it is asked again")
		l.hear("b", version(9), prove("new", "b", version(9)))
		require.Equal(t, "b", l.core.Claimant(proofVIP))
		l.hear("c", version(8), prove("a", "c", version(8)))
		require.NotZero(t, l.core.countedClaim(l.core.peers["c"], proofVIP), "one that does not know of it yet")
	})
}

// A node sends each peer its own proof, also of a claim under the list before.
func TestClaimsCarryProofs(t *testing.T) {
	l := newListener(t, plan.Key{1})
	given := func(term uint64, candidates, former []string) List {
		a := plan.Assignment{Address: proofVIP, Version: plan.Version{Term: term, Revision: 1}, Candidates: candidates, Former: former}.
			Proven("a", func(checker string) *plan.Prover { return plan.NewProver(proofKey(checker)) })
		return List{Address: proofVIP, Version: a.Version, Candidates: a.Candidates, Former: former, Proofs: a.Proofs, Able: true, Ready: true}
	}
	check := func(term uint64) {
		t.Helper()
		part := l.core.claims.partAt(0)
		for _, checker := range []string{"b", "c"} {
			proof := l.core.withProofs(l.core.peers[checker], part).proofAt(0)
			require.True(t, plan.NewProver(proofKey(checker)).Proves(proof, "a", proofVIP, plan.Version{Term: term, Revision: 1}), checker)
		}
		require.Nil(t, part.Proofs, "all peers have their own")
	}
	l.core.Put(l.now, given(1, []string{"a", "b"}, []string{"c"}))
	l.core.setClaim(proofVIP, plan.Version{Term: 1, Revision: 1})
	check(1)
	l.core.Put(l.now, given(2, []string{"b", "a"}, []string{"c"}))
	check(1)
	l.core.Put(l.now, given(3, []string{"b", "a"}, []string{"c"}))
	check(1)
	l.core.setClaim(proofVIP, plan.Version{Term: 3, Revision: 1})
	check(3)
}
