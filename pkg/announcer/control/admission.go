package control

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"strings"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/peer"

	"baremetal.cloud/ccm/pkg/announcer/announcement"
	pb "baremetal.cloud/ccm/pkg/announcer/control/controlpb"
)

// admission is the outcome of the first message of a stream.
type admission struct {
	node     string // as the peer names it; proven once identity is set
	identity Identity
	protocol uint32
	software string
	report   announcement.Report
}

// admit hears a new stream's Hello and decides whether it is taken. The order is from
// cheap to dear: nothing is read from a peer without a token, and the report is looked at
// only when the peer has proven who it is.
func (s *Server) admit(st *serverStream) (a admission, err error) {
	token, err := bearerToken(st.ctx)
	if err != nil {
		return a, err
	}
	ctx, cancel := context.WithTimeout(st.ctx, s.options.Limits.HelloTimeout)
	defer cancel()
	leave, err := s.pending.enter(ctx, st.remote)
	defer leave()
	if err != nil {
		return a, err
	}
	hello, err := st.receiveHello(ctx)
	if err != nil {
		return a, err
	}
	a.node, a.software = boundText(hello.GetNode(), maxName), boundText(hello.GetSoftware(), maxMessage)
	if a.protocol, err = negotiate(hello); err != nil {
		return a, err
	}
	if a.identity, err = s.authenticate(st, token, hello.GetNode()); err != nil {
		return a, err
	}
	a.report, err = helloReport(hello)
	return a, err
}

// bearerToken finds the token in the metadata (RFC 6750 section 2.1).
func bearerToken(ctx context.Context) (string, error) {
	md, _ := metadata.FromIncomingContext(ctx)
	if values := md.Get("authorization"); len(values) == 1 {
		scheme, token, _ := strings.Cut(values[0], " ")
		if strings.EqualFold(scheme, "Bearer") && token != "" {
			return token, nil
		}
	}
	return "", refuse(CauseToken, codes.PermissionDenied, errors.New("no bearer token in the metadata"))
}

func (st *serverStream) receiveHello(ctx context.Context) (*pb.Hello, error) {
	st.server.streams.Go(st.receive)
	select {
	case <-ctx.Done():
		if st.ctx.Err() != nil { // gRPC ended the stream; Recv says why
			return nil, noHello(<-st.ended)
		}
		return nil, refuse(CauseHelloTimeout, codes.InvalidArgument, errors.New("no Hello in time"))
	case err := <-st.ended:
		return nil, noHello(err)
	case message := <-st.incoming:
		hello := message.GetHello()
		if hello == nil {
			return nil, malformed(errors.New("the first message is not Hello"))
		}
		if err := checkName("node", hello.GetNode()); err != nil {
			return nil, malformed(fmt.Errorf("hello: %w", err))
		}
		return hello, nil
	}
}

func noHello(err error) error {
	if errors.Is(err, io.EOF) {
		return malformed(errors.New("the stream ended before Hello"))
	}
	return receiveError(err)
}

// negotiate picks the highest protocol version that both sides speak.
func negotiate(hello *pb.Hello) (uint32, error) {
	low, high := hello.GetProtocolMin(), hello.GetProtocolMax()
	if low == 0 || low > high {
		return 0, malformed(fmt.Errorf("hello: protocol versions %d to %d are no range", low, high))
	}
	if low > protocolMax || high < protocolMin {
		return 0, refuse(CauseProtocol, codes.FailedPrecondition, fmt.Errorf(
			"this replica speaks protocol versions %d to %d and the announcer %d to %d; bring the older of the two within one release of the other",
			protocolMin, protocolMax, low, high))
	}
	return min(high, protocolMax), nil
}

func (s *Server) authenticate(st *serverStream, token, node string) (Identity, error) {
	ctx, cancel := context.WithTimeout(st.ctx, s.options.Limits.AuthenticateTimeout)
	defer cancel()
	identity, err := s.options.Authenticator.Authenticate(ctx, token, node, st.remote)
	if err != nil {
		if gone := st.ctx.Err(); gone != nil {
			return Identity{}, gone
		}
		return Identity{}, refuseAuthentication(err)
	}
	if identity.Node != node {
		return Identity{}, refuse(CauseNodeMismatch, codes.PermissionDenied,
			fmt.Errorf("the token belongs to node %q, not to %q", identity.Node, node))
	}
	return identity, nil
}

func helloReport(hello *pb.Hello) (announcement.Report, error) {
	if !hello.GetReport().GetSnapshot() {
		return announcement.Report{}, malformed(errors.New("hello: the whole report is missing"))
	}
	report, err := applyReport(announcement.Report{}, hello.GetReport())
	if err != nil {
		return announcement.Report{}, malformed(fmt.Errorf("hello: %w", err))
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
	tcp, ok := p.Addr.(*net.TCPAddr)
	if !ok {
		return netip.Addr{}
	}
	return tcp.AddrPort().Addr().Unmap().WithZone("")
}
