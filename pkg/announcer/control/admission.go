package control

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"strconv"
	"strings"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/peer"

	pb "baremetal.cloud/ccm/pkg/announcer/control/controlpb"
	"baremetal.cloud/ccm/pkg/announcer/plan"
)

// Metadata of a stream, beside "authorization".
const (
	nodeMetadata     = "baremetal-node"
	protocolMetadata = "baremetal-protocol"
)

// admission is the outcome of the metadata and the first message of a stream.
type admission struct {
	node     string // as the peer names it; proven once identity is set
	token    string
	identity Identity
	protocol uint32
	software string
	report   plan.Report
}

// admitStream decides by its metadata whether a new stream is taken, and hears its Hello. The
// order is from cheap to dear. No message is read from a peer that has not proven its identity:
// until then a stream costs no more than its metadata and its flow control window.
func (s *Server) admitStream(st *serverStream) (a admission, err error) {
	known := s.knownNode(st)
	if err := s.streamRates.enterStream(st.ctx, known, st.remote); err != nil {
		return a, err
	}
	if a.node, a.token, a.protocol, err = readMetadata(st.ctx); err != nil {
		return a, err
	}
	ctx, cancel := context.WithTimeout(st.ctx, s.options.Limits.HelloTimeout)
	defer cancel()
	leave, err := s.admissions.enterSlot(ctx, known, st.remote)
	defer leave()
	if err != nil {
		return a, err
	}
	if a.identity, err = s.authenticateNode(st, a.token, a.node, s.options.Authenticator.Authenticate); err != nil {
		return a, err
	}
	s.strangers.admitConnection(st.ctx)
	ctx, cancel = context.WithTimeout(st.ctx, s.options.Limits.HelloTimeout)
	defer cancel()
	hello, err := st.receiveHello(ctx)
	if err != nil {
		return a, err
	}
	a.software = boundText(hello.GetSoftware(), maxSoftware)
	a.report, err = helloReport(hello)
	return a, err
}

// knownNode returns the node that a stream names, if it comes from an address of that Node,
// else "".
func (s *Server) knownNode(st *serverStream) string {
	md, _ := metadata.FromIncomingContext(st.ctx)
	if values := md.Get(nodeMetadata); len(values) == 1 && s.options.Nodes.Owns(values[0], st.remote) {
		return values[0]
	}
	return ""
}

// readMetadata returns what a stream says of itself before its first message.
func readMetadata(ctx context.Context) (node, token string, protocol uint32, err error) {
	md, _ := metadata.FromIncomingContext(ctx)
	if token, err = bearerToken(md); err != nil {
		return "", "", 0, err
	}
	if values := md.Get(nodeMetadata); len(values) == 1 {
		node = values[0]
	}
	if err := checkName("metadata: node", node); err != nil {
		return "", "", 0, malformedRefusal(err)
	}
	protocol, err = negotiateProtocol(strings.Join(md.Get(protocolMetadata), ","))
	return node, token, protocol, err
}

// bearerToken finds the token in the metadata (RFC 6750 section 2.1).
func bearerToken(md metadata.MD) (string, error) {
	if values := md.Get("authorization"); len(values) == 1 {
		scheme, token, _ := strings.Cut(values[0], " ")
		if strings.EqualFold(scheme, "Bearer") && token != "" {
			return token, nil
		}
	}
	return "", newRefusal(CauseToken, codes.PermissionDenied, errors.New("no bearer token in the metadata"))
}

func (st *serverStream) receiveHello(ctx context.Context) (*pb.Hello, error) {
	st.server.streams.Go(st.receiveMessages)
	select {
	case <-ctx.Done():
		if st.ctx.Err() != nil { // gRPC ended the stream; Recv says why
			return nil, noHello(<-st.ended)
		}
		return nil, newRefusal(CauseHelloTimeout, codes.InvalidArgument, errors.New("no Hello in time"))
	case err := <-st.ended:
		return nil, noHello(err)
	case message := <-st.incoming:
		hello := message.GetHello()
		if hello == nil {
			return nil, malformedRefusal(errors.New("the first message is not Hello"))
		}
		return hello, nil
	}
}

func noHello(err error) error {
	if errors.Is(err, io.EOF) {
		return malformedRefusal(errors.New("the stream ended before Hello"))
	}
	return receiveError(err)
}

// protocolRange is the value of protocolMetadata.
func protocolRange(low, high uint32) string { return fmt.Sprintf("%d-%d", low, high) }

// negotiateProtocol picks the highest protocol version that both sides speak.
func negotiateProtocol(text string) (uint32, error) {
	first, last, _ := strings.Cut(text, "-")
	low, err1 := strconv.ParseUint(first, 10, 16)
	high, err2 := strconv.ParseUint(last, 10, 16)
	if err1 != nil || err2 != nil || low == 0 || low > high {
		return 0, malformedRefusal(fmt.Errorf("metadata: protocol versions %q are no range", boundText(text, maxReason)))
	}
	if low > protocolMax || high < protocolMin {
		return 0, newRefusal(CauseProtocol, codes.FailedPrecondition, fmt.Errorf(
			"this replica speaks protocol versions %d to %d and the announcer %d to %d; bring the older of the two within one release of the other",
			protocolMin, protocolMax, low, high))
	}
	return uint32(min(high, protocolMax)), nil
}

// askFunc is one of an Authenticator's methods.
type askFunc = func(ctx context.Context, token, node string, remote netip.Addr) (Identity, error)

// authenticateNode asks an Authenticator's method and gives its answer as a refusal.
func (s *Server) authenticateNode(st *serverStream, token, node string, ask askFunc) (Identity, error) {
	ctx, cancel := context.WithTimeoutCause(st.ctx, s.options.Limits.AuthenticateTimeout, ErrNoAnswer)
	defer cancel()
	identity, err := ask(ctx, token, node, st.remote)
	if err != nil {
		if gone := st.ctx.Err(); gone != nil {
			return Identity{}, gone
		}
		return Identity{}, refuseAuthentication(err)
	}
	if identity.Node != node {
		return Identity{}, newRefusal(CauseNodeMismatch, codes.PermissionDenied,
			fmt.Errorf("the token belongs to node %q, not to %q", identity.Node, node))
	}
	return identity, nil
}

func helloReport(hello *pb.Hello) (plan.Report, error) {
	if !hello.GetReport().GetSnapshot() {
		return plan.Report{}, malformedRefusal(errors.New("hello: the whole report is missing"))
	}
	report, err := applyReport(plan.Report{}, hello.GetReport())
	if err != nil {
		return plan.Report{}, malformedRefusal(fmt.Errorf("hello: %w", err))
	}
	return report, nil
}

// remoteAddress is the address that the stream comes from, as Nodes write it: an IPv4
// address is one even where the socket is IPv6, and there is no zone.
func remoteAddress(ctx context.Context) netip.Addr {
	p, ok := peer.FromContext(ctx)
	if !ok {
		return netip.Addr{}
	}
	return remotePort(p.Addr).Addr()
}
