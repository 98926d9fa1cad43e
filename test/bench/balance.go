package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// balance runs the benchmark of pkg/loadbalancer that gives 1000 addresses to ten nodes and
// takes one node away. It is the same every time: one run says all.
func balance(ctx context.Context, _ *lab, _ int) (result, error) {
	return placement(ctx, "BenchmarkBalance", balanceFigures)
}

// heartbeatTraffic runs the benchmark that has the nodes of clusters of several sizes watch each
// other. It is the same every time, too.
func heartbeatTraffic(ctx context.Context, _ *lab, _ int) (result, error) {
	figures := []string{"most_sessions", "most_kbits"}
	for _, n := range []int{10, 100, 1000, 5000} {
		for _, what := range []string{"sessions", "ipv4_kbits", "ipv6_kbits", "starting_kbits", "dying_kbits"} {
			figures = append(figures, fmt.Sprintf("%d_nodes_%s", n, what))
		}
	}
	return placement(ctx, "BenchmarkHeartbeatTraffic", figures)
}

var balanceFigures = []string{"largest_ratio", "largest_after_ratio", "needless_moves"}

// placement runs a benchmark of pkg/loadbalancer once, which reports figures beside its time.
func placement(ctx context.Context, benchmark string, figures []string) (result, error) {
	cmd := exec.CommandContext(ctx, "go", "test", "-run=^$", "-bench=^"+benchmark+"$", "-benchtime=1x", "-timeout=1h", "./pkg/loadbalancer")
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		return result{}, fmt.Errorf("%s: %w\n%s", cmd, err, out)
	}
	s, err := parseReported(string(out), benchmark, figures)
	return result{Runs: []sample{s}}, err
}

// reported is a value that a benchmark reports.
var reported = regexp.MustCompile(`([\d.]+) (\S+)`)

// parseReported reads the figures in what a benchmark printed.
func parseReported(text, benchmark string, figures []string) (sample, error) {
	s := newSample()
	for l := range strings.Lines(text) {
		if !strings.HasPrefix(l, benchmark) {
			continue
		}
		for _, m := range reported.FindAllStringSubmatch(l, -1) {
			if !slices.Contains(figures, m[2]) {
				continue
			}
			v, err := strconv.ParseFloat(m[1], 64)
			if err != nil {
				return s, err
			}
			s.Figures[m[2]] = v
		}
	}
	if len(s.Figures) != len(figures) {
		return s, fmt.Errorf("%d of %d figures were found in the output:\n%s", len(s.Figures), len(figures), text)
	}
	return s, nil
}
