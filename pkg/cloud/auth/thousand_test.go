package auth

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/kubernetes/fake"
	authenticationclient "k8s.io/client-go/kubernetes/typed/authentication/v1"

	"baremetal.cloud/ccm/internal/memnet"
	"baremetal.cloud/ccm/pkg/announcer/control"
	"baremetal.cloud/ccm/pkg/announcer/plan"
)

// TestFault_K1_7_AThousandReconnectInAFlood to a replica that has just started: half of them
// from one address, behind which a hundred more nodes have tokens that are refused, while
// strangers open connections and streams with forged tokens. All are in within 30 s, and the
// API server is asked few questions for the others.
func TestFault_K1_7_AThousandReconnectInAFlood(t *testing.T) {
	const good, bad, strangers = 1000, 100, 200
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		c := newCrowd(t, dir)
		for i := range good + bad {
			c.join(fmt.Sprint("node", i), i, i >= good)
		}
		source := netip.MustParseAddr("2001:db8:bad::1")
		for i := range strangers {
			source = source.Next()
			c.dialAs(fmt.Sprint("node", i), source, forgedToken)
		}
		c.running.Go(func() { c.flood(source) })
		began := time.Now()
		for c.connected.Load() < good && time.Since(began) < time.Minute {
			time.Sleep(100 * time.Millisecond)
		}
		t.Log("all in after", time.Since(began), "refused", c.server.Counters().Refused)
		require.EqualValues(t, good, c.connected.Load())
		require.LessOrEqual(t, time.Since(began), 30*time.Second)
		require.LessOrEqual(t, int(c.forgeries.Load()), bad*(int(nodeLimit().Burst)+15), "reviews in vain")
		c.end()
	})
}

// The first byte of a token's signature, in these tests.
const (
	goodToken   = 0
	forgedToken = 0xff
)

// crowd is a replica, and announcers that dial it, in a bubble.
type crowd struct {
	t         *testing.T
	dir       string
	ca        string
	nodes     *Nodes
	api       *fake.Clientset
	lan       *memnet.Listener
	port      atomic.Uint32 // that the last connection came from
	server    *control.Server
	ctx       context.Context
	cancel    context.CancelFunc
	running   sync.WaitGroup
	connected atomic.Int64
	forgeries atomic.Int64 // tokens that the API server refused
}

func newCrowd(t *testing.T, dir string) *crowd {
	c := &crowd{t: t, dir: dir, ca: filepath.Join(dir, "ca"), nodes: NewNodes(), lan: memnet.Listen()}
	c.ctx, c.cancel = context.WithCancel(t.Context())
	made, data, err := validate(nil, time.Now())
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(c.ca, data[keyCA], 0o600))
	pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: "announcer-x", Namespace: "baremetal-ccm", UID: "pod-1"}}
	c.api = fake.NewClientset(pod)
	api := &slowAPI{Interface: c.api, crowd: c}
	c.server = control.NewServer(control.ServerOptions{Observer: c, Nodes: c.nodes, Authenticator: NewAuthenticator(AuthenticatorOptions{
		Client: api, Nodes: c.nodes, Namespace: "baremetal-ccm", ServiceAccount: "baremetal-announcer", Audience: testAudience,
	})})
	c.running.Go(func() { _ = c.server.Run(c.ctx, c.lan, &tls.Config{Certificates: []tls.Certificate{*made.pair}}) })
	return c
}

// join makes a Node, and has its announcer dial: every other one from an address of its own.
func (c *crowd) join(name string, i int, misconfigured bool) {
	address, signature := netip.AddrFrom4([4]byte{10, 0, byte(i >> 8), byte(i)}), byte(goodToken)
	if i%2 == 1 || misconfigured {
		address = netip.MustParseAddr("192.0.2.10")
	}
	if misconfigured {
		signature = forgedToken
	}
	node := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name}, Status: corev1.NodeStatus{Addresses: []corev1.NodeAddress{
		{Type: corev1.NodeExternalIP, Address: address.String()},
	}}}
	require.NoError(c.t, c.nodes.indexer.Add(node))
	require.NoError(c.t, c.api.Tracker().Add(node))
	c.dialAs(name, address, signature)
}

// dialAs runs an announcer that names the node.
func (c *crowd) dialAs(node string, from netip.Addr, signature byte) {
	file := filepath.Join(c.dir, from.String()+node)
	text := make([]byte, 256)
	text[0] = signature
	require.NoError(c.t, os.WriteFile(file, []byte(tokenOf(c.t, `{"alg":"RS256"}`, text, map[string]any{"sub": testUser, "aud": testAudience}, node)), 0o600))
	client := control.NewClient(control.ClientOptions{
		Node: node, Controllers: []string{"192.0.2.1:1"}, ServerName: ServerName, CAFile: c.ca, TokenFile: file,
		Dial: func(ctx context.Context, _ string) (net.Conn, error) { return c.connect(ctx, from) },
	})
	client.SetReport(plan.Report{})
	c.running.Go(func() { _ = client.Run(c.ctx) })
}

func (c *crowd) connect(ctx context.Context, from netip.Addr) (net.Conn, error) {
	return c.lan.DialFrom(ctx, netip.AddrPortFrom(from, uint16(1024+c.port.Add(1)%60000)))
}

// flood opens silent connections, each from another address, until the crowd ends.
func (c *crowd) flood(source netip.Addr) {
	for c.ctx.Err() == nil {
		source = source.Next()
		if conn, err := c.connect(c.ctx, source); err == nil {
			context.AfterFunc(c.ctx, func() { conn.Close() })
		}
		time.Sleep(4 * time.Millisecond)
	}
}

func (c *crowd) end() {
	c.cancel()
	c.running.Wait()
}

// NodeConnected implements control.Observer.
func (c *crowd) NodeConnected(string, plan.Report) { c.connected.Add(1) }

// NodeReported implements control.Observer.
func (c *crowd) NodeReported(string, plan.Report) {}

// NodeDisconnected implements control.Observer.
func (c *crowd) NodeDisconnected(string) { c.connected.Add(-1) }

// slowAPI takes its time for each token.
type slowAPI struct {
	kubernetes.Interface
	authenticationclient.AuthenticationV1Interface
	authenticationclient.TokenReviewInterface
	crowd *crowd
}

func (s *slowAPI) AuthenticationV1() authenticationclient.AuthenticationV1Interface { return s }

func (s *slowAPI) TokenReviews() authenticationclient.TokenReviewInterface { return s }

func (s *slowAPI) Create(ctx context.Context, asked *authenticationv1.TokenReview, _ metav1.CreateOptions) (*authenticationv1.TokenReview, error) {
	select {
	case <-time.After(40 * time.Millisecond): // of an API server that has much to do
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	said, err := parseClaims(asked.Spec.Token)
	if err != nil {
		return nil, err
	}
	out := asked.DeepCopy()
	out.Status = accepted(said.Kubernetes.Node.Name)
	if part(asked.Spec.Token, 2)[0] != 'A' { // six bits of a first byte that is not zero
		s.crowd.forgeries.Add(1)
		out.Status = authenticationv1.TokenReviewStatus{Error: "invalid signature"}
	}
	return out, nil
}
