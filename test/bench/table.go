package main

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"unicode"
)

// summary renders the headlines as Markdown.
func summary(all []result) string {
	byName := named(all)
	var b strings.Builder
	b.WriteString("| what happens | median | measured |\n|---|---|---|\n")
	for _, h := range headlines() {
		r := byName[h.measure]
		if values := r.figure(h.figure); len(values) > 0 {
			fmt.Fprintf(&b, "| %s | %s | [%s](#%s), %s, `%s` |\n", h.what, withUnit(h.figure, median(values)),
				r.Name, anchor(r), r.When.Format("2006-01-02"), r.Commit)
		}
	}
	return b.String()
}

func named(all []result) map[string]result {
	out := map[string]result{}
	for _, r := range all {
		out[r.Name] = r
	}
	return out
}

// anchor returns the anchor that a page of GitHub, or of a renderer like it, gives the heading of a
// result: lower case, without punctuation, spaces as hyphens.
func anchor(r result) string {
	return strings.Map(func(c rune) rune {
		switch {
		case c == ' ':
			return '-'
		case c == '-' || c == '_' || unicode.IsLetter(c) || unicode.IsDigit(c):
			return unicode.ToLower(c)
		}
		return -1
	}, heading(r))
}

func heading(r result) string { return r.Name + ": " + r.Title }

// tables renders results as Markdown: the goals first, then everything that was found.
func tables(all []result) string {
	byName := named(all)
	var b strings.Builder
	b.WriteString("| measure | goal | here: median (least – most) | |\n|---|---|---|---|\n")
	for _, g := range goals() {
		r, ok := byName[g.measure]
		values := r.figure(g.figure)
		if !ok || len(values) == 0 {
			continue
		}
		fmt.Fprintf(&b, "| %s | %s | %s | %s |\n", g.what, g.text(), spread(g.figure, values), g.verdict(values))
	}
	for _, r := range all {
		detail(&b, r)
	}
	return b.String()
}

func (g goal) text() string {
	if g.limit == nil {
		return ""
	}
	return "≤ " + withUnit(g.figure, *g.limit)
}

func (g goal) verdict(values []float64) string {
	switch {
	case g.limit == nil:
		return ""
	case median(values) <= *g.limit:
		return "reached"
	}
	return "**missed**"
}

// detail renders all figures of one result, and what they were taken on.
func detail(b *strings.Builder, r result) {
	if len(r.Runs) == 0 {
		return
	}
	fmt.Fprintf(b, "\n### %s\n\n", heading(r))
	fmt.Fprintf(b, "`%s`, %s, commit %s, %s, %d cores of %s, %s, Linux %s; %d runs.\n\n",
		r.Command, r.When.Format("2006-01-02 15:04 MST"), r.Commit, r.Go, r.Cores, r.CPU, r.Memory, r.Kernel, len(r.Runs))
	b.WriteString("| figure | median | least | most |\n|---|---|---|---|\n")
	for _, name := range slices.Sorted(maps.Keys(r.Runs[0].Figures)) {
		values := r.figure(name)
		fmt.Fprintf(b, "| %s | %s | %s | %s |\n", strings.ReplaceAll(name, "_", " "),
			withUnit(name, median(values)), withUnit(name, slices.Min(values)), withUnit(name, slices.Max(values)))
	}
}

func spread(name string, values []float64) string {
	return fmt.Sprintf("%s (%s – %s)", withUnit(name, median(values)), withUnit(name, slices.Min(values)), withUnit(name, slices.Max(values)))
}

// withUnit prints a figure with the unit that its name ends in.
func withUnit(name string, v float64) string {
	switch unit := name[strings.LastIndex(name, "_")+1:]; {
	case unit == "ms" && (v >= 1000 || v <= -1000):
		return number(v/1000) + " s"
	case unit == "percent":
		return number(v) + " %"
	case unit == "ratio":
		return number(v) + "×"
	case unit == "kbits":
		return number(v) + " kbit/s"
	case unit == "mb":
		return number(v) + " MB"
	case unit == "ms" || unit == "ns":
		return number(v) + " " + unit
	}
	return number(v)
}
