//go:build e2e

package e2e

import (
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/stretchr/testify/require"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"baremetal.cloud/ccm/pkg/announcer/plan"
	"baremetal.cloud/ccm/pkg/announcer/planfile"
)

// coldStart ends all announcers, perhaps all replicas of the CCM too, and starts the
// announcers one after the other, within ten seconds.
func (c *chaos) coldStart(string) func() {
	if c.random.IntN(2) == 0 {
		c.observer.Note("    and all replicas of the CCM")
		c.stop("ccm")
	}
	c.stop("announcer")
	c.start("ccm")
	nodes := c.random.Perm(len(c.nodes()))
	for _, i := range nodes {
		time.Sleep(c.draw(10 * time.Second / time.Duration(len(nodes))))
		c.start("announcer:" + c.nodes()[i])
	}
	return nil
}

// rollOut replaces all Pods of a workload as kubectl does, one by one.
func rollOut(workload string) func(*chaos, string) func() {
	return func(c *chaos, _ string) func() {
		_, err := c.c.Kubectl(c.Context(), "-n", system, "rollout", "restart", workload)
		require.NoError(c, err)
		c.rolledOut(workload)
		return nil
	}
}

// foreignPlan has an announcer find a plan of another cluster on its disk, by which all
// addresses are its own, and one that nobody else gives out; perhaps there is no CCM to
// tell it better.
func (c *chaos) foreignPlan(node string) func() {
	alone, discarded := c.random.IntN(2) == 0, c.discarded(node)
	c.stop("announcer:" + node)
	path := c.c.HostPath(node, planFile)
	data, err := os.ReadFile(path)
	require.NoError(c, err)
	require.NoError(c, os.WriteFile(path, c.graspingPlan(data, node), 0o600))
	if alone {
		c.observer.Note("    and all replicas of the CCM stop")
		c.stop("ccm")
	}
	c.start("announcer:" + node)
	c.until(func() bool { return c.discarded(node) > discarded }, "%s does not discard a plan of another cluster", node)
	return func() { c.start("ccm") }
}

// graspingPlan makes of a node's plan one of another cluster, newer than all others, by which
// the node alone answers for everything.
func (c *chaos) graspingPlan(data []byte, node string) []byte {
	c.Helper()
	kept, err := planfile.Decode(c.ofAnotherCluster(data))
	require.NoError(c, err)
	set := &kept.Plan
	set.Version.Term += 1000
	all := []plan.Assignment{{Address: c.foreign}}
	for a := range set.Assignments.All() {
		all = append(all, a)
	}
	for i := range all {
		all[i] = plan.Assignment{Address: all[i].Address, Version: set.Version, Candidates: []string{node}, Interface: "eth0"}
	}
	set.Assignments = plan.NewIndex(all...)
	data, err = planfile.Encode(kept)
	require.NoError(c, err)
	return data
}

// discarded returns how often announcers of a node found a plan of another cluster.
func (c *chaos) discarded(node string) (times int) {
	c.Helper()
	pods, err := c.client.CoreV1().Pods(system).List(c.Context(), metav1.ListOptions{FieldSelector: "spec.nodeName=" + node})
	require.NoError(c, err)
	for _, p := range pods.Items {
		files, err := filepath.Glob(filepath.Join(c.c.Logs(), system+"_"+p.Name+"_*.log"))
		require.NoError(c, err)
		for _, file := range files {
			text, err := os.ReadFile(file)
			require.NoError(c, err)
			times += strings.Count(string(text), "it is of another cluster (another)")
		}
	}
	return times
}
