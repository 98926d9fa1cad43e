package auth

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/kubernetes/fake"
	clienttesting "k8s.io/client-go/testing"

	"baremetal.cloud/ccm/pkg/announcer/control"
)

const (
	testAudience = "baremetal.cloud/announcer"
	testUser     = "system:serviceaccount:baremetal-ccm:baremetal-announcer"
)

var (
	testNow    = time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)
	testRemote = netip.MustParseAddr("192.0.2.1")
)

// token makes what looks like a token of the API server for the announcer's Pod on node1;
// its signature is not checked here.
func token(t testing.TB, subject string, expires time.Time, audience ...string) string {
	t.Helper()
	return tokenOf(t, `{"alg":"RS256","kid":"1"}`, make([]byte, 256), map[string]any{"sub": subject, "aud": audience, "exp": expires.Unix()}, "node1")
}

func tokenOf(t testing.TB, header string, signature []byte, claims map[string]any, node string) string {
	t.Helper()
	claims["kubernetes.io"] = map[string]any{
		"namespace": "baremetal-ccm", "node": map[string]any{"name": node, "uid": "n"},
		"pod": map[string]any{"name": "announcer-x", "uid": "pod-1"}, "serviceaccount": map[string]any{"name": "baremetal-announcer"},
	}
	payload, err := json.Marshal(claims)
	require.NoError(t, err)
	encode := base64.RawURLEncoding.EncodeToString
	return encode([]byte(header)) + "." + encode(payload) + "." + encode(signature)
}

// review is what the API server of these tests says of every token.
type review struct {
	status authenticationv1.TokenReviewStatus
	err    error
	asked  atomic.Int32
}

// nodesOf is a cluster whose nodes have these addresses.
type nodesOf map[string][]netip.Addr

func (n nodesOf) Has(address netip.Addr) bool {
	for node := range n {
		if n.Owns(node, address) {
			return true
		}
	}
	return false
}

func (n nodesOf) Owns(node string, address netip.Addr) bool { return slices.Contains(n[node], address) }

func accepted(node string) authenticationv1.TokenReviewStatus {
	return authenticationv1.TokenReviewStatus{
		Authenticated: true,
		Audiences:     []string{testAudience},
		User: authenticationv1.UserInfo{Username: testUser, Extra: map[string]authenticationv1.ExtraValue{
			extraNodeName: {node}, extraPodName: {"announcer-x"}, extraPodUID: {"pod-1"},
		}},
	}
}

func newTestAuthenticator(t *testing.T, r *review) (*Authenticator, *fake.Clientset, *time.Time) {
	client := fake.NewClientset(
		&corev1.Pod{ObjectMeta: metav1.ObjectMeta{
			Name: "announcer-x", Namespace: "baremetal-ccm", UID: "pod-1", CreationTimestamp: metav1.NewTime(testNow.Add(-time.Hour)),
		}},
		&corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "node1"}, Status: corev1.NodeStatus{Addresses: []corev1.NodeAddress{
			{Type: corev1.NodeHostName, Address: "node1"},
			{Type: corev1.NodeInternalIP, Address: "192.0.2.1"},
			{Type: corev1.NodeExternalIP, Address: "2001:db8::1"},
		}}},
	)
	client.PrependReactor("create", "tokenreviews", func(action clienttesting.Action) (bool, runtime.Object, error) {
		r.asked.Add(1)
		asked := action.(clienttesting.CreateAction).GetObject().(*authenticationv1.TokenReview)
		require.Equal(t, []string{testAudience}, asked.Spec.Audiences)
		return true, &authenticationv1.TokenReview{Status: r.status}, r.err
	})
	now := testNow
	return NewAuthenticator(AuthenticatorOptions{
		Client: client, Namespace: "baremetal-ccm", ServiceAccount: "baremetal-announcer", Audience: testAudience,
		Nodes: nodesOf{"node1": {testRemote, netip.MustParseAddr("2001:db8::1")}},
		Now:   func() time.Time { return now },
	}), client, &now
}

func TestAcceptedTokenIsReviewedOnce(t *testing.T) {
	r := &review{status: accepted("node1")}
	a, _, now := newTestAuthenticator(t, r)
	good := token(t, testUser, testNow.Add(time.Hour), testAudience)
	for _, remote := range []string{"192.0.2.1", "::ffff:192.0.2.1", "2001:db8::1"} {
		id, err := a.Authenticate(t.Context(), good, "node1", netip.MustParseAddr(remote))
		require.NoError(t, err)
		require.Equal(t, control.Identity{Node: "node1", PodUID: "pod-1", PodCreated: testNow.Add(-time.Hour), Reviewed: testNow}, normal(id))
	}
	require.Equal(t, int32(1), r.asked.Load())

	*now = now.Add(trustFor)
	_, err := a.Authenticate(t.Context(), good, "node1", testRemote)
	require.NoError(t, err)
	require.Equal(t, int32(2), r.asked.Load(), "after a while it is reviewed again")
}

// part returns one of the three parts of a token.
func part(token string, i int) string { return strings.Split(token, ".")[i] }

func normal(id control.Identity) control.Identity {
	id.PodCreated = id.PodCreated.UTC()
	return id
}

func TestDenials(t *testing.T) {
	good := token(t, testUser, testNow.Add(time.Hour), testAudience)
	status := func(change func(*authenticationv1.TokenReviewStatus)) authenticationv1.TokenReviewStatus {
		s := accepted("node1")
		change(&s)
		return s
	}
	for name, c := range map[string]struct {
		token, node, remote string
		status              authenticationv1.TokenReviewStatus
		cause, text         string
	}{
		"no token":                  {token: "-", cause: control.CauseToken, text: "no token"},
		"garbage":                   {token: "a.b", cause: control.CauseToken, text: "not a JWT"},
		"not base64":                {token: part(good, 0) + ".!." + part(good, 2), cause: control.CauseToken, text: "base64url"},
		"not JSON":                  {token: part(good, 0) + ".e." + part(good, 2), cause: control.CauseToken},
		"long":                      {token: string(make([]byte, maxToken+1)), cause: control.CauseToken, text: "more than 8192"},
		"another audience":          {token: token(t, testUser, testNow.Add(time.Hour), "https://kubernetes.default.svc"), cause: control.CauseAudience},
		"another service account":   {token: token(t, "system:serviceaccount:web:default", testNow.Add(time.Hour), testAudience), cause: control.CauseServiceAccount, text: `"system:serviceaccount:web:default"`},
		"expired":                   {token: token(t, testUser, testNow.Add(-2*time.Minute), testAudience), cause: control.CauseToken, text: "expired at 2026-11-21T11:58:00Z"},
		"another node's token":      {node: "node2", cause: control.CauseNodeMismatch, text: `Pod is on node "node1", the stream claims "node2"`},
		"node unknown":              {token: tokenOf(t, `{"alg":"ES256"}`, make([]byte, 64), map[string]any{"sub": testUser, "aud": testAudience}, "node9"), node: "node9", status: accepted("node9"), cause: control.CauseNodeMismatch, text: `no Node "node9"`},
		"from elsewhere":            {remote: "192.0.2.99", cause: control.CauseSourceAddress, text: "192.0.2.99"},
		"forged":                    {status: authenticationv1.TokenReviewStatus{Error: "invalid signature"}, cause: control.CauseToken, text: "invalid signature"},
		"no audience in the answer": {status: status(func(s *authenticationv1.TokenReviewStatus) { s.Audiences = nil }), cause: control.CauseAudience},
		"forged subject":            {status: status(func(s *authenticationv1.TokenReviewStatus) { s.User.Username = "system:node:node1" }), cause: control.CauseServiceAccount},
		"not bound to a Pod":        {status: status(func(s *authenticationv1.TokenReviewStatus) { s.User.Extra = nil }), cause: control.CauseToken, text: "projected"},
		"two nodes named":           {status: status(func(s *authenticationv1.TokenReviewStatus) { s.User.Extra[extraNodeName] = []string{"node1", "node2"} }), cause: control.CauseToken},
		"Pod gone":                  {status: status(func(s *authenticationv1.TokenReviewStatus) { s.User.Extra[extraPodName] = []string{"gone"} }), cause: control.CauseToken, text: "is gone"},
		"Pod replaced":              {status: status(func(s *authenticationv1.TokenReviewStatus) { s.User.Extra[extraPodUID] = []string{"pod-0"} }), cause: control.CauseToken, text: "is gone"},
	} {
		t.Run(name, func(t *testing.T) {
			r := &review{status: c.status}
			if !c.status.Authenticated && c.status.Error == "" {
				r.status = accepted("node1")
			}
			a, _, _ := newTestAuthenticator(t, r)
			presented := or(c.token, good)
			if presented == "-" {
				presented = ""
			}
			_, err := a.Authenticate(t.Context(), presented, or(c.node, "node1"), netip.MustParseAddr(or(c.remote, "192.0.2.1")))
			denied, ok := errors.AsType[*control.DeniedError](err)
			require.True(t, ok, "%v", err)
			require.Equal(t, c.cause, denied.Cause, denied.Message)
			require.Contains(t, denied.Message, c.text)
			require.NotContains(t, denied.Message, good)
		})
	}
}

func or(a, b string) string {
	if a != "" {
		return a
	}
	return b
}

func TestNoAnswerIsNoDenial(t *testing.T) {
	good := token(t, testUser, testNow.Add(time.Hour), testAudience)
	lost := errors.New("connection refused")
	for _, resource := range []string{"tokenreviews", "pods", "nodes"} {
		a, client, _ := newTestAuthenticator(t, &review{status: accepted("node1")})
		client.PrependReactor("*", resource, func(clienttesting.Action) (bool, runtime.Object, error) { return true, nil, lost })
		_, err := a.Authenticate(t.Context(), good, "node1", testRemote)
		require.ErrorIs(t, err, lost)
		_, isDenied := errors.AsType[*control.DeniedError](err)
		require.False(t, isDenied)
	}
}

func TestChangedNodeAddressIsSeen(t *testing.T) {
	r := &review{status: accepted("node1")}
	a, client, _ := newTestAuthenticator(t, r)
	good := token(t, testUser, testNow.Add(time.Hour), testAudience)
	_, err := a.Authenticate(t.Context(), good, "node1", testRemote)
	require.NoError(t, err)
	moved := netip.MustParseAddr("192.0.2.7")
	_, err = a.Authenticate(t.Context(), good, "node1", moved)
	require.Error(t, err)
	node, err := client.CoreV1().Nodes().Get(t.Context(), "node1", metav1.GetOptions{})
	require.NoError(t, err)
	node.Status.Addresses[1].Address = moved.String()
	_, err = client.CoreV1().Nodes().UpdateStatus(t.Context(), node, metav1.UpdateOptions{})
	require.NoError(t, err)
	_, err = a.Authenticate(t.Context(), good, "node1", moved)
	require.NoError(t, err)
	require.Equal(t, int32(1), r.asked.Load())
}

func TestReviewsAreLimitedAndWaitingEnds(t *testing.T) {
	a, _, _ := newTestAuthenticator(t, &review{status: accepted("node1")})
	good := token(t, testUser, testNow.Add(time.Hour), testAudience)
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	for range strangersAtOnce {
		a.strangersAsking <- struct{}{}
	}
	_, err := a.Authenticate(gone, good, "node1", netip.MustParseAddr("203.0.113.1"))
	require.ErrorIs(t, err, context.Canceled)
	_, err = a.Authenticate(t.Context(), good, "node1", testRemote)
	require.NoError(t, err, "a node does not wait for strangers")
	for range reviewsAtOnce {
		a.nodesAsking <- struct{}{}
	}
	_, err = a.Review(gone, good, "node1", testRemote)
	require.ErrorIs(t, err, context.Canceled)
}

func TestTrustUntil(t *testing.T) {
	soon, late := testNow.Add(time.Minute), testNow.Add(time.Hour)
	require.Equal(t, soon.Unix(), trustUntil(claims{Expires: soon.Unix()}, testNow).Unix())
	require.Equal(t, testNow.Add(trustFor), trustUntil(claims{Expires: late.Unix()}, testNow))
	require.Equal(t, testNow.Add(trustWithoutExpiry), trustUntil(claims{}, testNow))
}

func TestCacheIsBounded(t *testing.T) {
	c := newCache(10)
	for i := range 100 {
		c.putReview(strconv.Itoa(i), reviewed{node: "n"}, testNow, testNow.Add(time.Duration(i%2)*time.Minute))
		require.LessOrEqual(t, len(c.entries), 10)
		_, ok := c.getReview(strconv.Itoa(i), testNow)
		require.Equal(t, i%2 == 1, ok, "expired entries are not given")
	}
}

func FuzzParseClaims(f *testing.F) {
	f.Add(token(f, testUser, testNow, testAudience))
	f.Add("a.eyJhdWQiOiJ4In0.c")
	f.Add("..")
	f.Fuzz(func(t *testing.T, text string) {
		said, err := parseClaims(text)
		if err == nil {
			said.hasAudience("x")
			said.expiryTime()
		}
	})
}
