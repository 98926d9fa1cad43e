package control

import (
	"net"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"

	pb "baremetal.cloud/ccm/pkg/announcer/control/controlpb"
	"baremetal.cloud/ccm/pkg/announcer/plan"
)

// scripted is a replica that says what it is told to say, whatever it hears.
type scripted struct {
	pb.UnimplementedControlServer
	script  func(attempt int64) []*pb.FromController
	streams atomic.Int64
}

func (s *scripted) Connect(rpc pb.Control_ConnectServer) error {
	for _, message := range s.script(s.streams.Add(1)) {
		if err := rpc.Send(message); err != nil {
			return err
		}
	}
	<-rpc.Context().Done()
	return nil
}

func welcomeMessage(protocol uint32) *pb.FromController {
	return &pb.FromController{Message: &pb.FromController_Welcome{Welcome: &pb.Welcome{Protocol: protocol, Replica: "r"}}}
}

func planOf(p *pb.Plan) *pb.FromController {
	return &pb.FromController{Message: &pb.FromController_Plan{Plan: p}}
}

// TestMisbehavingReplica: the announcer takes nothing from it that it cannot make sense
// of, says why, and asks for a new stream, which starts with the whole plan.
func TestMisbehavingReplica(t *testing.T) {
	whole := set(1, 1, "192.0.2.1")
	misfit := planDelta(set(1, 5, "192.0.2.1"), set(1, 6, "192.0.2.1", "192.0.2.2"))
	for name, tt := range map[string]struct {
		first []*pb.FromController
		log   string
	}{
		"a difference to another plan":     {[]*pb.FromController{welcomeMessage(protocolMax), planOf(planSnapshot(set(1, 4))), planOf(misfit)}, "does not fit"},
		"a difference to nothing":          {[]*pb.FromController{welcomeMessage(protocolMax), planOf(misfit)}, "does not fit"},
		"a malformed plan":                 {[]*pb.FromController{welcomeMessage(protocolMax), planOf(&pb.Plan{Snapshot: true})}, "no version"},
		"a protocol that nobody asked for": {[]*pb.FromController{welcomeMessage(99)}, "protocol version 99"},
		"a plan before Welcome":            {[]*pb.FromController{planOf(planSnapshot(whole))}, "not Welcome"},
		"a second Welcome":                 {[]*pb.FromController{welcomeMessage(protocolMax), welcomeMessage(protocolMax)}, "no plan"},
		"a message beyond all bounds": {[]*pb.FromController{{Message: &pb.FromController_Welcome{
			Welcome: &pb.Welcome{Protocol: protocolMax, Software: strings.Repeat("x", maxPlanBytes+1)}}}}, "larger than max"},
		"an unknown kind of message": {[]*pb.FromController{welcomeMessage(protocolMax), {}}, "no plan"},
	} {
		t.Run(name, func(t *testing.T) {
			a := newAuthority(t)
			l, err := net.Listen("tcp", "127.0.0.1:0")
			require.NoError(t, err)
			server := grpc.NewServer(grpc.Creds(credentials.NewServerTLSFromCert(&a.server)))
			t.Cleanup(server.Stop)
			s := &scripted{script: func(attempt int64) []*pb.FromController {
				if attempt == 1 {
					return tt.first
				}
				return []*pb.FromController{welcomeMessage(protocolMax), planOf(planSnapshot(whole))}
			}}
			pb.RegisterControlServer(server, s)
			go func() { _ = server.Serve(l) }()
			n := startNode(t, "a", &replica{authority: a, address: l.Addr().String()})
			n.awaitPlan(t, l.Addr().String(), whole)
			require.EqualValues(t, 2, s.streams.Load())
			require.Equal(t, 1, n.log.Count("level=WARN"))
			require.Equal(t, 1, n.log.Count(tt.log))
			for _, nodePlan := range n.plans[l.Addr().String()] {
				require.NotEqual(t, plan.Version{Term: 1, Revision: 6}, nodePlan.Version)
			}
		})
	}
}
