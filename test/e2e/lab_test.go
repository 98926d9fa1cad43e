//go:build e2e

// Package e2e asks the questions that an administrator would ask, from outside: who
// answers ARP, does a request succeed, what does the Service say.
package e2e

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/util/retry"

	"baremetal.cloud/ccm/test/e2e/testbed"
)

const (
	// patience bounds what has to happen at some time; nothing is measured by it.
	patience = 3 * time.Minute
	pause    = 100 * time.Millisecond
	system   = "baremetal-ccm"
	// slowFailover has nodes take each other for down after two seconds. By default it is 300 ms, for
	// which a machine that runs a whole cluster, and more, may well leave a process waiting:
	// its addresses move then, as they should. How fast a takeover is is for the benches.
	slowFailover = "{transmitInterval: 100ms, detectMultiplier: 20}"
)

// lab is a testbed and the test that uses it.
type lab struct {
	*testing.T
	c      *testbed.Cluster
	client kubernetes.Interface
}

// up boots a testbed for the duration of a test.
func up(t *testing.T, options testbed.Options) *lab {
	t.Helper()
	options.Dir = t.TempDir()
	options.OwnerPID = os.Getpid()
	options.Failover = cmp.Or(options.Failover, slowFailover)
	began := time.Now()
	c, err := testbed.Up(t.Context(), options)
	require.NoError(t, err)
	t.Cleanup(func() {
		if t.Failed() {
			logs, _ := filepath.Glob(filepath.Join(options.Dir, "logs", system+"_*"))
			for _, log := range logs {
				out, _ := exec.Command("tail", "-n", "40", log).CombinedOutput()
				t.Logf("%s:\n%s", filepath.Base(log), out)
			}
		}
		require.NoError(t, c.Down(context.Background()))
	})
	t.Logf("testbed is up after %s", time.Since(began).Round(time.Second))
	client, err := c.Client()
	require.NoError(t, err)
	return &lab{T: t, c: c, client: client}
}

// with returns the lab for a subtest.
func (l *lab) with(t *testing.T) *lab { return &lab{T: t, c: l.c, client: l.client} }

// eventually waits until check makes no complaint.
func (l *lab) eventually(check func(t *assert.CollectT), why ...any) {
	l.Helper()
	require.EventuallyWithT(l, check, patience, pause, why...)
}

// until waits until check, which unlike that of eventually runs on the test's own goroutine
// and may use what fails the test, says yes.
func (l *lab) until(check func() bool, format string, args ...any) {
	l.Helper()
	for deadline := time.Now().Add(patience); !check(); time.Sleep(pause) {
		require.True(l, time.Now().Before(deadline), fmt.Sprintf(format, args...))
	}
}

// create makes a Service of type LoadBalancer for the web Pods.
func (l *lab) create(name string, change func(*corev1.Service)) {
	l.Helper()
	svc := &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name},
		Spec: corev1.ServiceSpec{
			Type:     corev1.ServiceTypeLoadBalancer,
			Selector: map[string]string{"app": "web"},
			Ports:    []corev1.ServicePort{{Name: "http", Port: 80, TargetPort: intstr.FromInt32(8080)}},
		},
	}
	if change != nil {
		change(svc)
	}
	_, err := l.client.CoreV1().Services("default").Create(l.Context(), svc, metav1.CreateOptions{})
	require.NoError(l, err)
}

// get reads a Service. An API server that a test has just stopped may be on its way back.
func (l *lab) get(name string) *corev1.Service {
	l.Helper()
	deadline := time.Now().Add(patience)
	for {
		svc, err := l.client.CoreV1().Services("default").Get(l.Context(), name, metav1.GetOptions{})
		if err == nil || apierrors.IsNotFound(err) || l.Context().Err() != nil || time.Now().After(deadline) {
			require.NoError(l, err)
			return svc
		}
		time.Sleep(pause)
	}
}

// change edits a Service as kubectl edit does.
func (l *lab) change(name string, edit func(*corev1.Service)) {
	l.Helper()
	require.NoError(l, retry.RetryOnConflict(retry.DefaultRetry, func() error {
		svc := l.get(name)
		edit(svc)
		_, err := l.client.CoreV1().Services("default").Update(l.Context(), svc, metav1.UpdateOptions{})
		return err
	}))
}

func (l *lab) annotate(name, key, value string) {
	l.Helper()
	l.change(name, func(svc *corev1.Service) {
		if svc.Annotations == nil {
			svc.Annotations = map[string]string{}
		}
		svc.Annotations[key] = value
	})
}

func (l *lab) wipeStatus(name string) {
	l.Helper()
	require.NoError(l, retry.RetryOnConflict(retry.DefaultRetry, func() error {
		svc := l.get(name)
		svc.Status = corev1.ServiceStatus{}
		_, err := l.client.CoreV1().Services("default").UpdateStatus(l.Context(), svc, metav1.UpdateOptions{})
		return err
	}))
}

// delete deletes a Service and waits until it is gone: finalizers must not keep it.
func (l *lab) delete(name string) {
	l.Helper()
	services := l.client.CoreV1().Services("default")
	require.NoError(l, services.Delete(l.Context(), name, metav1.DeleteOptions{}))
	l.eventually(func(t *assert.CollectT) {
		list, err := services.List(l.Context(), metav1.ListOptions{FieldSelector: "metadata.name=" + name})
		require.NoError(t, err)
		require.Empty(t, list.Items)
	}, "Service %s is not gone", name)
}

// published returns the Service's only address, or the zero Addr.
func (l *lab) published(name string) netip.Addr {
	l.Helper()
	ingress := l.get(name).Status.LoadBalancer.Ingress
	if len(ingress) != 1 || ingress[0].IP == "" {
		return netip.Addr{}
	}
	address, err := netip.ParseAddr(ingress[0].IP)
	require.NoError(l, err)
	return address
}

// addresses waits until the Service's status has that many addresses.
func (l *lab) addresses(name string, want int) []netip.Addr {
	l.Helper()
	var addresses []netip.Addr
	l.eventually(func(t *assert.CollectT) {
		addresses = nil
		for _, ingress := range l.get(name).Status.LoadBalancer.Ingress {
			address, err := netip.ParseAddr(ingress.IP)
			require.NoError(t, err)
			addresses = append(addresses, address)
		}
		require.Len(t, addresses, want)
	}, "addresses of Service %s", name)
	return addresses
}

// address waits for the Service's only address.
func (l *lab) address(name string) netip.Addr {
	l.Helper()
	var address netip.Addr
	l.eventually(func(t *assert.CollectT) {
		address = l.published(name)
		require.True(t, address.IsValid())
	}, "Service %s has no address", name)
	return address
}

// addressOwners returns the MACs that answered twenty requests of the client to everybody, by
// ARP or NDP.
func (l *lab) addressOwners(address netip.Addr) []string {
	l.Helper()
	macs, err := l.c.Ask(l.Context(), testbed.Question{Address: address}, 20)
	require.NoError(l, err)
	return slices.Sorted(maps.Keys(macs))
}

// addressOwner waits until exactly one MAC answers, and returns it.
func (l *lab) addressOwner(address netip.Addr) string {
	l.Helper()
	var mac string
	l.eventually(func(t *assert.CollectT) {
		macs := l.addressOwners(address)
		require.Len(t, macs, 1)
		mac = macs[0]
	}, "who answers for %s", address)
	return mac
}

// silent waits until nobody answers.
func (l *lab) silent(address netip.Addr) {
	l.Helper()
	l.eventually(func(t *assert.CollectT) { require.Empty(t, l.addressOwners(address)) }, "%s is still answered", address)
}

// stays checks that the same MAC goes on answering for a while.
func (l *lab) stays(address netip.Addr, mac string) {
	l.Helper()
	for range 5 {
		require.Equal(l, []string{mac}, l.addressOwners(address))
	}
}

func (l *lab) nodes() []string { return l.c.Nodes() }

// nodeOf returns the node with that MAC on the LAN.
func (l *lab) nodeOf(mac string) string {
	l.Helper()
	for _, node := range l.nodes() {
		if l.c.NodeMAC(node) == mac {
			return node
		}
	}
	require.Fail(l, "no node has MAC "+mac)
	return ""
}

func (l *lab) eventuallyAnsweredByAnother(address netip.Addr, node string) {
	l.Helper()
	l.eventually(func(t *assert.CollectT) {
		macs := l.addressOwners(address)
		require.Len(t, macs, 1)
		require.NotEqual(t, l.c.NodeMAC(node), macs[0])
	}, "%s is still answered by %s", address, node)
}

// requested waits until a request from the client host gets the answer of a web Pod.
// kube-proxy programs the address from the status, so it follows the status by a sync.
func (l *lab) requested(address netip.Addr) {
	l.Helper()
	url := "http://" + net.JoinHostPort(address.String(), "80") + "/"
	l.eventually(func(t *assert.CollectT) {
		body, err := l.c.Curl(l.Context(), url)
		require.NoError(t, err)
		require.True(t, strings.HasPrefix(body, "web-"), "unexpected answer %q", body)
	}, "GET %s from the client", url)
}

// unchanged checks that neither the address nor who answers for it has changed.
func (l *lab) unchanged(name string, address netip.Addr, mac string) {
	l.Helper()
	require.Equal(l, address, l.published(name))
	l.stays(address, mac)
	l.requested(address)
}

// says waits until a condition has that reason.
func (l *lab) says(name, condition, reason string) {
	l.Helper()
	l.eventually(func(t *assert.CollectT) {
		c := meta.FindStatusCondition(l.get(name).Status.Conditions, condition)
		require.NotNil(t, c)
		require.Equal(t, reason, c.Reason, c.Message)
	}, "Service %s, condition %s", name, condition)
}

// described checks what kubectl describe shows of a healthy Service.
func (l *lab) described(name string, address netip.Addr, pool string) {
	l.Helper()
	l.says(name, "baremetal.cloud/Allocated", "Allocated")
	l.says(name, "baremetal.cloud/Announced", "Announced")
	l.eventually(func(t *assert.CollectT) {
		out, err := l.c.Kubectl(l.Context(), "describe", "service", name)
		require.NoError(t, err)
		require.Contains(t, out, fmt.Sprintf("%s from pool %s", address, pool))
		require.Contains(t, out, fmt.Sprintf("answers for %s", address))
	})
}

func (l *lab) stop(what string)  { l.Helper(); require.NoError(l, l.c.Stop(l.Context(), what)) }
func (l *lab) start(what string) { l.Helper(); require.NoError(l, l.c.Start(l.Context(), what)) }

func (l *lab) label(node, key, value string) {
	l.Helper()
	_, err := l.c.Kubectl(l.Context(), "label", "--overwrite", "node", node, key+"="+value)
	require.NoError(l, err)
}

func (l *lab) unlabel(node, key string) {
	l.Helper()
	_, err := l.c.Kubectl(l.Context(), "label", "node", node, key+"-")
	require.NoError(l, err)
}

// leader waits until a replica other than the one named holds the Lease, and returns it.
func (l *lab) leader(other string) string {
	l.Helper()
	var holder string
	l.eventually(func(t *assert.CollectT) {
		lease, err := l.client.CoordinationV1().Leases(system).Get(l.Context(), "baremetal-ccm", metav1.GetOptions{})
		require.NoError(t, err)
		require.NotNil(t, lease.Spec.HolderIdentity)
		holder = *lease.Spec.HolderIdentity
		require.NotEmpty(t, holder)
		require.NotEqual(t, other, holder)
		age := time.Since(lease.Spec.RenewTime.Time)
		require.Less(t, age, 5*time.Second, "the Lease is not renewed")
	}, "no leader but %q", other)
	return holder
}

// nodeOfReplica returns the node that a holder of the Lease runs on.
func (l *lab) nodeOfReplica(holder string) string {
	l.Helper()
	pod, _, _ := strings.Cut(holder, "_")
	p, err := l.client.CoreV1().Pods(system).Get(l.Context(), pod, metav1.GetOptions{})
	require.NoError(l, err)
	return p.Spec.NodeName
}

func (l *lab) rolledOut(workload string) {
	l.Helper()
	l.eventually(func(t *assert.CollectT) {
		_, err := l.c.Kubectl(l.Context(), "-n", system, "rollout", "status", workload, "--timeout=60s")
		require.NoError(t, err)
	})
}

// keepReplicas has the CCM's replicas come back to the nodes where announcers of a testbed look
// for them, with more arguments.
func (l *lab) keepReplicas(arguments ...string) {
	l.Helper()
	type operation struct {
		Op    string `json:"op"`
		Path  string `json:"path"`
		Value any    `json:"value"`
	}
	const pod = "/spec/template/spec/"
	nodes := corev1.NodeSelectorRequirement{Key: corev1.LabelHostname, Operator: corev1.NodeSelectorOpIn, Values: l.nodes()[:2]}
	patch := []operation{{"add", pod + "affinity/nodeAffinity", corev1.NodeAffinity{
		RequiredDuringSchedulingIgnoredDuringExecution: &corev1.NodeSelector{
			NodeSelectorTerms: []corev1.NodeSelectorTerm{{MatchExpressions: []corev1.NodeSelectorRequirement{nodes}}},
		},
	}}}
	for _, argument := range arguments {
		patch = append(patch, operation{"add", pod + "containers/0/args/-", argument})
	}
	text, err := json.Marshal(patch)
	require.NoError(l, err)
	_, err = l.client.AppsV1().Deployments(system).Patch(l.Context(), "baremetal-ccm", types.JSONPatchType, text, metav1.PatchOptions{})
	require.NoError(l, err)
	l.rolledOut("deployment/baremetal-ccm")
}
