package control

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"sync"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/keepalive"

	pb "baremetal.cloud/ccm/pkg/announcer/control/controlpb"
	"baremetal.cloud/ccm/pkg/announcer/plan"
)

// errTooManyConnections is why a connection is closed before it says anything.
var errTooManyConnections = errors.New("too many connections from there await admission, or come too fast")

// ServerOptions are what a Server needs.
type ServerOptions struct {
	// Authenticator decides which peer may speak for a node. Required.
	Authenticator Authenticator
	// Observer hears what nodes say. Required.
	Observer Observer
	// Nodes knows the addresses of Nodes; nil knows none. What comes from them is bounded
	// apart from what strangers send.
	Nodes Nodes
	// Fence, if not nil, is asked right before each plan leaves. While it gives an error
	// no plan leaves; call Publish when that changes. It must not block.
	Fence func() error
	// Logger takes connects, disconnects and refusals; nil discards them.
	Logger *slog.Logger
	// Software is this build's version, for people.
	Software string
	// Limits bounds what strangers may cost; the zero value means defaults.
	Limits Limits
}

// Server is the half of the control channel that runs in every replica of the
// cloud-controller-manager, leading or not. Its methods may be called from any goroutine.
type Server struct {
	options     ServerOptions
	log         *slog.Logger
	replica     string // identifies this process to announcers, see Welcome
	plans       *planStore
	streamRates *streamLimiter
	admissions  *admissionLimiter
	strangers   *strangers
	registry    *registry
	tally       *tally
	refusals    *refusalLog
	streams     sync.WaitGroup // goroutines of streams
}

// NewServer returns a Server that says nothing until Publish.
func NewServer(options ServerOptions) *Server {
	options.Limits = options.Limits.withDefaults()
	if options.Logger == nil {
		options.Logger = slog.New(slog.DiscardHandler)
	}
	if options.Nodes == nil {
		options.Nodes = noNodes{}
	}
	s := &Server{
		options:     options,
		log:         options.Logger,
		replica:     rand.Text(),
		plans:       newPlanStore(),
		streamRates: newStreamLimiter(options.Limits.SourceRate),
		admissions:  newAdmissionLimiter(options.Limits.Pending, options.Limits.PendingPerSource),
		registry:    newRegistry(options.Observer),
		tally:       newTally(),
		refusals:    newRefusalLog(options.Logger),
	}
	s.strangers = newStrangers(options.Limits, options.Nodes, s.refuseConnection)
	return s
}

// refuseConnection counts and logs a connection that was not served.
func (s *Server) refuseConnection(remote netip.Addr) {
	s.tally.addCount(func(c *Counters) { c.Refused[CauseBusy]++ })
	s.refusals.logRefusal(newRefusal(CauseBusy, codes.ResourceExhausted, errTooManyConnections), "", remote)
}

// Publish replaces the plans that nodes get: the whole plan of each node. The newest call wins;
// it never waits for a node. A node that is not in plans, or has a zero plan there, gets nothing
// new, and neither does one with a plan of the version that it got last. A nil map makes this
// replica a standby: streams that come later get nothing, earlier ones keep what they have.
//
// The map and the sets in it must not be changed afterwards, and the announcements of
// each must be sorted.
func (s *Server) Publish(plans map[string]plan.NodePlan) { s.plans.putPlans(plans) }

// Counters returns a copy of what was counted so far and of what is there now.
func (s *Server) Counters() Counters {
	counters := s.tally.readCounters()
	counters.Pending = s.admissions.len()
	counters.Silent, counters.Planned = s.registry.countStates()
	return counters
}

// Run serves streams that are accepted from l, over TLS 1.3 only, until ctx is done. It
// then ends them, closes l and returns nil after the last call to the Observer. Call it once.
// tlsConfig needs a certificate for the name that announcers expect and must not set
// GetConfigForClient, which could lower the version.
func (s *Server) Run(ctx context.Context, l net.Listener, tlsConfig *tls.Config) error {
	if tlsConfig == nil || tlsConfig.GetConfigForClient != nil {
		return errors.Join(errors.New("control server: a TLS config without GetConfigForClient is needed"), l.Close())
	}
	tlsConfig = tlsConfig.Clone()
	tlsConfig.MinVersion = tls.VersionTLS13
	server := grpc.NewServer(append(serverOptions(), grpc.Creds(credentials.NewTLS(tlsConfig)))...)
	pb.RegisterControlServer(server, service{server: s})

	stop := context.AfterFunc(ctx, server.Stop)
	err := server.Serve(listener{Listener: l, limiter: s.strangers}) // waits for handlers when it ends because of Stop
	if stop() {
		server.Stop()
	}
	s.streams.Wait()
	if ctx.Err() != nil {
		return nil
	}
	return fmt.Errorf("control server on %s: %w", l.Addr(), err)
}

func serverOptions() []grpc.ServerOption {
	return []grpc.ServerOption{
		grpc.WaitForHandlers(true),
		grpc.ConnectionTimeout(handshakeTimeout),
		grpc.MaxConcurrentStreams(maxStreams),
		grpc.MaxHeaderListSize(maxMetadata),
		grpc.MaxRecvMsgSize(maxReportBytes),
		grpc.StaticStreamWindowSize(streamWindow),
		grpc.StaticConnWindowSize(streamWindow),
		grpc.ReadBufferSize(readBuffer),
		grpc.KeepaliveParams(keepalive.ServerParameters{
			MaxConnectionIdle: maxIdle,
			MaxConnectionAge:  maxAge, // its streams go on: a node's may not be replaceable just now
			Time:              keepaliveTime,
			Timeout:           keepaliveTimeout,
		}),
		grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{
			MinTime:             keepaliveMinTime,
			PermitWithoutStream: true,
		}),
	}
}

// service keeps the gRPC method out of Server's API.
type service struct {
	pb.UnimplementedControlServer
	server *Server
}

// Connect serves one announcer until either side ends the stream.
func (s service) Connect(rpc pb.Control_ConnectServer) error { return s.server.serveStream(rpc) }
