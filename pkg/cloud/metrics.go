package cloud

import (
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"baremetal.cloud/ccm/pkg/loadbalancer"
	"baremetal.cloud/ccm/pkg/reason"
)

// Metrics of the cluster side. Gauges are read when they are asked for.
var (
	descPublishing      = prometheus.NewDesc("baremetal_ccm_publishing", "Whether this replica leads and its plans go out (1) or not (0).", nil, nil)
	descTerm            = prometheus.NewDesc("baremetal_ccm_term", "The term in whose name this replica speaks; 0 on a standby.", nil, nil)
	descConfigInfo      = prometheus.NewDesc("baremetal_ccm_cloud_config_info", "1 for the cloud-config in use, by the SHA-256 of its text.", []string{"sha256"}, nil)
	descConfig          = prometheus.NewDesc("baremetal_ccm_cloud_config_valid", "Whether the newest cloud-config is the one in use (1) or the last good one is (0).", nil, nil)
	descWatch           = prometheus.NewDesc("baremetal_ccm_watch_current", "1 if this replica's cache of that kind has caught up with the API server since its watch was last broken.", []string{"kind"}, nil)
	descServices        = prometheus.NewDesc("baremetal_ccm_services", "Services of type LoadBalancer that are served, by the reason of their condition Allocated.", []string{"reason"}, nil)
	descHeld            = prometheus.NewDesc("baremetal_ccm_pool_addresses_in_use", "Addresses of the pool that Services hold.", []string{"pool", "family"}, nil)
	descSize            = prometheus.NewDesc("baremetal_ccm_pool_addresses", "Addresses that the pool contains, to the precision of a float.", []string{"pool", "family"}, nil)
	descQuarantine      = prometheus.NewDesc("baremetal_ccm_pool_addresses_quarantined", "Addresses of the pool that are not given out because nodes, routers or other machines on the network have them.", []string{"pool", "family"}, nil)
	descConflict        = prometheus.NewDesc("baremetal_ccm_address_conflict", "1 for each address that a Service holds and another machine on the network, with that MAC address, uses too.", []string{"address", "namespace", "service", "mac"}, nil)
	descConflicts       = prometheus.NewDesc("baremetal_ccm_address_conflicts_total", "What happened between addresses and other machines on the network, by kind: free addresses quarantined, discharged or unquarantined (half of what is free is in quarantine already), addresses of Services contested or settled again, machines proxied (taken for a proxy).", []string{"kind"}, nil)
	descProxies         = prometheus.NewDesc("baremetal_ccm_proxies", "Machines on the network that answer for so many addresses that they are taken for proxies.", nil, nil)
	descAnswered        = prometheus.NewDesc("baremetal_ccm_address_claim_start_timestamp_seconds", "When the node that answers for the address began to, as this replica heard it, in seconds since 1970; reason is Announced for the first node, and else why the address left the one before.", []string{"address", "namespace", "service", "node", "reason"}, nil)
	descAddresses       = prometheus.NewDesc("baremetal_ccm_addresses", "Addresses that Services hold, by the reason of their announcement: Announced where a node answers.", []string{"reason"}, nil)
	descUnderReplicated = prometheus.NewDesc("baremetal_ccm_addresses_short_of_backups", "Addresses that have fewer backups than there are nodes for, by the reason.", []string{"reason"}, nil)
	descMoves           = prometheus.NewDesc("baremetal_ccm_address_moves_total", "Addresses that another node answers for than before, by why they left that one.", []string{"reason"}, nil)
	descStreams         = prometheus.NewDesc("baremetal_ccm_control_streams", "Announcers' streams to this replica: pending admission, silent (told nothing yet), planned.", []string{"state"}, nil)
	descRefused         = prometheus.NewDesc("baremetal_ccm_control_refused_total", "Streams of announcers refused or ended, by cause.", []string{"cause"}, nil)
	descTerms           = prometheus.NewDesc("baremetal_ccm_implausible_terms_total", "Terms that nodes were told, as they report, and that no history of leaders can have reached.", nil, nil)
	descPlans           = prometheus.NewDesc("baremetal_ccm_control_plans_total", "Plans sent to announcers, whole (snapshot) or as a difference.", []string{"form"}, nil)
	descPlanBytes       = prometheus.NewDesc("baremetal_ccm_control_plan_bytes_total", "Size of the plans sent to announcers.", nil, nil)
	descExpiry          = prometheus.NewDesc("baremetal_ccm_certificate_expiration_timestamp_seconds", "Until when the certificate shown to announcers (serving), and the authority that signed it, are valid.", []string{"certificate"}, nil)
	descInvalidPeer     = prometheus.NewDesc("baremetal_ccm_bgp_peer_problem", "1 for the reason why a node has not a BGP peer that its labels should make.", []string{"node", "peer", "reason"}, nil)
	descRollout         = prometheus.NewDesc("baremetal_ccm_bgp_nodes_waiting", "Nodes whose BGP sessions have still to begin anew with another configuration, one node after the other.", nil, nil)
	descReports         = prometheus.NewDesc("baremetal_ccm_control_reports_total", "Reports received from announcers.", nil, nil)
)

// collector reads a Provider's state.
type collector struct{ p *Provider }

// Collector returns the Provider's metrics.
func (p *Provider) Collector() prometheus.Collector { return collector{p} }

// Describe lists the metrics.
func (c collector) Describe(out chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{
		descPublishing, descTerm, descConfig, descConfigInfo, descWatch, descServices, descHeld, descSize,
		descAnswered, descAddresses, descUnderReplicated, descMoves,
		descQuarantine, descConflict, descConflicts, descProxies,
		descStreams, descRefused, descTerms, descPlans, descPlanBytes, descReports, descExpiry, descInvalidPeer, descRollout,
	} {
		out <- d
	}
}

// Collect reads the metrics.
func (c collector) Collect(out chan<- prometheus.Metric) {
	gauge := func(d *prometheus.Desc, v float64, labels ...string) {
		out <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, labels...)
	}
	gauge(descPublishing, boolValue(c.p.publishing.Load()))
	gauge(descTerm, float64(c.p.options.Elector.Term()))
	gauge(descConfig, boolValue(c.p.configError.Load() == nil))
	if hash := c.p.configHash.Load(); hash != nil {
		gauge(descConfigInfo, 1, *hash)
	}
	for kind, current := range c.p.options.Watches.Current() {
		gauge(descWatch, boolValue(current), kind)
	}
	reasons, usage := c.p.core.usageSummary()
	for why, n := range reasons {
		gauge(descServices, float64(n), string(why))
	}
	for _, u := range usage {
		size, _ := u.Size.Float64()
		gauge(descHeld, float64(u.Held), u.Pool, u.Family.String())
		gauge(descSize, size, u.Pool, u.Family.String())
		gauge(descQuarantine, float64(u.Quarantined), u.Pool, u.Family.String())
	}
	c.collectAnswers(out)
	c.collectConflicts(out)
	control := c.p.server.Counters()
	gauge(descStreams, float64(control.Pending), "pending")
	gauge(descStreams, float64(control.Silent), "silent")
	gauge(descStreams, float64(control.Planned), "planned")
	count := func(d *prometheus.Desc, n uint64, labels ...string) {
		out <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, float64(n), labels...)
	}
	for cause, n := range control.Refused {
		count(descRefused, n, cause)
	}
	count(descTerms, c.p.implausible.Load())
	count(descPlans, control.Snapshots, "snapshot")
	count(descPlans, control.Deltas, "difference")
	count(descPlanBytes, control.PlanBytes)
	count(descReports, control.Reports)
	for _, m := range c.p.core.invalidPeers() {
		gauge(descInvalidPeer, 1, m.Node, m.Peer, string(reason.NodeLabelInvalid))
	}
	gauge(descRollout, float64(c.p.core.peerRolloutLeft()))
	c.collectExpiry(gauge)
}

// collectExpiry says until when announcers can connect, as far as that is known here.
func (c collector) collectExpiry(gauge func(*prometheus.Desc, float64, ...string)) {
	if c.p.options.TLS == nil {
		return
	}
	serving, authority := c.p.options.TLS.Expiry()
	for name, until := range map[string]time.Time{"serving": serving, "authority": authority} {
		if !until.IsZero() {
			gauge(descExpiry, float64(until.Unix()), name)
		}
	}
}

// collectAnswers reads which node owns each address: nothing on a standby, which decides nothing.
func (c collector) collectAnswers(out chan<- prometheus.Metric) {
	answers, held, moved := c.p.core.ownerships()
	if len(held) > 0 {
		out <- prometheus.MustNewConstMetric(descUnderReplicated, prometheus.GaugeValue, float64(c.p.core.underReplicated()), string(reason.PeerLimitReached))
	}
	for _, a := range answers {
		namespace, name, _ := strings.Cut(a.service, "/")
		out <- prometheus.MustNewConstMetric(descAnswered, prometheus.GaugeValue, float64(a.since.UnixMilli())/1000,
			a.address.String(), namespace, name, a.node, string(a.why))
	}
	for why, n := range held {
		out <- prometheus.MustNewConstMetric(descAddresses, prometheus.GaugeValue, float64(n), string(why))
	}
	for why, n := range moved {
		out <- prometheus.MustNewConstMetric(descMoves, prometheus.CounterValue, float64(n), string(why))
	}
}

// collectConflicts reads which other machines use addresses.
func (c collector) collectConflicts(out chan<- prometheus.Metric) {
	contested, proxies, happened := c.p.core.conflictState()
	for _, x := range contested {
		namespace, name, _ := strings.Cut(x.service, "/")
		out <- prometheus.MustNewConstMetric(descConflict, prometheus.GaugeValue, 1, x.address.String(), namespace, name, x.machine.MAC)
	}
	out <- prometheus.MustNewConstMetric(descProxies, prometheus.GaugeValue, float64(proxies))
	for _, kind := range loadbalancer.ConflictKinds() {
		out <- prometheus.MustNewConstMetric(descConflicts, prometheus.CounterValue, float64(happened[kind]), string(kind))
	}
}

func boolValue(b bool) float64 {
	if b {
		return 1
	}
	return 0
}
