package auth

import (
	"errors"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	clienttesting "k8s.io/client-go/testing"

	"baremetal.cloud/ccm/pkg/announcer/control"
)

// TestFault_K1_7_ReviewsAreLimited: whatever tokens a stranger presents, the API server is
// asked a bounded number of times, and the nodes' tokens are reviewed meanwhile.
func TestFault_K1_7_ReviewsAreLimited(t *testing.T) {
	r := &review{status: accepted("node1")}
	a, client, now := newTestAuthenticator(t, r)
	var asked int
	client.PrependReactor("*", "*", func(clienttesting.Action) (bool, runtime.Object, error) {
		asked++
		return false, nil, nil
	})
	claims := func() map[string]any {
		return map[string]any{"sub": testUser, "aud": testAudience, "exp": testNow.Add(time.Hour).Unix()}
	}
	header := `{"alg":"RS256"}`
	for name, garbage := range map[string]string{
		"unsigned":                 tokenOf(t, `{"alg":"none"}`, nil, claims(), "node1"),
		"by a shared secret":       tokenOf(t, `{"alg":"HS256"}`, make([]byte, 64), claims(), "node1"),
		"signature cut":            tokenOf(t, header, make([]byte, minSignature-1), claims(), "node1"),
		"of another node":          tokenOf(t, header, make([]byte, 256), claims(), "node2"),
		"header is no JSON":        "!." + part(token(t, testUser, testNow.Add(time.Hour), testAudience), 1) + ".AAAA",
		"without a Pod":            tokenOf(t, header, make([]byte, 256), claims(), ""),
		"longer than a token gets": strings.Repeat("x", maxToken+1),
	} {
		_, err := a.Authenticate(t.Context(), garbage, "node1", testRemote)
		_, denied := errors.AsType[*control.DeniedError](err)
		require.True(t, denied, name)
	}
	require.Zero(t, asked, "refused by their shape")

	// 13 796 in 30 s was seen. Each is another token, with the shape of a good one.
	stranger := netip.MustParseAddr("192.0.2.66")
	forged := func(i int) string {
		signature := make([]byte, 256)
		signature[0], signature[1] = byte(i>>8), byte(i)
		return tokenOf(t, header, signature, claims(), "node1")
	}
	busy := 0
	for i := range 14_000 {
		*now = testNow.Add(time.Duration(i) * 30 * time.Second / 14_000)
		if _, err := a.Authenticate(t.Context(), forged(i), "node1", stranger); errors.Is(err, control.ErrBusy) {
			busy++
		}
	}
	require.Zero(t, r.asked.Load(), "no token from an address that is not the node's is reviewed")
	require.LessOrEqual(t, asked, int(sourceLimit().Burst+30*sourceLimit().Rate)+2)
	require.Greater(t, busy, 13_000)

	// From many addresses, as one machine may have in IPv6: all together are bounded.
	asked = 0
	for i := range 14_000 {
		source := netip.AddrFrom16([16]byte{0x20, 1, 0xd, 0xb9, 14: byte(i >> 8), 15: byte(i)})
		*now = testNow.Add(time.Minute + time.Duration(i)*30*time.Second/14_000)
		_, _ = a.Authenticate(t.Context(), forged(i), "node1", source)
	}
	require.LessOrEqual(t, asked, int(strangerLimit().Burst+30*strangerLimit().Rate)+2)
	require.LessOrEqual(t, a.budget.sources.Len(), sourcesKnown)

	// The nodes behind one address lack nothing: what is accepted is free.
	*now = testNow.Add(10 * time.Minute)
	for i := range 500 {
		_, err := a.Authenticate(t.Context(), forged(i), "node1", testRemote)
		require.NoError(t, err, i)
	}
	require.EqualValues(t, 500, r.asked.Load())
}

// TestFault_K4_5_CacheDoesNotHideADeletedPod: what is remembered of a token answers for new
// streams for less than the time between two reviews, and never for a review.
func TestFault_K4_5_CacheDoesNotHideADeletedPod(t *testing.T) {
	r := &review{status: accepted("node1")}
	a, client, now := newTestAuthenticator(t, r)
	good := token(t, testUser, testNow.Add(time.Hour), testAudience)
	first, err := a.Authenticate(t.Context(), good, "node1", testRemote)
	require.NoError(t, err)
	require.Equal(t, testNow, first.Reviewed)
	require.NoError(t, client.CoreV1().Pods("baremetal-ccm").Delete(t.Context(), "announcer-x", metav1.DeleteOptions{}))

	*now = now.Add(trustFor - time.Second)
	again, err := a.Authenticate(t.Context(), good, "node1", testRemote)
	require.NoError(t, err)
	require.Equal(t, testNow, again.Reviewed, "the stream is reviewed by when it was asked last")

	_, err = a.Review(t.Context(), good, "node1", testRemote)
	denied, ok := errors.AsType[*control.DeniedError](err)
	require.True(t, ok, "%v", err)
	require.Equal(t, control.CauseToken, denied.Cause)
	_, err = a.Authenticate(t.Context(), good, "node1", testRemote)
	require.Error(t, err, "a denial is not forgotten by the cache")
	require.Less(t, trustFor, 5*time.Minute)
}
