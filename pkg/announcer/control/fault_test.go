package control

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc/codes"

	"baremetal.cloud/ccm/internal/testlog"
	pb "baremetal.cloud/ccm/pkg/announcer/control/controlpb"
	"baremetal.cloud/ccm/pkg/announcer/internal/lograte"
	"baremetal.cloud/ccm/pkg/announcer/plan"
)

// TestFault_K1_6_StrangersMessagesAreNotRead: who has not proven who it is makes a replica
// hold its metadata and a window of its message, however large that is.
func TestFault_K1_6_StrangersMessagesAreNotRead(t *testing.T) {
	asked := make(chan struct{})
	var once sync.Once
	r := startReplica(t, withAuth(func(ctx context.Context, _, _ string, _ netip.Addr) (Identity, error) {
		once.Do(func() { close(asked) })
		<-ctx.Done() // the review takes as long as it may
		return Identity{}, &DeniedError{Cause: CauseToken, Message: "forged"}
	}), withServer(func(o *ServerOptions) { o.Limits.AuthenticateTimeout = time.Second }))
	huge := helloMessage()
	for i := range 1 << 16 {
		address := netip.AddrFrom4([4]byte{10, 0, byte(i >> 8), byte(i)})
		huge.GetHello().Report.Claims = append(huge.GetHello().Report.Claims, &pb.Claim{Address: address.AsSlice()})
	}
	huge.GetHello().Software = strings.Repeat("x", maxReportBytes/2)
	before := heap()
	const count = 8
	streams := make([]pb.Control_ConnectClient, count)
	for i := range streams {
		streams[i] = raw(t, r, "forged")
		go func() { _ = streams[i].Send(huge) }() // blocks on the window until the stream ends
	}
	<-asked
	require.Zero(t, r.Counters().ReportBytes, "nothing was read")
	for _, stream := range streams {
		requireRefused(t, r, stream, codes.PermissionDenied, CauseToken)
	}
	require.Zero(t, r.Counters().ReportBytes, "nothing was read")
	runtime.KeepAlive(huge)
	require.Less(t, heap()-before, int64(count*(maxReportBytes)), "the senders' buffers are in this process too")
}

// TestFault_K1_6_ConnectionsOfStrangers: one address cannot fill the replica with
// connections, nor all strangers together, and a node that had a stream comes back.
func TestFault_K1_6_ConnectionsOfStrangers(t *testing.T) {
	limits := Limits{Strangers: 8, StrangersPerSource: 4}.withDefaults()
	var refused atomic.Int32
	door := newStrangers(limits, nodesOf{"node9": netip.MustParseAddr("192.0.2.9")}, func(netip.Addr) { refused.Add(1) })
	now := time.Unix(1000, 0)
	connect := func(address string, port int) *connection {
		ours, theirs := net.Pipe()
		t.Cleanup(func() { ours.Close(); theirs.Close() })
		c := door.enterConnection(ours, netip.AddrPortFrom(netip.MustParseAddr(address), uint16(port)), now)
		if c != nil {
			t.Cleanup(func() { c.Close() })
		}
		return c
	}
	var first []*connection
	for port := range 10 {
		if c := connect("192.0.2.1", port); c != nil {
			first = append(first, c)
		}
	}
	require.Len(t, first, 4)
	for port := range 10 {
		connect("2001:db8::1", port)
	}
	require.Equal(t, 8, door.len())
	require.Nil(t, connect("192.0.2.3", 1), "all strangers together")

	for port := range 4 {
		require.NotNil(t, connect("192.0.2.9", port), "strangers do not keep out a node")
	}
	require.Nil(t, connect("192.0.2.9", 4), "one address, even of a node")
	require.NoError(t, first[0].Close())
	require.NotNil(t, connect("192.0.2.3", 1), "a place that was left is free")

	// Fast ones are refused although each is gone at once.
	fast := newStrangers(Limits{}.withDefaults(), noNodes{}, func(netip.Addr) {})
	taken := 0
	for i := range 10_000 {
		ours, _ := net.Pipe()
		if c := fast.enterConnection(ours, netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 0, byte(i >> 8), byte(i)}), 1), now); c != nil {
			taken++
			require.NoError(t, c.Close())
		}
	}
	require.EqualValues(t, Limits{}.withDefaults().StrangerRate.Burst, taken)
	require.LessOrEqual(t, fast.strangerRates.Len(), maxSources)
}

// TestFault_K1_6_SilentConnectionsEnd: a connection that never has an admitted stream ends.
func TestFault_K1_6_SilentConnectionsEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		door := newStrangers(Limits{}.withDefaults(), noNodes{}, func(netip.Addr) {})
		ours, theirs := net.Pipe()
		c := door.enterConnection(ours, netip.MustParseAddrPort("192.0.2.1:1"), time.Now())
		require.NotNil(t, c)
		began := time.Now()
		_, err := theirs.Read(make([]byte, 1))
		require.Error(t, err)
		require.Equal(t, door.patience, time.Since(began))
		require.NoError(t, c.Close())
		require.Zero(t, door.len())
	})
}

// TestFault_K1_6_StreamsSurviveTheirConnection: when the replica asks for a new connection,
// and when the token or the CA has changed, the next stream is there before this one ends:
// the node is never without, no plan is missed, and no move could follow.
func TestFault_K1_6_StreamsSurviveTheirConnection(t *testing.T) {
	b := newBubbleFiles(t)
	synctest.Test(t, func(t *testing.T) {
		r := b.start(t)
		for revision := uint64(1); revision <= 4; revision++ {
			r.server.Publish(plans{"a": set(1, revision, "192.0.2.1")})
			time.Sleep(maxAge + maxAge/5) // an age is at most a tenth more
			synctest.Wait()
			require.Equal(t, revision, r.held.Load())
		}
		require.GreaterOrEqual(t, int(r.server.Counters().Superseded), 3)
		require.Zero(t, r.seen.count("a", "disconnected"), "%v", r.seen.history("a"))
		require.EqualValues(t, 1, r.ups.Load(), "the announcer saw one stream")

		replaced := r.server.Counters().Superseded
		b.write(t, "token", "pod-a/2")
		time.Sleep(2 * renewCheck)
		synctest.Wait()
		require.Equal(t, replaced+1, r.server.Counters().Superseded, "a new token is presented")
		require.Zero(t, r.seen.count("a", "disconnected"))
		r.end()
	})
}

// TestFault_K1_6_ReportsArePaced: an announcer whose state changes a thousand times a second
// sends few reports, and the last one always.
func TestFault_K1_6_ReportsArePaced(t *testing.T) {
	b := newBubbleFiles(t)
	synctest.Test(t, func(t *testing.T) {
		r := b.start(t)
		const seconds = 20
		for i := range 1000 * seconds {
			r.client.SetReport(plan.Report{Plan: plan.Version{Term: 1, Revision: uint64(i)}})
			time.Sleep(time.Millisecond)
		}
		time.Sleep(time.Second)
		synctest.Wait()
		require.EqualValues(t, 1000*seconds-1, r.seen.last("a").Plan.Revision)
		require.LessOrEqual(t, r.server.Counters().Reports, uint64(reportLimit().Burst+(seconds+1)*reportLimit().Rate)+1)
		r.end()
	})
}

// TestFault_K4_3_ImpostorsStreamEnds: once the CA of a stolen key is replaced, no stream to
// its holder goes on, without any restart.
func TestFault_K4_3_ImpostorsStreamEnds(t *testing.T) {
	b := newBubbleFiles(t)
	another := newAuthority(t)
	synctest.Test(t, func(t *testing.T) {
		r := b.start(t)
		b.write(t, "ca.crt", string(another.ca))
		time.Sleep(2 * renewCheck)
		synctest.Wait()
		require.Equal(t, 1, r.seen.count("a", "disconnected"))
		require.Zero(t, r.server.Counters().Silent+r.server.Counters().Planned)
		b.write(t, "ca.crt", string(another.ca)+string(b.authority.ca)) // a rotation under way
		time.Sleep(time.Minute)
		synctest.Wait()
		require.Equal(t, 1, r.server.Counters().Silent)
		b.write(t, "ca.crt", string(b.authority.ca))
		time.Sleep(2 * renewCheck)
		synctest.Wait()
		require.Equal(t, 1, r.seen.count("a", "disconnected"), "a replica that is still vouched for keeps its stream")
		r.end()
	})
}

// TestFault_K4_3_PlansNameTheirVoucher: with each plan comes the authority that vouched for
// its speaker, by key, and all that are trusted; the disk keeps the first.
func TestFault_K4_3_PlansNameTheirVoucher(t *testing.T) {
	another := newAuthority(t)
	got := make(chan plan.NodePlan, 1)
	r := startReplica(t)
	startNode(t, "a", r, func(n *node, o *ClientOptions) {
		n.write(t, "ca.crt", string(another.ca)+string(r.authority.ca))
		o.OnPlan = func(_ string, s plan.NodePlan) { got <- s }
	})
	r.Publish(plans{"a": set(1, 1, "192.0.2.1")})
	nodePlan := <-got
	require.Len(t, nodePlan.Voucher.Trusted, 2)
	require.Equal(t, nodePlan.Voucher.Trusted[1], nodePlan.Voucher.Authority)
	require.NotEqual(t, nodePlan.Voucher.Trusted[0], nodePlan.Voucher.Authority)

	data, err := EncodePersistedPlan(PersistedPlan{Node: "a", Plan: nodePlan})
	require.NoError(t, err)
	kept, err := DecodePersistedPlan(data)
	require.NoError(t, err)
	require.Equal(t, nodePlan.Voucher.Authority, kept.Plan.Voucher.Authority)
}

// TestFault_K4_5_TokenIsReviewedAgain: a stream outlives its Pod by ReviewEvery at most,
// and reviews without an answer end nothing.
func TestFault_K4_5_TokenIsReviewedAgain(t *testing.T) {
	b := newBubbleFiles(t)
	synctest.Test(t, func(t *testing.T) {
		var decision atomic.Pointer[error]
		var reviews atomic.Int32
		b.review = func() error {
			reviews.Add(1)
			if err := decision.Load(); err != nil {
				return *err
			}
			return nil
		}
		r := b.start(t)
		every := Limits{}.withDefaults().ReviewEvery
		require.Equal(t, 5*time.Minute, every)
		time.Sleep(10 * every)
		require.InDelta(t, 11, int(reviews.Load()), 2)

		lost := errors.New("the API server does not answer")
		decision.Store(&lost)
		time.Sleep(10 * every)
		require.Zero(t, r.seen.count("a", "disconnected"), "no answer ends nothing")

		decision.Store(nil)
		time.Sleep(every)
		gone := error(&DeniedError{Cause: CauseToken, Message: "the Pod is gone"})
		decision.Store(&gone)
		b.deny.Store(true)
		time.Sleep(every)
		synctest.Wait()
		require.Equal(t, 1, r.seen.count("a", "disconnected"))
		require.GreaterOrEqual(t, r.server.Counters().Refused[CauseToken], uint64(1))
		r.end()
	})
}

// TestFault_K4_5_ReviewsAreSpread: streams that began together are not reviewed together,
// none later than every, and one that a cache admitted is reviewed as if it had been asked.
func TestFault_K4_5_ReviewsAreSpread(t *testing.T) {
	every := 5 * time.Minute
	require.Equal(t, 4*time.Minute, reviewPause(every, 0, 0, false))
	require.Less(t, reviewPause(every, 0, 0.999, false), every)
	require.Equal(t, time.Minute, reviewPause(every, 3*time.Minute, 0, false))
	require.Zero(t, reviewPause(every, time.Hour, 0.5, false))
	require.LessOrEqual(t, reviewPause(every, time.Hour, 0.999, true), every/5)
}

// TestFault_K1_7_RefusalsLogIsBounded: a stranger with ten thousand addresses and causes is
// worth 60 lines a minute, none of which repeats much of what it said.
func TestFault_K1_7_RefusalsLogIsBounded(t *testing.T) {
	var log testlog.Log
	l := newRefusalLog(log.Logger())
	text, node := errors.New(strings.Repeat("x", 10_000)), strings.Repeat("n", 200_000)
	for i := range 10_000 {
		remote := netip.AddrFrom4([4]byte{10, 0, byte(i >> 8), byte(i)})
		for _, cause := range []string{CauseToken, CauseBusy} {
			l.logRefusal(newRefusal(cause, codes.PermissionDenied, text), node, remote)
		}
	}
	require.LessOrEqual(t, log.Count("level=WARN"), lograte.Lines)
	require.Greater(t, log.Count("level=WARN"), lograte.Lines/2)
	require.Zero(t, log.Count(strings.Repeat("x", 300)))
	require.Zero(t, log.Count(strings.Repeat("n", 300)))
}

// TestFault_K1_2_InterfacesAreBounded at both ends: the announcer leaves out what matters
// least and says so, and a replica refuses more.
func TestFault_K1_2_InterfacesAreBounded(t *testing.T) {
	var r plan.Report
	for i := range 1000 {
		f := plan.Interface{Name: fmt.Sprintf("virt%d", i)}
		if i == 999 { // the last by name and the first by weight
			f = plan.Interface{Name: "zz-uplink", Destinations: []plan.Destination{{Prefix: netip.MustParsePrefix("0.0.0.0/0")}}}
			for p := range 500 {
				f.Prefixes = append(f.Prefixes, netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 0, byte(p >> 8), byte(p)}), 16))
			}
			f.Prefixes = append(f.Prefixes, netip.MustParsePrefix("fe80::1/64"), netip.MustParsePrefix("2001:db8::1/64"))
		}
		r.Interfaces = append(r.Interfaces, f)
	}
	normal, cut := sanitizeReport(r)
	require.Len(t, normal.Interfaces, maxInterfaces)
	uplink := normal.Interfaces[maxInterfaces-1]
	require.Equal(t, "zz-uplink", uplink.Name)
	require.Len(t, uplink.Prefixes, maxPrefixes)
	require.Contains(t, uplink.Prefixes, netip.MustParsePrefix("fe80::1/64"))
	require.Contains(t, uplink.Prefixes, netip.MustParsePrefix("2001:db8::1/64"))
	require.Equal(t, []string{"936 interfaces above 64, 470 prefixes above 32 of an interface"}, cut)
	_, err := applyReport(plan.Report{}, overTheWire(t, reportSnapshot(normal), &pb.Report{}))
	require.NoError(t, err)

	for name, interfaces := range map[string][]plan.Interface{
		"interfaces": r.Interfaces[:maxInterfaces+1], "prefixes": r.Interfaces[999:],
		"name": {{Name: strings.Repeat("n", maxInterfaceName+1)}}, "hardware address": {{Name: "a", MAC: strings.Repeat("0", maxMAC+1)}},
	} {
		_, err := applyReport(plan.Report{}, reportSnapshot(plan.Report{Interfaces: interfaces}))
		require.ErrorContains(t, err, name)
	}
}

// bubbleFiles are the files of a node, made outside of the bubble that time is faked in.
type bubbleFiles struct {
	*node
	authority authority
	review    func() error
	deny      atomic.Bool // new streams
}

func newBubbleFiles(t *testing.T) *bubbleFiles {
	t.Helper()
	b := &bubbleFiles{node: &node{dir: t.TempDir()}, authority: newAuthority(t)}
	b.write(t, "ca.crt", string(b.authority.ca))
	b.write(t, "token", "pod-a/1")
	return b
}

func (b *bubbleFiles) Authenticate(ctx context.Context, token, node string, remote netip.Addr) (Identity, error) {
	if b.deny.Load() {
		return Identity{}, &DeniedError{Cause: CauseToken, Message: "the Pod is gone"}
	}
	identity, err := tokenNamesPod(ctx, token, node, remote)
	identity.Reviewed = time.Now()
	return identity, err
}

func (b *bubbleFiles) Review(ctx context.Context, token, node string, remote netip.Addr) (Identity, error) {
	if b.review != nil {
		if err := b.review(); err != nil {
			return Identity{}, err
		}
	}
	return tokenNamesPod(ctx, token, node, remote)
}

// faultBubble is a replica with one node in a bubble of time.
type faultBubble struct {
	server *Server
	client *Client
	seen   *recorder
	held   atomic.Uint64 // the revision that the node has
	ups    atomic.Int32
	end    func()
}

func (b *bubbleFiles) start(t *testing.T) *faultBubble {
	t.Helper()
	r := &faultBubble{seen: newRecorder()}
	r.server = NewServer(ServerOptions{Authenticator: b, Observer: r.seen})
	wire := newMemoryListener()
	ctx, cancel := context.WithCancel(t.Context())
	var running sync.WaitGroup
	running.Go(func() {
		_ = r.server.Run(ctx, wire, &tls.Config{Certificates: []tls.Certificate{b.authority.server}})
	})
	c := NewClient(ClientOptions{
		Node: "a", Controllers: []string{"192.0.2.1:1"}, ServerName: "baremetal-ccm",
		CAFile: filepath.Join(b.dir, "ca.crt"), TokenFile: filepath.Join(b.dir, "token"),
		OnPlan: func(_ string, s plan.NodePlan) { r.held.Store(s.Version.Revision) },
		OnStream: func(_ string, up bool) {
			if up {
				r.ups.Add(1)
			}
		},
	})
	c.options.Dial = wire.dial
	c.SetReport(plan.Report{})
	r.client = c
	running.Go(func() { _ = c.Run(ctx) })
	r.end = func() {
		cancel()
		wire.end()
		running.Wait()
		require.Empty(t, r.seen.faults)
	}
	synctest.Wait()
	return r
}

// count is how often an event of a node was seen.
func (r *recorder) count(node, event string) (n int) {
	for _, e := range r.history(node) {
		if e == event {
			n++
		}
	}
	return n
}
