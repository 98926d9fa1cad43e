package leader

import (
	"fmt"
	"net/http"
	"strings"
)

// Wrap returns a transport that refuses every request that could change the cluster
// while the fence is closed, with an ErrFenced. It is meant for rest.Config.Wrap, so
// that controllers that know nothing of the fence (the stock service controller) are
// held by it too. Reads pass, and so do questions that are asked by POST (token and
// access reviews), token requests, and the writing of Leases, by which a leader proves
// that it is one.
func (f *Fence) Wrap(next http.RoundTripper) http.RoundTripper {
	return &transport{fence: f, next: next}
}

type transport struct {
	fence *Fence
	next  http.RoundTripper
}

// RoundTrip implements http.RoundTripper.
func (t *transport) RoundTrip(request *http.Request) (*http.Response, error) {
	if !changesCluster(request.Method, request.URL.Path) {
		return t.next.RoundTrip(request)
	}
	leave, err := t.fence.enterWrite()
	if err != nil {
		if request.Body != nil {
			_ = request.Body.Close() // a RoundTripper closes the body, on errors too
		}
		return nil, fmt.Errorf("%s %s: %w", request.Method, request.URL.Path, err)
	}
	defer leave()
	return t.next.RoundTrip(request)
}

// WrappedRoundTripper lets client-go find the transport beneath.
func (t *transport) WrappedRoundTripper() http.RoundTripper { return t.next }

// changesCluster reports whether a request may change what others than this replica see.
func changesCluster(method, path string) bool {
	switch method {
	case http.MethodGet, http.MethodHead, http.MethodOptions:
		return false
	}
	return !isQuestion(path)
}

// isQuestion reports whether path is one that is written to in order to ask a question or to
// take part in the election. An API server behind a proxy has a prefix before /api.
func isQuestion(path string) bool {
	if _, rest, ok := strings.Cut(path, "/apis/"); ok {
		group, resource, _ := strings.Cut(rest, "/")
		switch group {
		case "authentication.k8s.io":
			return strings.HasSuffix(resource, "/tokenreviews")
		case "authorization.k8s.io":
			return strings.HasSuffix(resource, "accessreviews")
		case "coordination.k8s.io":
			return strings.Contains(resource, "/leases")
		}
		return false
	}
	return strings.Contains(path, "/serviceaccounts/") && strings.HasSuffix(path, "/token")
}
