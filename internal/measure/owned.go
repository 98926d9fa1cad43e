package measure

import (
	"cmp"
	"go/types"
	"slices"

	"golang.org/x/tools/go/packages"
)

// size is how large a type is, or several that are one.
type size struct {
	name string // of the largest, with its package
	n    int
	// with are the others that are counted with it.
	with []string
}

// methodsOf returns the types of p that have methods, the largest first. Types count together
// where their methods work on state that has one owner: where one embeds the other, or where
// one refers by a pointer to a larger one that has no lock of its own. So embedding one in
// another, and methods on a helper that has a pointer back, change nothing.
func methodsOf(p *packages.Package) []size {
	named := namedTypes(p)
	group := map[*types.Named]*types.Named{}
	find := func(t *types.Named) *types.Named {
		for group[t] != nil {
			t = group[t]
		}
		return t
	}
	for _, t := range named {
		for _, u := range sharing(t) {
			if a, b := find(t), find(u); a != b {
				group[b] = a
			}
		}
	}
	members := map[*types.Named][]*types.Named{}
	for _, t := range named {
		if t.NumMethods() > 0 {
			members[find(t)] = append(members[find(t)], t)
		}
	}
	var sizes []size
	for _, types := range members {
		sizes = append(sizes, sizeOf(p, types))
	}
	slices.SortFunc(sizes, func(a, b size) int { return cmp.Or(cmp.Compare(b.n, a.n), cmp.Compare(a.name, b.name)) })
	return sizes
}

func sizeOf(p *packages.Package, members []*types.Named) size {
	slices.SortStableFunc(members, func(a, b *types.Named) int { return cmp.Compare(b.NumMethods(), a.NumMethods()) })
	s := size{name: short(p) + "." + members[0].Obj().Name()}
	for i, t := range members {
		s.n += t.NumMethods()
		if i > 0 {
			s.with = append(s.with, t.Obj().Name())
		}
	}
	return s
}

// namedTypes returns the types that p declares, in the order of their names.
func namedTypes(p *packages.Package) []*types.Named {
	var named []*types.Named
	for _, name := range p.Types.Scope().Names() {
		declaration, ok := p.Types.Scope().Lookup(name).(*types.TypeName)
		if !ok || declaration.IsAlias() {
			continue
		}
		if t, ok := declaration.Type().(*types.Named); ok {
			named = append(named, t)
		}
	}
	return named
}

// sharing returns the types of t's package whose state the methods of t work on too.
func sharing(t *types.Named) []*types.Named {
	structure, ok := t.Underlying().(*types.Struct)
	if !ok {
		return nil
	}
	var shared []*types.Named
	for field := range structure.Fields() {
		u, pointer := target(field.Type())
		if u == nil || u.Obj().Pkg() != t.Obj().Pkg() {
			continue
		}
		if field.Embedded() || pointer && u.NumMethods() > t.NumMethods() && !locked(u) {
			shared = append(shared, u)
		}
	}
	return shared
}

// target returns the declared type that t is, or that it points to.
func target(t types.Type) (named *types.Named, pointer bool) {
	if p, ok := t.(*types.Pointer); ok {
		t, pointer = p.Elem(), true
	}
	named, _ = t.(*types.Named)
	return named, pointer
}

// locked reports whether t has a lock among its fields, and so decides itself which goroutine may
// use it.
func locked(t *types.Named) bool {
	structure, ok := t.Underlying().(*types.Struct)
	if !ok {
		return false
	}
	for field := range structure.Fields() {
		if u, _ := target(field.Type()); u != nil && u.Obj().Pkg() != nil && u.Obj().Pkg().Path() == "sync" {
			return true
		}
	}
	return false
}

// fieldsOf returns the structs of p by their number of fields, the largest first; those of an
// embedded struct of the same package count as its own.
func fieldsOf(p *packages.Package) []size {
	var sizes []size
	for _, t := range namedTypes(p) {
		if n := countFields(t, p.Types); n > 0 {
			sizes = append(sizes, size{name: short(p) + "." + t.Obj().Name(), n: n})
		}
	}
	slices.SortFunc(sizes, func(a, b size) int { return cmp.Or(cmp.Compare(b.n, a.n), cmp.Compare(a.name, b.name)) })
	return sizes
}

func countFields(t *types.Named, of *types.Package) int {
	structure, ok := t.Underlying().(*types.Struct)
	if !ok {
		return 0
	}
	n := 0
	for field := range structure.Fields() {
		if u, pointer := target(field.Type()); field.Embedded() && !pointer && u != nil && u.Obj().Pkg() == of {
			if inner := countFields(u, of); inner > 0 {
				n += inner
				continue
			}
		}
		n++
	}
	return n
}
