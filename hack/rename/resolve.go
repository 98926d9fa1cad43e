package main

import (
	"fmt"
	"go/ast"
	"go/types"
	"path"

	"golang.org/x/tools/go/packages"
)

// target is an object with its new name.
type target struct {
	new string
	row *row
	// objects are the variants of the object that were met.
	objects []types.Object
	pkg     *packages.Package
}

// targets are what is renamed.
type targets struct {
	table   *table
	of      map[key]*target
	matched map[string]bool // by the row's line
	// qualifiers are the new names of packages, by their import path.
	qualifiers map[string]string
}

// resolve finds the objects that the rows name.
func resolve(m *module, t *table) *targets {
	ts := &targets{table: t, of: map[key]*target{}, matched: map[string]bool{}, qualifiers: map[string]string{}}
	for _, r := range t.of(kindPackage) {
		for _, p := range m.packages {
			if m.dirOf(p) == r.old && path.Base(r.old) != path.Base(r.new) {
				ts.qualifiers[m.path+"/"+r.old] = path.Base(r.new)
			}
		}
	}
	byDir := map[string][]*packages.Package{}
	for _, p := range m.packages {
		byDir[m.dirOf(p)] = append(byDir[m.dirOf(p)], p)
	}
	for _, r := range t.of(kindObject) {
		for _, dir := range []string{r.scope, t.newDir(r.scope)} {
			for _, p := range byDir[dir] {
				if o := ts.lookup(p, r); o != nil {
					ts.add(m, p, o, r)
				}
			}
			if ts.matched[r.line] {
				break
			}
		}
	}
	ts.resolveLocals(m)
	return ts
}

func (ts *targets) add(m *module, p *packages.Package, o types.Object, r *row) {
	k := m.keyOf(o)
	if ts.of[k] == nil {
		ts.of[k] = &target{new: r.new, row: r, pkg: p}
	}
	ts.of[k].objects = append(ts.of[k].objects, o)
	ts.matched[r.line] = true
}

// lookup finds the object of a row in p; nil where p does not declare it.
func (ts *targets) lookup(p *packages.Package, r *row) types.Object {
	if r.typ == "" {
		return p.Types.Scope().Lookup(r.old)
	}
	name := r.typ
	for _, other := range ts.table.of(kindObject) {
		if other.scope == r.scope && other.typ == "" && other.old == r.typ && p.Types.Scope().Lookup(name) == nil {
			name = other.new // the type was renamed before
		}
	}
	named, ok := p.Types.Scope().Lookup(name).(*types.TypeName)
	if !ok {
		return nil
	}
	return member(named.Type(), r.old)
}

// member is the field or method of t itself that has the name; promoted ones belong to others.
func member(t types.Type, name string) types.Object {
	if named, ok := types.Unalias(t).(*types.Named); ok {
		for method := range named.Methods() {
			if method.Name() == name {
				return method
			}
		}
	}
	switch under := t.Underlying().(type) {
	case *types.Struct:
		for field := range under.Fields() {
			if field.Name() == name {
				return field
			}
		}
	case *types.Interface:
		for method := range under.ExplicitMethods() {
			if method.Name() == name {
				return method
			}
		}
	}
	return nil
}

// resolveLocals finds the variables inside functions that rows of the kinds shadow and local name.
func (ts *targets) resolveLocals(m *module) {
	rows := append(ts.table.of(kindShadow), ts.table.of(kindLocal)...)
	names := map[string]bool{}
	for _, r := range rows {
		names[r.old] = true
	}
	each := func(p *packages.Package, o types.Object) {
		if o == nil || !names[o.Name()] || o.Pkg() != p.Types || ts.of[m.keyOf(o)] != nil {
			return
		}
		v, isVar := o.(*types.Var)
		top := o.Parent() == p.Types.Scope()
		if !isVar && !top || isVar && v.IsField() {
			return
		}
		file := m.position(o.Pos()).Filename
		for _, r := range rows {
			if r.old == o.Name() && (r.kind == kindLocal && !top && r.covers(file) || r.kind == kindShadow && m.imports(p, file, r.scope, top, ts.table)) {
				ts.add(m, p, o, r)
				return
			}
		}
	}
	for _, p := range m.packages {
		for _, o := range p.TypesInfo.Defs {
			each(p, o)
		}
		for _, o := range p.TypesInfo.Implicits {
			each(p, o)
		}
	}
}

// imports reports whether a file of p, or any of them, imports the package in the directory dir by
// its own name.
func (m *module) imports(p *packages.Package, file, dir string, any bool, t *table) bool {
	for _, f := range p.Syntax {
		if !any && m.position(f.Pos()).Filename != file {
			continue
		}
		for _, spec := range f.Imports {
			at := spec.Path.Value[1 : len(spec.Path.Value)-1]
			if spec.Name == nil && (at == m.path+"/"+dir || at == m.path+"/"+t.newDir(dir)) {
				return true
			}
		}
	}
	return false
}

// link adds what has to be renamed with a target: the embedded fields of a type, and the methods
// of interfaces and of the types that implement them.
func (ts *targets) link(m *module) error {
	embedded := map[key]*target{}
	m.identifiers(func(p *packages.Package, id *ast.Ident, o types.Object) {
		v, ok := o.(*types.Var)
		if !ok || !v.Embedded() {
			return
		}
		if named := typeNameOf(v.Type()); named != nil {
			if t := ts.of[m.keyOf(named)]; t != nil {
				embedded[m.keyOf(o)] = &target{new: t.new, row: t.row, objects: []types.Object{o}, pkg: p}
			}
		}
	})
	for k, t := range embedded {
		ts.of[k] = t
	}
	return ts.linkMethods(m)
}

// typeNameOf is the name of a type or of what it points to.
func typeNameOf(t types.Type) *types.TypeName {
	if p, ok := t.(*types.Pointer); ok {
		t = p.Elem()
	}
	switch t := t.(type) {
	case *types.Alias:
		return t.Obj()
	case *types.Named:
		return t.Origin().Obj()
	}
	return nil
}

// isMethod reports whether o is a method.
func isMethod(o types.Object) bool {
	f, ok := o.(*types.Func)
	return ok && f.Signature().Recv() != nil
}

func (ts *targets) linkMethods(m *module) error {
	names := map[string]bool{}
	for k, t := range ts.of {
		if isMethod(t.objects[0]) {
			names[k.name] = true
		}
	}
	index := m.typeIndex()
	for name := range names {
		pairs := m.implementations(index, name)
		for changed := true; changed; {
			changed = false
			for _, pair := range pairs {
				a, b := ts.of[m.keyOf(pair[0])], ts.of[m.keyOf(pair[1])]
				switch {
				case a == nil && b == nil || a != nil && b != nil && a.new == b.new:
				case a != nil && b != nil:
					return fmt.Errorf("%s and %s: %s implements %s, but they are renamed to %s and %s", a.row.at, b.row.at, m.position(pair[0].Pos()), m.position(pair[1].Pos()), a.new, b.new)
				case a == nil:
					changed = true
					ts.of[m.keyOf(pair[0])] = &target{new: b.new, row: b.row, objects: []types.Object{pair[0]}}
				default:
					changed = true
					ts.of[m.keyOf(pair[1])] = &target{new: a.new, row: a.row, objects: []types.Object{pair[1]}}
				}
			}
		}
	}
	return ts.foreign(m)
}

// typeIndex are the types of the tree, and its interfaces, by the names of their methods.
type typeIndex struct {
	all        map[string][]types.Type
	interfaces map[string][]*types.Interface
}

func (m *module) typeIndex() typeIndex {
	x := typeIndex{map[string][]types.Type{}, map[string][]*types.Interface{}}
	for _, p := range m.packages {
		for _, o := range p.TypesInfo.Defs {
			if n, ok := o.(*types.TypeName); ok && o.Pkg() == p.Types && !n.IsAlias() {
				for s := range methodSet(n.Type()).Methods() {
					x.all[s.Obj().Name()] = append(x.all[s.Obj().Name()], n.Type())
				}
			}
		}
		for e, tv := range p.TypesInfo.Types {
			if _, ok := e.(*ast.InterfaceType); !ok {
				continue
			}
			if i, ok := tv.Type.(*types.Interface); ok {
				for method := range i.Methods() {
					x.interfaces[method.Name()] = append(x.interfaces[method.Name()], i)
				}
			}
		}
	}
	return x
}

// implementations are the pairs of methods with this name of which one implements the other.
func (m *module) implementations(x typeIndex, name string) [][2]types.Object {
	var pairs [][2]types.Object
	for _, t := range x.all[name] {
		for _, i := range x.interfaces[name] {
			if types.Implements(t, i) || types.Implements(types.NewPointer(t), i) {
				a, b := has(t, name), has(i, name)
				if a != nil && b != nil && m.keyOf(a) != m.keyOf(b) {
					pairs = append(pairs, [2]types.Object{a, b})
				}
			}
		}
	}
	return pairs
}

// methodSet are the methods of t, or of a pointer to it.
func methodSet(t types.Type) *types.MethodSet {
	if _, ok := t.Underlying().(*types.Interface); !ok {
		t = types.NewPointer(t)
	}
	return types.NewMethodSet(t)
}

// has is the method of t, or of a pointer to it, with the name, wherever it is declared.
func has(t types.Type, name string) types.Object {
	for s := range methodSet(t).Methods() {
		if s.Obj().Name() == name {
			return s.Obj()
		}
	}
	return nil
}

// foreign refuses to rename a method by which a type implements an interface of another module.
func (ts *targets) foreign(m *module) error {
	outside := map[string][]*types.Interface{}
	seen := map[*types.Package]bool{}
	var visit func(p *types.Package)
	visit = func(p *types.Package) {
		for _, i := range p.Imports() {
			if seen[i] {
				continue
			}
			seen[i] = true
			if len(i.Path()) < len(m.path) || i.Path()[:len(m.path)] != m.path {
				for _, name := range i.Scope().Names() {
					n, ok := i.Scope().Lookup(name).(*types.TypeName)
					if !ok || !n.Exported() {
						continue
					}
					if face, ok := n.Type().Underlying().(*types.Interface); ok && face.NumMethods() > 0 && face.NumMethods() < 12 {
						for method := range face.Methods() {
							outside[method.Name()] = append(outside[method.Name()], face)
						}
					}
				}
			}
			visit(i)
		}
	}
	needed := false
	for k, t := range ts.of {
		needed = needed || isMethod(t.objects[0]) && ast.IsExported(k.name)
	}
	if !needed {
		return nil
	}
	for _, p := range m.packages {
		visit(p.Types)
	}
	for k, t := range ts.of {
		o := t.objects[0]
		if !isMethod(o) || !o.Exported() {
			continue
		}
		recv := o.(*types.Func).Signature().Recv().Type()
		for _, face := range outside[k.name] {
			if types.Implements(recv, face) {
				return fmt.Errorf("%s: %s:%d: %s implements an interface of another module", t.row.at, k.file, k.line, k.name)
			}
		}
	}
	return nil
}
