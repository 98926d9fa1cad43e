//go:build e2e

package e2e

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/client-go/util/retry"

	"baremetal.cloud/ccm/test/e2e/history"
)

// witness is a lab whose API server's history is recorded, and judged by the end of the
// test: no address twice, none lost, none changed, nobody waiting who need not.
type witness struct {
	*lab
	recorder *history.Recorder
	// byHand are the revisions at which the test wrote a status itself; subtests share it.
	byHand *[]uint64
}

// witness starts to record. It returns once all that exists has been recorded.
func (l *lab) witness() *witness {
	l.Helper()
	w := &witness{lab: l, recorder: history.NewRecorder(l.client), byHand: new([]uint64)}
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() { w.recorder.Run(ctx) })
	l.Cleanup(func() {
		cancel()
		running.Wait()
	})
	w.recorder.WaitReady()
	return w
}

// with returns the witness for a subtest.
func (w *witness) with(t *testing.T) *witness {
	return &witness{lab: w.lab.with(t), recorder: w.recorder, byHand: w.byHand}
}

// note writes down what the test does, for the timeline.
func (w *witness) note(format string, args ...any) {
	w.Helper()
	w.recorder.Note(format, args...)
}

// innocent checks that nothing was done that must not be done, up to now.
func (w *witness) innocent() {
	w.Helper()
	h := w.recorder.History()
	if complaints := h.Complaints(*w.byHand...); len(complaints) > 0 {
		require.Fail(w, "broken promises", "%s\n\n%s", lines(complaints), h.Timeline(accused(complaints)...))
	}
}

// settled waits until everything is as it is to be, and checks that nothing was done on
// the way that must not be done.
func (w *witness) settled() {
	w.Helper()
	w.settledWithin(patience)
}

func (w *witness) settledWithin(limit time.Duration) {
	w.Helper()
	var complaints []history.Complaint
	var h history.History
	deadline := time.Now().Add(limit)
	for {
		h = w.recorder.History()
		if complaints = h.Unfinished(); len(complaints) == 0 && w.current(h) {
			w.innocent()
			return
		}
		if time.Now().After(deadline) {
			break
		}
		time.Sleep(pause)
	}
	require.Fail(w, "not as it is to be", "after %s:\n%s\n\n%s", limit, lines(complaints), h.Timeline(accused(complaints)...))
}

// current reports whether h knows what the API server knows.
func (w *witness) current(h history.History) bool {
	list, err := w.client.CoreV1().Services(metav1.NamespaceAll).List(w.Context(), metav1.ListOptions{})
	if err != nil {
		return false
	}
	services := h.Services()
	return len(services) == len(list.Items) && !slices.ContainsFunc(list.Items, func(svc corev1.Service) bool {
		revision, err := strconv.ParseUint(svc.ResourceVersion, 10, 64)
		return err != nil || revision > h.Revision()
	})
}

func lines(complaints []history.Complaint) string {
	const most = 20
	var b strings.Builder
	for i, c := range complaints {
		if i == most {
			fmt.Fprintf(&b, "and %d more\n", len(complaints)-most)
			break
		}
		fmt.Fprintln(&b, c)
	}
	return b.String()
}

// accused are the Services to show in a timeline: those that somebody complains of, and
// those that a complaint names.
func accused(complaints []history.Complaint) []string {
	var out []string
	for _, c := range complaints[:min(len(complaints), 5)] {
		out = append(out, c.Service)
		for word := range strings.FieldsSeq(c.What) {
			if strings.Contains(word, "/") {
				out = append(out, word)
			}
		}
	}
	return out
}

// writeStatus does what nobody but the CCM should: it puts addresses into a status.
func (w *witness) writeStatus(name string, addresses ...string) {
	w.Helper()
	require.NoError(w, retry.RetryOnConflict(retry.DefaultRetry, func() error {
		svc := w.get(name)
		svc.Status.LoadBalancer = corev1.LoadBalancerStatus{}
		for _, a := range addresses {
			svc.Status.LoadBalancer.Ingress = append(svc.Status.LoadBalancer.Ingress, corev1.LoadBalancerIngress{IP: a})
		}
		written, err := w.client.CoreV1().Services("default").UpdateStatus(w.Context(), svc, metav1.UpdateOptions{})
		if err == nil {
			revision, _ := strconv.ParseUint(written.ResourceVersion, 10, 64)
			*w.byHand = append(*w.byHand, revision)
		}
		return err
	}))
	w.note("the status of %s is edited by hand: %v", name, addresses)
}

// has waits until the Service's status has exactly that address again.
func (w *witness) has(name, address string) {
	w.Helper()
	w.eventually(func(t *assert.CollectT) {
		ingress := w.get(name).Status.LoadBalancer.Ingress
		require.Len(t, ingress, 1)
		require.Equal(t, address, ingress[0].IP)
	}, "Service %s has no longer %s", name, address)
}

// service returns a Service of type LoadBalancer without endpoints, whose address is
// published as soon as it has one.
func service(namespace, name string) *corev1.Service {
	return &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name, Annotations: map[string]string{}},
		Spec: corev1.ServiceSpec{
			Type:     corev1.ServiceTypeLoadBalancer,
			Selector: map[string]string{"app": "nobody"},
			Ports:    []corev1.ServicePort{{Name: "http", Port: 80, TargetPort: intstr.FromInt32(8080)}},
		},
	}
}

// burst makes n Services in namespace default, many at a time, and waits for none.
func (w *witness) burst(prefix string, n int) {
	w.Helper()
	const writers = 16
	var group sync.WaitGroup
	names := make(chan string)
	failed := make(chan error, writers)
	for range writers {
		group.Go(func() {
			for name := range names {
				_, err := w.client.CoreV1().Services("default").Create(w.Context(), service("default", name), metav1.CreateOptions{})
				if err != nil {
					select {
					case failed <- err:
					default:
					}
				}
			}
		})
	}
	for i := range n {
		names <- fmt.Sprint(prefix, i)
	}
	close(names)
	group.Wait()
	close(failed)
	require.NoError(w, <-failed)
}

// processes of the CCM, by the node that they run on.
func (w *witness) processes() map[string]int {
	w.Helper()
	pods, err := w.client.CoreV1().Pods(system).List(w.Context(), metav1.ListOptions{})
	require.NoError(w, err)
	nodes := map[string]string{}
	for _, p := range pods.Items {
		nodes[p.Name] = p.Spec.NodeName
	}
	return w.processesOf(nodes)
}

// processesOf finds the processes in the testbed's env file, which is rewritten whenever
// one starts.
func (w *witness) processesOf(nodes map[string]string) map[string]int {
	w.Helper()
	env, err := os.ReadFile(filepath.Join(w.c.Dir, "env"))
	require.NoError(w, err)
	out := map[string]int{}
	for line := range strings.Lines(string(env)) {
		pids, ok := strings.CutPrefix(strings.TrimSpace(line), "CCM_PIDS=")
		if !ok {
			continue
		}
		for word := range strings.FieldsSeq(strings.Trim(pids, "'")) {
			pid, err := strconv.Atoi(word)
			require.NoError(w, err)
			environ, err := os.ReadFile(fmt.Sprintf("/proc/%d/environ", pid))
			if err != nil {
				continue // it has ended meanwhile
			}
			for variable := range strings.SplitSeq(string(environ), "\x00") {
				if pod, ok := strings.CutPrefix(variable, "POD_NAME="); ok && nodes[pod] != "" {
					out[nodes[pod]] = pid
				}
			}
		}
	}
	return out
}

// signal sends a signal to a process of the testbed.
func (w *witness) signal(pid int, s syscall.Signal) {
	w.Helper()
	require.NoError(w, syscall.Kill(pid, s))
}

// leading returns the node and the process of the replica that leads.
func (w *witness) leading() (node string, pid int) {
	w.Helper()
	node = w.nodeOfReplica(w.leader(""))
	w.eventually(func(t *assert.CollectT) {
		pid = w.processes()[node]
		require.NotZero(t, pid)
	}, "no process of the CCM on %s", node)
	return node, pid
}
