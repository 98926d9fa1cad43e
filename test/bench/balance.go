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

// balance runs the benchmark of pkg/loadbalancer that gives 1000 addresses to ten nodes and
// takes one node away. It is the same every time: one run says all.
func balance(ctx context.Context, _ *lab, _ int) (result, error) {
	cmd := exec.CommandContext(ctx, "go", "test", "-run=^$", "-bench=^BenchmarkBalance$", "-benchtime=1x", "./pkg/loadbalancer")
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		return result{}, fmt.Errorf("%s: %w\n%s", cmd, err, out)
	}
	s, err := parseBalance(string(out))
	return result{Runs: []sample{s}}, err
}

// reported is a value that a benchmark reports beside its time.
var reported = regexp.MustCompile(`([\d.]+) (largest_ratio|largest_after_ratio|needless_moves)\b`)

// parseBalance reads what the benchmark printed.
func parseBalance(text string) (sample, error) {
	s := newSample()
	for l := range strings.Lines(text) {
		if !strings.HasPrefix(l, "BenchmarkBalance") {
			continue
		}
		for _, m := range reported.FindAllStringSubmatch(l, -1) {
			v, err := strconv.ParseFloat(m[1], 64)
			if err != nil {
				return s, err
			}
			s.Figures[m[2]] = v
		}
	}
	if len(s.Figures) != 3 {
		return s, fmt.Errorf("%d of 3 figures were found in the output:\n%s", len(s.Figures), text)
	}
	return s, nil
}
