package plan

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/binary"
	"hash"
	"net/netip"
	"slices"
)

// ProofSize is the length of a Proof in bytes.
const ProofSize = 16

// Proof shows one node, the checker, that a leader lets another one claim an address under a
// version. The claimer cannot make it: only the checker and leaders know the key. One key for all
// candidates would prove nothing, because each of them might lie. The zero Proof proves nothing.
type Proof [ProofSize]byte

// maxFormer bounds the former candidates of a list that can check claims under it.
const maxFormer = 3

// Prover makes proofs for one checker, or checks those that it got. It has one owner.
type Prover struct{ mac hash.Hash }

// NewProver returns the prover for the checker with key.
func NewProver(key Key) *Prover { return &Prover{hmac.New(sha256.New, key[:])} }

// Prove returns the proof that claimer may claim address under version.
func (p *Prover) Prove(claimer string, address netip.Addr, version Version) (out Proof) {
	var fixed [32]byte
	raw := address.As16() // No address is an IPv4-mapped one, so no two have the same bytes.
	copy(fixed[:], raw[:])
	binary.BigEndian.PutUint64(fixed[16:], version.Term)
	binary.BigEndian.PutUint64(fixed[24:], version.Revision)
	p.mac.Reset()
	p.mac.Write(fixed[:])
	p.mac.Write([]byte(claimer))
	var sum [sha256.Size]byte
	copy(out[:], p.mac.Sum(sum[:0]))
	return out
}

// Proves reports whether proof is the one that Prove returns.
func (p *Prover) Proves(proof Proof, claimer string, address netip.Addr, version Version) bool {
	want := p.Prove(claimer, address, version)
	return hmac.Equal(proof[:], want[:])
}

// Proven returns a as it is given to node, with a proof for each of the other candidates and of
// the former ones.
func (a Assignment) Proven(node string, prover func(checker string) *Prover) Assignment {
	a.Proofs = make([]byte, 0, ProofSize*(len(a.Candidates)+len(a.Former)))
	for checker := range a.checkersOf(node) {
		proof := prover(checker).Prove(node, a.Address, a.Version)
		a.Proofs = append(a.Proofs, proof[:]...)
	}
	return a
}

// Proof returns the proof of node, to which a was given, for checker; the zero Proof where there is none.
func (a Assignment) Proof(node, checker string) (out Proof) {
	i := 0
	for name := range a.checkersOf(node) {
		if name == checker {
			if len(a.Proofs) >= (i+1)*ProofSize {
				copy(out[:], a.Proofs[i*ProofSize:])
			}
			return out
		}
		i++
	}
	return out
}

// checkersOf are the nodes that check what node claims, in the order of its proofs.
func (a Assignment) checkersOf(node string) func(yield func(string) bool) {
	return func(yield func(string) bool) {
		for _, names := range [][]string{a.Candidates, a.Former} {
			for _, name := range names {
				if name != node && !yield(name) {
					return
				}
			}
		}
	}
}

// FormerCandidates returns the former candidates of a new list, which has candidates and takes
// the place of old: the latest ones first.
func FormerCandidates(old Assignment, candidates []string) []string {
	var out []string
	for _, name := range slices.Concat(old.Candidates, old.Former) {
		if !slices.Contains(candidates, name) && !slices.Contains(out, name) && len(out) < maxFormer {
			out = append(out, name)
		}
	}
	return out
}
