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
	pb "baremetal.cloud/ccm/pkg/announcer/control/controlpb"
	"baremetal.cloud/ccm/pkg/announcer/plan"
)

// errNoWelcome ends an attempt that took too long.
var errNoWelcome = errors.New("no Welcome in time")

// errUntrusted ends a stream to a replica with a certificate that no CA in the file has signed.
var errUntrusted = errors.New("the CA file has changed and does not vouch for this replica's certificate")

// clientStream is one stream at the announcer's end.
type clientStream struct {
	replica *replicaConn
	conn    *grpc.ClientConn
	ctx     context.Context // outlives the follower's by leaveTimeout
	cancel  context.CancelCauseFunc
	unleave func() bool
	rpc     pb.Control_ConnectClient
	welcome *pb.Welcome
	sent    plan.Report
	began   time.Time
	opened  credentialFiles // what it was opened with
	voucher plan.Voucher
	tls     atomic.Pointer[tls.ConnectionState]
}

// attemptStream dials, and serves the stream until it ends, and each stream that takes its place
// meanwhile. The error says why the last one ended.
func (f *replicaConn) attemptStream() error {
	st, err := f.openStream()
	if err != nil {
		return err
	}
	f.onceLogger.endTrouble()
	f.up.Store(true)
	defer f.up.Store(false)
	f.client.options.OnStream(f.address, true)
	defer f.client.options.OnStream(f.address, false)
	for {
		next, err := st.serveStream()
		if next == nil {
			return &endedError{err: err}
		}
		st = next
	}
}

// openStream dials and greets. The caller must serve the stream that it returns.
func (f *replicaConn) openStream() (*clientStream, error) {
	opened, err := readCredentials(f.client.options)
	if err != nil {
		return nil, err
	}
	st := &clientStream{replica: f, began: time.Now(), opened: opened}
	var handshake atomic.Pointer[error]
	if st.conn, err = f.newConnection(opened, &handshake, &st.tls); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancelCause(context.WithoutCancel(f.ctx))
	st.ctx, st.cancel = f.withMetadata(ctx, opened.token), cancel
	timer := time.AfterFunc(welcomeTimeout, func() { cancel(errNoWelcome) })
	defer timer.Stop()
	if err := st.dialReplica(pb.NewControlClient(st.conn)); err != nil {
		err = st.explainError(err)
		if failed := handshake.Load(); failed != nil {
			err = &certificateError{err: err, cause: *failed}
		}
		st.closeStream()
		return nil, err
	}
	// From Hello on the replica knows what this node claims, so it gets the last report even if
	// the follower is stopped before Welcome.
	st.unleave = context.AfterFunc(f.ctx, st.leaveLater)
	if st.welcome, err = st.sendHello(); err != nil {
		err = st.explainError(err)
		st.closeStream()
		return nil, err
	}
	return st, nil
}

// withMetadata gives ctx the metadata by which a replica knows which node dials, before any
// message.
func (f *replicaConn) withMetadata(ctx context.Context, token string) context.Context {
	return metadata.AppendToOutgoingContext(ctx, "authorization", "Bearer "+token,
		nodeMetadata, f.client.options.Node, protocolMetadata, protocolRange(protocolMin, protocolMax))
}

// closeStream ends the stream and its connection.
func (st *clientStream) closeStream() {
	if st.unleave != nil {
		st.unleave()
	}
	st.cancel(nil)
	_ = st.conn.Close()
}

// leaveLater gives the stream leaveTimeout to end by itself.
func (st *clientStream) leaveLater() {
	if sleepFor(st.ctx, leaveTimeout) {
		st.cancel(context.Canceled)
	}
}

// newConnection prepares a connection; gRPC dials when the stream is opened. Each attempt has a
// connection of its own, which makes the pause between attempts ours and reads the CA anew.
// Why TLS failed goes to failed, and what it came to goes to state.
func (f *replicaConn) newConnection(opened credentialFiles, failed *atomic.Pointer[error], state *atomic.Pointer[tls.ConnectionState]) (*grpc.ClientConn, error) {
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

// dialReplica connects, with TLS, and opens the stream. The follower's end cuts it short.
func (st *clientStream) dialReplica(client pb.ControlClient) (err error) {
	defer context.AfterFunc(st.replica.ctx, func() { st.cancel(context.Canceled) })()
	st.rpc, err = client.Connect(st.ctx)
	return err
}

// sendHello says Hello and waits for Welcome.
func (st *clientStream) sendHello() (*pb.Welcome, error) {
	options := st.replica.client.options
	st.sent, _, _ = st.replica.client.reports.getNewest()
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

// explainError gives err the cause that the stream's own context or the replica's trailer knows.
func (st *clientStream) explainError(err error) error {
	if cause := context.Cause(st.ctx); cause != nil {
		return cause
	}
	if _, ok := status.FromError(err); !ok || st.rpc == nil {
		return newStreamError(err, nil)
	}
	return newStreamError(err, st.rpc.Trailer()) // complete, since the replica ended the stream
}

// serveStream takes plans and sends reports until the stream ends. It returns why it did, and the
// stream that takes its place, if there is one.
func (st *clientStream) serveStream() (next *clientStream, err error) {
	defer st.closeStream()
	f := st.replica
	f.replica = st.welcome.GetReplica()
	f.client.replicas.enterReplica(f.replica, f.address)
	defer f.client.replicas.leaveReplica(f.replica, f.address)
	f.client.log.Info("connected to baremetal-ccm", "replica", f.address,
		"software", boundText(st.welcome.GetSoftware(), maxSoftware), "protocol", st.welcome.GetProtocol())

	var parts sync.WaitGroup // each ends with the stream
	parts.Go(st.sendReports)
	renewed := make(chan *clientStream, 1)
	parts.Go(func() { renewed <- st.renewStream() })
	err = st.explainError(st.takePlans())
	st.cancel(nil)
	parts.Wait()
	return <-renewed, err
}

// takePlans hands every plan over, whole.
func (st *clientStream) takePlans() error {
	var have plan.NodePlan
	st.voucher = vouchersFor(st.opened.ca, st.tls.Load())
	for {
		message, err := st.rpc.Recv()
		if err != nil {
			return err
		}
		nodePlan := message.GetPlan()
		if nodePlan == nil {
			return errors.New("the replica sent something that is no plan")
		}
		set, err := applyPlan(have, nodePlan)
		if err != nil {
			return err
		}
		have = set
		set.Voucher = st.voucher
		st.replica.client.options.OnPlan(st.replica.address, set)
	}
}

// sendReports sends the newest report whenever it changes. When the follower is stopped
// it sends what is not sent yet, and asks the replica to end the stream.
func (st *clientStream) sendReports() {
	leaving := st.replica.ctx.Done()
	var sent ratelimit.Bucket
	for {
		// Stopping is looked at first: a report set before is seen after.
		stopped := st.replica.ctx.Err() != nil
		report, _, changed := st.replica.client.reports.getNewest()
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
		if pause > 0 && st.replica.ctx.Err() == nil && !sleepFor(st.ctx, pause) {
			return
		}
	}
}

// sendReport reports whether the stream can take more. Why it cannot is Recv's to say.
func (st *clientStream) sendReport(report plan.Report) bool {
	delta := reportDelta(st.sent, report)
	if delta == nil {
		return true
	}
	err := st.rpc.Send(&pb.FromNode{Message: &pb.FromNode_Report{Report: delta}})
	if err != nil && !errors.Is(err, io.EOF) {
		st.cancel(fmt.Errorf("send report: %w", err))
	}
	st.sent = report
	return err == nil
}
