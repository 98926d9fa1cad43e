package main

import (
	"crypto/tls"
	"io"
	"net"
	"net/http/httptest"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"

	"baremetal.cloud/ccm/pkg/announcer/plan"
)

// record is a TLS record that carries that many bytes.
func record(carried int) []byte {
	size := carried + recordOverhead - recordHeader
	return append([]byte{applicationData, 3, 3, byte(size >> 8), byte(size)}, make([]byte, size)...)
}

// What is counted does not depend on how the connection cuts the records.
func TestRecordsCountKeepalivesApart(t *testing.T) {
	handshake := append([]byte{22, 3, 3, 0, pingFrame + recordOverhead - recordHeader}, make([]byte, pingFrame+recordOverhead-recordHeader)...)
	stream := slices.Concat(record(pingFrame), record(100), record(2*pingFrame), record(13), handshake, record(pingFrame))
	for _, size := range []int{1, 2, 7, 39, 40, len(stream)} {
		var r records
		all, pings := 0, 0
		for part := range slices.Chunk(stream, size) {
			a, p := r.feed(part)
			all, pings = all+a, pings+p
		}
		require.Equal(t, len(stream), all, "cut after every %d bytes", size)
		require.Equal(t, len(record(pingFrame))*2+len(record(2*pingFrame)), pings, "cut after every %d bytes", size)
	}
}

// A record has as many bytes more than it carries as crypto/tls really adds.
func TestRecordsOfTLS(t *testing.T) {
	server := httptest.NewTLSServer(nil)
	defer server.Close()
	here, there := net.Pipe()
	into := &received{}
	conn := tls.Client(&metered{Conn: here, into: into}, &tls.Config{InsecureSkipVerify: true, MinVersion: tls.VersionTLS13})
	var group errgroup.Group
	group.Go(func() error {
		conn := tls.Server(there, server.TLS)
		if err := conn.Handshake(); err != nil {
			return err
		}
		for _, n := range []int{pingFrame, 100, 2 * pingFrame} {
			if _, err := conn.Write(make([]byte, n)); err != nil {
				return err
			}
		}
		return nil
	})
	_, err := io.ReadFull(conn, make([]byte, 100+3*pingFrame))
	require.NoError(t, err)
	require.NoError(t, group.Wait())
	require.EqualValues(t, 2*recordOverhead+3*pingFrame, into.pings.Load())
	require.Greater(t, into.said(), int64(100))
}

func lists(revision uint64, of map[string][]string) plan.NodePlan {
	set := plan.NodePlan{Version: plan.Version{Term: 1, Revision: revision}}
	for address, candidates := range of {
		set.Assignments = set.Assignments.With(plan.Assignment{
			Address: netip.MustParseAddr(address), Version: set.Version, Candidates: candidates,
		})
	}
	return set
}

// The simulated announcers answer as the plans say, each address by one of them at a time.
func TestFleetLAN(t *testing.T) {
	lan, said := newFleetLAN(), map[string]plan.Report{}
	stations := map[string]*station{}
	for _, name := range []string{"a", "b", "c"} {
		stations[name] = lan.add(name, nil, func(r plan.Report) { said[name] = r })
	}
	x := netip.MustParseAddr("10.64.0.1")
	claims := func(name string) int { return said[name].Claims.Len() }

	lan.carryOut(stations["a"], lists(1, map[string][]string{"10.64.0.1": {"a", "c"}}), time.Second)
	lan.carryOut(stations["c"], lists(1, map[string][]string{"10.64.0.1": {"a", "c"}}), time.Second)
	require.Equal(t, []string{"a", "c"}, lan.candidates(x))
	require.Equal(t, plan.NewIndex(plan.Claim{Address: x, Version: plan.Version{Term: 1, Revision: 1}}), said["a"].Claims)
	require.Zero(t, claims("c"))

	// The new owner hears of it first or last: who hands over goes on until it claims.
	lan.carryOut(stations["a"], lists(2, map[string][]string{"10.64.0.1": {"b", "c", "a"}}), 2*time.Second)
	require.Equal(t, 1, claims("a"))
	lan.carryOut(stations["b"], lists(2, map[string][]string{"10.64.0.1": {"b", "c", "a"}}), 2*time.Second)
	require.Equal(t, []int{0, 1, 0}, []int{claims("a"), claims("b"), claims("c")})
	require.Equal(t, "b", lan.candidates(x)[0])
	require.Equal(t, []string{"a", "c"}, lan.besides([]string{"b"}))

	// Who is not in the list any more stops, and says which plan it carried out.
	lan.carryOut(stations["b"], lists(3, nil), 3*time.Second)
	require.Zero(t, claims("b"))
	require.Equal(t, uint64(3), said["b"].Plan.Revision)
	require.Empty(t, lan.candidates(x))
	planned, answered, last := lan.state()
	require.Equal(t, []any{3, 0, 3 * time.Second}, []any{planned, answered, last})

	came := lan.take()
	require.Len(t, came, 5)
	require.Equal(t, []netip.Addr{x}, came[3].owns)
	require.Empty(t, lan.take())
}

func TestJudge(t *testing.T) {
	x, at := netip.MustParseAddr("10.64.0.1"), 10*time.Second
	after := func(d time.Duration, node string, owns ...netip.Addr) arrival {
		return arrival{node: node, at: at + d*time.Millisecond, owns: owns}
	}
	c := judge(x, at, []string{"a", "c"}, []string{"b", "c"}, []arrival{
		after(3, "a"), after(5, "b", netip.MustParseAddr("10.64.0.2")), after(7, "b", x), after(9, "c"), after(8, "a"), after(90, "d"), after(91, "d"),
	})
	require.Equal(t, change{owner: 7, last: 9, told: 3, others: 1}, c)
	require.Equal(t, change{}, judge(x, at, []string{"a"}, []string{"b"}, nil))
}

// The Pod of the node that answers moves to one that has none; of a Service whose owner has
// none, the first one moves.
func TestMoved(t *testing.T) {
	next := 0
	count := func(int) int { next++; return next - 1 }
	nodes := []string{fleetNode(0), fleetNode(1), fleetNode(2)}
	require.Equal(t, []string{fleetNode(0), fleetNode(3), fleetNode(2)}, moved(nodes, fleetNode(1), count))
	require.Equal(t, []string{fleetNode(4), fleetNode(1), fleetNode(2)}, moved(nodes, "elsewhere", count))
	require.Equal(t, fleetNode(1), nodes[1], "the caller's list stays")
}

// The changes are of different Services, of both kinds, and each address and source is one
// node's or Service's.
func TestFleetIsWhatItSays(t *testing.T) {
	changed, kinds := map[int]bool{}, map[int]int{}
	for i := range fleetChanges {
		changed[fleetChanged(i)] = true
		kinds[len(fleetEndpoints(fleetChanged(i)))]++
	}
	require.Len(t, changed, fleetChanges)
	require.Equal(t, map[int]int{1: fleetChanges / 2, fleetPods: fleetChanges / 2}, kinds)
	addresses, sources := map[netip.Addr]bool{}, map[netip.Addr]bool{}
	for i := range fleetServices {
		require.True(t, netip.MustParsePrefix(fleetPool).Contains(fleetAddress(i)))
		addresses[fleetAddress(i)] = true
	}
	for i := range fleetNodes {
		require.True(t, fleetSource(i).IsLoopback())
		sources[fleetSource(i)] = true
	}
	require.Len(t, addresses, fleetServices)
	require.Len(t, sources, fleetNodes)
}

// What is reviewed is whose token it is.
func TestFleetReview(t *testing.T) {
	token, err := fleetToken(417)
	require.NoError(t, err)
	status, err := fleetReview(token)
	require.NoError(t, err)
	require.True(t, status.Authenticated)
	require.Equal(t, fleetNode(417), status.User.Extra["authentication.kubernetes.io/node-name"][0])
	_, err = fleetReview("not a token")
	require.Error(t, err)
}
