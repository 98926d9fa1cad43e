package main

import (
	"bytes"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/stretchr/testify/require"
)

// K7: an API server that is too old is refused at the start, with what to do. What
// distributions add to a version does not matter, and one that is not known is no obstacle.
func TestFault_K7_MinimumKubernetes(t *testing.T) {
	for _, test := range []struct {
		version, refused, logged string
	}{
		{version: "v1.29.15", refused: "the API server is Kubernetes v1.29.15, and baremetal-ccm needs 1.30 or later: upgrade the cluster first"},
		{version: "v1.29.15+k3s1", refused: "Kubernetes v1.29.15+k3s1"},
		{version: "v1.9.0", refused: "Kubernetes v1.9.0"},
		{version: "v1.30.0-eks-1234"},
		{version: "v1.30.4+rke2r1"},
		{version: "v1.37.1"},
		{version: "v2.0.0"},
		{version: "nightly", logged: "version=nightly"},
		{version: "", logged: `version=""`},
	} {
		t.Run(test.version, func(t *testing.T) {
			server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				require.Equal(t, "/version", r.URL.Path)
				w.Header().Set("Content-Type", "application/json")
				_, _ = w.Write([]byte(`{"major": "1", "minor": "99", "gitVersion": "` + test.version + `"}`))
			}))
			defer server.Close()
			var logged bytes.Buffer
			err := checkKubernetes(t.Context(), clientOf(t, server.URL), slog.New(slog.NewTextHandler(&logged, nil)))
			if test.refused == "" {
				require.NoError(t, err)
			} else {
				require.ErrorContains(t, err, test.refused)
			}
			if test.logged == "" {
				require.Empty(t, logged.String())
			} else {
				require.Contains(t, logged.String(), test.logged)
			}
		})
	}
}

// An API server that forbids to ask for its version, or fails to answer, passes with a Warning.
func TestFault_K7_UnknownKubernetesPasses(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		http.Error(w, "no", http.StatusForbidden)
	}))
	defer server.Close()
	var logged bytes.Buffer
	require.NoError(t, checkKubernetes(t.Context(), clientOf(t, server.URL), slog.New(slog.NewTextHandler(&logged, nil))))
	require.Contains(t, logged.String(), "level=WARN")
	require.Contains(t, logged.String(), "minimum=1.30")
}
