package main

import (
	"net/http"
	"net/http/httptest"
	"os"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// K3.2: renewals of the Lease have a connection of their own, which no other request can
// hold up or take along when it is given up. Dead connections are found in seconds.
func TestFault_K3_2_ElectionHasAConnectionOfItsOwn(t *testing.T) {
	for _, name := range []string{"HTTP2_READ_IDLE_TIMEOUT_SECONDS", "HTTP2_PING_TIMEOUT_SECONDS"} {
		t.Setenv(name, "") // restores it when the test ends
		require.NoError(t, os.Unsetenv(name))
	}
	t.Setenv("HTTP2_PING_TIMEOUT_SECONDS", "7")
	var mu sync.Mutex
	connections := map[string]string{}
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		connections[r.RemoteAddr] = r.Proto
		w.Header().Set("Content-Type", "application/json")
		_, _ = w.Write([]byte(`{"kind": "LeaseList", "apiVersion": "coordination.k8s.io/v1"}`))
	}))
	server.EnableHTTP2 = true
	server.StartTLS()
	defer server.Close()

	o, err := newOptions("somewhere")
	require.NoError(t, err)
	o.Generic.ClientConnection.Kubeconfig = write(t, `{apiVersion: v1, kind: Config, current-context: c,
contexts: [{name: c, context: {cluster: c, user: u}}], users: [{name: u, user: {}}],
clusters: [{name: c, cluster: {server: "`+server.URL+`", insecure-skip-tls-verify: true}}]}`)
	reach, err := newClients(o)
	require.NoError(t, err)
	require.Equal(t, readIdleSeconds, os.Getenv("HTTP2_READ_IDLE_TIMEOUT_SECONDS"))
	require.Equal(t, "7", os.Getenv("HTTP2_PING_TIMEOUT_SECONDS"), "what an administrator sets stays")
	for range 3 {
		_, err = reach.general.CoordinationV1().Leases("x").List(t.Context(), metav1.ListOptions{})
		require.NoError(t, err)
		_, err = reach.election.CoordinationV1().Leases("x").List(t.Context(), metav1.ListOptions{})
		require.NoError(t, err)
	}
	mu.Lock()
	defer mu.Unlock()
	require.Len(t, connections, 2)
	for _, protocol := range connections {
		require.Equal(t, "HTTP/2.0", protocol)
	}
}
