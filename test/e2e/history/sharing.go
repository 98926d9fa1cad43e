package history

import (
	"net/netip"
	"slices"
	"time"

	"baremetal.cloud/ccm/pkg/ipam"
)

// mayShare is the sharing rule for address a, as docs/ tells it to users.
func mayShare(a netip.Addr, x, y *Service, config *Config) bool {
	if x.Key == "" || x.Key != y.Key || x.Local != y.Local {
		return false
	}
	if x.Local && (x.Selector != y.Selector || x.Selector == "") {
		return false
	}
	if slices.ContainsFunc(x.Ports, func(p string) bool { return slices.Contains(y.Ports, p) }) {
		return false
	}
	return mayMeet(config.poolOf(a), x.Namespace, y.Namespace)
}

func mayMeet(p *ipam.Pool, x, y string) bool {
	return x == y || p != nil && slices.Contains(p.SharedNamespaces, x) && slices.Contains(p.SharedNamespaces, y)
}

// onceShared reports whether the rule allowed x and y to share a at some time: an edit
// that breaks the rule later takes nobody's address away. Two versions count as of the
// same time if less than slack lies between them, which is how much the leader's view of
// one may be behind that of the other.
func onceShared(a netip.Addr, x, y *life, configs []*Config, slack time.Duration) bool {
	for i, v := range x.versions {
		until := v.At.Add(slack)
		if i+1 < len(x.versions) {
			until = x.versions[i+1].At.Add(slack)
		} else {
			until = until.Add(24 * time.Hour)
		}
		for _, w := range y.between(v.At.Add(-slack), until) {
			if slices.ContainsFunc(configs, func(c *Config) bool { return mayShare(a, v.Service, w, c) }) {
				return true
			}
		}
	}
	return false
}
