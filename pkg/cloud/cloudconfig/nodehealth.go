package cloudconfig

import (
	"net/netip"
	"net/url"
	"time"

	"gopkg.in/yaml.v3"
)

// Bounds of NodeHealth.UnwellAfter. Below, a restart of kube-proxy would move addresses.
const (
	minUnwellAfter = time.Second
	maxUnwellAfter = time.Hour

	// maxURL is what the control channel carries.
	maxURL = 512
)

// NodeHealth is how a node learns whether it serves traffic.
type NodeHealth struct {
	// KubeProxy is an http URL on a loopback address, with a port, that answers 200 while the
	// node's service proxy works; "" asks nothing, and takes every node for well.
	KubeProxy string
	// UnwellAfter is for how long it may not answer so before the node's addresses go to
	// others, 1 s to 1 h.
	UnwellAfter time.Duration
	// DrainOnCordon has a node's addresses go to others while it is cordoned.
	DrainOnCordon bool
}

func (w *walker) nodeHealth(n *yaml.Node, path string) NodeHealth {
	h := defaultNodeHealth()
	w.object(n, path, map[string]reader{
		"kubeProxy": func(v *yaml.Node, at string) { h.KubeProxy = w.loopbackURL(v, at) },
		"unwellAfter": func(v *yaml.Node, at string) {
			h.UnwellAfter = w.durationBetween(v, at, minUnwellAfter, maxUnwellAfter)
		},
		"drainOnCordon": func(v *yaml.Node, at string) { h.DrainOnCordon = w.boolean(v, at) },
	})
	return h
}

// loopbackURL reads an http URL on a loopback address; "" is none. Announcers are not to be
// sent anywhere else.
func (w *walker) loopbackURL(n *yaml.Node, path string) string {
	text, ok := w.text(n, path)
	if !ok || text == "" {
		return ""
	}
	const cure = "write it like http://127.0.0.1:10256/healthz, or \"\" for none"
	u, err := url.Parse(text)
	if err != nil || len(text) > maxURL || u.Scheme != "http" || u.User != nil || u.Fragment != "" {
		w.fail(n, path, cure, "%q is no http URL", text)
		return ""
	}
	address, err := netip.ParseAddrPort(u.Host)
	if err != nil || !address.Addr().IsLoopback() || address.Port() == 0 {
		w.fail(n, path, cure, "%q is no loopback address with a port", u.Host)
		return ""
	}
	return text
}
