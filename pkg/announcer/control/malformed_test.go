package control

import (
	"errors"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/mem"
	"google.golang.org/grpc/status"

	pb "baremetal.cloud/ccm/pkg/announcer/control/controlpb"
	"baremetal.cloud/ccm/pkg/announcer/plan"
)

var (
	v4a = []byte{192, 0, 2, 1}
	v4b = []byte{192, 0, 2, 2}
)

func claimsOf(addresses ...[]byte) (list []*pb.Claim) {
	for _, a := range addresses {
		list = append(list, &pb.Claim{Address: a})
	}
	return list
}

// malformedReports are reports that break the protocol after the claims of v4a.
var malformedReports = map[string]*pb.Report{
	"address of 5 bytes":          {Claims: claimsOf([]byte{1, 2, 3, 4, 5})},
	"no address":                  {Claims: []*pb.Claim{{}}},
	"no claim":                    {Claims: []*pb.Claim{nil}},
	"IPv4 in 16 bytes":            {Claims: claimsOf([]byte{10: 0xff, 11: 0xff, 12: 192, 15: 1})},
	"unsorted":                    {Claims: claimsOf(v4b, v4a)},
	"duplicate":                   {Claims: claimsOf(v4a, v4a)},
	"ended but not claimed":       {Ended: [][]byte{v4b}},
	"ended and claimed":           {Ended: [][]byte{v4a}, Claims: claimsOf(v4a)},
	"ended twice":                 {Ended: [][]byte{v4a, v4a}},
	"ended in a snapshot":         {Snapshot: true, Ended: [][]byte{v4a}},
	"too many claims":             {Claims: make([]*pb.Claim, maxAssignments+1)},
	"too many ended":              {Ended: make([][]byte, maxAssignments+1)},
	"too many problems":           {Problems: make([]*pb.Problem, maxProblems+1)},
	"too many interfaces":         {Interfaces: make([]*pb.Interface, maxInterfaces+1)},
	"too many destinations":       {Interfaces: []*pb.Interface{{Name: "eth0", Destinations: make([]*pb.Destination, plan.MaxDestinations+1)}}},
	"destination with host bits":  {Interfaces: []*pb.Interface{{Name: "eth0", Destinations: []*pb.Destination{{Prefix: "192.0.2.1/24"}}}}},
	"destination twice":           {Interfaces: []*pb.Interface{{Name: "eth0", Destinations: []*pb.Destination{{Prefix: "::/0"}, {Prefix: "::/0"}}}}},
	"too many ports":              {Interfaces: []*pb.Interface{{Name: "eth0", Ports: make([]string, plan.MaxPorts+1)}}},
	"port of no hardware address": {Interfaces: []*pb.Interface{{Name: "eth0", Ports: []string{"eth1"}}}},
	"too many prefixes":           {Interfaces: []*pb.Interface{{Name: "eth0", Prefixes: make([]string, maxPrefixes+1)}}},
	"endless cluster":             {Cluster: strings.Repeat("c", maxName+1)},
	"endless reason":              {Problems: []*pb.Problem{{Address: v4a, Reason: strings.Repeat("R", maxReason+1)}}},
	"reason that is a sentence":   {Problems: []*pb.Problem{{Address: v4a, Reason: "no idea"}}},
	"endless message":             {Problems: []*pb.Problem{{Address: v4a, Reason: "R", Message: strings.Repeat("m", maxMessage+1)}}},
	"problem of no address":       {Problems: []*pb.Problem{{Reason: "R"}}},
	"unsorted problems":           {Problems: []*pb.Problem{{Address: v4b, Reason: "R"}, {Address: v4a, Reason: "R"}}},
	"interface without a name":    {Interfaces: []*pb.Interface{{}}},
	"unsorted interfaces":         {Interfaces: []*pb.Interface{{Name: "b"}, {Name: "a"}}},
	"the same interface twice":    {Interfaces: []*pb.Interface{{Name: "a"}, {Name: "a"}}},
	"a MAC that is none":          {Interfaces: []*pb.Interface{{Name: "a", Mac: "eth0"}}},
	"too many findings":           {Findings: make([]*pb.Finding, maxFindings+1)},
	"finding of no address":       {Findings: []*pb.Finding{{Mac: "02:00:00:00:00:0a", Interface: "eth0"}}},
	"finding without a MAC":       {Findings: []*pb.Finding{{Address: v4a, Interface: "eth0"}}},
	"finding with another name":   {Findings: []*pb.Finding{{Address: v4a, Mac: "02-00-00-00-00-0A", Interface: "eth0"}}},
	"finding nowhere":             {Findings: []*pb.Finding{{Address: v4a, Mac: "02:00:00:00:00:0a"}}},
	"unsorted findings":           {Findings: []*pb.Finding{{Address: v4b, Mac: "02:00:00:00:00:0a", Interface: "eth0"}, {Address: v4a, Mac: "02:00:00:00:00:0a", Interface: "eth0"}}},
	"a prefix that is an address": {Interfaces: []*pb.Interface{{Name: "a", Prefixes: []string{"192.0.2.1"}}}},
}

// TestMalformedReports are refused by the decoder with their position, and leave no state.
func TestMalformedReports(t *testing.T) {
	have := claims("192.0.2.1")
	for name, p := range malformedReports {
		t.Run(name, func(t *testing.T) {
			_, err := applyReport(have, p)
			require.ErrorContains(t, err, "report: ")
			require.Equal(t, claims("192.0.2.1"), have)
		})
	}
}

// TestMalformedStreams end with InvalidArgument, and others go on.
func TestMalformedStreams(t *testing.T) {
	r := startReplica(t)
	bystander := startNode(t, "bystander", r)
	bystander.awaitUp(t)
	noReport := helloMessage()
	noReport.GetHello().Report = nil
	delta := helloMessage()
	delta.GetHello().Report.Snapshot = false
	badClaims := helloMessage()
	badClaims.GetHello().Report.Claims = claimsOf(v4b, v4a)
	for name, messages := range map[string][]*pb.FromNode{
		"report before hello":          {reportFrom(&pb.Report{Snapshot: true})},
		"unknown kind of message":      {{}},
		"hello without a report":       {noReport},
		"hello with a difference":      {delta},
		"hello with malformed claims":  {badClaims},
		"second hello":                 {helloMessage(), helloMessage()},
		"unknown kind after hello":     {helloMessage(), {}},
		"malformed report after hello": {helloMessage(), reportFrom(malformedReports["unsorted"])},
		"misfit after hello":           {helloMessage(), reportFrom(malformedReports["ended but not claimed"])},
	} {
		t.Run(name, func(t *testing.T) {
			before := r.Counters().Refused[CauseMalformed]
			stream := raw(t, r, "pod-a")
			for _, m := range messages {
				say(t, stream, m)
			}
			requireRefused(t, r, stream, codes.InvalidArgument, CauseMalformed)
			require.Equal(t, before+1, r.Counters().Refused[CauseMalformed])
		})
	}
	_, ever := bystander.streams()
	require.Equal(t, 1, ever)
}

// TestNoHello: a stream that ends before it began.
func TestNoHello(t *testing.T) {
	r := startReplica(t)
	stream := raw(t, r, "pod-a")
	require.NoError(t, stream.CloseSend())
	requireRefused(t, r, stream, codes.InvalidArgument, CauseMalformed)
}

// TestOversized messages are not read to their end. gRPC itself words the refusal.
func TestOversized(t *testing.T) {
	r := startReplica(t)
	stream := raw(t, r, "pod-a")
	huge := helloMessage()
	huge.GetHello().Software = strings.Repeat("x", maxReportBytes+1)
	_ = stream.Send(huge) // may fail already; Recv says why
	_, err := stream.Recv()
	require.Equal(t, codes.ResourceExhausted, status.Code(err), "%v", err)
	eventually(t, func() bool { return r.Counters().Refused[CauseOversized] == 1 }, "counted")
}

// TestGarbage that is no message at all counts as malformed. gRPC itself words the refusal.
func TestGarbage(t *testing.T) {
	r := startReplica(t)
	stream := raw(t, r, "pod-a", grpc.ForceCodecV2(garbage{}))
	say(t, stream, helloMessage())
	_, err := stream.Recv()
	require.Equal(t, codes.Internal, status.Code(err), "%v", err)
	eventually(t, func() bool { return r.Counters().Refused[CauseMalformed] == 1 }, "counted")
}

// garbage encodes every message as bytes that protobuf cannot parse.
type garbage struct{}

func (garbage) Name() string { return "proto" }

func (garbage) Marshal(any) (mem.BufferSlice, error) {
	return mem.BufferSlice{mem.SliceBuffer{0xff, 0xff, 0xff}}, nil
}

func (garbage) Unmarshal(mem.BufferSlice, any) error { return errors.New("not used") }

// TestMalformedPlans are refused by the decoder and leave the plan that is held alone.
func TestMalformedPlans(t *testing.T) {
	version, newer := &pb.Version{Term: 1, Revision: 1}, &pb.Version{Term: 1, Revision: 2}
	of := func(addresses ...[]byte) (list []*pb.Assignment) {
		for _, a := range addresses {
			list = append(list, &pb.Assignment{Address: a, Candidates: []string{"a"}})
		}
		return list
	}
	delta := func(change func(*pb.Plan)) *pb.Plan {
		p := &pb.Plan{Cluster: "cluster", Version: newer, Base: version}
		change(p)
		return p
	}
	for name, p := range map[string]*pb.Plan{
		"nothing":                 nil,
		"no version":              {Snapshot: true},
		"endless cluster":         {Snapshot: true, Version: newer, Cluster: strings.Repeat("c", maxName+1)},
		"withdrawn in a snapshot": {Snapshot: true, Version: newer, Withdrawn: [][]byte{v4a}},
		"address of 3 bytes":      {Snapshot: true, Version: newer, Assignments: of(v4a[:3])},
		"unsorted":                {Snapshot: true, Version: newer, Assignments: of(v4b, v4a)},
		"duplicate":               {Snapshot: true, Version: newer, Assignments: of(v4a, v4a)},
		"too many":                {Snapshot: true, Version: newer, Assignments: make([]*pb.Assignment, maxAssignments+1)},
		"too many candidates":     {Snapshot: true, Version: newer, Assignments: []*pb.Assignment{{Address: v4a, Candidates: make([]string, maxCandidates+1)}}},
		"nameless candidate":      {Snapshot: true, Version: newer, Assignments: []*pb.Assignment{{Address: v4a, Candidates: []string{""}}}},
		"endless interface":       {Snapshot: true, Version: newer, Assignments: []*pb.Assignment{{Address: v4a, Interface: strings.Repeat("i", maxName+1)}}},
		"probe of 3 bytes":        {Snapshot: true, Version: newer, Probing: &pb.Probing{IntervalMs: 1, Probes: []*pb.Probe{{Address: v4a[:3]}}}},
		"unsorted probes":         {Snapshot: true, Version: newer, Probing: &pb.Probing{IntervalMs: 1, Probes: []*pb.Probe{{Address: v4b}, {Address: v4a}}}},
		"too many probes":         {Snapshot: true, Version: newer, Probing: &pb.Probing{IntervalMs: 1, Probes: make([]*pb.Probe, maxProbes+1)}},
		"probes without a pause":  {Snapshot: true, Version: newer, Probing: &pb.Probing{Probes: []*pb.Probe{{Address: v4a}}}},
		"endless pause":           {Snapshot: true, Version: newer, Probing: &pb.Probing{IntervalMs: 1 << 40}},
		"other base":              delta(func(p *pb.Plan) { p.Base = newer }),
		"no base":                 delta(func(p *pb.Plan) { p.Base = nil }),
		"other cluster":           delta(func(p *pb.Plan) { p.Cluster = "other" }),
		"withdrawn but not held":  delta(func(p *pb.Plan) { p.Withdrawn = [][]byte{v4b} }),
		"withdrawn twice":         delta(func(p *pb.Plan) { p.Withdrawn = [][]byte{v4a, v4a} }),
		"withdrawn and announced": delta(func(p *pb.Plan) { p.Withdrawn = [][]byte{v4a}; p.Assignments = of(v4a) }),
	} {
		t.Run(name, func(t *testing.T) {
			have := set(1, 1, "192.0.2.1")
			_, err := applyPlan(have, p)
			require.ErrorContains(t, err, "plan: ")
			require.Equal(t, set(1, 1, "192.0.2.1"), have)
		})
	}
}
