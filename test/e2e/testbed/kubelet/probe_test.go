package kubelet

import (
	"context"
	"errors"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"testing"

	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
)

func TestVerdictCountsInARow(t *testing.T) {
	probe := &corev1.Probe{FailureThreshold: 2, SuccessThreshold: 2}
	bad := errors.New("bad")
	var v verdict
	for i, step := range []struct {
		err         error
		decided, ok bool
	}{
		{nil, false, false}, {bad, false, false}, {nil, false, false}, {nil, true, true},
		{bad, false, true}, {nil, false, true}, {bad, false, true}, {bad, true, false},
	} {
		require.Equal(t, step.decided, v.add(probe, step.err), "step %d", i)
		require.Equal(t, step.ok, v.ok, "step %d", i)
	}
}

func TestProbes(t *testing.T) {
	handler := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/healthz" {
			w.WriteHeader(http.StatusServiceUnavailable)
		}
	})
	plain, secure := httptest.NewServer(handler), httptest.NewTLSServer(handler)
	defer plain.Close()
	defer secure.Close()
	port := func(s *httptest.Server) int32 {
		return int32(netip.MustParseAddrPort(s.Listener.Addr().String()).Port())
	}
	p := prober{
		dial: func(ctx context.Context, network, address string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, network, address)
		},
		address: "127.0.0.1",
		ports:   []corev1.ContainerPort{{Name: "http", ContainerPort: port(plain)}},
	}
	get := func(path, scheme string, port intstr.IntOrString) corev1.ProbeHandler {
		return corev1.ProbeHandler{HTTPGet: &corev1.HTTPGetAction{Path: path, Port: port, Scheme: corev1.URIScheme(scheme)}}
	}
	for name, c := range map[string]struct {
		handler corev1.ProbeHandler
		ok      bool
	}{
		"by number":      {get("/healthz", "HTTP", intstr.FromInt32(port(plain))), true},
		"by name":        {get("/healthz", "", intstr.FromString("http")), true},
		"unhealthy":      {get("/other", "HTTP", intstr.FromString("http")), false},
		"TLS unverified": {get("/healthz", "HTTPS", intstr.FromInt32(port(secure))), true},
		"TCP":            {corev1.ProbeHandler{TCPSocket: &corev1.TCPSocketAction{Port: intstr.FromString("http")}}, true},
		"TCP closed":     {corev1.ProbeHandler{TCPSocket: &corev1.TCPSocketAction{Port: intstr.FromInt32(1)}}, false},
		"unknown kind":   {corev1.ProbeHandler{Exec: &corev1.ExecAction{}}, false},
	} {
		t.Run(name, func(t *testing.T) {
			err := p.ask(t.Context(), &corev1.Probe{ProbeHandler: c.handler})
			require.Equal(t, c.ok, err == nil, "%v", err)
		})
	}
}
