//go:build e2e

package e2e

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"baremetal.cloud/ccm/test/e2e/testbed"
)

// The routers, and the peers that the testbed's cloud-config names for both families.
var (
	bothRouters = []string{"frr", "bird"}
	allPeers    = []string{"frr", "frr-v6", "bird", "bird-v6"}
)

// bgp is a lab with routers.
type bgp struct {
	*lab
	// config is the cloud-config that the testbed began with.
	config string
}

func (b bgp) with(t *testing.T) bgp { return bgp{b.lab.with(t), b.config} }

// upBGP boots a testbed with routers, and waits for every session.
func upBGP(t *testing.T, nodes int) bgp {
	t.Helper()
	l := up(t, testbed.Options{Nodes: nodes, Routers: true})
	b := bgp{lab: l}
	configMap, err := l.client.CoreV1().ConfigMaps(system).Get(l.Context(), "baremetal-cloud-config", metav1.GetOptions{})
	require.NoError(t, err)
	b.config = configMap.Data["cloud-config.yaml"]
	b.established(l.nodes(), allPeers...)
	return b
}

// service makes a Service with addresses of both families that routers hear of.
func (b bgp) service(name string, change func(*corev1.Service)) []netip.Addr {
	b.Helper()
	both := corev1.IPFamilyPolicyRequireDualStack
	b.create(name, func(svc *corev1.Service) {
		svc.Annotations = map[string]string{"baremetal.cloud/pool": "routed"}
		svc.Spec.IPFamilyPolicy = &both
		if change != nil {
			change(svc)
		}
	})
	return b.addresses(name, 2)
}

// configure writes another cloud-config and waits until it is in use, and until each node whose
// sessions it ends had its turn.
func (b bgp) configure(text string) {
	b.Helper()
	b.lab.configure(text)
	b.configured(func(t require.TestingT, now string) { require.Equal(t, text, now) })
	b.eventually(func(t *assert.CollectT) {
		require.Equal(t, "0", b.metric("baremetal_ccm_bgp_nodes_waiting"))
	}, "the last node's turn")
}

// nextHops returns where a router's kernel sends packets to prefix, sorted.
func (b bgp) nextHops(router string, prefix netip.Prefix) ([]string, error) {
	family := "-4"
	if prefix.Addr().Is6() {
		family = "-6"
	}
	out, err := b.c.In(b.Context(), router, "ip", "-j", family, "route", "show", prefix.String())
	if err != nil {
		return nil, err
	}
	// Via is a gateway of the other family.
	type hop struct {
		Gateway string
		Via     struct{ Host string }
	}
	var routes []struct {
		hop
		Nexthops []hop
	}
	if err := json.Unmarshal([]byte(out), &routes); err != nil {
		return nil, fmt.Errorf("%w: %s", err, out)
	}
	hops := []string{}
	for _, r := range routes {
		for _, h := range append(r.Nexthops, r.hop) {
			if gateway := h.Gateway + h.Via.Host; gateway != "" {
				hops = append(hops, gateway)
			}
		}
	}
	slices.Sort(hops)
	return hops, nil
}

// hopsOf returns the addresses of nodes as next hops of prefixes like that, sorted.
func (b bgp) hopsOf(prefix netip.Prefix, nodes []string) []string {
	hops := []string{}
	for _, node := range nodes {
		pair := b.c.Address(node)
		if prefix.Addr().Is4() {
			hops = append(hops, pair.V4.String())
		} else {
			hops = append(hops, pair.V6.String())
		}
	}
	slices.Sort(hops)
	return hops
}

// routed waits until the routers hold the addresses' host routes by those nodes and no others.
func (b bgp) routed(addresses []netip.Addr, routers []string, nodes ...string) {
	b.Helper()
	for _, address := range addresses {
		b.prefixRouted(netip.PrefixFrom(address, address.BitLen()), routers, nodes...)
	}
}

func (b bgp) prefixRouted(prefix netip.Prefix, routers []string, nodes ...string) {
	b.Helper()
	for _, router := range routers {
		b.eventually(func(t *assert.CollectT) {
			hops, err := b.nextHops(router, prefix)
			require.NoError(t, err)
			require.Equal(t, b.hopsOf(prefix, nodes), hops)
		}, "next hops of %s on %s", prefix, router)
	}
}

// through requests an address from the client by way of a router, or of a node, until that
// succeeds.
func (b bgp) through(host string, address netip.Addr) {
	b.Helper()
	b.steer(host, address)
	b.requested(address)
}

// served waits until each node serves addresses: a route may be there before the rules of
// kube-proxy are.
func (b bgp) served(addresses []netip.Addr) {
	b.Helper()
	for _, node := range b.nodes() {
		for _, address := range addresses {
			b.through(node, address)
		}
	}
}

// steer has the client go by way of a router, or of a node.
func (b bgp) steer(host string, address netip.Addr) {
	b.Helper()
	via := b.c.Address(host).V4
	if address.Is6() {
		via = b.c.Address(host).V6
	}
	_, err := b.c.In(b.Context(), "client", "ip", "route", "replace", netip.PrefixFrom(address, address.BitLen()).String(), "via", via.String())
	require.NoError(b, err)
}

// metrics returns what the announcer of a node says.
func (b bgp) metrics(node string) string {
	out, _ := b.c.In(b.Context(), node, "curl", "-s", "-m", "2", "http://127.0.0.1:10271/metrics") // it may be down
	return out
}

// established waits until the sessions of nodes to peers are.
func (b bgp) established(nodes []string, peers ...string) {
	b.Helper()
	b.measured(nodes, peers, "baremetal_announcer_bgp_session{peer=%q,state=\"established\"} 1\n")
}

// measured waits until the metrics of nodes have a line for each of peers.
func (b bgp) measured(nodes, peers []string, line string) {
	b.Helper()
	for _, node := range nodes {
		for _, peer := range peers {
			b.eventually(func(t *assert.CollectT) {
				require.Contains(t, b.metrics(node), fmt.Sprintf(line, peer))
			}, "%s of %s and %s", line, node, peer)
		}
	}
}

// problem waits until a node says why its session to peer is not established.
func (b bgp) problem(node, peer, reason string) {
	b.Helper()
	b.eventually(func(t *assert.CollectT) {
		require.Contains(t, b.metrics(node), fmt.Sprintf("baremetal_announcer_bgp_session_problem{peer=%q,reason=%q} 1\n", peer, reason))
	}, "%s of %s to %s", reason, node, peer)
}

// establishments are sessions as the routers count them: FRR says how often each was
// established, which is part of its name here, and BIRD since what time of day.
type establishments map[string]time.Time

func (b bgp) establishments() establishments {
	b.Helper()
	all := establishments{}
	out, err := b.c.FRR(b.Context(), "show bgp neighbors json")
	require.NoError(b, err)
	var neighbours map[string]json.RawMessage
	require.NoError(b, json.Unmarshal([]byte(out), &neighbours))
	for name, raw := range neighbours {
		var n struct{ ConnectionsEstablished int }
		if json.Unmarshal(raw, &n) == nil && n.ConnectionsEstablished > 0 {
			all[fmt.Sprintf("frr %s %d", name, n.ConnectionsEstablished)] = time.Time{}
		}
	}
	out, err = b.c.BIRD(b.Context(), "show", "protocols")
	require.NoError(b, err)
	for line := range strings.Lines(out) {
		if fields := strings.Fields(line); len(fields) == 6 && fields[5] == "Established" {
			all["bird "+fields[0]], err = time.Parse("15:04:05", fields[4])
			require.NoError(b, err, line)
		}
	}
	return all
}

// goOn checks that no session was reset. BIRD works out the time anew at each question, from
// clocks that do not agree to the millisecond.
func (b bgp) goOn(before establishments) {
	b.Helper()
	b.goOnWith("", before)
}

// goOnWith is goOn for the sessions whose name begins like that.
func (b bgp) goOnWith(router string, before establishments) {
	b.Helper()
	now := b.establishments()
	for _, all := range []establishments{before, now} {
		maps.DeleteFunc(all, func(session string, _ time.Time) bool { return !strings.HasPrefix(session, router) })
	}
	same := maps.EqualFunc(before, now, func(x, y time.Time) bool { return x.Sub(y).Abs() < 500*time.Millisecond })
	require.True(b, same, "a session was reset: %v\nand now %v", before, now)
}

// heard is a path as a router received it.
type heard struct {
	asPath, communities, large string
	med, localPref             int
}

// frrPaths returns what FRR heard of prefix, by next hop.
func (b bgp) frrPaths(prefix netip.Prefix) map[string]heard {
	b.Helper()
	family := "ipv4"
	if prefix.Addr().Is6() {
		family = "ipv6"
	}
	out, err := b.c.FRR(b.Context(), fmt.Sprintf("show bgp %s unicast %s json", family, prefix))
	require.NoError(b, err)
	var route struct {
		Paths []struct {
			Aspath struct{ String string }
			// Metric and LocPrf are MULTI_EXIT_DISC and LOCAL_PREF.
			Metric, LocPrf            int
			Community, LargeCommunity struct{ String string }
			Nexthops                  []struct{ IP, Scope string }
		}
	}
	require.NoError(b, json.Unmarshal([]byte(out), &route), out)
	paths := map[string]heard{}
	for _, p := range route.Paths {
		for _, n := range p.Nexthops {
			if n.Scope != "link-local" {
				paths[n.IP] = heard{p.Aspath.String, p.Community.String, p.LargeCommunity.String, p.Metric, p.LocPrf}
			}
		}
	}
	return paths
}

// birdRoute returns what BIRD says of a prefix; of one that it does not hold it says so, and
// fails.
func (b bgp) birdRoute(prefix netip.Prefix) string {
	out, _ := b.c.BIRD(b.Context(), "show", "route", "for", prefix.String(), "all")
	return out
}
