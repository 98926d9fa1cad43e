package loadbalancer

import "baremetal.cloud/ccm/pkg/announcer/plan"

// withProofs returns list as node gets it: with proofs by which the others know that the node has it
// from a leader. Without a secret no node watches another.
func (b *Balancer) withProofs(node string, list plan.Assignment) plan.Assignment {
	if len(b.secret) == 0 {
		return list
	}
	return list.Proven(node, b.proverOf)
}

// proverOf returns what makes proofs for checker.
func (b *Balancer) proverOf(checker string) *plan.Prover {
	p := &b.plan
	known := p.provers[checker]
	if known == nil {
		known = plan.NewProver(b.proofKey(checker))
		p.provers[checker] = known
	}
	return known
}

// markProofsDirty drops all plans, so that they are made again: the keys of proofs are
// others.
func (p *planState) markProofsDirty() {
	p.provers = map[string]*plan.Prover{}
	p.sets, p.handed = map[string]plan.NodePlan{}, nil
}
