package plan

import (
	"net/netip"
	"testing"

	"github.com/stretchr/testify/require"
)

// Each candidate and former candidate can check what another one claims, and no proof is good
// for anything but that one claim.
func TestProofs(t *testing.T) {
	keys := map[string]Key{"a": {1}, "b": {2}, "c": {3}, "d": {4}}
	prover := func(checker string) *Prover { return NewProver(keys[checker]) }
	address, version := netip.MustParseAddr("192.0.2.200"), Version{Term: 2, Revision: 3}
	given := Assignment{Address: address, Version: version, Candidates: []string{"a", "b", "c"}, Former: []string{"d"}}.Proven("b", prover)
	require.Len(t, given.Proofs, 3*ProofSize)
	for _, checker := range []string{"a", "c", "d"} {
		proof := given.Proof("b", checker)
		require.True(t, prover(checker).Proves(proof, "b", address, version), checker)
		for _, other := range []string{"a", "b", "c", "d"} {
			require.Equal(t, other == checker, prover(other).Proves(proof, "b", address, version), "%s checks that for %s", other, checker)
		}
		require.False(t, prover(checker).Proves(proof, "a", address, version), "another claimer")
		require.False(t, prover(checker).Proves(proof, "b", address.Next(), version), "another address")
		require.False(t, prover(checker).Proves(proof, "b", address, Version{Term: 3, Revision: 3}), "another term")
		require.False(t, prover(checker).Proves(proof, "b", address, Version{Term: 2, Revision: 4}), "another revision")
		require.False(t, prover(checker).Proves(Proof{}, "b", address, version))
	}
	require.Equal(t, Proof{}, given.Proof("b", "b"))
	require.Equal(t, Proof{}, given.Proof("b", "e"))
	given.Proofs = given.Proofs[:ProofSize+3]
	require.Equal(t, Proof{}, given.Proof("b", "c"), "cut short")
}

func TestFormerCandidates(t *testing.T) {
	old := Assignment{Candidates: []string{"a", "b"}, Former: []string{"c", "d", "e"}}
	require.Equal(t, []string{"a", "d", "e"}, FormerCandidates(old, []string{"b", "c"}))
	require.Equal(t, []string{"a", "b", "c"}, FormerCandidates(old, []string{"f"}))
	require.Nil(t, FormerCandidates(Assignment{}, []string{"a"}))
}

func BenchmarkProve(b *testing.B) {
	prover, address := NewProver(Key{1}), netip.MustParseAddr("192.0.2.200")
	for b.Loop() {
		prover.Prove("node-of-a-usual-name", address, Version{1, 2})
	}
}
