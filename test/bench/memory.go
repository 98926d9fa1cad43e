package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// settle is how long after the last change memory is read.
const settle = time.Minute

// memory gives 1000 addresses to one node and reads the memory of its announcer a minute
// after the last change.
func memory(ctx context.Context, bed *lab, runs int) (result, error) {
	node := bed.cluster.Nodes()[0]
	if err := bed.addPool(ctx, "one-node", "198.19.192.0/20", onNode(node)); err != nil {
		return result{}, err
	}
	return repeat(ctx, runs, func(ctx context.Context, i int) (sample, error) {
		s := newSample()
		names := series(fmt.Sprintf("memory-%d", i), crowd)
		_, err := bed.createAll(ctx, names, fromPool("one-node"))
		if err == nil {
			_, err = bed.watch.addressed(ctx, names)
		}
		if err == nil {
			err = bed.quiet(ctx)
		}
		if err == nil {
			err = pause(ctx, settle)
		}
		if err == nil {
			err = bed.memoryOf(node, s)
		}
		return s, errors.Join(err, bed.deleteAll(ctx, names))
	})
}

// onNode keeps a pool's addresses on one node.
func onNode(node string) map[string]any {
	return map[string]any{"l2": []any{map[string]any{"nodeSelectors": []any{map[string]any{
		"matchLabels": map[string]string{"kubernetes.io/hostname": node},
	}}}}}
}

// memoryOf reads the announcer's memory into s, in MB of 10^6 bytes.
func (l *lab) memoryOf(node string, s sample) error {
	pid, err := l.announcer(node)
	if err != nil {
		return err
	}
	return memoryOfProcess(pid, s)
}

// memoryOfProcess reads the memory of a process into s, in MB of 10^6 bytes.
func memoryOfProcess(pid int, s sample) error {
	for key, name := range map[string]string{"VmRSS": "rss_mb", "RssAnon": "anonymous_mb"} {
		bytes, err := processMemory(pid, key)
		if err != nil {
			return err
		}
		s.Figures[name] = bytes / 1e6
	}
	return nil
}

// processMemory reads a line of /proc/PID/status about memory, in bytes.
func processMemory(pid int, key string) (float64, error) {
	return memoryIn(fmt.Sprintf("/proc/%d/status", pid), key)
}

// memoryIn reads a line of a file of /proc about memory, in bytes.
func memoryIn(path, key string) (float64, error) {
	text, err := field(path, key)
	if err != nil {
		return 0, err
	}
	kib, err := strconv.ParseFloat(strings.TrimSuffix(text, " kB"), 64)
	if err != nil {
		return 0, fmt.Errorf("%s in %s: %w", key, path, err)
	}
	return kib * 1024, nil
}

// announcer returns the process of node's announcer.
func (l *lab) announcer(node string) (pid int, err error) {
	text, err := l.setting("ANNOUNCER_PID_" + node)
	if err != nil {
		return 0, err
	}
	return strconv.Atoi(text)
}

// setting returns a line of what the testbed tells about itself.
func (l *lab) setting(name string) (string, error) {
	env, err := os.ReadFile(filepath.Join(l.cluster.Dir, "env"))
	if err != nil {
		return "", err
	}
	return settingIn(string(env), name)
}

func settingIn(env, name string) (string, error) {
	for line := range strings.Lines(env) {
		if value, ok := strings.CutPrefix(strings.TrimSpace(line), name+"="); ok {
			return strings.Trim(value, `"'`), nil
		}
	}
	return "", fmt.Errorf("the testbed has no %s", name)
}
