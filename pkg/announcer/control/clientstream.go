package control

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"baremetal.cloud/ccm/pkg/announcer/announcement"
	pb "baremetal.cloud/ccm/pkg/announcer/control/controlpb"
)

// errNoWelcome ends an attempt that took too long.
var errNoWelcome = errors.New("no Welcome in time")

// clientStream is one stream at the announcer's end.
type clientStream struct {
	follower *follower
	ctx      context.Context // outlives the follower's by leaveTimeout
	cancel   context.CancelCauseFunc
	rpc      pb.Control_ConnectClient
	sent     announcement.Report
}

// attempt dials, and serves the stream until it ends. The error says why it did.
func (f *follower) attempt() error {
	var handshake atomic.Pointer[error]
	conn, err := f.connect(&handshake)
	if err != nil {
		return err
	}
	defer conn.Close()
	token, err := loadToken(f.client.options.TokenFile)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancelCause(context.WithoutCancel(f.ctx))
	defer cancel(nil)
	ctx = metadata.AppendToOutgoingContext(ctx, "authorization", "Bearer "+token)
	st := &clientStream{follower: f, ctx: ctx, cancel: cancel}
	timer := time.AfterFunc(welcomeTimeout, func() { cancel(errNoWelcome) })
	defer timer.Stop()
	if err := st.dial(pb.NewControlClient(conn)); err != nil {
		if failed := handshake.Load(); failed != nil {
			return &certificateError{err: st.explain(err), cause: *failed}
		}
		return st.explain(err)
	}
	// From Hello on the replica knows what this node claims, so it is told the last report
	// even if the follower is stopped before Welcome.
	defer context.AfterFunc(f.ctx, st.leave)()
	welcome, err := st.greet()
	if err != nil {
		return st.explain(err)
	}
	timer.Stop()
	return &endedError{err: st.exchange(welcome)}
}

// leave gives the stream leaveTimeout to end by itself.
func (st *clientStream) leave() {
	if sleep(st.ctx, leaveTimeout) {
		st.cancel(context.Canceled)
	}
}

// connect prepares a connection; gRPC dials when the stream is opened. Each attempt has a
// connection of its own, which makes the pause between attempts ours and reads the CA anew.
// Why TLS failed goes to handshake.
func (f *follower) connect(handshake *atomic.Pointer[error]) (*grpc.ClientConn, error) {
	tlsConfig, err := loadTLS(f.client.options.CAFile, f.client.options.ServerName)
	if err != nil {
		return nil, err
	}
	return grpc.NewClient("passthrough:///"+f.address,
		grpc.WithTransportCredentials(handshakes{TransportCredentials: credentials.NewTLS(tlsConfig), failed: handshake}),
		grpc.WithContextDialer(f.client.options.Dial),
		grpc.WithNoProxy(),
		grpc.WithDisableServiceConfig(),
		grpc.WithDisableRetry(),
		grpc.WithStaticStreamWindowSize(streamWindow),
		grpc.WithStaticConnWindowSize(streamWindow),
		grpc.WithReadBufferSize(readBuffer),
		grpc.WithKeepaliveParams(keepalive.ClientParameters{Time: keepaliveTime, Timeout: keepaliveTimeout}),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(maxPlanBytes)),
	)
}

// dial connects, with TLS, and opens the stream. The follower's end cuts it short.
func (st *clientStream) dial(client pb.ControlClient) (err error) {
	defer context.AfterFunc(st.follower.ctx, func() { st.cancel(context.Canceled) })()
	st.rpc, err = client.Connect(st.ctx)
	return err
}

// greet says Hello and waits for Welcome.
func (st *clientStream) greet() (*pb.Welcome, error) {
	options := st.follower.client.options
	st.sent, _, _ = st.follower.client.reports.get()
	hello := &pb.Hello{
		ProtocolMin: protocolMin, ProtocolMax: protocolMax,
		Node: options.Node, Software: boundText(options.Software, maxMessage), Report: reportSnapshot(st.sent),
	}
	// When the replica has ended the stream, Send says EOF and Recv why.
	if err := st.rpc.Send(&pb.FromNode{Message: &pb.FromNode_Hello{Hello: hello}}); err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	message, err := st.rpc.Recv()
	if err != nil {
		return nil, err
	}
	welcome := message.GetWelcome()
	if welcome == nil {
		return nil, errors.New("the replica's first message is not Welcome")
	}
	if v := welcome.GetProtocol(); v < protocolMin || v > protocolMax {
		return nil, fmt.Errorf("the replica chose protocol version %d; this announcer speaks %d to %d", v, protocolMin, protocolMax)
	}
	return welcome, checkText("the replica's identity", welcome.GetReplica(), maxName)
}

// explain gives err the cause that the stream's own context or the replica's trailer knows.
func (st *clientStream) explain(err error) error {
	if cause := context.Cause(st.ctx); cause != nil {
		return cause
	}
	if _, ok := status.FromError(err); !ok || st.rpc == nil {
		return newStreamError(err, nil)
	}
	return newStreamError(err, st.rpc.Trailer()) // complete, since the replica ended the stream
}

// exchange takes plans and sends reports until the stream ends.
func (st *clientStream) exchange(welcome *pb.Welcome) error {
	f := st.follower
	f.replica = welcome.GetReplica()
	f.client.doors.enter(f.replica, f.address)
	defer f.client.doors.leave(f.replica, f.address)
	f.up.Store(true)
	defer f.up.Store(false)
	f.trouble.over()
	f.client.log.Info("connected to baremetal-ccm", "replica", f.address,
		"software", boundText(welcome.GetSoftware(), maxMessage), "protocol", welcome.GetProtocol())
	f.client.options.OnStream(f.address, true)
	defer f.client.options.OnStream(f.address, false)

	sending := make(chan struct{})
	go func() { // ends with the stream, and exchange waits for it
		defer close(sending)
		st.sendReports()
	}()
	err := st.explain(st.takePlans())
	st.cancel(nil)
	<-sending
	return err
}

// takePlans hands every plan over, whole.
func (st *clientStream) takePlans() error {
	var have announcement.Set
	for {
		message, err := st.rpc.Recv()
		if err != nil {
			return err
		}
		plan := message.GetPlan()
		if plan == nil {
			return errors.New("the replica sent something that is no plan")
		}
		set, err := applyPlan(have, plan)
		if err != nil {
			return err
		}
		have = set
		st.follower.client.options.OnPlan(st.follower.address, set)
	}
}

// sendReports sends the newest report whenever it changes. When the follower is stopped
// it sends what is not sent yet, and asks the replica to end the stream.
func (st *clientStream) sendReports() {
	leaving := st.follower.ctx.Done()
	for {
		// Stopping is looked at first: a report set before is seen after.
		stopped := st.follower.ctx.Err() != nil
		report, _, changed := st.follower.client.reports.get()
		if !st.sendReport(report) {
			return
		}
		if stopped {
			st.rpc.CloseSend() //nolint:errcheck // always nil
			return
		}
		select {
		case <-changed:
		case <-leaving:
		case <-st.ctx.Done():
			return
		}
	}
}

// sendReport reports whether the stream can take more. Why it cannot is Recv's to say.
func (st *clientStream) sendReport(report announcement.Report) bool {
	difference := reportDifference(st.sent, report)
	if difference == nil {
		return true
	}
	err := st.rpc.Send(&pb.FromNode{Message: &pb.FromNode_Report{Report: difference}})
	if err != nil && !errors.Is(err, io.EOF) {
		st.cancel(fmt.Errorf("send report: %w", err))
	}
	st.sent = report
	return err == nil
}
