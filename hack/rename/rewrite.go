package main

import (
	"bytes"
	"cmp"
	"fmt"
	"go/ast"
	"go/types"
	"os"
	"path/filepath"
	"slices"

	"golang.org/x/tools/go/packages"
)

// edit replaces a part of a file.
type edit struct {
	from, to int
	text     string
}

// rewrite returns the new content of each Go file in which identifiers or comments change, by path.
func rewrite(m *module, ts *targets) (map[string][]byte, error) {
	edits := map[string]map[edit]bool{}
	put := func(file string, e edit) {
		if edits[file] == nil {
			edits[file] = map[edit]bool{}
		}
		edits[file][e] = true
	}
	m.identifiers(func(p *packages.Package, id *ast.Ident, o types.Object) {
		name := ts.nameOf(m, p, id, o)
		if name == "" || id.Name == "_" {
			return
		}
		at := m.position(id.Pos())
		put(at.Filename, edit{at.Offset, at.Offset + len(id.Name), name})
		if v, ok := o.(*types.Var); ok && o.Pkg() == p.Types && !v.Embedded() && id.Name == o.Name() {
			// The variable of a type switch has no definition of its own.
			at := m.position(o.Pos())
			put(at.Filename, edit{at.Offset, at.Offset + len(id.Name), name})
		}
	})
	for _, p := range m.packages {
		for _, f := range p.Syntax {
			at := m.position(f.Name.Pos())
			dir := filepath.Dir(at.Filename)
			if name := ts.qualifiers[m.path+"/"+dir]; name != "" {
				text := name
				if f.Name.Name == filepath.Base(dir)+"_test" {
					text += "_test"
				}
				put(at.Filename, edit{at.Offset, at.Offset + len(f.Name.Name), text})
			}
		}
	}
	comments(m, ts, put)
	out := map[string][]byte{}
	for file, set := range edits {
		content, err := os.ReadFile(filepath.Join(m.dir, file))
		if err != nil {
			return nil, err
		}
		if out[file], err = replace(content, set); err != nil {
			return nil, fmt.Errorf("%s: %w", file, err)
		}
	}
	return out, nil
}

// nameOf is the new name of an identifier, "" where it stays.
func (ts *targets) nameOf(m *module, p *packages.Package, id *ast.Ident, o types.Object) string {
	if pkg, ok := o.(*types.PkgName); ok {
		name := ts.qualifiers[pkg.Imported().Path()]
		if name == "" || pkg.Name() != pkg.Imported().Name() || aliased(p, pkg) {
			return ""
		}
		return name
	}
	if t := ts.of[m.keyOf(o)]; t != nil && id.Name == o.Name() {
		return t.new
	}
	return ""
}

// aliased reports whether an import has a name of its own, although it is the package's.
func aliased(p *packages.Package, name *types.PkgName) bool {
	for id, o := range p.TypesInfo.Defs {
		if o == name && id != nil {
			return true
		}
	}
	return false
}

// replace applies edits to content.
func replace(content []byte, set map[edit]bool) ([]byte, error) {
	var edits []edit
	for e := range set {
		edits = append(edits, e)
	}
	slices.SortFunc(edits, func(a, b edit) int { return cmp.Or(cmp.Compare(a.from, b.from), cmp.Compare(a.to, b.to)) })
	var b bytes.Buffer
	last := 0
	for _, e := range edits {
		if e.from < last {
			return nil, fmt.Errorf("offset %d: two renames of one place", e.from)
		}
		b.Write(content[last:e.from])
		b.WriteString(e.text)
		last = e.to
	}
	b.Write(content[last:])
	return b.Bytes(), nil
}
