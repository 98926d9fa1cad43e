package control

import (
	"context"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// TestCAAppearsLater: the ConfigMap is empty until the CCM first ran. One line says so.
func TestCAAppearsLater(t *testing.T) {
	r := startReplica(t)
	n := startNode(t, "a", r, func(n *node, _ *ClientOptions) {
		require.NoError(t, os.Remove(filepath.Join(n.dir, "ca.crt")))
	})
	eventually(t, func() bool { return n.log.Count("waiting for CA") == 1 }, "the missing file is named")
	n.write(t, "ca.crt", "")
	eventually(t, func() bool { return n.log.Count("waiting for CA") == 2 }, "the empty file is named")
	n.write(t, "ca.crt", "no PEM")
	eventually(t, func() bool { return n.log.Count("waiting for CA") == 3 }, "the wrong file is named")
	n.write(t, "ca.crt", string(r.authority.ca))
	n.awaitUp(t)
	require.Equal(t, 3, n.log.Count("level=WARN"))
}

// TestCAChanges while the client runs: it is read anew at each dial.
func TestCAChanges(t *testing.T) {
	first := startReplica(t)
	n := startNode(t, "a", first)
	n.awaitUp(t)
	require.NoError(t, first.stop())
	second := startReplica(t, withAddress(first.address))
	eventually(t, func() bool { return n.log.Count("certificate signed by unknown authority") > 0 }, "the new CA is not trusted")
	require.Equal(t, 1, n.log.Count("kubelet brings a change to the Pod"))
	n.write(t, "ca.crt", string(second.authority.ca))
	eventually(t, func() bool { _, ok := second.report("a"); return ok }, "connected")
}

// TestWrongServerName: a certificate of the right CA for another name is no replica.
func TestWrongServerName(t *testing.T) {
	r := startReplica(t)
	n := startNode(t, "a", r, func(_ *node, o *ClientOptions) { o.ServerName = "other" })
	eventually(t, func() bool { return n.log.Count("certificate is valid for baremetal-ccm, not other") > 0 }, "refused by the client")
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

// TestTokenIsMissing at first, and once more later: one line each says so, and a stream that
// stands does not need it.
func TestTokenIsMissing(t *testing.T) {
	first := startReplica(t)
	n := startNode(t, "a", first, func(n *node, _ *ClientOptions) {
		require.NoError(t, os.Remove(filepath.Join(n.dir, "token")))
	})
	eventually(t, func() bool { return n.log.Count("token: open ") == 1 }, "the missing file is named")
	n.write(t, "token", "pod-a")
	n.awaitUp(t)
	require.NoError(t, os.Remove(filepath.Join(n.dir, "token")))
	first.Publish(plans{"a": set(1, 1, "192.0.2.1")})
	n.awaitPlan(t, first.address, set(1, 1, "192.0.2.1"))
	require.NoError(t, first.stop())
	second := startReplica(t, withAddress(first.address), withAuthority(first.authority))
	eventually(t, func() bool { return n.log.Count("token: open ") == 2 }, "it is named again")
	n.write(t, "token", "")
	eventually(t, func() bool { return n.log.Count("the file is empty") == 1 }, "so is the empty file")
	n.write(t, "token", "pod-a")
	eventually(t, func() bool { _, ok := second.report("a"); return ok }, "connected")
}

// TestTokenHasExpired because kubelet was late: refused and counted, said once with the
// cure, and over as soon as the file has another one.
func TestTokenHasExpired(t *testing.T) {
	r := startReplica(t, withAuth(func(ctx context.Context, token, node string, remote netip.Addr) (Identity, error) {
		if token == "expired" {
			return Identity{}, &DeniedError{Cause: CauseToken, Message: "the token expired at noon"}
		}
		return tokenNamesPod(ctx, token, node, remote)
	}))
	n := startNode(t, "a", r, func(n *node, _ *ClientOptions) { n.write(t, "token", "expired") })
	eventually(t, func() bool { return r.Counters().Refused[CauseToken] >= 2 }, "refused")
	require.Equal(t, 1, n.log.Count("the token expired at noon"))
	require.Equal(t, 1, n.log.Count("kubelet renews it"))
	n.write(t, "token", "pod-a")
	n.awaitUp(t)
	require.EqualValues(t, 1, r.Counters().Silent)
}

// TestStartedBeforeTheController: nobody listens yet. One line says so.
func TestStartedBeforeTheController(t *testing.T) {
	past := startReplica(t)
	require.NoError(t, past.stop())
	n := startNode(t, "a", past)
	eventually(t, func() bool { return n.log.Count("connection refused") == 1 }, "nobody there")
	r := startReplica(t, withAddress(past.address), withAuthority(past.authority))
	r.Publish(plans{"a": set(1, 1, "192.0.2.1")})
	n.awaitPlan(t, r.address, set(1, 1, "192.0.2.1"))
	require.Equal(t, 1, n.log.Count("level=WARN"))
}

// TestRestart of the announcer, whose Pod and token stay: it is told the whole plan again.
func TestRestart(t *testing.T) {
	r := startReplica(t)
	r.Publish(plans{"a": set(1, 1, "192.0.2.1")})
	for range 3 {
		n := startNode(t, "a", r)
		n.awaitPlan(t, r.address, set(1, 1, "192.0.2.1"))
		require.NoError(t, n.stop())
	}
	eventually(t, func() bool { return len(r.history("a")) == 6 }, "came and went three times")
	r.sent(t, 3, 0)
}

// TestClockSkew: a certificate that by the node's clock has ended or is still to come is not
// accepted; the log says what time the node thinks it is, and what to do.
func TestClockSkew(t *testing.T) {
	for name, life := range map[string][2]time.Duration{
		"the node's clock is behind": {24 * time.Hour, 48 * time.Hour},
		"the node's clock is ahead":  {-48 * time.Hour, -24 * time.Hour},
	} {
		t.Run(name, func(t *testing.T) {
			r := startReplica(t, withAuthority(newAuthorityOf(t, time.Now().Add(life[0]), time.Now().Add(life[1]))))
			n := startNode(t, "a", r)
			eventually(t, func() bool { return n.log.Count("level=WARN") == 1 }, "refused by the client")
			require.Equal(t, 1, n.log.Count("has expired or is not yet valid: current time "))
			require.Equal(t, 1, n.log.Count("compare this node's clock"))
			require.Empty(t, r.history("a"))
		})
	}
}

// TestRotationOfTheCA: with both CAs in the file a replica is taken at once that shows the old
// one, the next one, and still the next one when the old one has gone from the file.
func TestRotationOfTheCA(t *testing.T) {
	old, next := newAuthority(t), newAuthority(t)
	first := startReplica(t, withAuthority(old))
	n := startNode(t, "a", first)
	n.awaitUp(t)
	n.write(t, "ca.crt", string(old.ca)+string(next.ca))
	address := first.address
	shown := first
	for i, a := range []authority{old, next, next} {
		require.NoError(t, shown.stop())
		if i == 2 {
			n.write(t, "ca.crt", string(next.ca))
		}
		shown = startReplica(t, withAddress(address), withAuthority(a))
		eventually(t, func() bool { _, ok := shown.report("a"); return ok }, "connected")
	}
	require.Zero(t, n.log.Count("unknown authority"))
}
