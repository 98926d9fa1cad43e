package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"strconv"
	"strings"
)

// pools are the benchmarks of pkg/ipam by how the tables call them.
var pools = map[string]string{
	"empty_/28":                "empty_28",
	"/12_full_but_one":         "full_12",
	"/64_with_a_million_taken": "million_64",
}

// assign runs the allocator's own benchmark. Each line of its output is a run.
func assign(ctx context.Context, _ *lab, runs int) (result, error) {
	cmd := exec.CommandContext(ctx, "go", "test", "-run=^$", "-bench=^BenchmarkAssign$", "-benchmem",
		"-count="+strconv.Itoa(2*runs), "./pkg/ipam")
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		return result{}, fmt.Errorf("%s: %w\n%s", cmd, err, out)
	}
	return parseAssign(string(out))
}

// line is a result of `go test -bench -benchmem`.
var line = regexp.MustCompile(`^BenchmarkAssign/(\S+?)(?:-\d+)?\s+\d+\s+([\d.]+) ns/op\s+(\d+) B/op\s+(\d+) allocs/op`)

// parseAssign reads what the benchmark printed. The n-th lines of all pools make the
// n-th run.
func parseAssign(text string) (result, error) {
	seen := map[string]int{}
	var r result
	for l := range strings.Lines(text) {
		m := line.FindStringSubmatch(l)
		if m == nil {
			continue
		}
		pool, ok := pools[m[1]]
		if !ok {
			return r, fmt.Errorf("unknown benchmark %q", m[1])
		}
		i := seen[pool]
		seen[pool]++
		if i == len(r.Runs) {
			r.Runs = append(r.Runs, newSample())
		}
		for j, unit := range []string{"ns", "bytes", "allocs"} {
			v, err := strconv.ParseFloat(m[2+j], 64)
			if err != nil {
				return r, err
			}
			r.Runs[i].Figures[pool+"_"+unit] = v
		}
	}
	if len(seen) != len(pools) {
		return r, fmt.Errorf("%d of %d benchmarks were found in the output:\n%s", len(seen), len(pools), text)
	}
	for _, run := range r.Runs {
		for _, pool := range []string{"full_12", "million_64"} {
			compare(run.Figures, pool, "empty_28")
		}
	}
	return r, nil
}

// compare adds how a pool does beside another.
func compare(figures map[string]float64, pool, other string) {
	for _, unit := range []string{"ns", "bytes"} {
		figures[pool+"_"+unit+"_ratio"] = figures[pool+"_"+unit] / figures[other+"_"+unit]
	}
	figures[pool+"_more_allocs"] = figures[pool+"_allocs"] - figures[other+"_allocs"]
}
