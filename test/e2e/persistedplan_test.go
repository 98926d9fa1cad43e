//go:build e2e

package e2e

import (
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"baremetal.cloud/ccm/pkg/announcer/planfile"
)

// planFile is where an announcer keeps its plan.
const planFile = "/var/lib/baremetal-announcer/plan"

// announcerPID returns the process of a node's announcer.
func (l *lab) announcerPID(node string) int {
	l.Helper()
	env, err := os.ReadFile(filepath.Join(l.c.Dir, "env"))
	require.NoError(l, err)
	for line := range strings.Lines(string(env)) {
		if value, ok := strings.CutPrefix(strings.TrimSpace(line), "ANNOUNCER_PID_"+node+"="); ok {
			pid, err := strconv.Atoi(strings.Trim(value, "'"))
			require.NoError(l, err)
			return pid
		}
	}
	require.Fail(l, "no announcer on "+node)
	return 0
}

// killed kills the announcer of who answers, which is started again: the address is
// answered all the time but for a moment, by one node.
func (l *lab) killed(address netip.Addr) {
	l.Helper()
	node := l.nodeOf(l.addressOwner(address))
	require.NoError(l, syscall.Kill(l.announcerPID(node), syscall.SIGKILL))
	l.eventuallyAnsweredByAnother(address, node)
	l.stays(address, l.addressOwner(address))
	l.requested(address)
}

// allRestarted ends all announcers at once and starts them again: one of them answers.
func (l *lab) allRestarted(address netip.Addr) {
	l.Helper()
	l.stop("announcer")
	l.silent(address)
	l.start("announcer")
	l.stays(address, l.addressOwner(address))
	l.requested(address)
}

// planDiscarded changes what the nodes keep into something that is not theirs to use, and
// checks that nobody answers, and that the log says why.
func (l *lab) planDiscarded(address netip.Addr, why string, change func(data []byte) []byte) {
	l.Helper()
	l.stop("announcer")
	for _, node := range l.nodes() {
		path := l.c.HostPath(node, planFile)
		data, err := os.ReadFile(path)
		require.NoError(l, err)
		info, err := os.Stat(path)
		require.NoError(l, err)
		require.Equal(l, os.FileMode(0o600), info.Mode(), "it holds keys")
		require.NoError(l, os.WriteFile(path, change(data), 0o600))
		defer func() { require.NoError(l, os.WriteFile(path, data, 0o600)) }()
	}
	l.start("announcer")
	l.eventually(func(t *assert.CollectT) {
		logs, err := filepath.Glob(filepath.Join(l.c.Logs(), "baremetal-ccm_baremetal-announcer-*"))
		require.NoError(t, err)
		require.Len(t, logs, len(l.nodes()))
		for _, log := range logs {
			text, err := os.ReadFile(log)
			require.NoError(t, err)
			require.Contains(t, string(text), why, log)
		}
	})
	require.Empty(l, l.addressOwners(address))
	l.stop("announcer")
}

// ofAnotherCluster is the plan as another cluster's announcer would have kept it.
func (l *lab) ofAnotherCluster(data []byte) []byte {
	l.Helper()
	kept, err := planfile.Decode(data)
	require.NoError(l, err)
	kept.Account, kept.Plan.Cluster = "another", "another"
	data, err = planfile.Encode(kept)
	require.NoError(l, err)
	return data
}
