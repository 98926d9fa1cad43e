// Package measure counts what the project has set itself as goals for its code: how large its
// types are, how names and files are chosen, and which words comments use. hack/house prints it.
//
// It looks at pkg and cmd, without tests and without generated files.
package measure

import (
	"fmt"
	"slices"
	"strings"

	"golang.org/x/tools/go/packages"
)

// Figure is one row of the table.
type Figure struct {
	// Name is what is counted, Value the count, and Goal what it should be; "" if there is no goal.
	Name, Value, Goal string
	// Details are the largest things, or the places.
	Details []string
}

// control and loadbalancer are packages that have a row of their own.
const (
	control      = "pkg/announcer/control"
	loadbalancer = "pkg/loadbalancer"
)

// Table measures the module in the directory dir.
func Table(dir string) ([]Figure, error) {
	loaded, err := load(dir)
	if err != nil {
		return nil, err
	}
	length, err := lengthFigures(loaded)
	if err != nil {
		return nil, err
	}
	return slices.Concat(typeFigures(loaded), arrowFigures(loaded), nameFigures(loaded), wordFigures(loaded), length, minuteFigures(loaded)), nil
}

func typeFigures(loaded []*packages.Package) []Figure {
	var methods, fields []size
	for _, p := range loaded {
		methods = append(methods, methodsOf(p)...)
		fields = append(fields, fieldsOf(p)...)
	}
	return []Figure{
		largest("methods of the largest type", "40", methods),
		largest("fields of the largest struct", "20", fields),
	}
}

// largest is a row about the largest of sizes, with some more of them.
func largest(name, goal string, sizes []size) Figure {
	slices.SortStableFunc(sizes, func(a, b size) int { return b.n - a.n })
	f := Figure{Name: name, Value: "0", Goal: "≤ " + goal}
	for i, s := range sizes[:min(len(sizes), 6)] {
		if i == 0 {
			f.Value = fmt.Sprint(s.n)
		}
		text := fmt.Sprintf("%d %s", s.n, s.name)
		if len(s.with) > 0 {
			text += " with " + strings.Join(s.with, ", ")
		}
		f.Details = append(f.Details, text)
	}
	return f
}

func arrowFigures(loaded []*packages.Package) []Figure {
	var figures []Figure
	var details []string
	for _, p := range loaded {
		arrows := arrowsOf(p)
		_, up := layers(arrows)
		if short(p) == loadbalancer {
			figures = append(figures, Figure{Name: "arrows between files that run up, " + loadbalancer, Value: fmt.Sprintf("%d of %d", up, len(arrows)), Goal: "≤ 15"})
		} else if up > 0 {
			details = append(details, fmt.Sprintf("%d of %d %s", up, len(arrows), short(p)))
		}
	}
	return append(figures, Figure{Name: "the same in other packages", Value: fmt.Sprint(len(details)), Details: details})
}

func nameFigures(loaded []*packages.Package) []Figure {
	where := functions(loaded)
	all, single := wordShare(where)
	shared := overloaded(where)
	files := fileNames(loaded)
	var names []string
	for name, n := range files {
		names = append(names, fmt.Sprintf("%s ×%d", trimGo(name), n))
	}
	slices.Sort(names)
	share := Figure{Name: "one-word names among unexported functions", Value: "0 %", Goal: "≤ 35 %"}
	if all > 0 {
		share.Value = fmt.Sprintf("%d %%", (single*100+all/2)/all)
		share.Details = []string{fmt.Sprintf("%d of %d", single, all)}
	}
	return []Figure{
		share,
		{Name: "such names that mean something in 3 packages or more", Value: fmt.Sprint(len(shared)), Goal: "≤ 10", Details: []string{strings.Join(shared, " ")}},
		{Name: "the same file name in 3 packages or more", Value: fmt.Sprint(len(names)), Goal: "0", Details: names},
	}
}

func wordFigures(loaded []*packages.Package) []Figure {
	var figures []Figure
	for _, word := range fieldWords {
		figures = append(figures, Figure{Name: fmt.Sprintf("%q in code and comments", word), Value: fmt.Sprint(identifiers(loaded, word)), Goal: "used"})
	}
	text := comments(loaded)
	words := len(strings.Fields(text))
	for _, odd := range oddWords {
		n := len(odd.find.FindAllString(text, -1))
		figures = append(figures, Figure{Name: odd.name + " per 1000 comment words", Value: fmt.Sprintf("%.1f", float64(n)*1000/float64(max(1, words))), Goal: "0", Details: []string{fmt.Sprintf("%d in %d words", n, words)}})
	}
	return figures
}

func lengthFigures(loaded []*packages.Package) ([]Figure, error) {
	var stream, total lines
	for _, p := range loaded {
		sizes, err := linesOf(p)
		if err != nil {
			return nil, err
		}
		for _, l := range sizes {
			total.add(l)
			if path := short(p); path == control || strings.HasPrefix(path, control+"/") {
				stream.add(l)
			}
		}
	}
	return []Figure{
		{Name: "lines of the package for one gRPC stream", Value: fmt.Sprint(stream.all), Goal: "≤ 2000", Details: []string{fmt.Sprintf("%d of them code", stream.code)}},
		{Name: "lines of pkg and cmd", Value: fmt.Sprint(total.all), Details: []string{fmt.Sprintf("%d of them code", total.code)}},
	}, nil
}

func minuteFigures(loaded []*packages.Package) []Figure {
	f := Figure{Name: "one-minute test", Goal: "7 of 7"}
	passed := 0
	for _, q := range questions {
		file, found := q.answer(loaded)
		mark := "no "
		if found {
			passed++
			mark = "yes"
		}
		f.Details = append(f.Details, fmt.Sprintf("%s %s: %s", mark, q.text, file))
	}
	f.Value = fmt.Sprintf("%d of %d", passed, len(questions))
	return []Figure{f}
}
