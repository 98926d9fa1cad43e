package cloud

import (
	"fmt"

	corev1 "k8s.io/api/core/v1"

	"baremetal.cloud/ccm/pkg/announcer/plan"
	"baremetal.cloud/ccm/pkg/reason"
)

// NodeConnected takes over what a node that just connected reports. Standbys listen
// too, so that a new leader knows at once which node owns which address.
func (p *Provider) NodeConnected(node string, report plan.Report) {
	p.NodeReported(node, report)
}

// NodeReported takes over what a node reports.
func (p *Provider) NodeReported(node string, report plan.Report) {
	p.heardTerm(node, report)
	p.core.takeReport(node, report)
	p.networksChanged.Store(true)
	p.tellSessions(node, report.BGP.Sessions)
}

// heardTerm takes the terms that a node reports. An implausible one raises nothing.
func (p *Provider) heardTerm(node string, report plan.Report) {
	least := report.Highest.Term
	if least <= plan.MaxTerm && !p.maySpeakFor(report.Highest) {
		least++
	}
	highest := max(report.Highest.Term, report.Implausible.Term)
	term := p.options.Elector.Term()
	p.terms.takeTerm(node, least)
	if isPlausible(highest, term) || !p.publishing.Load() {
		return
	}
	p.implausible.Add(1)
	if !p.terms.shouldReport(node, p.core.now()) {
		return
	}
	message := fmt.Sprintf("the node was told a plan of term %d, and the leader has term %d: no history of leaders leads there. "+
		"If the key of baremetal-ccm may have leaked, replace its authority: see docs/security.md", highest, term)
	p.recorder.Event(p.nodeObject(node), corev1.EventTypeWarning, string(reason.TermImplausible), message)
	p.options.Logger.Warn("implausible term", "node", node, "heard", highest, "term", term)
}

// maySpeakFor reports whether this replica may have said what bears version. Where the Lease was
// lost, two leaders may have had the same term.
func (p *Provider) maySpeakFor(version plan.Version) bool {
	newest := p.newest.Load()
	return newest != nil && version.Term == newest.Term && version.Revision <= newest.Revision
}

// NodeDisconnected notes that a node has no stream. Nothing moves for that.
func (p *Provider) NodeDisconnected(node string) { p.core.streamEnded(node) }
