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

	"baremetal.cloud/ccm/test/e2e/testbed/netns"
)

// load is what announcers used and what their nodes received, node by node.
type load struct{ cpu, received []float64 }

// announcersDuring returns the load while f lasts.
func (l *lab) announcersDuring(ctx context.Context, f func(context.Context) error) (load, error) {
	began := time.Now()
	before, err := l.usage()
	if err != nil {
		return load{}, err
	}
	if err := f(ctx); err != nil {
		return load{}, err
	}
	lasted := time.Since(began).Seconds()
	after, err := l.usage()
	if err != nil {
		return load{}, err
	}
	var out load
	for i := range after.cpu {
		out.cpu = append(out.cpu, 100*(after.cpu[i]-before.cpu[i])/lasted)
		out.received = append(out.received, (after.received[i]-before.received[i])/lasted)
	}
	return out, nil
}

// usage reads the announcers' processor seconds and their nodes' received frames.
func (l *lab) usage() (load, error) {
	var out load
	for _, node := range l.cluster.Layout().Nodes {
		pid, err := l.announcer(node.Name)
		if err != nil {
			return out, err
		}
		cpu, err := processorSeconds(filepath.Join("/proc", strconv.Itoa(pid)))
		if err != nil {
			return out, err
		}
		received, err := receivedFrames(node.NetNS)
		if err != nil {
			return out, err
		}
		out.cpu, out.received = append(out.cpu, cpu), append(out.received, received)
	}
	return out, nil
}

// processorSeconds adds up the time that the scheduler gave to a process's threads, which
// is to the nanosecond where /proc/PID/stat counts in hundredths of a second. The Go
// runtime keeps its threads.
func processorSeconds(process string) (float64, error) {
	files, err := filepath.Glob(filepath.Join(process, "task", "*", "schedstat"))
	if err != nil || len(files) == 0 {
		return 0, errors.Join(err, fmt.Errorf("%s has no threads", process))
	}
	var sum float64
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			return 0, err
		}
		onProcessor, _, _ := strings.Cut(string(data), " ")
		ns, err := strconv.ParseFloat(onProcessor, 64)
		if err != nil {
			return 0, fmt.Errorf("%s: %w", file, err)
		}
		sum += ns / 1e9
	}
	return sum, nil
}

// receivedFrames reads how many frames reached eth0 of a namespace.
func receivedFrames(namespace string) (received float64, err error) {
	err = netns.Do(namespace, func() error {
		data, err := os.ReadFile("/proc/thread-self/net/dev")
		if err != nil {
			return err
		}
		received, err = parseReceived(string(data), "eth0")
		return err
	})
	return received, err
}

// parseReceived reads /proc/net/dev: after the name, bytes and packets received.
func parseReceived(text, name string) (float64, error) {
	for line := range strings.Lines(text) {
		key, values, ok := strings.Cut(strings.TrimSpace(line), ":")
		if fields := strings.Fields(values); ok && key == name && len(fields) > 1 {
			return strconv.ParseFloat(fields[1], 64)
		}
	}
	return 0, fmt.Errorf("no interface %s", name)
}
