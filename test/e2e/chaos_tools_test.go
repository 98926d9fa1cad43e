//go:build e2e

package e2e

import (
	"bufio"
	"cmp"
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"baremetal.cloud/ccm/test/e2e/observer"
	"baremetal.cloud/ccm/test/e2e/testbed/netns"
)

// pid returns the process that the testbed's env file has under a name, once there is one.
func (c *chaos) pid(name string) int {
	c.Helper()
	pid := 0
	c.eventually(func(t *assert.CollectT) {
		env, err := os.ReadFile(filepath.Join(c.c.Dir, "env"))
		require.NoError(t, err)
		for line := range strings.Lines(string(env)) {
			if value, ok := strings.CutPrefix(strings.TrimSpace(line), name+"="); ok {
				pid, err = strconv.Atoi(value)
				require.NoError(t, err, "%s", line)
			}
		}
		require.NotZero(t, pid)
	}, "no process %s", name)
	return pid
}

// metrics returns the samples of a node's announcer.
func (c *chaos) metrics(node string) (map[string]float64, error) {
	transport := &http.Transport{DialContext: netns.Dialer(c.c.NetNS(node)), DisableKeepAlives: true}
	client := http.Client{Transport: transport, Timeout: 5 * time.Second}
	response, err := client.Get("http://127.0.0.1:10271/metrics")
	if err != nil {
		return nil, err
	}
	defer response.Body.Close()
	out := map[string]float64{}
	lines := bufio.NewScanner(io.LimitReader(response.Body, 1<<20))
	for lines.Scan() {
		name, value, ok := strings.Cut(lines.Text(), " ")
		if number, err := strconv.ParseFloat(value, 64); ok && err == nil {
			out[name] = number
		}
	}
	return out, lines.Err()
}

// quiet waits until nothing is under way any more: a leader, every announcer with a stream
// to it, in sight of all others and sure of its kube-proxy, every list with all nodes, every
// web server ready and known to be.
func (c *chaos) quiet() {
	c.Helper()
	c.leader("")
	c.eventually(func(t *assert.CollectT) {
		for _, node := range c.nodes() {
			m, err := c.metrics(node)
			require.NoError(t, err, "announcer of %s", node)
			require.EqualValues(t, len(c.nodes())-1, m[`baremetal_announcer_peers{state="up"}`], "peers that %s hears", node)
			require.EqualValues(t, 1, m["baremetal_announcer_kube_proxy_working"], "kube-proxy of %s, as its announcer has it", node)
			streams := 0.0
			for name, value := range m {
				if strings.HasPrefix(name, "baremetal_announcer_control_stream_up") {
					streams += value
				}
			}
			require.EqualValues(t, 2, streams, "streams of %s", node)
			known := m[`baremetal_announcer_addresses{state="planned"}`] + m[`baremetal_announcer_addresses{state="claimed"}`]
			require.EqualValues(t, len(c.addresses), known, "addresses of %s", node)
		}
		sets, err := c.client.AppsV1().DaemonSets("").List(c.Context(), metav1.ListOptions{})
		require.NoError(t, err)
		for _, s := range sets.Items {
			require.Equal(t, s.Status.DesiredNumberScheduled, s.Status.NumberReady, "DaemonSet %s", s.Name)
		}
	}, "the testbed does not come to rest")
	c.endpointsReady()
}

// endpointsReady waits until all know that every web server is ready, and no former one.
func (c *chaos) endpointsReady() {
	c.Helper()
	c.eventually(func(t *assert.CollectT) {
		pods, err := c.client.CoreV1().Pods("default").List(c.Context(), metav1.ListOptions{})
		require.NoError(t, err)
		there := map[types.UID]bool{}
		for _, p := range pods.Items {
			there[p.UID] = p.DeletionTimestamp == nil
		}
		slices, err := c.client.DiscoveryV1().EndpointSlices("default").List(c.Context(), metav1.ListOptions{})
		require.NoError(t, err)
		services, ready := map[string]int{"one": 1, "two": 1, "six": 1, "both": 2, "local": 1}, map[string]int{}
		for _, s := range slices.Items {
			if services[s.Labels["kubernetes.io/service-name"]] == 0 {
				continue
			}
			for _, e := range s.Endpoints {
				require.NotNil(t, e.TargetRef)
				require.True(t, there[e.TargetRef.UID], "%s has an endpoint that is gone", s.Name)
				if e.Conditions.Ready != nil && *e.Conditions.Ready {
					ready[s.Labels["kubernetes.io/service-name"]]++
				}
			}
		}
		for name, families := range services {
			require.Equal(t, families*len(c.nodes()), ready[name], "endpoints of Service %s", name)
		}
	})
}

// logLines returns what announcers and replicas of the CCM wrote.
func (c *chaos) logLines() []observer.Note {
	c.Helper()
	nodes := map[string]string{}
	ctx, cancel := context.WithTimeout(c.Context(), patience)
	defer cancel()
	if pods, err := c.client.CoreV1().Pods(system).List(ctx, metav1.ListOptions{}); err == nil {
		for _, p := range pods.Items {
			nodes[p.Name] = p.Spec.NodeName
		}
	}
	files, err := filepath.Glob(filepath.Join(c.c.Logs(), system+"_baremetal-*.log"))
	require.NoError(c, err)
	var out []observer.Note
	for _, file := range files {
		text, err := os.ReadFile(file)
		require.NoError(c, err)
		names := strings.Split(filepath.Base(file), "_")
		program := strings.TrimSuffix(names[len(names)-1], ".log")
		who := cmp.Or(nodes[names[1]], names[1])
		for line := range strings.Lines(string(text)) {
			stamp, rest, _ := strings.Cut(strings.TrimPrefix(strings.TrimSpace(line), "time="), " ")
			if at, err := time.Parse(time.RFC3339Nano, stamp); err == nil {
				out = append(out, observer.Note{At: at, Text: fmt.Sprintf("%s of %s: %s", program, who, rest)})
			}
		}
	}
	return out
}
