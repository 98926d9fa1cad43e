//go:build e2e

package e2e

import (
	"bytes"
	"context"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/stretchr/testify/require"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// What inputs of K1 may cost: the share of a core, resident memory in bytes and log lines.
const (
	coreAllowed      = 0.2
	announcerAllowed = 64 << 20
	ccmAllowed       = 256 << 20
	linesAllowed     = 60
)

// process is one of ours that is watched.
type process struct {
	name   string
	pid    int
	log    string
	memory int // what it may have
}

// ours returns the replicas of the CCM, and the announcers of those nodes.
func (w *witness) ours(nodes ...string) (out []process) {
	w.Helper()
	pods, err := w.client.CoreV1().Pods(system).List(w.Context(), metav1.ListOptions{})
	require.NoError(w, err)
	replicas := w.processes()
	add := func(name, node, account string, pid, memory int) {
		for _, pod := range pods.Items {
			if pod.Spec.NodeName == node && pod.Spec.ServiceAccountName == account && pod.DeletionTimestamp == nil {
				out = append(out, process{name + " on " + node, pid, fmt.Sprintf("%s_%s_*.log", system, pod.Name), memory})
			}
		}
	}
	for _, node := range slices.Sorted(maps.Keys(replicas)) {
		add("CCM", node, "baremetal-ccm", replicas[node], ccmAllowed)
	}
	for _, node := range nodes {
		add("announcer", node, announcerAccount, w.announcerPID(node), announcerAllowed)
	}
	require.Len(w, out, len(replicas)+len(nodes))
	return out
}

// costs has an input last for a time, and checks what it costs our programs.
func (w *witness) costs(ours []process, how time.Duration, input func(context.Context)) {
	w.Helper()
	ctx, stop := context.WithTimeout(w.Context(), how)
	defer stop()
	var running sync.WaitGroup
	began := time.Now()
	used, lines, most := map[string]time.Duration{}, map[string]int{}, map[string]int{}
	for _, p := range ours {
		used[p.name], lines[p.name] = processorTimeOf(w.T, p.pid), w.logLinesOf(p)
	}
	running.Go(func() { input(ctx) })
	for ctx.Err() == nil {
		for _, p := range ours {
			most[p.name] = max(most[p.name], residentOf(w.T, p.pid))
		}
		time.Sleep(pause)
	}
	running.Wait()
	for _, p := range ours {
		core := (processorTimeOf(w.T, p.pid) - used[p.name]).Seconds() / time.Since(began).Seconds()
		said := w.logLinesOf(p) - lines[p.name]
		w.Logf("%s: %.1f %% of a core, %d MiB, %d log lines", p.name, 100*core, most[p.name]>>20, said)
		require.LessOrEqual(w, core, coreAllowed, p.name)
		require.LessOrEqual(w, most[p.name], p.memory, p.name)
		require.LessOrEqual(w, said, linesAllowed, p.name)
	}
}

// logLinesOf returns how many lines a process, and those before it in its Pod, have written.
func (w *witness) logLinesOf(p process) (lines int) {
	w.Helper()
	logs, err := filepath.Glob(filepath.Join(w.c.Logs(), p.log))
	require.NoError(w, err)
	require.NotEmpty(w, logs, p.log)
	for _, log := range logs {
		text, err := os.ReadFile(log)
		require.NoError(w, err)
		lines += bytes.Count(text, []byte("\n"))
	}
	return lines
}

// processorTimeOf returns what a process has used so far.
func processorTimeOf(t require.TestingT, pid int) time.Duration {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	require.NoError(t, err)
	// The name of the program, which may have spaces, is in parentheses; utime and stime are the
	// 12th and 13th field after it, in hundredths of a second (proc(5)).
	fields := strings.Fields(string(text[bytes.LastIndexByte(text, ')')+1:]))
	var ticks int
	for _, field := range fields[11:13] {
		n, err := strconv.Atoi(field)
		require.NoError(t, err)
		ticks += n
	}
	return time.Duration(ticks) * 10 * time.Millisecond
}

// residentOf returns the memory that a process has in use, in bytes.
func residentOf(t require.TestingT, pid int) int {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/statm", pid))
	require.NoError(t, err)
	fields := strings.Fields(string(text))
	require.Greater(t, len(fields), 1, "statm: %q", text)
	pages, err := strconv.Atoi(fields[1])
	require.NoError(t, err)
	return pages * os.Getpagesize()
}

// steadily does something so often a second until ctx ends.
func steadily(ctx context.Context, perSecond int, do func(i int)) {
	done := 0
	for began := time.Now(); ctx.Err() == nil; time.Sleep(time.Millisecond) {
		for due := int(time.Since(began).Seconds() * float64(perSecond)); done < due && ctx.Err() == nil; done++ {
			do(done)
		}
	}
}
