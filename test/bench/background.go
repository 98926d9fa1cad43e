package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"time"
)

// describe says on what and of what is measured.
func describe(ctx context.Context) (background, error) {
	commit, err := exec.CommandContext(ctx, "git", "describe", "--always", "--dirty", "--abbrev=9", "--exclude=*").Output()
	if err != nil {
		return background{}, fmt.Errorf("git describe: %w", err)
	}
	kernel, err := os.ReadFile("/proc/sys/kernel/osrelease")
	if err != nil {
		return background{}, err
	}
	cpu, err := field("/proc/cpuinfo", "model name")
	if err != nil {
		return background{}, err
	}
	memory, err := field("/proc/meminfo", "MemTotal")
	if err != nil {
		return background{}, err
	}
	return background{
		When:    time.Now().UTC().Truncate(time.Second),
		Commit:  strings.TrimSpace(string(commit)),
		Go:      runtime.Version(),
		CPU:     cpu,
		Cores:   runtime.NumCPU(),
		Memory:  gibibytes(memory),
		Kernel:  strings.TrimSpace(string(kernel)),
		Command: "make bench",
	}, nil
}

// field returns the value of the first "name: value" line of a file of /proc.
func field(path, name string) (string, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return "", err
	}
	for line := range strings.Lines(string(data)) {
		key, value, ok := strings.Cut(line, ":")
		if ok && strings.TrimSpace(key) == name {
			return strings.TrimSpace(value), nil
		}
	}
	return "unknown", nil
}

// gibibytes turns "16384 kB" into "16 GiB".
func gibibytes(text string) string {
	n, err := strconv.Atoi(strings.TrimSuffix(text, " kB"))
	if err != nil {
		return text
	}
	return fmt.Sprintf("%.0f GiB", float64(n)/(1<<20))
}
