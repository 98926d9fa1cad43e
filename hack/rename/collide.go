package main

import (
	"errors"
	"fmt"
	"go/ast"
	"go/types"
	"slices"

	"golang.org/x/tools/go/packages"
)

// collisions reports every place where a new name would mean something else than before.
func collisions(m *module, ts *targets) error {
	c := &collider{m: m, ts: ts, said: map[string]bool{}, newNames: map[string]bool{}, born: map[*types.Scope]map[string]types.Object{}}
	for _, t := range ts.of {
		c.newNames[t.new] = true
	}
	for _, name := range ts.qualifiers {
		c.newNames[name] = true
	}
	m.identifiers(func(p *packages.Package, _ *ast.Ident, o types.Object) {
		if name := c.newName(o); name != "" && o.Parent() != nil {
			if c.born[o.Parent()] == nil {
				c.born[o.Parent()] = map[string]types.Object{}
			}
			if other := c.born[o.Parent()][name]; other != nil && m.keyOf(other) != m.keyOf(o) {
				c.fail(m.position(o.Pos()).String(), "%s and %s would both be %s", o.Name(), other.Name(), name)
			}
			c.born[o.Parent()][name] = o
		}
	})
	m.identifiers(c.use)
	c.members()
	slices.SortFunc(c.problems, func(a, b error) int {
		if a.Error() < b.Error() {
			return -1
		}
		return 1
	})
	return errors.Join(c.problems...)
}

type collider struct {
	m        *module
	ts       *targets
	newNames map[string]bool
	// born are the objects of a scope under their new names.
	born     map[*types.Scope]map[string]types.Object
	said     map[string]bool
	problems []error
}

func (c *collider) fail(at, format string, args ...any) {
	text := at + ": " + fmt.Sprintf(format, args...)
	if !c.said[text] {
		c.said[text] = true
		c.problems = append(c.problems, errors.New(text))
	}
}

// newName is what o is renamed to; "" if it is not.
func (c *collider) newName(o types.Object) string {
	if p, ok := o.(*types.PkgName); ok {
		if name := c.ts.qualifiers[p.Imported().Path()]; name != "" && p.Name() == p.Imported().Name() {
			return name
		}
		return ""
	}
	if t := c.ts.of[c.m.keyOf(o)]; t != nil {
		return t.new
	}
	return ""
}

// use checks one identifier that is found by its scope: what it will be called must lead to the
// same object, and what it is called now must not lead to an object that gets this name.
func (c *collider) use(p *packages.Package, id *ast.Ident, o types.Object) {
	if o.Parent() == nil || o.Parent() == types.Universe || o.Pkg() != p.Types && !isPkgName(o) {
		c.captured(p, id, o)
		return
	}
	name := c.newName(o)
	if name == "" {
		c.captured(p, id, o)
		return
	}
	for scope := p.Types.Scope().Innermost(id.Pos()); scope != nil; scope = scope.Parent() {
		other := scope.Lookup(name)
		if other != nil && c.newName(other) == "" && other != o && (scope == o.Parent() || other.Pos() < id.Pos() || scope == p.Types.Scope()) {
			c.fail(c.m.position(id.Pos()).String(), "%s cannot become %s: that is %s at %s (%s)", o.Name(), name, kindOf(other), c.m.position(other.Pos()), c.row(o))
		}
		if other := c.born[scope][name]; other != nil && c.m.keyOf(other) != c.m.keyOf(o) {
			c.fail(c.m.position(id.Pos()).String(), "%s cannot become %s: so does %s at %s", o.Name(), name, other.Name(), c.m.position(other.Pos()))
		}
		if scope == o.Parent() {
			return
		}
	}
}

func (c *collider) row(o types.Object) string {
	if t := c.ts.of[c.m.keyOf(o)]; t != nil {
		return t.row.at
	}
	return "a package"
}

func isPkgName(o types.Object) bool {
	_, ok := o.(*types.PkgName)
	return ok
}

// captured checks an identifier that keeps its name: none that gets it may come between.
func (c *collider) captured(p *packages.Package, id *ast.Ident, o types.Object) {
	if !c.newNames[id.Name] || o.Parent() == nil || c.newName(o) != "" {
		return
	}
	if o.Parent() != types.Universe && o.Pkg() != p.Types && !isPkgName(o) {
		return // qualified
	}
	for scope := p.Types.Scope().Innermost(id.Pos()); scope != nil && scope != o.Parent(); scope = scope.Parent() {
		if other := c.born[scope][id.Name]; other != nil && (other.Pos() < id.Pos() || scope == p.Types.Scope()) {
			c.fail(c.m.position(id.Pos()).String(), "%s would be %s of %s, which is renamed (%s)", id.Name, kindOf(other), c.m.position(other.Pos()), c.row(other))
		}
	}
}

// members checks the fields and methods of each type.
func (c *collider) members() {
	for _, p := range c.m.packages {
		for _, o := range p.TypesInfo.Defs {
			n, ok := o.(*types.TypeName)
			if !ok {
				continue
			}
			names := map[string]types.Object{}
			for _, member := range membersOf(n.Type()) {
				name := member.Name()
				if renamed := c.newName(member); renamed != "" {
					name = renamed
				}
				if other := names[name]; other != nil && c.m.keyOf(other) != c.m.keyOf(member) {
					c.fail(c.m.position(member.Pos()).String(), "%s and %s of %s would both be %s", member.Name(), other.Name(), n.Name(), name)
				}
				names[name] = member
			}
		}
	}
}

func membersOf(t types.Type) []types.Object {
	var all []types.Object
	if named, ok := types.Unalias(t).(*types.Named); ok {
		for method := range named.Methods() {
			all = append(all, method)
		}
	}
	switch under := t.Underlying().(type) {
	case *types.Struct:
		for field := range under.Fields() {
			if field.Name() != "_" {
				all = append(all, field)
			}
		}
	case *types.Interface:
		for method := range under.ExplicitMethods() {
			all = append(all, method)
		}
	}
	return all
}
