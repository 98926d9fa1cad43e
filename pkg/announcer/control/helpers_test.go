package control

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"log/slog"
	"maps"
	"math/big"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"baremetal.cloud/ccm/internal/ratelimit"
	"baremetal.cloud/ccm/internal/testlog"
	"baremetal.cloud/ccm/pkg/announcer/plan"
)

const (
	patience = 2 * time.Minute
	tick     = 5 * time.Millisecond
)

// authority is a CA with a server certificate for baremetal-ccm.
type authority struct {
	ca     []byte // PEM
	server tls.Certificate
}

func newAuthority(t *testing.T) authority {
	t.Helper()
	return newAuthorityOf(t, time.Unix(0, 0), time.Date(2100, 1, 1, 0, 0, 0, 0, time.UTC))
}

// newAuthorityOf makes a CA that is good at any time, and a certificate for that time.
func newAuthorityOf(t *testing.T, from, until time.Time) authority {
	t.Helper()
	caKey, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	ca := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test CA"},
		NotBefore: time.Unix(0, 0), NotAfter: time.Date(2100, 1, 1, 0, 0, 0, 0, time.UTC),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	caDER, err := x509.CreateCertificate(rand.Reader, ca, ca, caKey.Public(), caKey)
	require.NoError(t, err)
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	leaf := &x509.Certificate{
		SerialNumber: big.NewInt(2), DNSNames: []string{"baremetal-ccm"},
		NotBefore: from, NotAfter: until,
	}
	leafDER, err := x509.CreateCertificate(rand.Reader, leaf, ca, key.Public(), caKey)
	require.NoError(t, err)
	return authority{
		ca:     pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: caDER}),
		server: tls.Certificate{Certificate: [][]byte{leafDER}, PrivateKey: key},
	}
}

func (a authority) serverTLS() *tls.Config {
	return &tls.Config{Certificates: []tls.Certificate{a.server}}
}

// authFunc is an Authenticator, whose reviews are the same.
type authFunc func(ctx context.Context, token, node string, remote netip.Addr) (Identity, error)

func (f authFunc) Authenticate(ctx context.Context, token, node string, remote netip.Addr) (Identity, error) {
	return f(ctx, token, node, remote)
}

func (f authFunc) Review(ctx context.Context, token, node string, remote netip.Addr) (Identity, error) {
	return f(ctx, token, node, remote)
}

// nodesOf is a cluster of nodes with one address each.
type nodesOf map[string]netip.Addr

func (n nodesOf) Has(address netip.Addr) bool {
	return slices.Contains(slices.Collect(maps.Values(n)), address)
}

func (n nodesOf) Owns(node string, address netip.Addr) bool { return n[node] == address }

// tokenNamesPod admits every node; the token is "POD-UID" or "POD-UID/SECONDS", the
// second part being when the Pod was created.
func tokenNamesPod(_ context.Context, token, node string, _ netip.Addr) (Identity, error) {
	uid, seconds, _ := strings.Cut(token, "/")
	var created int64
	fmt.Sscan(seconds, &created)
	return Identity{Node: node, PodUID: uid, PodCreated: time.Unix(created, 0)}, nil
}

// recorder is an Observer that remembers, and checks the order that Observer promises.
type recorder struct {
	mu      sync.Mutex
	events  map[string][]string
	reports map[string]plan.Report // of connected nodes
	lasts   map[string]plan.Report // of all
	faults  []string
}

func newRecorder() *recorder {
	return &recorder{events: map[string][]string{}, reports: map[string]plan.Report{}, lasts: map[string]plan.Report{}}
}

func (r *recorder) NodeConnected(node string, report plan.Report) {
	r.record(node, "connected", false, &report)
}

func (r *recorder) NodeReported(node string, report plan.Report) {
	r.record(node, "reported", true, &report)
}

func (r *recorder) NodeDisconnected(node string) { r.record(node, "disconnected", true, nil) }

func (r *recorder) record(node, event string, connectedBefore bool, report *plan.Report) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if _, connected := r.reports[node]; connected != connectedBefore {
		r.faults = append(r.faults, fmt.Sprintf("%s: %s after %v", node, event, r.events[node]))
	}
	r.events[node] = append(r.events[node], event)
	if report == nil {
		delete(r.reports, node)
		return
	}
	r.reports[node], r.lasts[node] = *report, *report
}

// last is what node said last, connected or not.
func (r *recorder) last(node string) plan.Report {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.lasts[node]
}

func (r *recorder) report(node string) (plan.Report, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	report, ok := r.reports[node]
	return report, ok
}

func (r *recorder) history(node string) []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.events[node])
}

// replica is a Server that runs on the loopback interface.
type replica struct {
	*Server
	*recorder
	authority authority
	address   string
	stop      func() error
}

type replicaOption func(*replica, *ServerOptions)

func withAuth(f authFunc) replicaOption {
	return func(_ *replica, o *ServerOptions) { o.Authenticator = f }
}

func withAddress(address string) replicaOption {
	return func(r *replica, _ *ServerOptions) { r.address = address }
}

func withAuthority(a authority) replicaOption {
	return func(r *replica, _ *ServerOptions) { r.authority = a }
}

func withServer(change func(*ServerOptions)) replicaOption {
	return func(_ *replica, o *ServerOptions) { change(o) }
}

func startReplica(t *testing.T, options ...replicaOption) *replica {
	t.Helper()
	// Connections from this machine to itself come from 127.0.0.1: none of them can have
	// the port here by chance when another replica is to have this one's address.
	r := &replica{recorder: newRecorder(), address: "127.0.0.2:0"}
	o := ServerOptions{Authenticator: authFunc(tokenNamesPod), Observer: r.recorder, Software: "ccm-test", Logger: testLogger(t)}
	o.Limits.PendingPerSource = 32
	o.Limits.StrangersPerSource = 1000
	o.Limits.SourceRate = ratelimit.Limit{Rate: 1e6, Burst: 1e6} // all nodes of a test have one address
	o.Limits.StrangerRate = o.Limits.SourceRate
	for _, option := range options {
		option(r, &o)
	}
	if r.authority.ca == nil {
		r.authority = newAuthority(t)
	}
	r.Server = NewServer(o)
	l, err := net.Listen("tcp", r.address)
	require.NoError(t, err)
	r.address = l.Addr().String()
	r.stop = start(t, func(ctx context.Context) error { return r.Run(ctx, l, r.authority.serverTLS()) })
	t.Cleanup(func() {
		require.NoError(t, r.stop())
		require.Empty(t, r.faults)
		for node := range r.events {
			require.Equal(t, "disconnected", r.events[node][len(r.events[node])-1], "Run returned before the last call to the Observer")
		}
	})
	return r
}

// sent waits until the replica has counted so many plans: it does so after it has sent them.
func (r *replica) sent(t *testing.T, snapshots, deltas int) {
	t.Helper()
	eventually(t, func() bool {
		c := r.Counters()
		return c.Snapshots == uint64(snapshots) && c.Deltas == uint64(deltas)
	}, "%d snapshots and %d differences are counted", snapshots, deltas)
}

// planned waits until so many nodes count as told a plan.
func (r *replica) planned(t *testing.T, nodes int) {
	t.Helper()
	eventually(t, func() bool { return r.Counters().Planned == nodes }, "%d nodes are planned", nodes)
}

// start runs f until the test ends or stop is called, whichever is first.
func start(t *testing.T, f func(context.Context) error) (stop func() error) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- f(ctx) }()
	stop = sync.OnceValue(func() error {
		cancel()
		return <-done
	})
	t.Cleanup(func() { require.NoError(t, stop()) })
	return stop
}

// node is a Client that runs, and remembers.
type node struct {
	*Client
	dir  string
	stop func() error
	log  *testlog.Log

	mu    sync.Mutex
	plans map[string][]plan.NodePlan
	up    map[string]int // streams by replica, now
	ups   int            // streams ever
}

type nodeOption func(*node, *ClientOptions)

func startNode(t *testing.T, name string, r *replica, options ...nodeOption) *node {
	t.Helper()
	n := &node{dir: t.TempDir(), plans: map[string][]plan.NodePlan{}, up: map[string]int{}, log: &testlog.Log{}}
	n.write(t, "ca.crt", string(r.authority.ca))
	n.write(t, "token", "pod-"+name)
	o := ClientOptions{
		Node: name, Software: "announcer-test", Controllers: []string{r.address}, ServerName: "baremetal-ccm",
		CAFile: filepath.Join(n.dir, "ca.crt"), TokenFile: filepath.Join(n.dir, "token"),
		Logger: n.log.Logger(), OnPlan: n.onPlan, OnStream: n.onStream,
	}
	for _, option := range options {
		option(n, &o)
	}
	n.Client = NewClient(o)
	n.SetReport(plan.Report{})
	n.stop = start(t, n.Run)
	return n
}

func (n *node) write(t *testing.T, file, content string) {
	t.Helper()
	// As kubelet does it: the new file takes the old one's place at once.
	path := filepath.Join(n.dir, file)
	require.NoError(t, os.WriteFile(path+".new", []byte(content), 0o600))
	require.NoError(t, os.Rename(path+".new", path))
}

func (n *node) onPlan(replica string, set plan.NodePlan) {
	n.mu.Lock()
	defer n.mu.Unlock()
	set.Voucher = plan.Voucher{} // what was sent
	n.plans[replica] = append(n.plans[replica], set)
}

func (n *node) onStream(replica string, up bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if up {
		n.up[replica]++
		n.ups++
	} else {
		n.up[replica]--
	}
}

// plan is the newest plan from replica.
func (n *node) plan(replica string) plan.NodePlan {
	n.mu.Lock()
	defer n.mu.Unlock()
	if plans := n.plans[replica]; len(plans) > 0 {
		return plans[len(plans)-1]
	}
	return plan.NodePlan{}
}

func (n *node) planCount() (count int) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, plans := range n.plans {
		count += len(plans)
	}
	return count
}

func (n *node) streams() (now, ever int) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, up := range n.up {
		now += up
	}
	return now, n.ups
}

func (n *node) awaitPlan(t *testing.T, replica string, want plan.NodePlan) {
	t.Helper()
	eventually(t, func() bool { return n.plan(replica).Version == want.Version }, "plan %v", want.Version)
	require.Equal(t, want, n.plan(replica))
}

func (n *node) awaitUp(t *testing.T) {
	t.Helper()
	eventually(t, func() bool { now, _ := n.streams(); return now > 0 }, "a stream")
}

func eventually(t *testing.T, condition func() bool, message string, args ...any) {
	t.Helper()
	require.Eventuallyf(t, condition, patience, tick, message, args...)
}

func testLogger(t *testing.T) *slog.Logger {
	return slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelDebug}))
}

// set makes a plan of n addresses.
func set(term, revision uint64, addresses ...string) plan.NodePlan {
	s := plan.NodePlan{
		Cluster: "cluster", Version: plan.Version{Term: term, Revision: revision},
	}
	for _, a := range addresses {
		s.Assignments = s.Assignments.With(plan.Assignment{
			Address: netip.MustParseAddr(a), Version: plan.Version{Term: 1, Revision: 1}, Candidates: []string{"a", "b"},
		})
	}
	return s
}

func claims(addresses ...string) plan.Report {
	r := plan.Report{Problems: []plan.Problem{}, Interfaces: []plan.Interface{}}
	for _, a := range addresses {
		r.Claims = r.Claims.With(plan.Claim{
			Address: netip.MustParseAddr(a), Version: plan.Version{Term: 1, Revision: 1},
		})
	}
	return r
}
