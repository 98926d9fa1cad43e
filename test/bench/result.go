package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// sample is one run of a measure. The name of a figure ends in its unit.
type sample struct {
	// Figures are what the tables are made from.
	Figures map[string]float64 `json:"figures"`
	// Raw is what the figures were made from, where they are medians or the like.
	Raw map[string][]float64 `json:"raw,omitempty"`
}

func newSample() sample {
	return sample{Figures: map[string]float64{}, Raw: map[string][]float64{}}
}

// String lists the figures for people.
func (s sample) String() string {
	var b strings.Builder
	for i, name := range slices.Sorted(maps.Keys(s.Figures)) {
		if i > 0 {
			b.WriteString(", ")
		}
		fmt.Fprintf(&b, "%s %s", name, number(s.Figures[name]))
	}
	return b.String()
}

// result is what a measure found.
type result struct {
	Name  string `json:"name"`
	Title string `json:"title"`
	background
	Runs []sample `json:"runs"`
}

// background is what a result depends on beside the code.
type background struct {
	When    time.Time `json:"when"`
	Commit  string    `json:"commit"`
	Go      string    `json:"go"`
	CPU     string    `json:"cpu"`
	Cores   int       `json:"cores"`
	Memory  string    `json:"memory"`
	Kernel  string    `json:"kernel"`
	Command string    `json:"command"`
}

// figure returns a figure of every run, nil if there is none.
func (r result) figure(name string) []float64 {
	var out []float64
	for _, s := range r.Runs {
		if v, ok := s.Figures[name]; ok {
			out = append(out, v)
		}
	}
	return out
}

func (r result) write(path string) error {
	data, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	return os.WriteFile(path, append(data, '\n'), 0o644)
}

// readResults reads the results that are in dir, in the order of the measures.
func readResults(dir string) ([]result, error) {
	var all []result
	for _, m := range measures {
		path := filepath.Join(dir, m.name+".json")
		data, err := os.ReadFile(path)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, err
		}
		var r result
		if err := json.Unmarshal(data, &r); err != nil {
			return nil, fmt.Errorf("%s: %w", path, err)
		}
		all = append(all, r)
	}
	return all, nil
}
