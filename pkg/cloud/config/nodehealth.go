package config

import (
	"net/netip"
	"net/url"
	"time"
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
	KubeProxy string `yaml:"kubeProxy"`
	// UnwellAfter is for how long it may not answer so before the node's addresses go to
	// others, 1 s to 1 h.
	UnwellAfter time.Duration `yaml:"unwellAfter"`
	// DrainOnCordon moves a node's addresses to others while it is cordoned.
	DrainOnCordon bool `yaml:"drainOnCordon"`
}

func (h NodeHealth) checkNodeHealth(s spot) NodeHealth {
	checkBetween(s.key("unwellAfter"), h.UnwellAfter, minUnwellAfter, maxUnwellAfter)
	if proxy := s.key("kubeProxy"); proxy.given() && h.KubeProxy != "" {
		loopbackURL(proxy, h.KubeProxy)
	}
	return h
}

// loopbackURL checks an http URL on a loopback address: announcers ask nowhere else.
func loopbackURL(s spot, text string) {
	const cure = "write it like http://127.0.0.1:10256/healthz, or \"\" for none"
	u, err := url.Parse(text)
	if err != nil || len(text) > maxURL || u.Scheme != "http" || u.User != nil || u.Fragment != "" {
		s.fail(cure, "%q is no http URL", text)
		return
	}
	address, err := netip.ParseAddrPort(u.Host)
	if err != nil || !address.Addr().IsLoopback() || address.Port() == 0 {
		s.fail(cure, "%q is no loopback address with a port", u.Host)
	}
}
