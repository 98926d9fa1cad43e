package control

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"baremetal.cloud/ccm/internal/ratelimit"
	"baremetal.cloud/ccm/pkg/announcer/announcement"
	pb "baremetal.cloud/ccm/pkg/announcer/control/controlpb"
)

// errNoWelcome ends an attempt that took too long.
var errNoWelcome = errors.New("no Welcome in time")

// errUntrusted ends a stream whose replica's certificate no CA in the file has signed.
var errUntrusted = errors.New("the CA file has changed and does not vouch for this replica's certificate")

// clientStream is one stream at the announcer's end.
type clientStream struct {
	follower *follower
	conn     *grpc.ClientConn
	ctx      context.Context // outlives the follower's by leaveTimeout
	cancel   context.CancelCauseFunc
	unleave  func() bool
	rpc      pb.Control_ConnectClient
	welcome  *pb.Welcome
	sent     announcement.Report
	began    time.Time
	opened   credentialFiles // what it was opened with
	voucher  announcement.Voucher
	tls      atomic.Pointer[tls.ConnectionState]
}

// attempt dials, and serves the stream until it ends, and each stream that takes its place
// meanwhile. The error says why the last one ended.
func (f *follower) attempt() error {
	st, err := f.open()
	if err != nil {
		return err
	}
	f.trouble.over()
	f.up.Store(true)
	defer f.up.Store(false)
	f.client.options.OnStream(f.address, true)
	defer f.client.options.OnStream(f.address, false)
	for {
		next, err := st.serve()
		if next == nil {
			return &endedError{err: err}
		}
		st = next
	}
}

// open dials and greets. The stream that it returns is to be served.
func (f *follower) open() (*clientStream, error) {
	opened, err := readCredentials(f.client.options)
	if err != nil {
		return nil, err
	}
	st := &clientStream{follower: f, began: time.Now(), opened: opened}
	var handshake atomic.Pointer[error]
	if st.conn, err = f.connect(opened, &handshake, &st.tls); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancelCause(context.WithoutCancel(f.ctx))
	st.ctx, st.cancel = f.announce(ctx, opened.token), cancel
	timer := time.AfterFunc(welcomeTimeout, func() { cancel(errNoWelcome) })
	defer timer.Stop()
	if err := st.dial(pb.NewControlClient(st.conn)); err != nil {
		err = st.explain(err)
		if failed := handshake.Load(); failed != nil {
			err = &certificateError{err: err, cause: *failed}
		}
		st.close()
		return nil, err
	}
	// From Hello on the replica knows what this node claims, so it is told the last report
	// even if the follower is stopped before Welcome.
	st.unleave = context.AfterFunc(f.ctx, st.leave)
	if st.welcome, err = st.greet(); err != nil {
		err = st.explain(err)
		st.close()
		return nil, err
	}
	return st, nil
}

// announce gives ctx the metadata by which a replica knows who dials, before any message.
func (f *follower) announce(ctx context.Context, token string) context.Context {
	return metadata.AppendToOutgoingContext(ctx, "authorization", "Bearer "+token,
		nodeMetadata, f.client.options.Node, protocolMetadata, protocolRange(protocolMin, protocolMax))
}

// close ends the stream and its connection.
func (st *clientStream) close() {
	if st.unleave != nil {
		st.unleave()
	}
	st.cancel(nil)
	_ = st.conn.Close()
}

// leave gives the stream leaveTimeout to end by itself.
func (st *clientStream) leave() {
	if sleep(st.ctx, leaveTimeout) {
		st.cancel(context.Canceled)
	}
}

// connect prepares a connection; gRPC dials when the stream is opened. Each attempt has a
// connection of its own, which makes the pause between attempts ours and reads the CA anew.
// Why TLS failed goes to failed, and what it came to goes to state.
func (f *follower) connect(opened credentialFiles, failed *atomic.Pointer[error], state *atomic.Pointer[tls.ConnectionState]) (*grpc.ClientConn, error) {
	tlsConfig, err := newTLS(opened.ca, f.client.options.ServerName)
	if err != nil {
		return nil, err
	}
	return grpc.NewClient("passthrough:///"+f.address,
		grpc.WithTransportCredentials(handshakes{TransportCredentials: credentials.NewTLS(tlsConfig), failed: failed, state: state}),
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
		Software: boundText(options.Software, maxSoftware), Report: reportSnapshot(st.sent),
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

// serve takes plans and sends reports until the stream ends. It returns why it did, and the
// stream that takes its place, if there is one.
func (st *clientStream) serve() (next *clientStream, err error) {
	defer st.close()
	f := st.follower
	f.replica = st.welcome.GetReplica()
	f.client.doors.enter(f.replica, f.address)
	defer f.client.doors.leave(f.replica, f.address)
	f.client.log.Info("connected to baremetal-ccm", "replica", f.address,
		"software", boundText(st.welcome.GetSoftware(), maxSoftware), "protocol", st.welcome.GetProtocol())

	var parts sync.WaitGroup // each ends with the stream
	parts.Go(st.sendReports)
	renewed := make(chan *clientStream, 1)
	parts.Go(func() { renewed <- st.renew() })
	err = st.explain(st.takePlans())
	st.cancel(nil)
	parts.Wait()
	return <-renewed, err
}

// takePlans hands every plan over, whole.
func (st *clientStream) takePlans() error {
	var have announcement.Set
	st.voucher = vouchers(st.opened.ca, st.tls.Load())
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
		set.Voucher = st.voucher
		st.follower.client.options.OnPlan(st.follower.address, set)
	}
}

// sendReports sends the newest report whenever it changes. When the follower is stopped
// it sends what is not sent yet, and asks the replica to end the stream.
func (st *clientStream) sendReports() {
	leaving := st.follower.ctx.Done()
	var sent ratelimit.Bucket
	for {
		// Stopping is looked at first: a report set before is seen after.
		stopped := st.follower.ctx.Err() != nil
		report, _, changed := st.follower.client.reports.get()
		if !st.sendReport(report) {
			return
		}
		pause := sent.Spend(reportLimit(), time.Now(), 1)
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
		if pause > 0 && st.follower.ctx.Err() == nil && !sleep(st.ctx, pause) {
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
