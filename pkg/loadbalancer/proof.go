package loadbalancer

import "baremetal.cloud/ccm/pkg/announcer/announcement"

// proven returns list as it is given to node: with proofs by which the others know that the node
// has it from a leader. Without a secret nobody watches anybody.
func (b *Balancer) proven(node string, list announcement.Announcement) announcement.Announcement {
	if len(b.secret) == 0 {
		return list
	}
	return list.Proven(node, b.prover)
}

// prover returns what makes proofs for checker.
func (b *Balancer) prover(checker string) *announcement.Prover {
	p := &b.plan
	known := p.provers[checker]
	if known == nil {
		known = announcement.NewProver(b.proofKey(checker))
		p.provers[checker] = known
	}
	return known
}

// proveAnew has all plans made again: the keys of proofs are others.
func (p *plan) proveAnew() {
	p.provers = map[string]*announcement.Prover{}
	p.sets, p.handed = map[string]announcement.Set{}, nil
}
