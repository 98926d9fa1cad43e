package control

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"sync/atomic"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"baremetal.cloud/ccm/internal/ratelimit"
	pb "baremetal.cloud/ccm/pkg/announcer/control/controlpb"
	"baremetal.cloud/ccm/pkg/announcer/plan"
)

// errSuperseded ends a stream that gave way to a newer one of its node.
var errSuperseded = errors.New("a newer stream of this node took over")

// serverStream is one announcer's stream at a replica.
type serverStream struct {
	server   *Server
	rpc      pb.Control_ConnectServer
	ctx      context.Context // done when the stream is
	remote   netip.Addr
	incoming chan *pb.FromNode
	ended    chan error // of one: why there are no more messages; after the last of them

	identity   Identity
	superseded chan struct{} // closed when a newer stream took over
	report     plan.Report   // what the node said last; the handler's own
	planned    atomic.Bool   // whether a plan was sent
}

// serveStream is the whole life of a stream. What it returns is what the announcer gets.
func (s *Server) serveStream(rpc pb.Control_ConnectServer) error {
	ctx, cancel := context.WithCancel(rpc.Context())
	defer cancel()
	st := &serverStream{
		server: s, rpc: rpc, ctx: ctx, remote: remoteAddress(ctx),
		incoming: make(chan *pb.FromNode), ended: make(chan error, 1), superseded: make(chan struct{}),
	}
	a, err := s.admitStream(st)
	if err == nil {
		st.identity, st.report = a.identity, a.report
		err = s.joinRegistry(st, a)
	}
	if err != nil {
		return s.endStream(st, a.node, err)
	}
	defer s.registry.leaveNode(st)
	log := s.log.With("node", a.node, "pod", st.identity.PodUID, "remote", st.remote)
	log.Info("announcer connected", "software", a.software, "protocol", a.protocol)
	err = st.exchangeMessages(a)
	log.Info("announcer disconnected", "cause", causeText(err))
	return s.endStream(st, a.node, err)
}

func (s *Server) joinRegistry(st *serverStream, a admission) error {
	old, err := s.registry.joinNode(st, a.report)
	if err != nil {
		return err
	}
	s.refusals.forgetSource(st.remote)
	s.tally.addCount(func(c *Counters) {
		c.Reports++
		if old != nil {
			c.Superseded++
		}
	})
	return nil
}

// endStream counts and logs a refusal, and gives gRPC the error that ends the stream.
func (s *Server) endStream(st *serverStream, node string, err error) error {
	r, ok := errors.AsType[*refusal](err)
	if !ok {
		return err
	}
	s.tally.addCount(func(c *Counters) { c.Refused[r.cause]++ })
	s.refusals.logRefusal(r, node, st.remote)
	st.rpc.SetTrailer(metadata.Pairs(causeTrailer, r.cause))
	return r
}

// causeText is what the log says about the end of a stream.
func causeText(err error) string {
	switch {
	case err == nil:
		return "the announcer left"
	case errors.Is(err, context.Canceled) || status.Code(err) == codes.Canceled:
		return "connection lost or closed"
	}
	return err.Error()
}

// exchangeMessages sends plans and takes reports until either side ends. Sending has a goroutine
// of its own, so that a node that does not read can still report and be superseded.
func (st *serverStream) exchangeMessages(a admission) error {
	sent, reviewed := make(chan error, 1), make(chan error, 1)
	st.server.streams.Go(func() { sent <- st.sendPlans(a.protocol) })
	st.server.streams.Go(func() { reviewed <- st.reviewLoop(a.token) })
	for {
		select {
		case <-st.superseded:
			return status.Error(codes.Aborted, errSuperseded.Error())
		case err := <-sent:
			if st.ctx.Err() != nil { // then receiving knows better why
				return receiveError(<-st.ended)
			}
			return err
		case err := <-reviewed:
			if st.ctx.Err() != nil {
				return receiveError(<-st.ended)
			}
			return err
		case err := <-st.ended:
			return receiveError(err)
		case message := <-st.incoming:
			if err := st.takeReport(message); err != nil {
				return err
			}
		}
	}
}

// receiveMessages hands every message over until there are no more, and says why there are none.
// It ends when the stream does.
//
// A node that reports more than it needs is read more slowly, and at last waits for us.
func (st *serverStream) receiveMessages() {
	var messages, bytes ratelimit.Bucket
	for {
		message, err := st.rpc.Recv()
		if err != nil {
			st.ended <- err
			return
		}
		size := proto.Size(message)
		st.server.tally.addCount(func(c *Counters) { c.ReportBytes += uint64(size) })
		now := time.Now()
		pause := max(messages.Spend(messageLimit(), now, 1), bytes.Spend(byteLimit(), now, float64(size)))
		if pause > 0 && !sleepFor(st.ctx, pause) {
			st.ended <- st.ctx.Err()
			return
		}
		select {
		case st.incoming <- message:
		case <-st.ctx.Done():
			st.ended <- st.ctx.Err()
			return
		}
	}
}

func (st *serverStream) takeReport(message *pb.FromNode) error {
	p := message.GetReport()
	if p == nil {
		return malformedRefusal(errors.New("only reports may follow Hello"))
	}
	report, err := applyReport(st.report, p)
	if err != nil {
		return malformedRefusal(err)
	}
	st.server.tally.addCount(func(c *Counters) { c.Reports++ })
	st.report = report
	st.server.registry.reportNode(st, report)
	return nil
}

// sendPlans says Welcome and then what the mailbox holds for the node, each time there is
// something newer than what was sent last.
func (st *serverStream) sendPlans(protocol uint32) error {
	welcome := &pb.Welcome{Protocol: protocol, Software: st.server.options.Software, Replica: st.server.replica}
	if err := st.rpc.Send(&pb.FromController{Message: &pb.FromController_Welcome{Welcome: welcome}}); err != nil {
		return err
	}
	var last plan.NodePlan
	for {
		set, changed := st.newestPlan()
		if !set.Version.IsZero() && set.Version != last.Version {
			if err := st.sendPlan(last, set); err != nil {
				return err
			}
			last = set
			continue // there may be a newer one by now
		}
		select {
		case <-changed:
		case <-st.ctx.Done():
			return st.ctx.Err()
		}
	}
}

// newestPlan returns the plan to send to the node now, or the zero NodePlan for nothing, and when
// to look again.
func (st *serverStream) newestPlan() (plan.NodePlan, <-chan struct{}) {
	set, changed, renewed := st.server.plans.getPlan(st.identity.Node)
	if fence := st.server.options.Fence; fence != nil && !set.Version.IsZero() {
		if err := fence(); err != nil {
			st.server.log.Debug("plan held back", "node", st.identity.Node, "err", err)
			return plan.NodePlan{}, renewed // Which says so once it may leave.
		}
	}
	return set, changed
}

func (st *serverStream) sendPlan(last, set plan.NodePlan) error {
	nodePlan := planMessage(last, set)
	if err := st.rpc.Send(&pb.FromController{Message: &pb.FromController_Plan{Plan: nodePlan}}); err != nil {
		return err
	}
	st.planned.Store(true)
	st.server.log.Debug("plan sent", "node", st.identity.Node, "plan", versionText(set.Version),
		"snapshot", nodePlan.Snapshot, "announced", len(nodePlan.Assignments), "withdrawn", len(nodePlan.Withdrawn))
	st.server.tally.addCount(func(c *Counters) {
		c.PlanBytes += uint64(proto.Size(nodePlan))
		if nodePlan.Snapshot {
			c.Snapshots++
		} else {
			c.Deltas++
		}
	})
	return nil
}

// versionText is how people read a version.
func versionText(s plan.Version) string { return fmt.Sprintf("%d.%d", s.Term, s.Revision) }
