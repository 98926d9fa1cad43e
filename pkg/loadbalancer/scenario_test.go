package loadbalancer

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"baremetal.cloud/ccm/internal/scenarios"
	"baremetal.cloud/ccm/pkg/announcer/plan"
	"baremetal.cloud/ccm/pkg/ipam"
	"baremetal.cloud/ccm/pkg/reason"
)

// TestScenarios runs testdata/*.txt: commands, "----", and what they print.
func TestScenarios(t *testing.T) {
	scenarios.Run(t, func(t testing.TB, text string) string { return newWorld(t).play(text) })
}

// world is a Balancer with nodes that can be told to carry out their plans.
type world struct {
	t      testing.TB
	b      *Balancer
	config Config
	now    time.Time
	plans  map[string]plan.NodePlan
	// hasty is of a test that looks at what happens before unhealthy nodes were waited for.
	hasty bool
	ports map[string][]plan.Interface
}

func newWorld(t testing.TB) *world {
	return &world{t: t, b: New(), now: time.Date(2026, 11, 21, 0, 0, 0, 0, time.UTC), plans: map[string]plan.NodePlan{}, ports: map[string][]plan.Interface{}}
}

func (w *world) depart(args []string) string {
	for _, arg := range args {
		d, err := time.ParseDuration(arg)
		require.NoError(w.t, err)
		w.now = w.now.Add(d)
	}
	begun, ended, again := w.b.Depart(w.now)
	out := fmt.Sprintf("begun %v, again %s\n", begun, again)
	for _, e := range ended {
		out += fmt.Sprintf("%s is forgotten: %s\n", e.Node, e.Cause)
	}
	return out
}

// play runs a scenario and returns it with the output as it really is.
func (w *world) play(text string) string {
	var out strings.Builder
	blocks := strings.Split(strings.TrimRight(text, "\n"), "\n\n")
	for i, block := range blocks {
		commands, _, _ := strings.Cut(block, "\n----")
		if i > 0 {
			out.WriteString("\n")
		}
		out.WriteString(commands + "\n")
		if !strings.Contains(block, "----") {
			w.run(commands)
			continue
		}
		out.WriteString("----\n" + w.run(commands))
	}
	return out.String()
}

func (w *world) run(commands string) string {
	var out strings.Builder
	for line := range strings.Lines(commands) {
		words := strings.Fields(line)
		if len(words) == 0 || strings.HasPrefix(words[0], "#") {
			continue
		}
		out.WriteString(w.command(words[0], words[1:]))
	}
	return out.String()
}

func (w *world) command(name string, args []string) string {
	switch name {
	case "pool":
		w.pool(args)
	case "node":
		w.b.SetNode(node(args))
	case "delete-node":
		w.b.DeleteNode(args[0])
	case "depart": // depart [DURATION]: looks after deleted nodes after that time
		return w.depart(args)
	case "interfaces-gone":
		w.ports[args[0]] = []plan.Interface{}
	case "interface":
		w.ports[args[0]] = append(w.ports[args[0]], port(args[1], args[2:]))
	case "connect":
		for _, n := range args {
			w.report(n, nil)
		}
	case "disconnect":
		w.b.Disconnect(args[0])
	case "leader":
		var term uint64
		_, err := fmt.Sscan(args[0], &term)
		require.NoError(w.t, err)
		w.b.SetLeader("cluster", term)
	case "new-leader":
		w.newLeader()
	case "service":
		return w.service(args)
	case "shows": // shows NAME [ADDRESS...]: the API server has said what is in its status
		var shown []netip.Addr
		for _, arg := range args[1:] {
			shown = append(shown, netip.MustParseAddr(arg))
		}
		w.b.StatusShows("uid-"+args[0], shown)
	case "classes": // classes [CLASS...]: are served
		w.config.Classes = args
		if err := w.b.Configure(w.config); err != nil {
			return fmt.Sprintln(err)
		}
	case "without-class": // without-class true|false: whether Services that name no class are served
		w.config.ServicesWithoutClass = args[0] == "true"
		if err := w.b.Configure(w.config); err != nil {
			return fmt.Sprintln(err)
		}
	case "release":
		w.b.Release("uid-"+args[0], w.now)
	case "retry":
		return fmt.Sprintln("changed", w.b.Retry(w.now))
	case "endpoints":
		w.b.SetEndpoints("default/"+args[0], endpoints(args[1:]))
	case "plan":
		return w.plan()
	case "ack":
		for _, n := range args {
			w.ack(n)
		}
	case "status":
		return w.status(args[0])
	case "failover":
		w.failover(args)
	case "report": // report NODE: connects again and claims nothing
		w.report(args[0], nil)
	case "hears": // hears NODE: has the newest plan and goes on with what it answers for
		report := w.b.announcer[args[0]].report
		report.Plan = w.plans[args[0]].Version
		w.b.Observe(args[0], report)
	case "claim": // claim NODE ADDRESS...: answers for these now, by itself
		w.claim(args[0], args[1:])
	case "down": // down NODE PEER...: finds these down now
		report := w.b.announcer[args[0]].report
		report.Down = args[1:]
		w.b.Observe(args[0], report)
	case "problem": // problem NODE [ADDRESS...]: has carried out its plan but for these
		w.problem(args[0], args[1:])
	case "health": // nodes ask whether they serve traffic, and a cordon drains
		w.config.Health, w.config.DrainOnCordon = plan.Health{Proxy: "http://127.0.0.1:10256/healthz", UnhealthyAfter: time.Second}, true
		require.NoError(w.t, w.b.Configure(w.config))
	case "unhealthy", "well": // unhealthy NODE: says that its service proxy does not work
		report := w.b.announcer[args[0]].report
		report.Unhealthy = name == "unhealthy"
		w.b.Observe(args[0], report)
	case "unplugged": // unplugged NODE: lost its carrier, before it got its newest plan
		report := w.b.announcer[args[0]].report
		report.Interfaces, report.Claims = nil, plan.Index[plan.Claim]{}
		w.b.Observe(args[0], report)
	case "leaving": // has no interface that could carry an address
		w.b.Observe(args[0], plan.Report{Plan: w.plans[args[0]].Version})
	case "answers": // answers ADDRESS
		who, why := w.b.Owner(netip.MustParseAddr(args[0]))
		return fmt.Sprintf("%q %s\n", who, why)
	case "left": // left NODE ADDRESS: why it is elsewhere
		return fmt.Sprintln(w.b.Left(args[0], netip.MustParseAddr(args[1])))
	case "peer":
		w.peer(args)
	case "invalid-peers":
		return w.invalidPeers()
	case "advertise":
		w.advertise(args)
	case "routes":
		return w.routes(args)
	case "told": // told NODE PEER=STATE...: has carried out its plan's routes, and its sessions are so
		w.told(args[0], args[1:])
	case "watches":
		return w.watches(args)
	case "awaited":
		return fmt.Sprintln(w.b.Awaited())
	case "rebalance": // rebalance MOVES: a minute
		_, err := fmt.Sscan(args[0], &w.config.MaxMovesPerMinute)
		require.NoError(w.t, err)
		require.NoError(w.t, w.b.Configure(w.config))
	case "advance": // advance DURATION: and look whether something should move
		d, err := time.ParseDuration(args[0])
		require.NoError(w.t, err)
		w.now = w.now.Add(d)
		return fmt.Sprintf("again after %s\n", w.b.Rebalance(w.now))
	case "rollout": // rollout DURATION: looks after that time whether the next node changes its sessions
		w.now = w.now.Add(duration(w.t, args[0]))
		return fmt.Sprintf("again after %s, %d left\n", w.b.RolloutPeers(w.now), w.b.PeerRolloutLeft())
	case "spread":
		return w.spread()
	case "conflicts": // conflicts AHEAD: are probed every minute, and quarantined until silent for ten
		w.config.Conflicts = Conflicts{ProbeInterval: time.Minute, Quarantine: 10 * time.Minute}
		_, err := fmt.Sscan(args[0], &w.config.Conflicts.ProbeAhead)
		require.NoError(w.t, err)
		require.NoError(w.t, w.b.Configure(w.config))
	case "probes":
		return w.probes()
	case "finds": // finds NODE [ADDRESS=MAC]...: has asked for all that it was told to, and found these
		w.finds(args[0], args[1:])
	case "inspect": // inspect [DURATION]: after that time
		return w.inspect(args)
	case "router": // router ADDRESS: is a BGP peer
		w.config.BGP.Peers = append(w.config.BGP.Peers, Peer{BGPPeer: plan.BGPPeer{Name: "router", Address: netip.MustParseAddr(args[0])}})
		require.NoError(w.t, w.b.Configure(w.config))
	default:
		w.t.Fatalf("unknown command %q", name)
	}
	return ""
}

func (w *world) pool(args []string) {
	p := ipam.Pool{Name: args[0], AutoAssign: true}
	l2 := L2{}
	for _, arg := range args[1:] {
		if selector, ok := strings.CutPrefix(arg, "nodes="); ok {
			l2.NodeSelector = selects(selector)
			continue
		}
		if port, ok := strings.CutPrefix(arg, "interface="); ok {
			l2.Interface = port
			continue
		}
		r, err := ipam.ParseRange(arg)
		require.NoError(w.t, err)
		p.Ranges = append(p.Ranges, r)
	}
	w.config.Pools = append(slices.DeleteFunc(w.config.Pools, func(q ipam.Pool) bool { return q.Name == p.Name }), p)
	if w.config.L2 == nil {
		w.config.L2 = map[string]L2{}
	}
	w.config.L2[p.Name] = l2
	require.NoError(w.t, w.b.Configure(w.config))
}

// failover switches failover on: failover INTERVAL MULTIPLIER.
func (w *world) failover(args []string) {
	var err error
	w.config.Failover.TransmitInterval, err = time.ParseDuration(args[0])
	require.NoError(w.t, err)
	_, err = fmt.Sscan(args[1], &w.config.Failover.DetectMultiplier)
	require.NoError(w.t, err)
	require.NoError(w.t, w.b.Configure(w.config))
	w.b.SetSecret([]byte("secret"))
}

// claim has a node answer for these addresses and no others.
func (w *world) claim(name string, addresses []string) {
	report := w.b.announcer[name].report
	report.Claims = plan.Index[plan.Claim]{}
	for _, text := range addresses {
		if address, err := netip.ParseAddr(text); err == nil {
			report.Claims = report.Claims.With(plan.Claim{Address: address, Version: w.b.plan.lists[address].Version})
		}
	}
	w.b.Observe(name, report)
}

// watches prints whom nodes watch.
func (w *world) watches(nodes []string) string {
	var out strings.Builder
	for _, name := range nodes {
		s := w.plans[name].Failover
		fmt.Fprintf(&out, "%s every %s x %d:", name, s.TransmitInterval, s.DetectMultiplier)
		for _, p := range s.Peers {
			fmt.Fprintf(&out, " %s", p.Node)
			for _, i := range p.Interfaces {
				fmt.Fprintf(&out, " %s%v", i.Name, i.Prefixes)
			}
		}
		out.WriteString("\n")
	}
	return out.String()
}

// selects is a selector of one label, "key=value".
type selects string

func (s selects) Matches(labels map[string]string) bool {
	key, value, _ := strings.Cut(string(s), "=")
	return labels[key] == value
}
func (s selects) String() string { return string(s) }

func node(args []string) Node {
	n := Node{Name: args[0], Labels: map[string]string{}}
	for _, arg := range args[1:] {
		key, value, _ := strings.Cut(arg, "=")
		switch key {
		case "zone":
			n.Zone = value
		case "excluded":
			n.Excluded = true
		case "cordoned":
			n.Cordoned = true
		case "deleting":
			n.Deleting = true
		case "network-unavailable":
			n.NetworkUnavailable = true
		case "address":
			n.Addresses = append(n.Addresses, netip.MustParseAddr(value))
		default:
			n.Labels[key] = value
		}
	}
	return n
}

// port reads "192.0.2.10/24 via=0.0.0.0/0 mac=02:00:00:00:00:01 down no-ipv6": addresses, each
// with a route to its segment unless the interface is down, and routes by a gateway.
func port(name string, args []string) plan.Interface {
	i := plan.Interface{
		Name: name, Prefixes: prefixes(args),
		Down: slices.Contains(args, "down"), NoIPv4: slices.Contains(args, "no-ipv4"), NoIPv6: slices.Contains(args, "no-ipv6"),
	}
	for _, p := range i.Prefixes {
		if !i.Down && !p.Addr().IsLinkLocalUnicast() {
			i.Destinations = append(i.Destinations, plan.Destination{Prefix: p.Masked(), OnLink: true})
		}
	}
	for _, arg := range args {
		if mac, ok := strings.CutPrefix(arg, "mac="); ok {
			i.MAC = mac
		}
		if to, ok := strings.CutPrefix(arg, "via="); ok {
			i.Destinations = append(i.Destinations, plan.Destination{Prefix: netip.MustParsePrefix(to)})
		}
	}
	return i
}

func prefixes(args []string) []netip.Prefix {
	var out []netip.Prefix
	for _, arg := range args {
		if p, err := netip.ParsePrefix(arg); err == nil {
			out = append(out, p)
		}
	}
	return out
}

// endpoints reads "node1 node2:terminating :ready" (an endpoint without a node). Each is
// one of both families, "v4/node1" one of IPv4 only.
func endpoints(args []string) Endpoints {
	var out []Endpoint
	for _, arg := range args {
		families := []ipam.Family{ipam.IPv4, ipam.IPv6}
		if only, rest, ok := strings.Cut(arg, "/"); ok {
			families = map[string][]ipam.Family{"v4": families[:1], "v6": families[1:]}[only]
			arg = rest
		}
		name, state, _ := strings.Cut(arg, ":")
		for _, f := range families {
			out = append(out, Endpoint{Family: f, Node: name, Ready: state == "" || state == "ready", Serving: state != "unready"})
		}
	}
	return Usable(out)
}

func (w *world) service(args []string) string {
	name := args[0]
	s := Service{Request: ipam.Request{
		Holder:   ipam.Holder{UID: "uid-" + name, Namespace: "default", Name: name, Created: w.now},
		Families: []ipam.Family{ipam.IPv4},
	}}
	for _, arg := range args[1:] {
		key, value, _ := strings.Cut(arg, "=")
		switch key {
		case "v6":
			s.Families = []ipam.Family{ipam.IPv6}
		case "dual":
			s.Families = []ipam.Family{ipam.IPv4, ipam.IPv6}
		case "local":
			s.Sharing.Local = true
		case "health":
			_, err := fmt.Sscan(value, &s.HealthPort)
			require.NoError(w.t, err)
		case "key":
			s.Sharing.Key = value
		case "port":
			var n uint16
			_, err := fmt.Sscan(value, &n)
			require.NoError(w.t, err)
			s.Sharing.Ports = []ipam.Port{{Protocol: "TCP", Number: n}}
		case "address":
			s.Addresses = append(s.Addresses, netip.MustParseAddr(value))
		case "foreign-key":
			s.Sharing.ForeignKey = value
		case "class":
			s.Class = value
		case "pool":
			s.Pool = value
		case "published":
			s.Published = append(s.Published, netip.MustParseAddr(value))
		default:
			w.t.Fatalf("unknown option %q", arg)
		}
	}
	if err := w.b.Ensure(s, w.now); err != nil {
		return fmt.Sprintf("%s: %v\n", name, err)
	}
	return fmt.Sprintf("%s: %s\n", name, listAssignments(w.b.services["uid-"+name].result.Assignments))
}

func (w *world) plan() string {
	if !w.hasty {
		w.b.UpdateHealth(w.now.Add(-unhealthyDelay))
	}
	w.b.UpdateHealth(w.now)
	w.b.RolloutPeers(w.now)
	next := w.b.Plan()
	var out strings.Builder
	for _, r := range w.b.PeerRestarts() {
		fmt.Fprintf(&out, "%s restarts %v by %v, %d wait\n", r.Node, r.Peers, r.Keys, r.Waiting)
	}
	for _, name := range slices.Sorted(func(yield func(string) bool) {
		for name := range next {
			if !yield(name) {
				return
			}
		}
	}) {
		set := next[name]
		if before, ok := w.plans[name]; ok && before.Version == set.Version {
			fmt.Fprintf(&out, "%s %s unchanged\n", name, stamp(set.Version))
			continue
		}
		fmt.Fprintf(&out, "%s %s\n", name, stamp(set.Version))
		for a := range set.Assignments.All() {
			fmt.Fprintf(&out, "  %s %s %v %s", a.Address, stamp(a.Version), a.Candidates, a.Interface)
			if a.HealthPort != 0 {
				fmt.Fprintf(&out, "asks %d", a.HealthPort)
			}
			out.WriteString("\n")
		}
	}
	w.plans = next
	return strings.ReplaceAll(out.String(), " \n", "\n")
}

func stamp(s plan.Version) string { return fmt.Sprintf("%d.%d", s.Term, s.Revision) }

// ack has a node do what its plan says: claim what it is first for.
func (w *world) ack(name string) {
	set := w.plans[name]
	var claims plan.Index[plan.Claim]
	for a := range set.Assignments.All() {
		if a.Candidates[0] == name {
			claims = claims.With(plan.Claim{Address: a.Address, Version: a.Version})
		}
	}
	w.b.Observe(name, plan.Report{Plan: set.Version, Highest: set.Version, Claims: claims, Interfaces: w.portsOf(name), Unhealthy: w.unhealthy(name)})
}

// unhealthy reports whether a node said so last.
func (w *world) unhealthy(name string) bool {
	known, ok := w.b.announcer[name]
	return ok && known.report.Unhealthy
}

// problem has a node do what its plan says, but for addresses that it cannot answer for.
func (w *world) problem(name string, addresses []string) {
	w.ack(name)
	report := w.b.announcer[name].report
	for _, text := range addresses {
		address := netip.MustParseAddr(text)
		report.Problems = append(report.Problems, plan.Problem{Address: address, Reason: reason.SocketFailed, Message: "no buffers"})
		report.Claims = report.Claims.Without(address)
	}
	w.b.Observe(name, report)
}

func (w *world) report(name string, claims []plan.Claim) {
	w.b.Observe(name, plan.Report{Claims: plan.NewIndex(claims...), Interfaces: w.portsOf(name)})
}

func (w *world) portsOf(name string) []plan.Interface {
	if ports, ok := w.ports[name]; ok {
		return ports
	}
	return []plan.Interface{{Name: "eth0"}}
}

// newLeader is another replica: it knows the configuration, what the objects say and
// what the announcers report, and nothing else.
func (w *world) newLeader() {
	old := w.b
	w.b, w.plans = New(), map[string]plan.NodePlan{}
	require.NoError(w.t, w.b.Configure(w.config))
	for _, n := range old.nodes {
		w.b.SetNode(n)
	}
	var services []Service
	for uid, s := range old.services {
		restored := s.Service
		restored.Published = nil
		if status, ok := old.Status(uid); ok {
			restored.Published = status.Published
		}
		services = append(services, restored)
	}
	require.Empty(w.t, w.b.Restore(services, nil))
	w.b.Reassign(w.now)
	w.b.SetSecret(old.secret)
	for key, e := range old.endpoints {
		w.b.SetEndpoints(key, e)
	}
	for name, a := range old.announcer {
		if a.connected {
			w.b.Observe(name, a.report)
		}
	}
	for name := range old.departing {
		w.b.DeleteNode(name) // A standby saw that, too.
	}
}

func (w *world) status(name string) string {
	s, ok := w.b.Status("uid-" + name)
	if !ok {
		return name + ": unknown\n"
	}
	return fmt.Sprintf("%s: published %v\n  Allocated %v %s: %s\n  Announced %v %s: %s\n", name, s.Published,
		s.Allocated.OK, s.Allocated.Reason, s.Allocated.Message, s.Announced.OK, s.Announced.Reason, s.Announced.Message)
}

// spread prints how many addresses each node owns.
func (w *world) spread() string {
	counts := map[string]int{}
	for _, list := range w.b.plan.lists {
		counts[list.Candidates[0]]++
	}
	var names []string
	for name := range counts {
		names = append(names, name)
	}
	slices.Sort(names)
	var out strings.Builder
	for _, name := range names {
		fmt.Fprintf(&out, "%s %d\n", name, counts[name])
	}
	return out.String()
}
