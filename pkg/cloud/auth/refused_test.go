package auth

import (
	"context"
	"crypto/tls"
	"net"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"baremetal.cloud/ccm/internal/testlog"
	"baremetal.cloud/ccm/pkg/announcer/control"
	"baremetal.cloud/ccm/pkg/announcer/plan"
)

// nobody is an Observer that must hear nothing.
type nobody struct{ t *testing.T }

func (n nobody) NodeConnected(node string, _ plan.Report) { n.t.Errorf("%s connected", node) }
func (n nobody) NodeReported(node string, _ plan.Report)  { n.t.Errorf("%s reported", node) }
func (n nobody) NodeDisconnected(node string)             { n.t.Errorf("%s left", node) }

// TestRefusedAndCounted, through the whole channel: an announcer with the wrong token, from
// the wrong node or from the wrong machine is refused, counted under its cause, and told
// what to do, once.
func TestRefusedAndCounted(t *testing.T) {
	later := time.Now().Add(time.Hour)
	for name, c := range map[string]struct {
		token, node, cause, hint string
	}{
		"wrong audience":          {token(t, testUser, later, "https://kubernetes.default.svc"), "node1", control.CauseAudience, "must ask for the audience"},
		"another service account": {token(t, "system:serviceaccount:web:default", later, testAudience), "node1", control.CauseServiceAccount, "must run as the ServiceAccount"},
		"another node's token":    {token(t, testUser, later, testAudience), "node2", control.CauseNodeMismatch, "--node must be"},
		"another machine":         {token(t, testUser, later, testAudience), "node1", control.CauseSourceAddress, "must use the host network"},
		"expired":                 {token(t, testUser, time.Now().Add(-time.Hour), testAudience), "node1", control.CauseToken, "kubelet renews it"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			authenticator, _, now := newTestAuthenticator(t, &review{status: accepted("node1")})
			*now = time.Now()
			server := control.NewServer(control.ServerOptions{Authenticator: authenticator, Observer: nobody{t}})
			made, data, err := validate(nil, time.Now())
			require.NoError(t, err)
			listener, err := net.Listen("tcp", "127.0.0.1:0") // no address of node1, as the last thing that is looked at
			require.NoError(t, err)
			dir, log := t.TempDir(), &testlog.Log{}
			ca, file := filepath.Join(dir, "ca"), filepath.Join(dir, "token")
			require.NoError(t, os.WriteFile(ca, data[keyCA], 0o600))
			require.NoError(t, os.WriteFile(file, []byte(c.token), 0o600))
			client := control.NewClient(control.ClientOptions{
				Node: c.node, Controllers: []string{listener.Addr().String()}, ServerName: ServerName, CAFile: ca, TokenFile: file,
				Logger: log.Logger(),
			})
			client.SetReport(plan.Report{})
			ctx, cancel := context.WithCancel(t.Context())
			var running sync.WaitGroup
			running.Go(func() { _ = server.Run(ctx, listener, &tls.Config{Certificates: []tls.Certificate{*made.pair}}) })
			running.Go(func() { _ = client.Run(ctx) })
			require.Eventually(t, func() bool { return server.Counters().Refused[c.cause] >= 2 }, 2*time.Minute, 5*time.Millisecond)
			cancel()
			running.Wait()
			require.Equal(t, 1, log.Count("level=WARN"))
			require.Equal(t, 1, log.Count(c.hint))
			for cause, n := range server.Counters().Refused {
				require.True(t, n == 0 || cause == c.cause, "%s", cause)
			}
		})
	}
}
