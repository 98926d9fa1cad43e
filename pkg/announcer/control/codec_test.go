package control

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/proto"

	pb "baremetal.cloud/ccm/pkg/announcer/control/controlpb"
	"baremetal.cloud/ccm/pkg/announcer/plan"
	"baremetal.cloud/ccm/pkg/reason"
)

// dice makes plans and reports from few values, so that two of them have much in common.
type dice struct{ *rand.Rand }

func roll(seed uint64) dice { return dice{rand.New(rand.NewPCG(seed, 1))} }

func pick[T any](d dice, from ...T) T { return from[d.IntN(len(from))] }

func (d dice) address() netip.Addr {
	b := netip.MustParseAddr(pick(d, "192.0.2.0", "2001:db8::")).AsSlice()
	b[len(b)-1] = byte(d.IntN(12))
	addr, _ := netip.AddrFromSlice(b)
	return addr
}

func (d dice) version() plan.Version {
	return plan.Version{Term: d.Uint64N(3), Revision: d.Uint64N(3)}
}

// some fills a list with up to 15 entries of distinct addresses, sorted.
func some[T any](d dice, make func(netip.Addr) T) []T {
	list := []T{}
	seen := map[netip.Addr]bool{}
	for range d.IntN(15) {
		seen[d.address()] = true
	}
	for _, addr := range slices.SortedFunc(keys(seen), netip.Addr.Compare) {
		list = append(list, make(addr))
	}
	return list
}

func keys(m map[netip.Addr]bool) func(func(netip.Addr) bool) {
	return func(yield func(netip.Addr) bool) {
		for k := range m {
			if !yield(k) {
				return
			}
		}
	}
}

func (d dice) set() plan.NodePlan {
	return plan.NodePlan{
		Cluster: "cluster",
		Version: plan.Version{Term: 1 + d.Uint64N(3), Revision: d.Uint64N(100)},
		Assignments: plan.NewIndex(some(d, func(addr netip.Addr) plan.Assignment {
			return plan.Assignment{
				Address: addr, Version: d.version(), Interface: pick(d, "", "eth0", "/bond.*/"), HealthPort: pick(d, uint16(0), 30123),
				Candidates: pick(d, []string{"a"}, []string{"a", "b"}, []string{"b", "a", "c"}),
				Former:     pick(d, nil, []string{"d"}), Proofs: pick(d, nil, make([]byte, plan.ProofSize)),
			}
		})...),
		Failover: d.failover(),
		Pacing:   pick(d, plan.Pacing{}, plan.Pacing{Burst: 10, Interval: time.Second, Repeat: 3, Refresh: time.Minute}),
		Health:   pick(d, plan.Health{}, plan.Health{Proxy: "http://127.0.0.1:10256/healthz", UnhealthyAfter: time.Second}),
		Probing:  d.probing(),
	}
}

func (d dice) probing() plan.Probing {
	if d.IntN(2) == 0 {
		return plan.Probing{}
	}
	p := plan.Probing{Version: d.version(), Interval: pick(d, time.Second, time.Minute)}
	p.Probes = append(p.Probes, some(d, func(addr netip.Addr) plan.Probe {
		return plan.Probe{Address: addr, Interface: pick(d, "", "eth0", "/bond.*/")}
	})...)
	return p
}

func (d dice) failover() (s plan.Failover) {
	if d.IntN(3) > 0 {
		s.TransmitInterval, s.DetectMultiplier = pick(d, 20*time.Millisecond, time.Second), 2+d.IntN(2)
	}
	s.ProofKey = plan.Key{byte(d.IntN(2))}
	for _, name := range []string{"a", "b", "c", "d"} {
		if d.IntN(2) == 0 {
			s.Peers = append(s.Peers, plan.Peer{Node: name, Key: plan.Key{byte(d.IntN(2))}, Interfaces: d.interfaces(), Addresses: d.addresses()})
		}
	}
	return s
}

func (d dice) addresses() (out []netip.Addr) {
	for _, a := range []string{"192.0.2.9", "2001:db8::9"} {
		if d.IntN(2) == 0 {
			out = append(out, netip.MustParseAddr(a))
		}
	}
	return out
}

func (d dice) interfaces() []plan.Interface {
	interfaces := []plan.Interface{}
	for _, name := range []string{"eth0", "eth1", "lo0"} {
		if d.IntN(2) == 0 {
			continue
		}
		interfaces = append(interfaces, plan.Interface{
			Name: name, MAC: pick(d, "", "02:00:00:00:00:01"), Down: d.IntN(2) == 0, NoIPv4: d.IntN(2) == 0, NoIPv6: d.IntN(2) == 0,
			Ports: pick(d, nil, []string{"02:00:00:00:00:02", "02:00:00:00:00:03"}),
			Destinations: pick(d, nil, []plan.Destination{
				{Prefix: netip.MustParsePrefix("0.0.0.0/0")}, {Prefix: netip.MustParsePrefix("192.0.2.0/24"), OnLink: true}, {Prefix: netip.MustParsePrefix("::/0")},
			}),
			Prefixes: pick(d, nil, []netip.Prefix{netip.MustParsePrefix("192.0.2.7/24"), netip.MustParsePrefix("fe80::7/64")}),
		})
	}
	return interfaces
}

func (d dice) report() plan.Report {
	r := plan.Report{
		Plan: d.version(), Highest: d.version(), Cluster: pick(d, "", "cluster"),
		Claims: plan.NewIndex(some(d, func(addr netip.Addr) plan.Claim {
			return plan.Claim{Address: addr, Version: d.version()}
		})...),
		Problems: some(d, func(addr netip.Addr) plan.Problem {
			return plan.Problem{Address: addr, Reason: pick(d, reason.SocketFailed, "FromTheFuture", ""), Message: pick(d, "", "eth0: no")}
		}),
		Interfaces: d.interfaces(),
		Down:       pick(d, nil, []string{"a"}, []string{"a", "c"}),
		Unhealthy:  d.IntN(2) == 0,
		Probed:     d.version(),
	}
	for _, f := range some(d, func(addr netip.Addr) plan.Finding {
		return plan.Finding{Address: addr, MAC: "02:00:00:00:00:0a", Interface: "eth0", Since: d.Int64N(1 << 33)}
	}) {
		r.Findings = append(r.Findings, f)
		if d.IntN(3) == 0 {
			f.MAC = "02:00:00:00:00:0b"
			r.Findings = append(r.Findings, f)
		}
	}
	return r
}

// overTheWire marshals and unmarshals m, because nil and empty are one on the wire.
func overTheWire[T proto.Message](t testing.TB, m, into T) T {
	t.Helper()
	b, err := proto.Marshal(m)
	require.NoError(t, err)
	require.NoError(t, proto.Unmarshal(b, into))
	return into
}

// TestRandomPlans: whatever a receiver holds, the message for want leaves it with want.
func TestRandomPlans(t *testing.T) {
	for seed := range uint64(3000) {
		d := roll(seed)
		base, want := d.set(), d.set()
		if seed%10 == 0 {
			want.Cluster = "other"
		}
		for _, message := range []*pb.Plan{planSnapshot(want), planMessage(base, want), planMessage(plan.NodePlan{}, want)} {
			got, err := applyPlan(base, overTheWire(t, message, &pb.Plan{}))
			require.NoError(t, err, "seed %d", seed)
			require.Equal(t, want, got, "seed %d", seed)
		}
		if base.Cluster == want.Cluster {
			got, err := applyPlan(base, overTheWire(t, planDelta(base, want), &pb.Plan{}))
			require.NoError(t, err, "seed %d", seed)
			require.Equal(t, want, got, "seed %d", seed)
		}
	}
}

// naivePlan is the plan as a map, which cannot get the merge wrong.
func naivePlan(s plan.NodePlan) map[netip.Addr]plan.Assignment {
	m := map[netip.Addr]plan.Assignment{}
	for a := range s.Assignments.All() {
		m[a.Address] = a
	}
	return m
}

// TestDeltaIsMinimal: it names exactly the addresses that a naive comparison names.
func TestDeltaIsMinimal(t *testing.T) {
	for seed := range uint64(1000) {
		d := roll(seed)
		base, want := d.set(), d.set()
		have, wanted := naivePlan(base), naivePlan(want)
		changed, gone := map[netip.Addr]bool{}, map[netip.Addr]bool{}
		for addr, a := range wanted {
			if old, ok := have[addr]; !ok || !old.Equal(a) {
				changed[addr] = true
			}
		}
		for addr := range have {
			if _, ok := wanted[addr]; !ok {
				gone[addr] = true
			}
		}
		p := planDelta(base, want)
		for _, a := range p.Assignments {
			addr, _ := netip.AddrFromSlice(a.Address)
			require.True(t, changed[addr], "seed %d: %s", seed, addr)
		}
		require.Len(t, p.Assignments, len(changed), "seed %d", seed)
		for _, b := range p.Withdrawn {
			addr, _ := netip.AddrFromSlice(b)
			require.True(t, gone[addr], "seed %d: %s", seed, addr)
		}
		require.Len(t, p.Withdrawn, len(gone), "seed %d", seed)
		requireMinimalFailover(t, base.Failover, want.Failover, p)
	}
}

// requireMinimalFailover is TestDeltaIsMinimal for peers: those that stayed as they
// were cost nothing.
func requireMinimalFailover(t *testing.T, base, want plan.Failover, p *pb.Plan) {
	t.Helper()
	var changed, gone, said []string
	for _, peer := range want.Peers {
		if !slices.ContainsFunc(base.Peers, func(old plan.Peer) bool { return reflect.DeepEqual(old, peer) }) {
			changed = append(changed, peer.Node)
		}
	}
	for _, peer := range base.Peers {
		if !slices.ContainsFunc(want.Peers, func(n plan.Peer) bool { return n.Node == peer.Node }) {
			gone = append(gone, peer.Node)
		}
	}
	for _, peer := range p.Peers {
		said = append(said, peer.Node)
	}
	require.Equal(t, changed, said)
	require.Equal(t, gone, p.WithdrawnPeers)
	same := base.TransmitInterval == want.TransmitInterval && base.DetectMultiplier == want.DetectMultiplier && base.ProofKey == want.ProofKey
	require.Equal(t, same, p.Failover == nil)
}

// TestRandomReports: a chain of differences leaves the receiver with the sender's state.
func TestRandomReports(t *testing.T) {
	for seed := range uint64(300) {
		d := roll(seed)
		sent := d.report()
		got, err := applyReport(plan.Report{}, overTheWire(t, reportSnapshot(sent), &pb.Report{}))
		require.NoError(t, err)
		require.Equal(t, sent, got, "seed %d", seed)
		for range 10 {
			next := d.report()
			if d.IntN(3) == 0 {
				next = sent
			}
			delta := reportDelta(sent, next)
			if delta == nil {
				require.Equal(t, sent, next)
				continue
			}
			got, err = applyReport(got, overTheWire(t, delta, &pb.Report{}))
			require.NoError(t, err, "seed %d", seed)
			require.Equal(t, next, got, "seed %d", seed)
			sent = next
		}
	}
}

// TestNormalReport makes what a replica accepts out of what an announcer may come up with,
// and shares nothing with it.
func TestNormalReport(t *testing.T) {
	a, b := netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("192.0.2.2")
	prefixes := []netip.Prefix{netip.MustParsePrefix("192.0.2.7/24"), {}}
	in := plan.Report{
		Claims: plan.NewIndex(plan.Claim{Address: b}, plan.Claim{}),
		Problems: []plan.Problem{
			{Address: b, Reason: "R", Message: strings.Repeat("é", maxMessage)}, {Address: a, Message: "bad \xff byte"}, {},
		},
		Interfaces: []plan.Interface{{Name: "eth1", Prefixes: prefixes}, {Name: "eth0"}, {Name: "eth0"}},
		Down:       []string{"b", "", "a", "b", strings.Repeat("n", maxName+1)},
		Findings: []plan.Finding{
			{Address: b, MAC: "02:00:00:00:00:0a", Interface: "eth0"}, {Address: a, MAC: "02:00:00:00:00:0a", Interface: "eth0"},
			{Address: b, MAC: "02:00:00:00:00:0a", Interface: "eth0"}, {MAC: "02:00:00:00:00:0a", Interface: "eth0"}, {Address: a, Interface: "eth0"},
		},
	}
	got, _ := sanitizeReport(in)
	require.Equal(t, []netip.Addr{a, b}, []netip.Addr{got.Findings[0].Address, got.Findings[1].Address})
	require.Len(t, got.Findings, 2)
	require.Equal(t, plan.NewIndex(plan.Claim{Address: b}), got.Claims)
	require.Equal(t, []string{"eth0", "eth1"}, []string{got.Interfaces[0].Name, got.Interfaces[1].Name})
	require.Equal(t, "bad \uFFFD byte", got.Problems[0].Message)
	require.Equal(t, []string{"a", "b"}, got.Down)
	require.True(t, utf8.ValidString(got.Problems[1].Message))
	require.LessOrEqual(t, len(got.Problems[1].Message), maxMessage)
	_, err := applyReport(plan.Report{}, overTheWire(t, reportSnapshot(got), &pb.Report{}))
	require.NoError(t, err)

	prefixes[0] = netip.MustParsePrefix("198.51.100.1/24")
	require.Equal(t, "192.0.2.7/24", got.Interfaces[1].Prefixes[0].String())
}

// TestLargestReportFits: what the bounds allow is less than what a replica reads.
func TestLargestReportFits(t *testing.T) {
	var r plan.Report
	addr := netip.MustParseAddr("2001:db8::")
	huge := plan.Version{Term: 1 << 30, Revision: 1 << 40}
	for range maxAssignments + 2 {
		addr = addr.Next()
		r.Claims = r.Claims.With(plan.Claim{Address: addr, Version: huge})
		r.Problems = append(r.Problems, plan.Problem{Address: addr, Reason: "SocketFailed", Message: strings.Repeat("m", 2*maxMessage)})
	}
	for i := range 2 * maxFindings {
		r.Findings = append(r.Findings, plan.Finding{
			Address: netip.AddrFrom4([4]byte{10, 0, byte(i >> 8), byte(i)}), MAC: "02:00:00:00:00:0a", Interface: strings.Repeat("i", maxName), Since: 1 << 40,
		})
	}
	for i := range 2 * maxPeers {
		r.Down = append(r.Down, fmt.Sprintf("%0*d", maxName, i))
	}
	report, _ := sanitizeReport(r)
	require.Equal(t, maxAssignments, report.Claims.Len())
	require.Len(t, report.Problems, maxProblems)
	require.Len(t, report.Down, maxPeers)
	require.Len(t, report.Findings, maxFindings)
	require.Less(t, proto.Size(reportSnapshot(report)), maxReportBytes)
}

// FuzzPlan: no bytes make the decoder panic, and what it accepts is a plan that can be
// sent on and arrives as it was.
func FuzzPlan(f *testing.F) {
	for seed := range uint64(4) {
		d := roll(seed)
		for _, p := range []*pb.Plan{planSnapshot(d.set()), planDelta(fuzzBase(), d.set())} {
			b, err := proto.Marshal(p)
			require.NoError(f, err)
			f.Add(b)
		}
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		var p pb.Plan
		if proto.Unmarshal(b, &p) != nil {
			return
		}
		base := fuzzBase()
		set, err := applyPlan(base, &p)
		require.Equal(t, fuzzBase(), base)
		if err != nil {
			return
		}
		again, err := applyPlan(base, overTheWire(t, planMessage(base, set), &pb.Plan{}))
		require.NoError(t, err)
		require.True(t, set.Assignments.Equal(again.Assignments))
		require.Equal(t, set.Version, again.Version)
		require.Equal(t, set.Failover, again.Failover)
		require.True(t, set.Probing.Equal(again.Probing))
	})
}

func fuzzBase() plan.NodePlan {
	base := set(1, 1, "192.0.2.1", "192.0.2.2", "2001:db8::1")
	base.Failover = plan.Failover{
		TransmitInterval: 100 * time.Millisecond, DetectMultiplier: 3,
		Peers: []plan.Peer{{Node: "a", Key: plan.Key{1}, Addresses: []netip.Addr{netip.MustParseAddr("192.0.2.9")}}, {Node: "b", Key: plan.Key{2}}},
	}
	return base
}

// FuzzReport is FuzzPlan for reports.
func FuzzReport(f *testing.F) {
	have := claims("192.0.2.1", "192.0.2.2", "2001:db8::1")
	for seed := range uint64(4) {
		d := roll(seed)
		for _, p := range []*pb.Report{reportSnapshot(d.report()), reportDelta(have, d.report())} {
			b, err := proto.Marshal(p)
			require.NoError(f, err)
			f.Add(b)
		}
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		var p pb.Report
		if proto.Unmarshal(b, &p) != nil {
			return
		}
		report, err := applyReport(have, &p)
		if err != nil {
			return
		}
		normal, _ := sanitizeReport(report)
		again, err := applyReport(plan.Report{}, overTheWire(t, reportSnapshot(normal), &pb.Report{}))
		require.NoError(t, err)
		require.Nil(t, reportDelta(report, again), "a report that was accepted arrives as it was")
	})
}
