//go:build e2e

package testbed

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"baremetal.cloud/ccm/test/e2e/testbed/lan"
	"baremetal.cloud/ccm/test/e2e/testbed/netns"
)

// patience bounds what has to happen at some time; nothing is measured by it.
const patience = 3 * time.Minute

// host is what must be equal before and after.
func host(t *testing.T) string {
	t.Helper()
	var all strings.Builder
	for _, command := range []string{"ip -o addr", "ip route", "ip -6 route", "ip rule", "nft list ruleset"} {
		words := strings.Fields(command)
		out, err := exec.CommandContext(t.Context(), words[0], words[1:]...).CombinedOutput()
		require.NoError(t, err, "%s: %s", command, out)
		for line := range strings.Lines(string(out)) {
			// The remaining life of a learnt address is no change.
			before, _, _ := strings.Cut(line, "valid_lft")
			all.WriteString(before)
		}
	}
	return all.String()
}

// gone checks that nothing of the testbed in dir is left.
func gone(t *testing.T, dir string) {
	t.Helper()
	left, err := netns.List(lan.Prefix(lan.ID(dir)))
	require.NoError(t, err)
	require.Empty(t, left)
	entries, err := os.ReadDir(dir)
	require.NoError(t, err)
	require.Empty(t, entries, "the directory was there, so it stays, empty")
	left, err = processes(dir)
	require.NoError(t, err)
	require.Empty(t, left)
}

// processes returns the command lines that name dir, of all processes.
func processes(dir string) ([]string, error) {
	lines, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil {
		return nil, err
	}
	var found []string
	for _, path := range lines {
		line, err := os.ReadFile(path)
		if err == nil && strings.Contains(string(line), dir) { // one that has ended is not there
			found = append(found, strings.ReplaceAll(string(line), "\x00", " "))
		}
	}
	return found, nil
}

// until waits until check, which runs on the test's own goroutine and may end the test, says yes.
func until(t *testing.T, check func() bool) {
	t.Helper()
	for deadline := time.Now().Add(patience); !check(); time.Sleep(10 * time.Millisecond) {
		require.True(t, time.Now().Before(deadline), "nothing changed for %s", patience)
	}
}

func boot(t *testing.T, o Options) *Cluster {
	t.Helper()
	dir, err := realPath(t.TempDir())
	require.NoError(t, err)
	o.Dir, o.NoDeploy, o.OwnerPID = dir, true, os.Getpid()
	c, err := Up(t.Context(), o)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, c.Down(context.Background())) })
	return c
}

func (c *Cluster) variable(t assert.TestingT, key string) string {
	text, err := os.ReadFile(filepath.Join(c.Dir, envFile))
	assert.NoError(t, err)
	for line := range strings.Lines(string(text)) {
		if value, ok := strings.CutPrefix(strings.TrimSpace(line), key+"="); ok {
			return strings.Trim(value, "'")
		}
	}
	return "no " + key
}

func TestTestbedLeavesNothing(t *testing.T) {
	before := host(t)
	a := boot(t, Options{Nodes: 2})
	b := boot(t, Options{Nodes: 1, Proxy: "iptables", Mgmt: "separate"})
	require.Equal(t, before, host(t), "a running testbed does not show on the host")
	require.NoError(t, a.Down(t.Context()))
	gone(t, a.Dir)
	out, err := b.Kubectl(t.Context(), "get", "nodes", "-o", "name")
	require.NoError(t, err, "the other testbed lives on")
	require.Equal(t, "node/node1\n", out)

	supervisor, err := readRecord(b.Dir)
	require.NoError(t, err)
	etcd, err := strconv.Atoi(b.variable(t, "ETCD_PID"))
	require.NoError(t, err)
	require.NoError(t, syscall.Kill(supervisor.Supervisor, syscall.SIGKILL))
	require.Eventually(t, func() bool {
		state, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", etcd))
		return err != nil || strings.Contains(string(state), ") Z ")
	}, patience, 10*time.Millisecond, "children die with their supervisor")
	require.NoError(t, b.Down(t.Context()))
	gone(t, b.Dir)
	require.NoError(t, b.Down(t.Context()), "taken down twice")
	require.Equal(t, before, host(t))
}

// TestProcesses shows that what looks for processes that are left finds one.
func TestProcesses(t *testing.T) {
	dir := t.TempDir()
	child := exec.CommandContext(t.Context(), "tail", "-f", filepath.Join(dir, "nothing"), "/dev/null")
	require.NoError(t, child.Start())
	found, err := processes(dir)
	require.NoError(t, err)
	require.Len(t, found, 1)
	require.NoError(t, child.Process.Kill())
	_ = child.Wait() // it was killed
	found, err = processes(dir)
	require.NoError(t, err)
	require.Empty(t, found)
}

func TestTestbedEndsWithItsOwner(t *testing.T) {
	owner := exec.Command("sleep", "1000")
	require.NoError(t, owner.Start())
	dir, err := realPath(t.TempDir())
	require.NoError(t, err)
	c, err := Up(t.Context(), Options{Dir: dir, Nodes: 1, NoDeploy: true, OwnerPID: owner.Process.Pid})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, c.Down(context.Background())) })
	require.NoError(t, owner.Process.Kill())
	_ = owner.Wait()
	require.Eventually(t, func() bool {
		entries, err := os.ReadDir(dir)
		return err == nil && len(entries) == 0
	}, patience, 50*time.Millisecond)
	gone(t, dir)
}

func TestTestbedInterrupted(t *testing.T) {
	for _, after := range []time.Duration{100 * time.Millisecond, time.Second, 4 * time.Second} {
		dir, err := realPath(t.TempDir())
		require.NoError(t, err)
		ctx, cancel := context.WithTimeout(t.Context(), after)
		if c, err := Up(ctx, Options{Dir: dir, Nodes: 1, NoDeploy: true}); err == nil {
			require.NoError(t, c.Down(t.Context()))
		}
		cancel()
		gone(t, dir)
	}
}

func TestTestbedStopsAndStarts(t *testing.T) {
	c := boot(t, Options{Nodes: 2})
	for _, what := range []struct{ name, variable string }{
		{"kcm", "KCM_PID"}, {"kube-proxy:node2", "KUBE_PROXY_PID_node2"}, {"apiserver", "APISERVER_PID"}, {"etcd", "ETCD_PID"},
	} {
		pid := c.variable(t, what.variable)
		require.DirExists(t, "/proc/"+pid)
		require.NoError(t, c.Stop(t.Context(), what.name))
		require.Empty(t, c.variable(t, what.variable))
		require.NoDirExists(t, "/proc/"+pid)
		require.NoError(t, c.Start(t.Context(), what.name))
		require.NotEqual(t, pid, c.variable(t, what.variable))
		require.DirExists(t, "/proc/"+c.variable(t, what.variable))
	}
	require.ErrorContains(t, c.Stop(t.Context(), "kube-proxy:node9"), "node1, node2")
	require.EventuallyWithT(t, func(t *assert.CollectT) {
		out, err := c.Kubectl(context.Background(), "get", "nodes", "-o", "name")
		require.NoError(t, err)
		require.Equal(t, "node/node1\nnode/node2\n", out)
	}, patience, time.Second)

	killed := c.variable(t, "KUBE_PROXY_PID_node1")
	pid, err := strconv.Atoi(killed)
	require.NoError(t, err)
	require.NoError(t, syscall.Kill(pid, syscall.SIGKILL))
	require.Eventually(t, func() bool {
		now := c.variable(t, "KUBE_PROXY_PID_node1")
		return now != "" && now != killed
	}, patience, 10*time.Millisecond, "what dies by itself is restarted")
}

func TestTestbedCutsCables(t *testing.T) {
	c := boot(t, Options{Nodes: 2, Mgmt: "separate"})
	node := c.Layout().Nodes[0]
	alone := func() bool {
		_, err := c.In(t.Context(), "client", "ping", "-c1", "-W1", node.LAN.V4.String())
		if err != nil {
			require.ErrorAs(t, err, new(*exec.ExitError), "ping did not run")
		}
		return err != nil
	}
	carrier := func() string {
		out, err := c.In(t.Context(), "node1", "cat", "/sys/class/net/eth0/carrier")
		require.NoError(t, err)
		return strings.TrimSpace(out)
	}
	until(t, func() bool { return !alone() })
	require.NoError(t, c.Cut(t.Context(), "node1", Loud))
	require.True(t, alone())
	require.Equal(t, "0", carrier())
	require.NoError(t, c.Heal(t.Context(), "node1"))
	until(t, func() bool { return !alone() })
	require.NoError(t, c.Cut(t.Context(), "node1", Silent))
	require.True(t, alone())
	require.Equal(t, "1", carrier())
	require.NoError(t, c.Heal(t.Context(), "node1"))
	until(t, func() bool { return !alone() })
}

// TestTestbedPods shows what the stand-in for kubelet does for a Pod.
func TestTestbedPods(t *testing.T) {
	c := boot(t, Options{Nodes: 2})
	client, err := c.Client()
	require.NoError(t, err)
	ctx := t.Context()
	pods := client.CoreV1().Pods("default")
	require.NoError(t, c.Apply(ctx, `apiVersion: v1
kind: ConfigMap
metadata: {name: settings}
data: {key: old}
---
apiVersion: v1
kind: Pod
metadata: {name: probe, labels: {app: probe}}
spec:
  nodeName: node2
  terminationGracePeriodSeconds: 1
  containers:
  - name: web
    image: testbed/web
    env: [{name: POD_NAME, value: probe}]
    volumeMounts:
    - {name: settings, mountPath: /etc/settings}
    - {name: token, mountPath: /var/run/token}
  volumes:
  - name: settings
    configMap: {name: settings}
  - name: token
    projected: {sources: [{serviceAccountToken: {path: token, audience: somebody, expirationSeconds: 600}}]}
`))
	var pod *corev1.Pod
	require.EventuallyWithT(t, func(t *assert.CollectT) {
		var err error
		pod, err = pods.Get(ctx, "probe", metav1.GetOptions{})
		require.NoError(t, err)
		require.Equal(t, corev1.PodRunning, pod.Status.Phase, "%v", pod.Status)
		require.Len(t, pod.Status.PodIPs, 2)
	}, patience, 50*time.Millisecond)
	for _, ip := range pod.Status.PodIPs {
		url := "http://" + ip.IP + ":8080/"
		if strings.Contains(ip.IP, ":") {
			url = "http://[" + ip.IP + "]:8080/"
		}
		for _, from := range c.Nodes() {
			require.EventuallyWithT(t, func(t *assert.CollectT) {
				body, err := get(ctx, c.NetNS(from), url)
				require.NoError(t, err, "from %s", from)
				require.Equal(t, "probe\n", string(body))
			}, patience, 10*time.Millisecond)
		}
	}
	volumes := filepath.Join(c.Dir, "pods", string(pod.UID))
	token, err := os.ReadFile(filepath.Join(volumes, "token", "token"))
	require.NoError(t, err)
	require.Len(t, strings.Split(string(token), "."), 3, "a signed token")

	settings, err := client.CoreV1().ConfigMaps("default").Get(ctx, "settings", metav1.GetOptions{})
	require.NoError(t, err)
	settings.Data["key"] = "new"
	_, err = client.CoreV1().ConfigMaps("default").Update(ctx, settings, metav1.UpdateOptions{})
	require.NoError(t, err)
	require.Eventually(t, func() bool {
		text, err := os.ReadFile(filepath.Join(volumes, "settings", "key"))
		return err == nil && string(text) == "new"
	}, patience, 10*time.Millisecond, "a mounted ConfigMap follows its object")

	require.NoError(t, pods.Delete(ctx, "probe", metav1.DeleteOptions{}))
	require.Eventually(t, func() bool {
		_, err := pods.Get(ctx, "probe", metav1.GetOptions{})
		return err != nil
	}, patience, 50*time.Millisecond)
	require.Eventually(t, func() bool {
		_, err := os.Stat(volumes)
		return os.IsNotExist(err)
	}, patience, 50*time.Millisecond, "its volumes go with it")
}
