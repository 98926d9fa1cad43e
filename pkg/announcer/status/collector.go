package status

import (
	"runtime"

	"github.com/prometheus/client_golang/prometheus"

	"baremetal.cloud/ccm/pkg/announcer"
	"baremetal.cloud/ccm/pkg/announcer/failover"
	"baremetal.cloud/ccm/pkg/announcer/l2/responder"
	"baremetal.cloud/ccm/pkg/announcer/plan"
)

// collector turns a Status into metrics at each scrape.
type collector struct {
	status  func() announcer.Status
	process Process

	planTerm, planRevision, plansRefused                *prometheus.Desc
	planPersisted, planWrites                           *prometheus.Desc
	working, unhealthy                                  *prometheus.Desc
	addresses, claimStart                               *prometheus.Desc
	answered, ignored                                   *prometheus.Desc
	unsolicited, sendFailures                           *prometheus.Desc
	stream, build, scheduling                           *prometheus.Desc
	peers, claimsStarted, claimsEnded                   *prometheus.Desc
	heartbeatsSent, heartbeatsDropped, heartbeatsUnsent *prometheus.Desc
	probes, found, contested, defences                  *prometheus.Desc
	session, sessionProblem, losses                     *prometheus.Desc
	routesSent, routesReceived, failures                *prometheus.Desc
	pathUp, pathFailures, logLost                       *prometheus.Desc
}

var _ prometheus.Collector = (*collector)(nil)

func newCollector(status func() announcer.Status, process Process) *collector {
	describe := func(name, help string, labels ...string) *prometheus.Desc {
		return prometheus.NewDesc(name, help, labels, nil)
	}
	return &collector{
		status: status, process: process,
		planTerm:          describe("baremetal_announcer_plan_term", "Term of the newest plan that was carried out; 0 before any."),
		planRevision:      describe("baremetal_announcer_plan_revision", "Revision of the newest plan that was carried out; 0 before any."),
		plansRefused:      describe("baremetal_announcer_plans_refused_total", "Plans not accepted, by cause: stale, foreign (another cluster's), incomplete or implausible (of a term that no leader can have reached).", "cause"),
		planPersisted:     describe("baremetal_announcer_plan_kept", "1 while the plan that is carried out is the one kept on disk, which no leader has confirmed since the start; else 0."),
		planWrites:        describe("baremetal_announcer_plan_writes_total", "Writes of the plan to disk, by result: success or failure.", "result"),
		working:           describe("baremetal_announcer_kube_proxy_working", "1 if the node's kube-proxy answered that it works when it was asked last, or is not asked; else 0."),
		unhealthy:         describe("baremetal_announcer_kube_proxy_unhealthy", "1 while the node gives its addresses to others because its kube-proxy does not work; else 0."),
		addresses:         describe("baremetal_announcer_addresses", "Addresses of the plan: claimed (answered here), planned (answered by other nodes) or problem (the node is to be its owner or a backup, and cannot).", "state"),
		claimStart:        describe("baremetal_announcer_claim_start_timestamp_seconds", "When this node began to answer for the address, in seconds since 1970.", "address", "interfaces"),
		answered:          describe("baremetal_announcer_requests_answered_total", "Address resolution requests answered.", "family"),
		ignored:           describe("baremetal_announcer_requests_ignored_total", "Frames that passed the filter in the kernel and were not answered, by reason.", "family", "reason"),
		unsolicited:       describe("baremetal_announcer_unsolicited_sent_total", "Frames sent unasked: gratuitous ARP and unsolicited Neighbor Advertisements.", "family"),
		sendFailures:      describe("baremetal_announcer_send_failures_total", "Frames that could not be sent.", "family"),
		stream:            describe("baremetal_announcer_control_stream_up", "1 if the control stream to the replica is up, else 0.", "replica"),
		peers:             describe("baremetal_announcer_peers", "Nodes that this one shares addresses with, by what it finds: unknown (never heard), up or down.", "state"),
		claimsStarted:     describe("baremetal_announcer_claims_started_total", "Addresses that this node began to answer for, by cause.", "cause"),
		claimsEnded:       describe("baremetal_announcer_claims_ended_total", "Addresses that this node ended to answer for, by cause.", "cause"),
		heartbeatsSent:    describe("baremetal_announcer_heartbeats_sent_total", "Datagrams sent to peers."),
		heartbeatsUnsent:  describe("baremetal_announcer_heartbeats_send_failures_total", "Datagrams to peers that could not be sent."),
		heartbeatsDropped: describe("baremetal_announcer_heartbeats_dropped_total", "Datagrams received on the port of peers that did not count, by cause.", "cause"),
		probes:            describe("baremetal_announcer_probes_total", "Addresses that were asked for on the network because the plan says so, each by three frames."),
		found:             describe("baremetal_announcer_conflicts", "Other machines that have an address that the plan has probed or the node answers for, one for each address; nodes of the cluster and proxies may be among them."),
		contested:         describe("baremetal_announcer_conflicting_claims_total", "Claims by other machines of addresses that the node answers for, at most one a second for each."),
		defences:          describe("baremetal_announcer_defences_total", "Announcements of an address because another machine claims it."),
		build:             describe("baremetal_announcer_build_info", "1, with the program's version and Go's as labels.", "version", "goversion"),
		logLost:           describe("baremetal_announcer_log_lines_lost_total", "Lines of the log left out because stderr was not read."),
		scheduling:        describe("baremetal_announcer_scheduling", "1 for the class that the kernel gave the thread: deadline, nice or normal; 0 for the others. Thread bfd is normal without sessions.", "thread", "class"),
		session:           describe("baremetal_announcer_bgp_session", "1 for the state that the BGP session to the peer is in (RFC 4271), 0 for the others.", "peer", "state"),
		sessionProblem:    describe("baremetal_announcer_bgp_session_problem", "1 for the reason why the BGP session to the peer is not established; none where it is.", "peer", "reason"),
		losses:            describe("baremetal_announcer_bgp_session_losses_total", "Times that the BGP session to the peer was established and ended.", "peer"),
		routesSent:        describe("baremetal_announcer_bgp_routes_sent", "Prefixes that the peer was told in its present session.", "peer"),
		routesReceived:    describe("baremetal_announcer_bgp_routes_received", "Prefixes that the peer announced in its present session. None is used.", "peer"),
		pathUp:            describe("baremetal_announcer_bfd_session_up", "1 if the BFD session with the peer is up, else 0; none where there is no such session.", "peer"),
		pathFailures:      describe("baremetal_announcer_bfd_failures_total", "Times that the BFD session with the peer was up and failed, which ended the BGP session.", "peer"),
		failures:          describe("baremetal_announcer_bgp_process_failures_total", "Times that the process that speaks BGP ended by itself."),
	}
}

// Describe implements prometheus.Collector.
func (c *collector) Describe(out chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{
		c.planTerm, c.planRevision, c.plansRefused, c.planPersisted, c.planWrites, c.working, c.unhealthy,
		c.addresses, c.claimStart, c.answered, c.ignored,
		c.unsolicited, c.sendFailures, c.stream, c.build, c.scheduling,
		c.peers, c.claimsStarted, c.claimsEnded, c.heartbeatsSent, c.heartbeatsUnsent, c.heartbeatsDropped, c.probes, c.found, c.contested, c.defences,
		c.session, c.sessionProblem, c.losses, c.routesSent, c.routesReceived, c.failures, c.pathUp, c.pathFailures, c.logLost,
	} {
		out <- d
	}
}

// Collect implements prometheus.Collector.
func (c *collector) Collect(out chan<- prometheus.Metric) {
	s := c.status()
	gauge := func(d *prometheus.Desc, value float64, labels ...string) {
		out <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, value, labels...)
	}
	counter := func(d *prometheus.Desc, value uint64, labels ...string) {
		out <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, float64(value), labels...)
	}
	gauge(c.build, 1, c.process.Version, runtime.Version())
	for _, thread := range c.process.Threads {
		now := thread.Class()
		for _, class := range thread.Classes {
			gauge(c.scheduling, boolValue(class == now), thread.Name, class)
		}
	}
	if lost := c.process.LogLinesLost; lost != nil {
		counter(c.logLost, lost())
	}
	gauge(c.planTerm, float64(s.Plan.Term))
	gauge(c.planRevision, float64(s.Plan.Revision))
	gauge(c.planPersisted, boolValue(s.Persisted))
	gauge(c.working, boolValue(s.Working))
	gauge(c.unhealthy, boolValue(s.Unhealthy))
	counter(c.planWrites, s.Written, "success")
	counter(c.planWrites, s.Unwritten, "failure")
	gauge(c.addresses, float64(s.Claims.Len()), "claimed")
	gauge(c.addresses, float64(s.Backup), "planned")
	gauge(c.addresses, float64(len(s.Problems)), "problem")
	for claim := range s.Claims.All() {
		gauge(c.claimStart, float64(claim.Since.UnixMilli())/1000, claim.Address.String(), claim.Interfaces)
	}
	for _, stream := range s.Streams {
		gauge(c.stream, boolValue(stream.Up), stream.Replica)
	}
	for _, cause := range announcer.RefusalCauses() {
		counter(c.plansRefused, s.Refused[cause], cause)
	}
	for _, state := range failover.States() {
		gauge(c.peers, float64(s.Peers[state]), state.String())
	}
	for _, cause := range announcer.StartCauses() {
		counter(c.claimsStarted, s.ClaimsStarted[cause], cause)
	}
	for _, cause := range announcer.EndCauses() {
		counter(c.claimsEnded, s.ClaimsEnded[cause], cause)
	}
	counter(c.probes, s.Conflicts.Probed)
	gauge(c.found, float64(s.Found))
	counter(c.contested, s.Conflicts.Claimed)
	counter(c.defences, s.Conflicts.Defended)
	counter(c.heartbeatsSent, s.Sent)
	counter(c.heartbeatsUnsent, s.Unsent)
	for _, cause := range failover.DropCauses() {
		counter(c.heartbeatsDropped, s.Dropped[cause], cause)
	}
	for family, counts := range s.Responders {
		c.collectResponder(counter, family, counts)
	}
	counter(c.failures, s.BGP.Failures)
	for _, session := range s.BGP.Sessions {
		for _, state := range plan.BGPStates() {
			value := 0.0
			if state == session.State {
				value = 1
			}
			gauge(c.session, value, session.Peer, string(state))
		}
		if session.Reason != "" {
			gauge(c.sessionProblem, 1, session.Peer, string(session.Reason))
		}
		counter(c.losses, session.Losses, session.Peer)
		gauge(c.routesSent, float64(session.Routes), session.Peer)
		gauge(c.routesReceived, float64(session.Received), session.Peer)
		if session.BFD != "" {
			gauge(c.pathUp, boolValue(session.BFD == plan.BFDUp), session.Peer)
			counter(c.pathFailures, session.BFDFailures, session.Peer)
		}
	}
}

// boolValue is a truth as metrics have it.
func boolValue(truth bool) float64 {
	if truth {
		return 1
	}
	return 0
}

func (c *collector) collectResponder(counter func(*prometheus.Desc, uint64, ...string), family string, counts responder.Counts) {
	for o, n := range counts.Outcomes {
		if outcome := responder.Outcome(o); outcome == responder.Answered {
			counter(c.answered, n, family)
		} else {
			counter(c.ignored, n, family, outcome.String())
		}
	}
	counter(c.unsolicited, counts.Announced, family)
	counter(c.sendFailures, counts.Failed, family)
}
