package auth

import (
	"context"
	"errors"
	"net/netip"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes/fake"
	clienttesting "k8s.io/client-go/testing"
	toolscache "k8s.io/client-go/tools/cache"

	"baremetal.cloud/ccm/pkg/announcer/control"
)

// TestFault_K1_7_NodesHaveBudgetsOfTheirOwn: a replica that has just started knows no token.
// Neither strangers with forged ones nor a misconfigured node keep another node out, from
// the same address either.
func TestFault_K1_7_NodesHaveBudgetsOfTheirOwn(t *testing.T) {
	forged := authenticationv1.TokenReviewStatus{Error: "invalid signature"}
	r := &review{status: forged}
	a, _, _ := newTestAuthenticator(t, r)
	a.options.Nodes = nodesOf{"node1": {testRemote}, "node2": {testRemote}}
	good := token(t, testUser, testNow.Add(time.Hour), testAudience)
	bad := tokenOf(t, `{"alg":"RS256"}`, make([]byte, 256), map[string]any{"sub": testUser, "aud": testAudience}, "node2")

	source := netip.MustParseAddr("203.0.113.1")
	for range 10 * int(strangerLimit().Burst) {
		_, err := a.Authenticate(t.Context(), good, "node1", source)
		require.Error(t, err)
		source = source.Next()
	}
	_, err := a.Authenticate(t.Context(), good, "node1", source)
	require.ErrorIs(t, err, control.ErrBusy, "strangers have used up what is theirs")
	for range 10 * int(nodeLimit().Burst) {
		_, err = a.Authenticate(t.Context(), bad, "node2", testRemote)
		require.Error(t, err)
	}
	require.ErrorIs(t, err, control.ErrBusy, "and so has node2")
	r.status = accepted("node1")
	_, err = a.Authenticate(t.Context(), good, "node1", testRemote)
	require.NoError(t, err)
}

// TestFault_K1_7_WithoutAnAnswerNothingIsSpent: a node that asked in vain while there was no
// API server is reviewed as soon as there is one. What a caller did not wait for, and what
// the API server refused to answer, is spent.
func TestFault_K1_7_WithoutAnAnswerNothingIsSpent(t *testing.T) {
	slow, left := context.WithTimeoutCause(t.Context(), 0, control.ErrNoAnswer)
	defer left()
	gone, leave := context.WithCancel(t.Context())
	leave()
	hasty, expire := context.WithTimeout(t.Context(), 0) // a deadline that the caller chose
	defer expire()
	for name, c := range map[string]struct {
		ctx   context.Context
		err   error
		spent bool
	}{
		"unreachable":         {t.Context(), errors.New("connection refused"), false},
		"too slow":            {slow, context.DeadlineExceeded, false},
		"overloaded":          {t.Context(), apierrors.NewTooManyRequests("later", 1), true},
		"internal error":      {t.Context(), apierrors.NewInternalError(errors.New("etcd")), true},
		"the caller left":     {gone, context.Canceled, true},
		"the caller is hasty": {hasty, context.DeadlineExceeded, true},
	} {
		for _, remote := range []netip.Addr{testRemote, netip.MustParseAddr("203.0.113.1")} {
			a, client, _ := newTestAuthenticator(t, &review{status: accepted("node1")})
			good := token(t, testUser, testNow.Add(time.Hour), testAudience)
			answers := false
			client.PrependReactor("*", "*", func(clienttesting.Action) (bool, runtime.Object, error) { return !answers, nil, c.err })
			for range 2 * int(sourceLimit().Burst) {
				_, err := a.Authenticate(c.ctx, good, "node1", remote)
				require.Error(t, err)
			}
			answers = true
			_, err := a.Authenticate(t.Context(), good, "node1", remote)
			require.Equal(t, c.spent, errors.Is(err, control.ErrBusy), "%s, from %s: %v", name, remote, err)
		}
	}
}

// TestNodesFollowTheirInformer: addresses come and go with Nodes, in any notation.
func TestNodesFollowTheirInformer(t *testing.T) {
	node := func(name string, addresses ...string) *corev1.Node {
		out := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name}}
		for _, address := range addresses {
			out.Status.Addresses = append(out.Status.Addresses, corev1.NodeAddress{Type: corev1.NodeInternalIP, Address: address})
		}
		out.Status.Addresses = append(out.Status.Addresses, corev1.NodeAddress{Type: corev1.NodeHostName, Address: "198.51.100.1"})
		return out
	}
	client := fake.NewClientset(node("node1", "192.0.2.1", "2001:DB8:0::1"), node("node2", "192.0.2.1"))
	informer := informers.NewSharedInformerFactory(client, 0).Core().V1().Nodes().Informer()
	nodes := NewNodes()
	require.False(t, nodes.Has(testRemote))
	require.NoError(t, nodes.Follow(informer))
	go informer.RunWithContext(t.Context())
	require.True(t, toolscache.WaitForCacheSync(t.Context().Done(), informer.HasSynced))

	for _, address := range []string{"192.0.2.1", "::ffff:192.0.2.1", "2001:db8::1"} {
		require.True(t, nodes.Has(netip.MustParseAddr(address)), address)
		require.True(t, nodes.Owns("node1", netip.MustParseAddr(address)), address)
	}
	require.True(t, nodes.Owns("node2", testRemote))
	require.False(t, nodes.Owns("node2", netip.MustParseAddr("2001:db8::1")))
	require.False(t, nodes.Has(netip.MustParseAddr("198.51.100.1")), "a host name is no address")
	require.NoError(t, client.CoreV1().Nodes().Delete(t.Context(), "node2", metav1.DeleteOptions{}))
	require.Eventually(t, func() bool { return !nodes.Owns("node2", testRemote) }, time.Minute, time.Millisecond)
	require.True(t, nodes.Has(testRemote))
}
