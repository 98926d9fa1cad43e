package main

import (
	"context"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"
)

const (
	// calm is how busy a machine may be, in percent, before a run begins.
	calm = 25
	// calmPatience is how long a run waits for that. It begins all the same then, and what
	// was found stands in its figures.
	calmPatience = time.Minute
	calmWindow   = 2 * time.Second
)

// machineCalm waits until the machine has little else to do, and returns how busy it was
// last, in percent. kube-proxies, for example, write rules for a while after the API
// server has become quiet.
func machineCalm(ctx context.Context) (float64, error) {
	deadline := time.Now().Add(calmPatience)
	for {
		before, err := readTicks()
		if err != nil {
			return 0, err
		}
		if err := pause(ctx, calmWindow); err != nil {
			return 0, err
		}
		after, err := readTicks()
		if err != nil {
			return 0, err
		}
		if busy := after.busySince(before); busy < calm || time.Now().After(deadline) {
			return busy, nil
		}
	}
}

// ticks are how long all processors together were busy and in all, since boot.
type ticks struct{ busy, all float64 }

func readTicks() (ticks, error) {
	data, err := os.ReadFile("/proc/stat")
	if err != nil {
		return ticks{}, err
	}
	return parseTicks(string(data))
}

// parseTicks reads the first line of /proc/stat (proc_stat(5)): user, nice, system, idle,
// iowait, irq, softirq, steal; guests are in user already.
func parseTicks(text string) (ticks, error) {
	line, _, _ := strings.Cut(text, "\n")
	fields := strings.Fields(line)
	if len(fields) < 9 || fields[0] != "cpu" {
		return ticks{}, fmt.Errorf("/proc/stat: unexpected line %q", line)
	}
	var t ticks
	for i, field := range fields[1:9] {
		n, err := strconv.ParseFloat(field, 64)
		if err != nil {
			return ticks{}, fmt.Errorf("/proc/stat: %w", err)
		}
		t.all += n
		if i != 3 && i != 4 {
			t.busy += n
		}
	}
	return t, nil
}

// busySince returns the share of the time since earlier, in percent.
func (t ticks) busySince(earlier ticks) float64 {
	if t.all == earlier.all {
		return 0
	}
	return 100 * (t.busy - earlier.busy) / (t.all - earlier.all)
}
