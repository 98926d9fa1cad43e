//go:build e2e

package e2e

import (
	"fmt"
	"net/netip"
	"strings"
	"syscall"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"baremetal.cloud/ccm/test/e2e/testbed/netns"
)

const excludeLabel = "node.kubernetes.io/exclude-from-external-load-balancers"

// exclude is a planned move.
func (c *chaos) exclude(node string) func() {
	c.label(node, excludeLabel, "")
	return func() { c.unlabel(node, excludeLabel) }
}

// leaderNow returns the node and process of the replica that holds the Lease, if any.
func (c *chaos) leaderNow() (node string, pid int) {
	c.Helper()
	lease, err := c.client.CoordinationV1().Leases(system).Get(c.Context(), "baremetal-ccm", metav1.GetOptions{})
	if err != nil || lease.Spec.HolderIdentity == nil || *lease.Spec.HolderIdentity == "" {
		c.observer.Note("nobody leads: %v", err)
		return "", 0
	}
	node = c.nodeOfReplica(*lease.Spec.HolderIdentity)
	pid = c.processes()[node]
	c.observer.Note("%s on %s leads, process %d", *lease.Spec.HolderIdentity, node, pid)
	return node, pid
}

// drain empties a node as an administrator does before he works on it.
func (c *chaos) drain(node string) func() {
	kubectl := func(args ...string) {
		c.Helper()
		_, err := c.c.Kubectl(c.Context(), args...)
		require.NoError(c, err)
	}
	kubectl("drain", node, "--ignore-daemonsets", "--timeout=60s")
	return func() { kubectl("uncordon", node) }
}

func (c *chaos) killLeader(string) func() {
	if _, pid := c.leaderNow(); pid != 0 {
		c.signal(pid, syscall.SIGKILL)
	}
	return nil
}

// pauseLeader has a leader sleep, perhaps for longer than others believe in it.
func (c *chaos) pauseLeader(string) func() {
	_, pid := c.leaderNow()
	if pid == 0 {
		return nil
	}
	c.signal(pid, syscall.SIGSTOP)
	return func() { c.signal(pid, syscall.SIGCONT) }
}

// killLeaderInMove kills the leader when some have perhaps been told of a move and others not.
func (c *chaos) killLeaderInMove(node string) func() {
	_, pid := c.leaderNow()
	back := c.exclude(node)
	time.Sleep(c.draw(100 * time.Millisecond))
	if pid != 0 {
		c.signal(pid, syscall.SIGKILL)
	}
	return back
}

func (c *chaos) deleteLease(string) func() {
	require.NoError(c, c.client.CoordinationV1().Leases(system).Delete(c.Context(), "baremetal-ccm", metav1.DeleteOptions{}))
	return nil
}

func (c *chaos) killProxies(string) func() {
	for _, node := range c.nodes() {
		c.signal(c.pid("KUBE_PROXY_PID_"+node), syscall.SIGKILL)
	}
	return nil
}

// churn deletes the web server of a node; its DaemonSet makes another one. It has ended
// when there is one, and every kube-proxy knows.
func (c *chaos) churn(node string) func() {
	// One that misses what follows leads to a server that is gone.
	c.proxiesFollow()
	pods := c.client.CoreV1().Pods("default")
	web := metav1.ListOptions{LabelSelector: "node=" + node}
	before, err := pods.List(c.Context(), web)
	require.NoError(c, err)
	require.NoError(c, pods.DeleteCollection(c.Context(), metav1.DeleteOptions{}, web))
	return func() {
		c.eventually(func(t *assert.CollectT) {
			after, err := pods.List(c.Context(), web)
			require.NoError(t, err)
			require.NotEmpty(t, after.Items)
			for _, p := range after.Items {
				for _, old := range before.Items {
					require.NotEqual(t, old.UID, p.UID, "%s is still there", p.Name)
				}
			}
		})
		c.endpointsReady()
		c.proxiesFollow()
		for _, old := range before.Items {
			c.forgetConnections(old.Status.PodIPs)
		}
	}
}

// forgetConnections has nodes forget connections to a server that is gone. A node that lost
// an address before it saw a connection end keeps that for days, and a client that opens a
// hundred a second comes by the same port again: kube-proxy does not decide about it anew.
func (c *chaos) forgetConnections(server []corev1.PodIP) {
	c.Helper()
	for _, node := range c.nodes() {
		require.NoError(c, netns.Do(c.c.NetNS(node), func() error {
			for _, address := range server {
				ip := netip.MustParseAddr(address.IP)
				family := netlink.InetFamily(unix.AF_INET)
				if ip.Is6() {
					family = unix.AF_INET6
				}
				filter := &netlink.ConntrackFilter{}
				if err := filter.AddIP(netlink.ConntrackReplySrcIP, ip.AsSlice()); err != nil {
					return err
				}
				if _, err := netlink.ConntrackDeleteFilters(netlink.ConntrackTable, family, filter); err != nil {
					return err
				}
			}
			return nil
		}), "connections of %s", node)
	}
}

// canary is a Service by whose endpoints a kube-proxy shows which of all Services it has heard
// of: what an API server tells of one kind comes in order, what it tells of two does not.
const canary = `apiVersion: v1
kind: Service
metadata: {name: canary, namespace: default}
spec:
  ipFamilyPolicy: RequireDualStack
  ports: [{name: http, port: 80}]
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: canary-v4, namespace: default, labels: {kubernetes.io/service-name: canary}}
addressType: IPv4
endpoints: [{addresses: [192.0.2.1]}]
ports: [{name: http, port: %[1]d}]
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: canary-v6, namespace: default, labels: {kubernetes.io/service-name: canary}}
addressType: IPv6
endpoints: [{addresses: ["2001:db8::1"]}]
ports: [{name: http, port: %[1]d}]
`

// proxiesFollow waits until all kube-proxies do what the API server knows by now. One that
// lost the API server looks for it ever more seldom, for minutes even, without being unhealthy;
// it is restarted.
func (c *chaos) proxiesFollow() {
	c.Helper()
	c.follows++
	require.NoError(c, c.c.Apply(c.Context(), fmt.Sprintf(canary, c.follows)))
	follows := func(node string) bool {
		for family, endpoint := range map[string]string{"ip": "192.0.2.1", "ip6": "[2001:db8::1]"} {
			rules, err := c.c.In(c.Context(), node, "nft", "list", "table", family, "kube-proxy")
			if err != nil || !strings.Contains(rules, fmt.Sprintf("dnat to %s:%d\n", endpoint, c.follows)) {
				return false
			}
		}
		return true
	}
	for _, node := range c.nodes() {
		for end := time.Now().Add(recovery); !follows(node) && time.Now().Before(end); {
			time.Sleep(pause)
		}
		if !follows(node) {
			c.observer.Note("    kube-proxy of %s is late and is restarted", node)
			require.NoError(c, c.c.Restart(c.Context(), "kube-proxy:"+node))
			c.until(func() bool { return follows(node) }, "kube-proxy of %s knows nothing new", node)
		}
	}
}

// reconfigure changes something in the cloud-config that moves nothing.
func (c *chaos) reconfigure(string) func() {
	reserved := plus(c.c.PoolV4().Addr(), 100+c.random.IntN(50))
	c.editConfig(func(before string) string {
		text, _, _ := strings.Cut(before, "\nreservations:")
		return strings.TrimSpace(text) + fmt.Sprintf("\nreservations:\n- {service: nobody/nothing, addresses: [%s]}\n", reserved)
	})
	return nil
}

// slow has the API server hold back what the CCM asks of EndpointSlices, as long as the
// level has no share of it. Everything else is answered as ever.
const slow = `apiVersion: flowcontrol.apiserver.k8s.io/v1
kind: PriorityLevelConfiguration
metadata: {name: slow}
spec:
  type: Limited
  limited:
    nominalConcurrencyShares: %d
    lendablePercent: 0
    borrowingLimitPercent: 0
    limitResponse: {type: Queue, queuing: {queues: 1, handSize: 1, queueLengthLimit: 100}}
---
apiVersion: flowcontrol.apiserver.k8s.io/v1
kind: FlowSchema
metadata: {name: slow}
spec:
  priorityLevelConfiguration: {name: slow}
  matchingPrecedence: 10
  rules:
  - subjects: [{kind: ServiceAccount, serviceAccount: {namespace: baremetal-ccm, name: baremetal-ccm}}]
    resourceRules:
    - {verbs: [list, watch], apiGroups: [discovery.k8s.io], resources: [endpointslices], clusterScope: true, namespaces: ["*"]}
`

// slowEndpointSlices has all replicas begin anew and wait for EndpointSlices when they know
// all else. A standby that knows them leads at once: it has watched them all the time.
func (c *chaos) slowEndpointSlices(string) func() {
	share := func(shares int) { require.NoError(c, c.c.Apply(c.Context(), fmt.Sprintf(slow, shares))) }
	share(0)
	if c.random.IntN(2) == 0 {
		for _, pid := range c.processes() {
			c.signal(pid, syscall.SIGKILL)
		}
	} else {
		c.stop("ccm")
		c.start("ccm")
	}
	c.until(c.waits, "nobody waits for EndpointSlices")
	return func() {
		require.True(c, c.waits(), "somebody waits for EndpointSlices until the end")
		share(30)
	}
}

// waits says whether the API server holds a request back.
func (c *chaos) waits() bool {
	c.Helper()
	table, err := c.client.Discovery().RESTClient().Get().AbsPath("/debug/api_priority_and_fairness/dump_priority_levels").DoRaw(c.Context())
	require.NoError(c, err)
	for line := range strings.Lines(string(table)) {
		// The columns are the name, queues, whether it is idle, whether it ends, and who waits.
		if columns := strings.Split(line, ","); strings.TrimSpace(columns[0]) == "slow" && len(columns) > 4 {
			return strings.TrimSpace(columns[4]) != "0"
		}
	}
	return false
}
