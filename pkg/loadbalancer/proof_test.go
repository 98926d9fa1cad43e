package loadbalancer

import (
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/require"

	"baremetal.cloud/ccm/pkg/announcer/plan"
)

// TestFault_K4_4_PlansCarryProofs: every candidate can show every other one, and those that a list
// had before, that a leader gave it the address; under each leader, list and secret.
func TestFault_K4_4_PlansCarryProofs(t *testing.T) {
	w := town(t, rand.New(rand.NewPCG(4, 4)), 8, 40)
	former := 0
	check := func() {
		t.Helper()
		w.plan()
		for name, set := range w.plans {
			for a := range set.Assignments.All() {
				for _, checker := range append(a.Candidates, a.Former...) {
					known, ok := w.plans[checker]
					if checker == name || !ok {
						continue
					}
					proof := a.Proof(name, checker)
					require.True(t, plan.NewProver(known.Failover.ProofKey).Proves(proof, name, a.Address, a.Version), "%s shows %s %s", name, checker, a.Address)
				}
				former += len(a.Former)
			}
		}
	}
	check()
	require.NotEqual(t, w.plans["node0"].Failover.ProofKey, w.plans["node1"].Failover.ProofKey)
	require.Zero(t, former)
	w.run("node node1 excluded\n")
	check()
	require.NotZero(t, former)
	w.b.SetLeader("cluster", 7)
	check()
	w.b.SetSecret([]byte("another"))
	check()
	w.newLeader()
	check()
}
