package cloud

import "baremetal.cloud/ccm/pkg/announcer/announcement"

// NodeConnected takes over what a node that just connected reports. Standbys listen
// too, so that a new leader knows at once who answers for what.
func (p *Provider) NodeConnected(node string, report announcement.Report) {
	p.NodeReported(node, report)
}

// NodeReported takes over what a node reports.
func (p *Provider) NodeReported(node string, report announcement.Report) {
	for {
		heard := p.heard.Load()
		if report.Highest.Term <= heard || p.heard.CompareAndSwap(heard, report.Highest.Term) {
			break
		}
	}
	p.core.observe(node, report)
}

// NodeDisconnected notes that a node has no stream. Nothing moves for that.
func (p *Provider) NodeDisconnected(node string) { p.core.disconnect(node) }
