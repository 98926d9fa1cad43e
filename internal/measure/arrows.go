package measure

import (
	"go/ast"
	"go/types"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/tools/go/packages"
)

// arrow leads from a file that uses something to the file of the same package that declares it.
type arrow struct{ from, to string }

// arrowsOf returns the arrows between the files of p: for package-level names, methods and
// fields. What is used how often does not count.
func arrowsOf(p *packages.Package) map[arrow]bool {
	arrows := map[arrow]bool{}
	files := map[string]bool{}
	for _, f := range p.Syntax {
		files[fileOf(p, f)] = true
	}
	for _, f := range p.Syntax {
		from := fileOf(p, f)
		ast.Inspect(f, func(n ast.Node) bool {
			name, ok := n.(*ast.Ident)
			if !ok {
				return true
			}
			used := p.TypesInfo.Uses[name]
			if used == nil || used.Pkg() != p.Types || !declared(used) {
				return true
			}
			to := filepath.Base(p.Fset.Position(used.Pos()).Filename)
			if to != from && files[to] {
				arrows[arrow{from, to}] = true
			}
			return true
		})
	}
	return arrows
}

// declared reports whether o is declared outside functions: at package level, as a method or
// as a field.
func declared(o types.Object) bool {
	switch o := o.(type) {
	case *types.Func:
		return true
	case *types.Var:
		return o.IsField() || o.Parent() == o.Pkg().Scope()
	}
	return o.Parent() == o.Pkg().Scope()
}

// layers returns the files of arrows in an order in which as few arrows as can be found run up,
// and how many do. Finding the very fewest is hard; moving one file at a time, from several
// beginnings, comes close.
func layers(arrows map[arrow]bool) (order []string, up int) {
	var files []string
	for a := range arrows {
		files = append(files, a.from, a.to)
	}
	slices.Sort(files)
	files = slices.Compact(files)
	l := layering{arrows: arrows, size: len(files)}
	up = len(arrows) + 1
	for shift := range max(1, len(files)) {
		begin := slices.Concat(files[shift:], files[:shift])
		if o, n := l.improve(begin); n < up {
			order, up = o, n
		}
	}
	return order, up
}

type layering struct {
	arrows map[arrow]bool
	size   int
}

// improve moves single files for as long as that turns arrows down.
func (l layering) improve(order []string) ([]string, int) {
	for changed := true; changed; {
		changed = false
		for _, file := range slices.Clone(order) {
			at := slices.Index(order, file)
			rest := slices.Delete(slices.Clone(order), at, at+1)
			if best := l.bestPlace(rest, file, at); best != at {
				order, changed = slices.Insert(rest, best, file), true
			}
		}
	}
	return order, l.countUp(order)
}

// bestPlace returns where in rest file has the fewest arrows that run up; at, where it was, if
// no place is better.
func (l layering) bestPlace(rest []string, file string, at int) int {
	// cost is the change against the place before all of rest.
	cost, best, least := 0, 0, 0
	costs := make([]int, len(rest)+1)
	for i, other := range rest {
		if l.arrows[arrow{file, other}] { // file now stands below what it uses
			cost++
		}
		if l.arrows[arrow{other, file}] {
			cost--
		}
		costs[i+1] = cost
		if cost < least {
			best, least = i+1, cost
		}
	}
	if costs[at] == least {
		return at
	}
	return best
}

// countUp returns how many arrows lead to a file further up in order.
func (l layering) countUp(order []string) int {
	place := map[string]int{}
	for i, file := range order {
		place[file] = i
	}
	up := 0
	for a := range l.arrows {
		if place[a.to] < place[a.from] {
			up++
		}
	}
	return up
}

// trimGo returns name without ".go".
func trimGo(name string) string { return strings.TrimSuffix(name, ".go") }
