package control

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"net"
	"net/netip"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	pb "baremetal.cloud/ccm/pkg/announcer/control/controlpb"
)

// TestFault_K1_6_StreamsArePaced: a node that opens streams one after the other on one
// connection, and breaks the protocol each time, has few of them looked at, and so does a
// stranger that names no node. Others come in meanwhile.
func TestFault_K1_6_StreamsArePaced(t *testing.T) {
	const seconds = 30
	a := newAuthority(t)
	roots := x509.NewCertPool()
	require.True(t, roots.AppendCertsFromPEM(a.ca))
	synctest.Test(t, func(t *testing.T) {
		wire := newMemoryListener()
		server := NewServer(ServerOptions{
			Authenticator: authFunc(tokenNamesPod), Observer: newRecorder(), Nodes: nodesOf{"a": wire.from, "b": wire.from},
		})
		ctx, cancel := context.WithCancel(t.Context())
		var running sync.WaitGroup
		running.Go(func() { _ = server.Run(ctx, wire, &tls.Config{Certificates: []tls.Certificate{a.server}}) })
		conn, err := grpc.NewClient("passthrough:///replica", grpc.WithNoProxy(),
			grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return wire.dial(ctx, "") }),
			grpc.WithTransportCredentials(credentials.NewTLS(&tls.Config{RootCAs: roots, ServerName: "baremetal-ccm"})))
		require.NoError(t, err)
		open := func(node string) codes.Code {
			ctx := metadata.AppendToOutgoingContext(ctx, nodeMetadata, node, protocolMetadata, protocolRange(protocolMin, protocolMax), "authorization", "Bearer pod")
			stream, err := pb.NewControlClient(conn).Connect(ctx)
			require.NoError(t, err)
			_ = stream.Send(&pb.FromNode{})
			for err == nil {
				_, err = stream.Recv()
			}
			return status.Code(err)
		}
		repeat := func(node string, bound int) {
			looked, all := 0, 0
			for began := time.Now(); time.Since(began) < seconds*time.Second; all++ {
				if open(node) != codes.ResourceExhausted {
					looked++
				}
				time.Sleep(time.Millisecond)
			}
			require.LessOrEqual(t, looked, bound, "%q", node)
			require.LessOrEqual(t, all, bound+seconds, "%q: one more is held for a while", node)
		}
		repeat("a", int(nodeStreamLimit().Burst+seconds*nodeStreamLimit().Rate)+1)
		require.Equal(t, codes.InvalidArgument, open("b"), "another node behind that address")
		require.NoError(t, conn.Close())
		cancel()
		wire.end()
		running.Wait()
	})

	p, now := newStreamLimiter(Limits{}.withDefaults().SourceRate), time.Unix(1000, 0)
	stranger, taken := netip.MustParseAddr("203.0.113.1"), 0
	for range 10_000 {
		if p.takeTurn("", stranger, now) {
			taken++
		}
	}
	require.EqualValues(t, Limits{}.withDefaults().SourceRate.Burst, taken)
	require.True(t, p.takeTurn("a", stranger, now))
}
