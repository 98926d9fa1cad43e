//go:build e2e

package e2e

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"baremetal.cloud/ccm/test/e2e/testbed"
	"baremetal.cloud/ccm/test/e2e/testbed/netns"
)

// TestSteadyRequests lets addresses move for reasons that nobody is to notice, under a
// steady stream of requests: no new connection is refused.
func TestSteadyRequests(t *testing.T) {
	l := up(t, testbed.Options{Nodes: 3, Proxy: "nftables", Mgmt: "lan"})
	t.Run("a node returns and gets its share back", func(t *testing.T) { l.with(t).shareComesBack() })
	t.Run("a Deployment is rolled", func(t *testing.T) { l.with(t).rollingUpdate() })
}

// shareComesBack has a node leave and return: with rebalance it gets addresses again, no
// more a minute than allowed, until the load is even.
func (l *lab) shareComesBack() {
	const services, movesPerMinute = 9, 30
	even := map[string]int{"node1": 3, "node2": 3, "node3": 3}
	l.label("node3", corev1.LabelNodeExcludeBalancers, "true")
	var addresses []netip.Addr
	for i := range services {
		l.create(fmt.Sprint("even-", i), nil)
	}
	for i := range services {
		addresses = append(addresses, l.address(fmt.Sprint("even-", i)))
	}
	for _, address := range addresses {
		l.requested(address)
	}
	l.unlabel("node3", corev1.LabelNodeExcludeBalancers)
	require.Zero(l, l.shares(addresses)["node3"], "without rebalance nothing comes back")

	s := l.stream(addresses)
	began := time.Now()
	l.configure(fmt.Sprintf("apiVersion: baremetal.cloud/v1alpha1\nkind: CloudConfig\npools:\n- {name: default, addresses: [%q], l2: [{interface: eth0}]}\n", l.c.PoolV4()) +
		fmt.Sprintf("failover: %s\nrebalance: {maxMovesPerMinute: %d}\n", slowFailover, movesPerMinute))
	var history []map[string]int
	l.until(func() bool {
		shares := l.shares(addresses)
		history = append(history, shares)
		allowed := int(time.Since(began) / (time.Minute / movesPerMinute))
		require.LessOrEqual(l, shares["node3"], allowed, "moves after %s", time.Since(began))
		return maps.Equal(shares, even)
	}, "the load does not become even")
	l.Logf("even after %s; shares: %v", time.Since(began).Round(time.Second), slices.CompactFunc(history, func(x, y map[string]int) bool { return x["node3"] == y["node3"] }))
	time.Sleep(3 * time.Minute / movesPerMinute)
	s.end(l)
	require.Equal(l, even, l.shares(addresses), "and it stays so")
	for i := range services {
		l.delete(fmt.Sprint("even-", i))
	}
}

// shares counts the addresses that each node answers for.
func (l *lab) shares(addresses []netip.Addr) map[string]int {
	l.Helper()
	out := map[string]int{}
	for _, macs := range l.answering(addresses) {
		for _, mac := range macs {
			out[l.nodeOf(mac)]++
		}
	}
	return out
}

const rolled = `apiVersion: apps/v1
kind: Deployment
metadata: {name: rolled, namespace: default}
spec:
  replicas: 1
  selector: {matchLabels: {app: rolled}}
  strategy: {rollingUpdate: {maxSurge: 1, maxUnavailable: 0}}
  template:
    metadata: {labels: {app: rolled}}
    spec:
      nodeSelector: {kubernetes.io/hostname: %s}
      automountServiceAccountToken: false
      enableServiceLinks: false
      terminationGracePeriodSeconds: 20
      containers:
      - name: web
        image: testbed/web
        env:
        - {name: POD_NAME, value: web-rolled}
        - {name: LINGER, value: 8s}
        ports: [{name: http, containerPort: 8080}]
        readinessProbe: {httpGet: {path: /, port: http}, periodSeconds: 1}
---
`

// rollingUpdate rolls a Deployment from node to node behind externalTrafficPolicy Local: its
// address follows the Pod that is ready, and the one before it serves until it has.
func (l *lab) rollingUpdate() {
	require.NoError(l, l.c.Apply(l.Context(), fmt.Sprintf(rolled, "node1")))
	l.create("rolled", func(svc *corev1.Service) {
		svc.Spec.Selector = map[string]string{"app": "rolled"}
		svc.Spec.ExternalTrafficPolicy = corev1.ServiceExternalTrafficPolicyLocal
	})
	address := l.address("rolled")
	l.requested(address)
	l.answeredBy(address, "node1")
	s := l.stream([]netip.Addr{address})
	for _, node := range []string{"node2", "node3", "node1"} {
		require.NoError(l, l.c.Apply(l.Context(), fmt.Sprintf(rolled, node)))
		l.answeredBy(address, node)
		l.eventually(func(t *assert.CollectT) {
			pods, err := l.client.CoreV1().Pods("default").List(l.Context(), metav1.ListOptions{LabelSelector: "app=rolled"})
			require.NoError(t, err)
			require.Len(t, pods.Items, 1, "the Pod before it is gone")
		})
	}
	s.end(l)
	l.delete("rolled")
}

// stream asks for addresses again and again, each time by a new connection of the client.
type stream struct {
	stop    context.CancelFunc
	running sync.WaitGroup

	mu sync.Mutex
	// asked counts all, refused those that got no connection, broken those whose connection
	// ended without an answer, and slowest is the longest time to a connection.
	asked, broken int
	refused       []string
	slowest       time.Duration
}

// stream begins to ask, every 100 ms for each address.
func (l *lab) stream(addresses []netip.Addr) *stream { return l.streamEvery(pause, addresses) }

// streamEvery begins to ask, for each address once in that time, or as soon as it has
// the answer before.
func (l *lab) streamEvery(period time.Duration, addresses []netip.Addr) *stream {
	ctx, cancel := context.WithCancel(l.Context())
	s := &stream{stop: cancel}
	dial := netns.Dialer(l.c.NetNS("client"))
	for _, address := range addresses {
		s.running.Go(func() {
			for ctx.Err() == nil {
				s.ask(dial, netip.AddrPortFrom(address, httpPort))
				select {
				case <-ctx.Done():
				case <-time.After(period):
				}
			}
		})
	}
	return s
}

func (s *stream) ask(dial netns.DialFunc, to netip.AddrPort) {
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	began := time.Now()
	conn, err := dial(ctx, "tcp", to.String())
	took := time.Since(began)
	answered := false
	if err == nil {
		defer conn.Close()
		_ = conn.SetDeadline(time.Now().Add(10 * time.Second))
		if _, err := fmt.Fprintf(conn, "GET / HTTP/1.1\r\nHost: %s\r\nConnection: close\r\n\r\n", to); err == nil {
			response, err := http.ReadResponse(bufio.NewReader(conn), nil)
			answered = err == nil && response.StatusCode == http.StatusOK
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.asked++
	s.slowest = max(s.slowest, took)
	switch {
	case errors.Is(err, syscall.ECONNRESET):
		// It had come about, or it would be ECONNREFUSED (tcp(7)), and its address moved at that moment.
		s.broken++
	case err != nil:
		s.refused = append(s.refused, fmt.Sprintf("%s at %s after %s: %v", to, began.Format(time.StampMilli), took, err))
	case !answered:
		s.broken++
	}
}

// end stops asking, and checks that each connection came about. Those that were open when
// an address moved may have been reset: kube-proxy's state is that of one node.
func (s *stream) end(l *lab) {
	l.Helper()
	s.stop()
	s.running.Wait()
	l.Logf("%d requests: %d connections refused, %d ended without an answer, the slowest came about after %s", s.asked, len(s.refused), s.broken, s.slowest)
	require.Empty(l, s.refused, strings.Join(s.refused, "\n"))
	require.NotZero(l, s.asked)
}
