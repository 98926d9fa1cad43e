package cloud

import "baremetal.cloud/ccm/pkg/announcer/announcement"

// NodeConnected takes over what a node that just connected reports. Standbys listen
// too, so that a new leader knows at once who answers for what.
func (p *Provider) NodeConnected(node string, report announcement.Report) {
	p.NodeReported(node, report)
}

// NodeReported takes over what a node reports.
func (p *Provider) NodeReported(node string, report announcement.Report) {
	least := report.Highest.Term
	if !p.spoke(report.Highest) {
		least++
	}
	for {
		known := p.leastTerm.Load()
		if least <= known || p.leastTerm.CompareAndSwap(known, least) {
			break
		}
	}
	p.core.observe(node, report)
	p.tellSessions(node, report.BGP.Sessions)
}

// spoke reports whether this replica may have said what bears stamp. Where the Lease was
// lost, two leaders may have had the same term.
func (p *Provider) spoke(stamp announcement.Stamp) bool {
	newest := p.newest.Load()
	return newest != nil && stamp.Term == newest.Term && stamp.Revision <= newest.Revision
}

// NodeDisconnected notes that a node has no stream. Nothing moves for that.
func (p *Provider) NodeDisconnected(node string) { p.core.disconnect(node) }
