package control

import (
	"cmp"
	"time"

	"baremetal.cloud/ccm/internal/ratelimit"
	"baremetal.cloud/ccm/pkg/announcer/plan"
)

// Protocol versions that this build speaks. A change that an older peer could not
// understand raises protocolMax; protocolMin follows one release later, so that
// releases N and N±1 always share a version.
const (
	protocolMin = 2
	protocolMax = 2
)

// Bounds on what a peer may make us hold. They are far above what a cluster needs, and
// low enough that one peer cannot exhaust the memory of the process.
const (
	// maxAssignments bounds the addresses of one plan, and so the claims of one node: two
	// families of the 10 000 Services that Kubernetes supports, and half as many again.
	maxAssignments = 1 << 15
	// maxCandidates bounds an address's candidate list; a plan has an owner and two backups.
	maxCandidates = 16
	// maxPeers bounds the peers of one node, and so those that it may find down; a plan has
	// at most 64, and while nodes are deleted some more.
	maxPeers = 1 << 7
	// maxNodeAddresses bounds the addresses at which one peer is looked for first; a leader
	// sends at most loadbalancer's own, lower number.
	maxNodeAddresses = 1 << 4
	// maxBGPPeers bounds a node's sessions to routers, and maxAdvertisements how its prefixes
	// may be announced; the routes of a node are bounded by maxAssignments.
	maxBGPPeers       = 1 << 8
	maxAdvertisements = 1 << 10
	// maxCommunities bounds the communities of each kind of one advertisement: all have to fit
	// into one message of 4096 bytes (RFC 4271 section 4).
	maxCommunities = 64
	// maxTransmitInterval and maxDetectMultiplier bound how rarely peers hear each other;
	// the cloud-config has narrower bounds.
	maxTransmitInterval = time.Minute
	maxDetectMultiplier = 255
	// minBFDInterval and maxBFDInterval bound how often BFD packets go out and come in; the
	// cloud-config has narrower bounds.
	minBFDInterval = 10 * time.Millisecond
	maxBFDInterval = time.Hour
	// maxURL and maxUnhealthyAfter bound what a plan says of health.
	maxURL            = 512
	maxUnhealthyAfter = 24 * time.Hour
	// maxProbes bounds what one node asks its network for, and maxProbeInterval how rarely.
	maxProbes        = 1 << 12
	maxProbeInterval = 24 * time.Hour
	// maxFindings bounds the machines that one node found; the sender leaves out what exceeds
	// it.
	maxFindings = 1 << 10
	// maxName bounds the names of nodes and BGP peers (DNS subdomain, RFC 1123 section 2.1), cluster
	// UIDs and interface selectors.
	maxName = 253
	// maxAdvertisementName bounds the name of an advertisement: that of its pool, which is as long as
	// maxName, a slash and a number.
	maxAdvertisementName = maxName + 11
	// maxProblems bounds the problems of one report; the sender leaves out what exceeds it.
	maxProblems = 1 << 11
	// maxReason bounds the name of a Reason, which becomes a metric label.
	maxReason = 64
	// maxMessage bounds a sentence for a person, in bytes; the sender cuts what exceeds it.
	maxMessage = 256
	// maxInterfaces and maxPrefixes bound what a node reports of its interfaces, and of each;
	// the sender leaves out what exceeds them. Those of a machine that carries addresses are
	// few: the virtual ones of containers are not reported.
	maxInterfaces = plan.MaxInterfaces
	maxPrefixes   = plan.MaxPrefixes
	// maxInterfaceName is IFNAMSIZ without the zero byte (Linux if.h), maxMAC the text of an
	// address of 20 bytes, InfiniBand's.
	maxInterfaceName = 15
	maxMAC           = 59
	// maxSoftware bounds what a peer says of its version.
	maxSoftware = 128
	// maxPlanBytes is the largest message that the announcer takes.
	maxPlanBytes = 16 << 20
	// maxReportBytes is the largest message that a replica takes, and only from a peer that has
	// proven its identity.
	maxReportBytes = 4 << 20
)

// Bounds on a connection at a replica.
const (
	// handshakeTimeout is for TLS.
	handshakeTimeout = 10 * time.Second
	// maxStreams bounds the streams of one connection; an announcer needs one.
	maxStreams = 2
	// maxMetadata bounds what a stream brings before its first message: a token of a few KiB.
	maxMetadata = 12 << 10
	// maxIdle is how long a connection without a stream lasts.
	maxIdle = 30 * time.Second
	// maxAge is when the announcer is asked to open another connection, a tenth more or less;
	// it closes this one after that.
	maxAge = time.Hour
)

// reportLimit is how often an announcer reports: what changes meanwhile is in the next one.
func reportLimit() ratelimit.Limit { return ratelimit.Limit{Rate: 10, Burst: 20} }

// nodeStreamLimit is how often streams in the name of one Node begin, from an address of its
// own: an announcer that is refused tries again less often. One more is held for streamPause
// before it is refused, so that a peer that tries again at once does not come sooner.
func nodeStreamLimit() ratelimit.Limit { return ratelimit.Limit{Rate: 1, Burst: 16} }

const streamPause = time.Second

// messageLimit and byteLimit are how much of one stream a replica reads; they are above
// what an announcer of this build sends.
func messageLimit() ratelimit.Limit { return ratelimit.Limit{Rate: 15, Burst: 60} }
func byteLimit() ratelimit.Limit {
	return ratelimit.Limit{Rate: 1 << 20, Burst: 2 * maxReportBytes}
}

// A peer that died without a word is noticed within keepaliveTime + keepaliveTimeout by
// both sides. gRPC clients do not ping more often than every 10 s. A replica tolerates
// pings twice as frequent before it calls them abuse.
const (
	keepaliveTime    = 10 * time.Second
	keepaliveTimeout = 4 * time.Second
	keepaliveMinTime = keepaliveTime / 2
)

// streamWindow is the HTTP/2 flow control window of a stream: what may lie in buffers
// for a peer that does not read. 64 KiB fills a LAN at any round trip found there.
const streamWindow = 64 << 10

// readBuffer is what each end of a connection reads into. gRPC's own default of 32 KiB would
// be the largest part of what a connection costs a replica with a thousand of them, and it
// saves no system call: TLS reads whole records into a buffer of its own.
const readBuffer = 4 << 10

// Limits bounds what streams may cost a Server before they are authenticated. A zero
// field means its default.
type Limits struct {
	// HelloTimeout is how long a new stream may take to say Hello, the wait for its turn
	// included. Default 10 s.
	HelloTimeout time.Duration
	// AuthenticateTimeout is how long the Authenticator may take. Default 10 s.
	AuthenticateTimeout time.Duration
	// Pending is how many streams may be between their start and their admission: those that
	// come from an address of the Node that they name, and as many others. Further ones wait.
	// Default 32.
	Pending int
	// PendingPerSource is the same for one source address, so that one machine cannot use up
	// Pending. Further ones of Nodes wait, others are refused. Default 8.
	PendingPerSource int
	// Strangers is how many connections may be without an admitted stream, of addresses that
	// are no Node's, and StrangersPerSource how many of one address. Defaults 1024 and 256.
	Strangers, StrangersPerSource int
	// SourceRate is how often one address may connect, and StrangerRate how often all may
	// together that are no Node's. A large cluster, half of it behind one address, has to be
	// in at a replica that has just started before a leader goes on without it. Defaults 20
	// and 60 a second, 256 and 1024 at once.
	SourceRate, StrangerRate ratelimit.Limit
	// ReviewEvery is how long after its last review a token is reviewed again, at most, while
	// its stream lives. Default 5 min.
	ReviewEvery time.Duration
}

func (l Limits) withDefaults() Limits {
	return Limits{
		HelloTimeout:        cmp.Or(l.HelloTimeout, 10*time.Second),
		AuthenticateTimeout: cmp.Or(l.AuthenticateTimeout, 10*time.Second),
		Pending:             cmp.Or(l.Pending, 32),
		PendingPerSource:    cmp.Or(l.PendingPerSource, 8),
		Strangers:           cmp.Or(l.Strangers, 1024),
		StrangersPerSource:  cmp.Or(l.StrangersPerSource, 256),
		SourceRate:          cmp.Or(l.SourceRate, ratelimit.Limit{Rate: 20, Burst: 256}),
		StrangerRate:        cmp.Or(l.StrangerRate, ratelimit.Limit{Rate: 60, Burst: 1024}),
		ReviewEvery:         cmp.Or(l.ReviewEvery, 5*time.Minute),
	}
}
