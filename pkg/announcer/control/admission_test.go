package control

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"net/netip"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	pb "baremetal.cloud/ccm/pkg/announcer/control/controlpb"
	"baremetal.cloud/ccm/pkg/announcer/plan"
)

// raw opens a stream that the test speaks on by hand.
func raw(t *testing.T, r *replica, token string, options ...grpc.CallOption) pb.Control_ConnectClient {
	t.Helper()
	return rawOf(t, r, "a", protocolRange(protocolMin, protocolMax), token, options...)
}

// rawOf is raw for another node or other protocol versions.
func rawOf(t *testing.T, r *replica, node, versions, token string, options ...grpc.CallOption) pb.Control_ConnectClient {
	t.Helper()
	roots := x509.NewCertPool()
	require.True(t, roots.AppendCertsFromPEM(r.authority.ca))
	conn, err := grpc.NewClient("passthrough:///"+r.address, grpc.WithNoProxy(),
		grpc.WithTransportCredentials(credentials.NewTLS(&tls.Config{RootCAs: roots, ServerName: "baremetal-ccm"})))
	require.NoError(t, err)
	t.Cleanup(func() { conn.Close() })
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	t.Cleanup(cancel)
	ctx = metadata.AppendToOutgoingContext(ctx, nodeMetadata, node, protocolMetadata, versions)
	if token != "" {
		ctx = metadata.AppendToOutgoingContext(ctx, "authorization", "Bearer "+token)
	}
	stream, err := pb.NewControlClient(conn).Connect(ctx, options...)
	require.NoError(t, err)
	return stream
}

func helloMessage() *pb.FromNode {
	return &pb.FromNode{Message: &pb.FromNode_Hello{Hello: &pb.Hello{Report: reportSnapshot(plan.Report{})}}}
}

// say sends a message. The replica may have ended the stream by then; Recv says why.
func say(t *testing.T, stream pb.Control_ConnectClient, message *pb.FromNode) {
	t.Helper()
	if err := stream.Send(message); !errors.Is(err, io.EOF) {
		require.NoError(t, err)
	}
}

func reportFrom(p *pb.Report) *pb.FromNode {
	return &pb.FromNode{Message: &pb.FromNode_Report{Report: p}}
}

// requireRefused reads until the replica ends the stream, and wants it for this cause.
func requireRefused(t *testing.T, r *replica, stream pb.Control_ConnectClient, code codes.Code, cause string) {
	t.Helper()
	var err error
	for err == nil {
		_, err = stream.Recv()
	}
	require.Equal(t, code, status.Code(err), "%v", err)
	require.Equal(t, []string{cause}, stream.Trailer().Get(causeTrailer), "%v", err)
	eventually(t, func() bool { return r.Counters().Refused[cause] > 0 }, "counted as %s", cause)
}

// TestDenied: a final no is named in the node's log once, with what to do about it.
func TestDenied(t *testing.T) {
	for _, cause := range []string{CauseAudience, CauseServiceAccount, CauseNodeMismatch, CauseSourceAddress, CauseToken} {
		t.Run(cause, func(t *testing.T) {
			t.Parallel()
			r := startReplica(t, withAuth(func(context.Context, string, string, netip.Addr) (Identity, error) {
				return Identity{}, &DeniedError{Cause: cause, Message: "no"}
			}))
			n := startNode(t, "a", r)
			eventually(t, func() bool { return r.Counters().Refused[cause] >= 3 }, "three attempts")
			require.Equal(t, 1, n.log.Count("level=WARN"))
			require.Equal(t, 1, n.log.Count("hint="))
			require.Empty(t, r.history("a"))
		})
	}
}

// TestDenialEnds: the log says so when the cause changes, and when it is over.
func TestDenialEnds(t *testing.T) {
	var decision atomic.Pointer[DeniedError]
	decision.Store(&DeniedError{Cause: CauseSourceAddress, Message: "not an address of the node"})
	r := startReplica(t, withAuth(func(ctx context.Context, token, node string, remote netip.Addr) (Identity, error) {
		if denied := decision.Load(); denied != nil {
			return Identity{}, denied
		}
		return tokenNamesPod(ctx, token, node, remote)
	}))
	n := startNode(t, "a", r)
	eventually(t, func() bool { return r.Counters().Refused[CauseSourceAddress] >= 2 }, "refused")
	decision.Store(&DeniedError{Cause: CauseToken, Message: "expired"})
	eventually(t, func() bool { return r.Counters().Refused[CauseToken] >= 1 }, "refused otherwise")
	decision.Store(nil)
	n.awaitUp(t)
	require.Equal(t, 2, n.log.Count("level=WARN"))
	require.Equal(t, 1, n.log.Count("connected to baremetal-ccm"))
}

// TestNoAnswerClosesNothing: while nobody can review tokens, new streams stay out for now
// and established ones go on.
func TestNoAnswerClosesNothing(t *testing.T) {
	var down atomic.Bool
	r := startReplica(t, withAuth(func(ctx context.Context, token, node string, remote netip.Addr) (Identity, error) {
		if down.Load() {
			return Identity{}, errors.New("the API server does not answer")
		}
		return tokenNamesPod(ctx, token, node, remote)
	}))
	established := startNode(t, "a", r)
	established.awaitUp(t)
	down.Store(true)

	stream := raw(t, r, "pod-a")
	say(t, stream, helloMessage())
	requireRefused(t, r, stream, codes.Unavailable, CauseNoAnswer)
	newcomer := startNode(t, "b", r)
	eventually(t, func() bool { return r.Counters().Refused[CauseNoAnswer] >= 3 }, "refused for now")

	r.Publish(plans{"a": set(1, 1, "192.0.2.1")})
	established.awaitPlan(t, r.address, set(1, 1, "192.0.2.1"))
	down.Store(false)
	newcomer.awaitUp(t)
	_, ever := established.streams()
	require.Equal(t, 1, ever)
}

// TestAuthenticatorIsAsked with the token, the claimed node and the source address.
func TestAuthenticatorIsAsked(t *testing.T) {
	type question struct {
		token, node string
		remote      netip.Addr
	}
	asked := make(chan question, 1)
	r := startReplica(t, withAuth(func(ctx context.Context, token, node string, remote netip.Addr) (Identity, error) {
		asked <- question{token, node, remote}
		return Identity{Node: "another"}, nil
	}))
	stream := raw(t, r, "secret")
	say(t, stream, helloMessage())
	require.Equal(t, question{"secret", "a", netip.MustParseAddr("127.0.0.1")}, <-asked)
	requireRefused(t, r, stream, codes.PermissionDenied, CauseNodeMismatch)
}

// TestAuthenticatorThatHangs counts as no answer.
func TestAuthenticatorThatHangs(t *testing.T) {
	r := startReplica(t, withServer(func(o *ServerOptions) {
		o.Limits.AuthenticateTimeout = time.Millisecond
		o.Authenticator = authFunc(func(ctx context.Context, _, _ string, _ netip.Addr) (Identity, error) {
			<-ctx.Done()
			return Identity{}, ctx.Err()
		})
	}))
	stream := raw(t, r, "token")
	say(t, stream, helloMessage())
	requireRefused(t, r, stream, codes.Unavailable, CauseNoAnswer)
}

// TestSecondStream of a node wins from the same or a newer Pod only.
func TestSecondStream(t *testing.T) {
	for _, tt := range []struct {
		name, first, second string
		wins                bool
	}{
		{"same Pod", "pod-1/100", "pod-1/100", true},
		{"newer Pod", "pod-1/100", "pod-2/200", true},
		{"older Pod", "pod-2/200", "pod-1/100", false},
		{"another Pod of the same second", "pod-1/100", "pod-2/100", false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := startReplica(t)
			first := raw(t, r, tt.first)
			say(t, first, helloMessage())
			_, err := first.Recv() // Welcome
			require.NoError(t, err)
			second := raw(t, r, tt.second)
			say(t, second, helloMessage())
			if !tt.wins {
				requireRefused(t, r, second, codes.AlreadyExists, CauseOlderPod)
				require.Equal(t, []string{"connected"}, r.history("a"))
				return
			}
			_, err = second.Recv()
			require.NoError(t, err)
			_, err = first.Recv()
			require.Equal(t, codes.Aborted, status.Code(err))
			if tt.name == "same Pod" {
				require.Equal(t, []string{"connected", "reported"}, r.history("a"))
			} else {
				require.Equal(t, []string{"connected", "disconnected", "connected"}, r.history("a"))
			}
			require.EqualValues(t, 1, r.Counters().Superseded)
		})
	}
}

// TestSupersededStreamIsDeaf: what it still says is not heard.
func TestSupersededStreamIsDeaf(t *testing.T) {
	observer := newRecorder()
	g := newRegistry(observer)
	stream := func(uid string, created int64) *serverStream {
		return &serverStream{identity: Identity{Node: "a", PodUID: uid, PodCreated: time.Unix(created, 0)}, superseded: make(chan struct{})}
	}
	first, second := stream("1", 1), stream("2", 2)
	_, err := g.joinNode(first, claims())
	require.NoError(t, err)
	old, err := g.joinNode(second, claims("192.0.2.2"))
	require.NoError(t, err)
	require.Same(t, first, old)
	<-first.superseded
	g.reportNode(first, claims("192.0.2.1"))
	g.leaveNode(first)
	report, ok := observer.report("a")
	require.True(t, ok)
	require.Equal(t, claims("192.0.2.2"), report)
	g.leaveNode(second)
	g.leaveNode(second)
	require.Equal(t, []string{"connected", "disconnected", "connected", "disconnected"}, observer.history("a"))
	require.Empty(t, observer.faults)
}

func TestNoToken(t *testing.T) {
	r := startReplica(t)
	requireRefused(t, r, raw(t, r, ""), codes.PermissionDenied, CauseToken)
}

func TestHelloTimeout(t *testing.T) {
	r := startReplica(t, withServer(func(o *ServerOptions) { o.Limits.HelloTimeout = time.Millisecond }))
	requireRefused(t, r, raw(t, r, "token"), codes.InvalidArgument, CauseHelloTimeout)
}

// TestStrangersAreBounded: one source cannot occupy the door.
func TestStrangersAreBounded(t *testing.T) {
	r := startReplica(t, withServer(func(o *ServerOptions) { o.Limits.PendingPerSource = 2 }))
	one := protocolRange(protocolMin, protocolMax)
	silent := []pb.Control_ConnectClient{rawOf(t, r, "a", one, "token"), rawOf(t, r, "b", one, "token")}
	eventually(t, func() bool { return r.Counters().Pending == 2 }, "two pending")
	requireRefused(t, r, raw(t, r, "token"), codes.ResourceExhausted, CauseBusy)
	for _, stream := range silent {
		say(t, stream, helloMessage())
		_, err := stream.Recv()
		require.NoError(t, err)
	}
	eventually(t, func() bool { return r.Counters().Pending == 0 }, "none pending")
	n := startNode(t, "c", r)
	n.awaitUp(t)
}

// TestQueueAtTheDoor: who waits for a slot too long is told to come back.
func TestQueueAtTheDoor(t *testing.T) {
	p := newAdmissionLimiter(1, 2)
	a, b := netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("192.0.2.2")
	leave, err := p.enterSlot(t.Context(), "", a)
	require.NoError(t, err)
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	_, err = p.enterSlot(gone, "", b)
	require.Equal(t, codes.Unavailable, status.Code(err))
	require.Equal(t, 1, p.len())
	leave()
	require.Zero(t, p.len())
	leave, err = p.enterSlot(t.Context(), "", b)
	require.NoError(t, err)
	leave()
}

// TestVersions: the highest common one is taken, and no common one is said clearly.
func TestVersions(t *testing.T) {
	for _, tt := range []struct {
		versions string
		code     codes.Code
		cause    string
	}{
		{protocolRange(protocolMax+1, protocolMax+2), codes.FailedPrecondition, CauseProtocol},
		{protocolRange(1, protocolMin-1), codes.FailedPrecondition, CauseProtocol},
		{protocolRange(0, protocolMax), codes.InvalidArgument, CauseMalformed},
		{"3-2", codes.InvalidArgument, CauseMalformed},
		{"", codes.InvalidArgument, CauseMalformed},
		{"2", codes.InvalidArgument, CauseMalformed},
	} {
		r := startReplica(t)
		requireRefused(t, r, rawOf(t, r, "a", tt.versions, "token"), tt.code, tt.cause)
	}
	r := startReplica(t)
	stream := rawOf(t, r, "a", protocolRange(protocolMin, protocolMax+5), "token")
	say(t, stream, helloMessage())
	message, err := stream.Recv()
	require.NoError(t, err)
	require.EqualValues(t, protocolMax, message.GetWelcome().GetProtocol())
	require.Equal(t, "ccm-test", message.GetWelcome().GetSoftware())
}

// TestOlderTLSIsRefused: TLS 1.2 would do for gRPC, but not for us.
func TestOlderTLSIsRefused(t *testing.T) {
	r := startReplica(t)
	_, err := tls.Dial("tcp", r.address, &tls.Config{InsecureSkipVerify: true, MaxVersion: tls.VersionTLS12, NextProtos: []string{"h2"}})
	require.ErrorContains(t, err, "protocol version")
}

func TestServerRefusesUnusableTLS(t *testing.T) {
	for _, config := range []*tls.Config{nil, {GetConfigForClient: func(*tls.ClientHelloInfo) (*tls.Config, error) { return nil, nil }}} {
		l := newMemoryListener()
		require.ErrorContains(t, NewServer(ServerOptions{}).Run(t.Context(), l, config), "TLS config")
		_, err := l.Accept()
		require.Error(t, err, "the listener is closed")
	}
}

// TestFault_K1_6_NodesHaveSlotsOfTheirOwn: neither strangers that hold all their slots keep a
// node waiting, nor one that names other nodes from the address that a node shares with it.
func TestFault_K1_6_NodesHaveSlotsOfTheirOwn(t *testing.T) {
	const total, perSource = 8, 2
	p := newAdmissionLimiter(total, perSource)
	shared, stranger := netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("203.0.113.1")
	now, cancel := context.WithCancel(t.Context())
	cancel() // nobody waits
	for range 10 * total {
		for range perSource {
			_, _ = p.enterSlot(now, "", stranger)
		}
		stranger = stranger.Next()
	}
	require.Len(t, p.strangers, total)
	require.Equal(t, total, p.len(), "who was refused is forgotten")

	leaveBad, err := p.enterSlot(t.Context(), "bad", shared)
	require.NoError(t, err)
	leaveBad2, err := p.enterSlot(t.Context(), "bad", shared)
	require.NoError(t, err)
	_, err = p.enterSlot(t.Context(), "bad", shared)
	require.Equal(t, codes.ResourceExhausted, status.Code(err), "one node has two")
	admitted := make(chan func())
	go func() {
		leave, err := p.enterSlot(context.Background(), "good", shared)
		require.NoError(t, err)
		admitted <- leave
	}()
	eventually(t, func() bool { return p.len() == total+3 }, "the good node waits for a turn of its address")
	leaveBad()
	leave := <-admitted
	require.LessOrEqual(t, len(p.nodes), perSource, "one address has a part of the slots")
	other, err := p.enterSlot(t.Context(), "other", netip.MustParseAddr("2001:db8::1"))
	require.NoError(t, err)
	other()
	leave()
	leaveBad2()
	require.Empty(t, p.nodes)
	require.Equal(t, total, p.len())
}
