package loadbalancer

import (
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"baremetal.cloud/ccm/pkg/announcer/plan"
	"baremetal.cloud/ccm/pkg/reason"
)

// labelled makes a peer's address from the label of that key.
type labelled string

func (l labelled) Peer(p plan.BGPPeer, labels map[string]string) (plan.BGPPeer, bool, error) {
	value, ok := labels[string(l)]
	if !ok {
		return p, false, nil
	}
	var err error
	p.Address, err = netip.ParseAddr(value)
	return p, err == nil, err
}

// peer adds a router, or changes it: peer NAME [v6] [nodes=KEY=VALUE] [label=KEY] [hold=DURATION]
// [keepalive=DURATION].
func (w *world) peer(args []string) {
	p := Peer{BGPPeer: plan.BGPPeer{Name: args[0], Address: netip.MustParseAddr("192.0.2.1"), IPv4: true}}
	for _, arg := range args[1:] {
		if selector, ok := strings.CutPrefix(arg, "nodes="); ok {
			p.NodeSelector = selects(selector)
			continue
		}
		if key, ok := strings.CutPrefix(arg, "label="); ok {
			p.Template = labelled(key)
			continue
		}
		if timer, ok := strings.CutPrefix(arg, "hold="); ok {
			p.HoldTime = duration(w.t, timer)
			continue
		}
		if timer, ok := strings.CutPrefix(arg, "keepalive="); ok {
			p.KeepaliveTime = duration(w.t, timer)
			continue
		}
		require.Equal(w.t, "v6", arg)
		p.IPv6 = true
	}
	w.config.BGP.Peers = append(slices.DeleteFunc(w.config.BGP.Peers, func(q Peer) bool { return q.Name == p.Name }), p)
	require.NoError(w.t, w.b.Configure(w.config))
}

func duration(t testing.TB, text string) time.Duration {
	t.Helper()
	d, err := time.ParseDuration(text)
	require.NoError(t, err)
	return d
}

// advertise has a pool announced: advertise POOL [l2] [PEER,...[:LENGTH[:LENGTHV6]][@KEY=VALUE]]...;
// without l2 it is not announced on layer 2 any more.
func (w *world) advertise(args []string) {
	pool := args[0]
	both := len(args) > 1 && args[1] == "l2"
	if !both {
		delete(w.config.L2, pool)
	}
	if w.config.BGP.Pools == nil {
		w.config.BGP.Pools = map[string][]Advertisement{}
	}
	var all []Advertisement
	for _, arg := range args[1:] {
		if arg == "l2" {
			continue
		}
		a := Advertisement{LengthV4: 32, LengthV6: 128}
		arg, selector, selected := strings.Cut(arg, "@")
		if selected {
			a.NodeSelector = selects(selector)
		}
		parts := strings.Split(arg, ":")
		a.Name, a.Peers = fmt.Sprintf("%s/%d", pool, len(all)), strings.Split(parts[0], ",")
		slices.Sort(a.Peers)
		for i, length := range []*int{&a.LengthV4, &a.LengthV6} {
			if len(parts) > i+1 {
				var err error
				*length, err = strconv.Atoi(parts[i+1])
				require.NoError(w.t, err)
			}
		}
		all = append(all, a)
	}
	w.config.BGP.Pools[pool] = all
	require.NoError(w.t, w.b.Configure(w.config))
}

// invalidPeers prints the peers that nodes have not because of their labels.
func (w *world) invalidPeers() string {
	var out strings.Builder
	for _, m := range w.b.InvalidPeers() {
		fmt.Fprintf(&out, "%s has no %s: %s\n", m.Node, m.Peer, m.Message)
	}
	return out.String()
}

// routes prints what nodes say to routers, by the plans that were made last.
func (w *world) routes(nodes []string) string {
	var out strings.Builder
	for _, name := range nodes {
		b := w.plans[name].BGP
		fmt.Fprintf(&out, "%s speaks to", name)
		for _, p := range b.Peers {
			fmt.Fprintf(&out, " %s", p.Name)
			if i := slices.IndexFunc(w.config.BGP.Peers, func(q Peer) bool { return q.Name == p.Name }); w.config.BGP.Peers[i].Template != nil {
				fmt.Fprintf(&out, "=%s", p.Address)
			}
			if p.HoldTime != 0 {
				fmt.Fprintf(&out, ":%s/%s", p.HoldTime, p.KeepaliveTime)
			}
		}
		out.WriteString("\n")
		for _, a := range b.Advertisements {
			fmt.Fprintf(&out, "  %s to %v\n", a.Name, a.Peers)
		}
		for _, r := range b.Routes {
			fmt.Fprintf(&out, "  %s by %v", r.Prefix, r.Advertisements)
			if r.HealthPort != 0 {
				fmt.Fprintf(&out, " asks %d", r.HealthPort)
			}
			out.WriteString("\n")
		}
	}
	return out.String()
}

// told has a node carry out its plan's routes, with sessions in the states given; a state in
// capitals is a reason for which the session is not established; withheld=PREFIX is told nobody.
func (w *world) told(name string, sessions []string) {
	report := plan.Report{Interfaces: w.portsOf(name)}
	if known, ok := w.b.announcer[name]; ok {
		report = known.report
	}
	set := w.plans[name]
	report.Plan, report.BGP = set.Version, plan.BGPReport{Plan: set.Version}
	for _, text := range sessions {
		peer, state, _ := strings.Cut(text, "=")
		if peer == "withheld" {
			report.BGP.Withheld = append(report.BGP.Withheld, netip.MustParsePrefix(state))
			continue
		}
		s := plan.BGPSession{Peer: peer, State: plan.BGPState(state)}
		switch state {
		case "up":
			s.State, s.IPv4, s.IPv6 = plan.BGPEstablished, true, true
		case "up4":
			s.State, s.IPv4 = plan.BGPEstablished, true
		default:
			s.State, s.Reason = plan.BGPActive, reason.Reason(state)
		}
		report.BGP.Sessions = append(report.BGP.Sessions, s)
	}
	w.b.Observe(name, report)
}
