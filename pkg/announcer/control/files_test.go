package control

import (
	"context"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestCAAppearsLater: the ConfigMap is empty until the CCM first ran. One line says so.
func TestCAAppearsLater(t *testing.T) {
	r := startReplica(t)
	n := startNode(t, "a", r, func(n *node, _ *ClientOptions) {
		require.NoError(t, os.Remove(filepath.Join(n.dir, "ca.crt")))
	})
	eventually(t, func() bool { return n.log.count("waiting for CA") == 1 }, "the missing file is named")
	n.write(t, "ca.crt", "")
	eventually(t, func() bool { return n.log.count("waiting for CA") == 2 }, "the empty file is named")
	n.write(t, "ca.crt", "no PEM")
	eventually(t, func() bool { return n.log.count("waiting for CA") == 3 }, "the wrong file is named")
	n.write(t, "ca.crt", string(r.authority.ca))
	n.awaitUp(t)
	require.Equal(t, 3, n.log.count("level=WARN"))
}

// TestCAChanges while the client runs: it is read anew at each dial.
func TestCAChanges(t *testing.T) {
	first := startReplica(t)
	n := startNode(t, "a", first)
	n.awaitUp(t)
	require.NoError(t, first.stop())
	second := startReplica(t, withAddress(first.address))
	eventually(t, func() bool { return n.log.count("certificate signed by unknown authority") > 0 }, "the new CA is not trusted")
	n.write(t, "ca.crt", string(second.authority.ca))
	eventually(t, func() bool { _, ok := second.report("a"); return ok }, "connected")
}

// TestWrongServerName: a certificate of the right CA for another name is no replica.
func TestWrongServerName(t *testing.T) {
	r := startReplica(t)
	n := startNode(t, "a", r, func(_ *node, o *ClientOptions) { o.ServerName = "other" })
	eventually(t, func() bool { return n.log.count("certificate is valid for baremetal-ccm, not other") > 0 }, "refused by the client")
	require.Empty(t, r.history("a"))
}

// TestTokenRotation: each stream presents the token that is in the file then.
func TestTokenRotation(t *testing.T) {
	var mu sync.Mutex
	var seen []string
	saw := func(token string) func() bool {
		return func() bool {
			mu.Lock()
			defer mu.Unlock()
			return slices.Contains(seen, token)
		}
	}
	auth := withAuth(func(ctx context.Context, token, node string, remote netip.Addr) (Identity, error) {
		mu.Lock()
		defer mu.Unlock()
		seen = append(seen, token)
		return tokenNamesPod(ctx, token, node, remote)
	})
	first := startReplica(t, auth)
	n := startNode(t, "a", first, func(n *node, _ *ClientOptions) { n.write(t, "token", "one\n") })
	eventually(t, saw("one"), "the first token, without its newline")
	n.awaitUp(t)
	n.write(t, "token", "two")
	require.NoError(t, first.stop())
	startReplica(t, auth, withAddress(first.address), withAuthority(first.authority))
	eventually(t, saw("two"), "the second token")
}
