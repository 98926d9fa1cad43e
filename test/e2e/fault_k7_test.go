//go:build e2e

package e2e

import (
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"baremetal.cloud/ccm/test/e2e/testbed"
)

// TestFault_K7_OneNode: with the manifests as they are, the only node of a cluster is drained
// to the end; with the component one-node a rollout of the CCM ends too.
func TestFault_K7_OneNode(t *testing.T) {
	l := up(t, testbed.Options{Nodes: 1})
	l.create("web", nil)
	l.requested(l.address("web"))
	out, err := l.c.Kubectl(l.Context(), "drain", "node1", "--ignore-daemonsets", "--delete-emptydir-data", "--force", "--timeout=90s")
	require.NoError(l, err, out)
	l.uncordon("node1")
	l.leader("")

	l.component("one-node")
	_, err = l.c.Kubectl(l.Context(), "--namespace", system, "rollout", "restart", "deployment/baremetal-ccm")
	require.NoError(l, err)
	out, err = l.c.Kubectl(l.Context(), "--namespace", system, "rollout", "status", "deployment/baremetal-ccm", "--timeout=120s")
	require.NoError(l, err, out)
}

func (l *lab) uncordon(node string) {
	l.Helper()
	out, err := l.c.Kubectl(l.Context(), "uncordon", node)
	require.NoError(l, err, out)
}

// component applies the testbed's overlay with one more component of deploy/.
func (l *lab) component(name string) {
	l.Helper()
	overlay := filepath.Join(l.c.Dir, "overlay")
	repository, err := testbed.Repository()
	require.NoError(l, err)
	dir := filepath.Join(l.c.Dir, "overlay-"+name)
	require.NoError(l, os.MkdirAll(dir, 0o755))
	relative, err := filepath.Rel(dir, filepath.Join(repository, "deploy", "components", name))
	require.NoError(l, err)
	require.NoError(l, os.WriteFile(filepath.Join(dir, "kustomization.yaml"),
		fmt.Appendf(nil, "resources: [../%s]\ncomponents: [%s]\n", filepath.Base(overlay), relative), 0o644))
	out, err := l.c.Kubectl(l.Context(), "apply", "-k", dir)
	require.NoError(l, err, out)
}

// TestFault_K7_Rollout: two announcers restart at once and refuse nothing, also where they
// are the owner and its first backup; a node that is dead holds up the rollout on no other.
func TestFault_K7_Rollout(t *testing.T) {
	l := up(t, testbed.Options{Nodes: 3})
	l.create("web", nil)
	address := l.address("web")
	l.requested(address)
	t.Run("owner and first backup at once", func(t *testing.T) { l.with(t).restartPairs(address) })
	t.Run("a node is dead", func(t *testing.T) { l.with(t).rolloutBesideADeadNode() })
}

// restartPairs restarts each pair of announcers, so that one of them is owner and first
// backup, under a thousand new connections a second.
func (l *lab) restartPairs(address netip.Addr) {
	s := l.streamEvery(10*time.Millisecond, slices.Repeat([]netip.Addr{address}, 10))
	for _, pair := range [][]string{{"node1", "node2"}, {"node2", "node3"}, {"node3", "node1"}} {
		for _, node := range pair {
			pods, err := l.client.CoreV1().Pods(system).List(l.Context(), metav1.ListOptions{
				LabelSelector: "app.kubernetes.io/name=baremetal-announcer", FieldSelector: "spec.nodeName=" + node})
			require.NoError(l, err)
			for _, pod := range pods.Items {
				require.NoError(l, l.client.CoreV1().Pods(system).Delete(l.Context(), pod.Name, metav1.DeleteOptions{}))
			}
		}
		time.Sleep(time.Second)
		l.announcersReady(3)
	}
	s.end(l)
}

func (l *lab) announcersReady(want int32) {
	l.Helper()
	l.eventually(func(t *assert.CollectT) {
		set, err := l.client.AppsV1().DaemonSets(system).Get(l.Context(), "baremetal-announcer", metav1.GetOptions{})
		require.NoError(t, err)
		require.Equal(t, set.Generation, set.Status.ObservedGeneration)
		require.Equal(t, want, set.Status.NumberReady)
	}, "announcers are ready")
}

func (l *lab) rolloutBesideADeadNode() {
	require.NoError(l, l.c.Cut(l.Context(), "node3", testbed.Silent))
	l.eventually(func(t *assert.CollectT) {
		set, err := l.client.AppsV1().DaemonSets(system).Get(l.Context(), "baremetal-announcer", metav1.GetOptions{})
		require.NoError(t, err)
		require.Equal(t, int32(2), set.Status.NumberReady, "node3 is not found dead")
	})
	_, err := l.c.Kubectl(l.Context(), "--namespace", system, "rollout", "restart", "daemonset/baremetal-announcer")
	require.NoError(l, err)
	l.eventually(func(t *assert.CollectT) {
		set, err := l.client.AppsV1().DaemonSets(system).Get(l.Context(), "baremetal-announcer", metav1.GetOptions{})
		require.NoError(t, err)
		require.Equal(t, set.Generation, set.Status.ObservedGeneration)
		require.GreaterOrEqual(t, set.Status.UpdatedNumberScheduled, int32(2))
		require.Equal(t, int32(2), set.Status.NumberReady)
	}, "the rollout does not reach the nodes that live")
	require.NoError(l, l.c.Heal(l.Context(), "node3"))
}

// TestFault_K7_EachPermissionIsNeeded takes each verb of the CCM's own roles away in turn:
// the CCM asks for it and is refused. With all of them it is refused nothing.
func TestFault_K7_EachPermissionIsNeeded(t *testing.T) {
	l := up(t, testbed.Options{Nodes: 2})
	l.create("web", nil)
	l.requested(l.address("web"))
	require.NotContains(l, l.ccmLog(), "is forbidden", "with all of its permissions")
	for _, r := range l.roles() {
		for i, rule := range r.rules {
			for _, resource := range rule.Resources {
				for _, verb := range rule.Verbs {
					t.Run(strings.ReplaceAll(fmt.Sprintf("%s %s %s", verb, resource, strings.Join(rule.ResourceNames, ",")), "/", "."), func(t *testing.T) {
						l.with(t).needs(r, i, resource, verb)
					})
				}
			}
		}
	}
	l.stop("ccm")
	l.start("ccm")
	l.create("last", nil)
	l.requested(l.address("last"))
}

// role is a Role or ClusterRole of the CCM's.
type role struct {
	rules []rbacv1.PolicyRule
	write func(l *lab, rules []rbacv1.PolicyRule)
}

func (l *lab) roles() []role {
	l.Helper()
	cluster, err := l.client.RbacV1().ClusterRoles().Get(l.Context(), "baremetal-ccm", metav1.GetOptions{})
	require.NoError(l, err)
	own, err := l.client.RbacV1().Roles(system).Get(l.Context(), "baremetal-ccm", metav1.GetOptions{})
	require.NoError(l, err)
	return []role{
		{rules: cluster.Rules, write: func(l *lab, rules []rbacv1.PolicyRule) {
			found, err := l.client.RbacV1().ClusterRoles().Get(l.Context(), "baremetal-ccm", metav1.GetOptions{})
			require.NoError(l, err)
			found.Rules = rules
			_, err = l.client.RbacV1().ClusterRoles().Update(l.Context(), found, metav1.UpdateOptions{})
			require.NoError(l, err)
		}},
		{rules: own.Rules, write: func(l *lab, rules []rbacv1.PolicyRule) {
			found, err := l.client.RbacV1().Roles(system).Get(l.Context(), "baremetal-ccm", metav1.GetOptions{})
			require.NoError(l, err)
			found.Rules = rules
			_, err = l.client.RbacV1().Roles(system).Update(l.Context(), found, metav1.UpdateOptions{})
			require.NoError(l, err)
		}},
	}
}

// needs takes one verb on one resource away, has the CCM do all its work, and waits until it
// says that it was refused just that.
func (l *lab) needs(r role, at int, resource, verb string) {
	l.Helper()
	without := r.rules[at].DeepCopy()
	without.Verbs = slices.DeleteFunc(without.Verbs, func(v string) bool { return v == verb })
	rules := slices.Clone(r.rules)
	if len(without.Verbs) > 0 {
		rules[at] = *without
	} else {
		rules = slices.Delete(rules, at, at+1)
	}
	// A value that has quotes is quoted in the log.
	refusal := fmt.Sprintf(`cannot %s resource \"%s\"`, verb, resource)
	before := strings.Count(l.ccmLog(), refusal)
	l.stop("ccm")
	r.write(l, rules)
	defer r.write(l, r.rules)
	l.unused(resource, verb, r.rules[at].ResourceNames)
	l.start("ccm")
	round := 0
	l.until(func() bool {
		if strings.Count(l.ccmLog(), refusal) > before {
			return true
		}
		l.work(round)
		round++
		return false
	}, "the CCM does not need %s on %s %v", verb, resource, r.rules[at].ResourceNames)
}

// unused puts the cluster into a state in which the CCM needs what it rarely needs.
func (l *lab) unused(resource, verb string, names []string) {
	l.Helper()
	switch {
	case resource == "leases" && verb == "create":
		require.NoError(l, l.client.CoordinationV1().Leases(system).Delete(l.Context(), system, metav1.DeleteOptions{}))
	case resource == "secrets" && verb == "update":
		l.patch("secret", "baremetal-ccm-tls", `{"data": null}`)
	case resource == "configmaps" && verb == "update" && slices.Contains(names, "baremetal-ccm-ca"):
		l.patch("configmap", "baremetal-ccm-ca", `{"data": null}`)
	}
}

func (l *lab) patch(kind, name, patch string) {
	l.Helper()
	out, err := l.c.Kubectl(l.Context(), "--namespace", system, "patch", kind, name, "--type=merge", "--patch="+patch)
	require.NoError(l, err, out)
}

// work gives the CCM something of everything to do; what it cannot do now does not matter.
func (l *lab) work(round int) {
	l.Helper()
	services := l.client.CoreV1().Services("default")
	change := func(patch string) {
		_, _ = services.Patch(l.Context(), "web", types.MergePatchType, []byte(patch), metav1.PatchOptions{})
	}
	// An Event, and the same once more: that is patched.
	change(fmt.Sprintf(`{"metadata": {"annotations": {"baremetal.cloud/pool": "none-%d"}}}`, round%2))
	change(`{"metadata": {"annotations": {"baremetal.cloud/pool": null}}}`)
	token, err := l.c.Kubectl(l.Context(), "create", "token", "default", "--namespace", "default")
	require.NoError(l, err)
	for _, node := range l.nodes() {
		_, _ = l.c.In(l.Context(), node, "curl", "--silent", "--insecure", "--max-time", "2",
			"--header", "Authorization: Bearer "+strings.TrimSpace(token), "https://127.0.0.1:10273/metrics")
	}
	time.Sleep(pause)
}

// ccmLog returns what the replicas of the CCM have written.
func (l *lab) ccmLog() string {
	l.Helper()
	files, err := filepath.Glob(filepath.Join(l.c.Logs(), system+"_baremetal-ccm-*"))
	require.NoError(l, err)
	var b strings.Builder
	for _, file := range files {
		text, err := os.ReadFile(file)
		require.NoError(l, err)
		b.Write(text)
	}
	return b.String()
}
