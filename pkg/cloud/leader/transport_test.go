package leader

import (
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestWrapRefusesWhatChangesTheCluster(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(http.StatusNoContent)
	}))
	defer server.Close()
	fence := newFence(BootClock, time.Hour)
	client := &http.Client{Transport: fence.Wrap(http.DefaultTransport)}

	for request, fenced := range map[string]bool{
		"GET /api/v1/services":                                                           false,
		"PATCH /api/v1/namespaces/web/services/frontend/status":                          true,
		"PUT /api/v1/namespaces/baremetal-ccm/configmaps/x":                              true,
		"DELETE /api/v1/namespaces/web/services/frontend":                                true,
		"POST /api/v1/namespaces/web/events":                                             true,
		"POST /apis/events.k8s.io/v1/namespaces/web/events":                              true,
		"POST /apis/authentication.k8s.io/v1/tokenreviews":                               false,
		"POST /apis/authorization.k8s.io/v1/subjectaccessreviews":                        false,
		"POST /api/v1/namespaces/kube-system/serviceaccounts/x/token":                    false,
		"PUT /apis/coordination.k8s.io/v1/namespaces/baremetal-ccm/leases/baremetal-ccm": false,
		"POST /apis/coordination.k8s.io/v1/namespaces/baremetal-ccm/leases":              false,
		"POST /k8s/clusters/c1/apis/authentication.k8s.io/v1/tokenreviews":               false,
		"PATCH /k8s/clusters/c1/api/v1/namespaces/web/services/tokenreviews/status":      true,
		"PATCH /apis/apps/v1/namespaces/web/deployments/leases":                          true,
	} {
		method, path, _ := strings.Cut(request, " ")
		for _, open := range []bool{false, true} {
			fence.closeFence()
			if open {
				fence.renewUntil(BootClock())
			}
			body := &closeRecorder{Reader: strings.NewReader("{}")}
			r, err := http.NewRequestWithContext(t.Context(), method, server.URL+path, body)
			require.NoError(t, err)
			response, err := client.Do(r)
			if fenced && !open {
				require.ErrorIs(t, err, ErrFenced, request)
				require.ErrorContains(t, err, path)
				require.True(t, body.closed, "a RoundTripper closes the body")
				continue
			}
			require.NoError(t, err, request)
			require.NoError(t, response.Body.Close())
		}
	}
	require.Zero(t, fence.acting)
}

type closeRecorder struct {
	io.Reader
	closed bool
}

func (c *closeRecorder) Close() error {
	c.closed = true
	return nil
}

func TestBootClockGoesOn(t *testing.T) {
	before := BootClock()
	require.Positive(t, before)
	require.GreaterOrEqual(t, BootClock(), before)
}
