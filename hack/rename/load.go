package main

import (
	"errors"
	"fmt"
	"go/ast"
	"go/token"
	"go/types"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"golang.org/x/tools/go/packages"
)

// module is every package of the tree, type-checked with its tests.
type module struct {
	dir, path string
	fset      *token.FileSet
	packages  []*packages.Package
	// paths are the relative paths of files, each found once.
	paths map[string]string
}

// key names an object in the same way in every variant of its package that the type checker
// makes: the package itself, with its tests, and as tests of other packages see it.
type key struct {
	file string
	line int
	name string
	kind string
}

const tags = "e2e"

func load(dir string) (*module, error) {
	m := &module{dir: dir, fset: token.NewFileSet(), paths: map[string]string{}}
	gomod, err := os.ReadFile(filepath.Join(dir, "go.mod"))
	if err != nil {
		return nil, err
	}
	m.path = regexp.MustCompile(`(?m)^module (\S+)`).FindStringSubmatch(string(gomod))[1]
	if err := m.add(tags, "./..."); err != nil {
		return nil, err
	}
	// Files behind other build tags are loaded with these.
	others, err := otherTags(dir)
	if err != nil {
		return nil, err
	}
	for tag, dirs := range others {
		if err := m.add(tags+","+tag, dirs...); err != nil {
			return nil, err
		}
	}
	return m, nil
}

func (m *module) add(tags string, patterns ...string) error {
	mode := packages.NeedName | packages.NeedFiles | packages.NeedCompiledGoFiles | packages.NeedImports | packages.NeedTypes |
		packages.NeedSyntax | packages.NeedTypesInfo | packages.NeedModule | packages.NeedForTest
	config := &packages.Config{Dir: m.dir, Mode: mode, Fset: m.fset, Tests: true,
		Env: append(os.Environ(), "GOOS=linux"), BuildFlags: []string{"-tags=" + tags}}
	loaded, err := packages.Load(config, patterns...)
	if err != nil {
		return err
	}
	var problems []error
	for _, p := range loaded {
		if strings.HasSuffix(p.ID, ".test") {
			continue // the main package that go test makes
		}
		for _, e := range p.Errors {
			problems = append(problems, e)
		}
		m.packages = append(m.packages, p)
	}
	return errors.Join(problems...)
}

var custom = regexp.MustCompile(`(?m)^//go:build (\w+)$`)

// otherTags are the build tags of this tree beside those always set, and the packages with them.
func otherTags(dir string) (map[string][]string, error) {
	found := map[string][]string{}
	files, err := tracked(dir)
	if err != nil {
		return nil, err
	}
	for _, file := range files {
		if !strings.HasSuffix(file, ".go") {
			continue
		}
		content, err := os.ReadFile(filepath.Join(dir, file))
		if err != nil {
			return nil, err
		}
		if m := custom.FindSubmatch(content); m != nil && string(m[1]) != tags && string(m[1]) != "linux" && string(m[1]) != "race" {
			pattern := "./" + filepath.Dir(file)
			if tag := string(m[1]); !slices.Contains(found[tag], pattern) {
				found[tag] = append(found[tag], pattern)
			}
		}
	}
	return found, nil
}

// relative is the path of a file below the module's directory.
func (m *module) relative(file string) string {
	if rel, ok := m.paths[file]; ok {
		return rel
	}
	rel, err := filepath.Rel(m.dir, file)
	if err != nil {
		rel = file
	}
	m.paths[file] = rel
	return rel
}

// dirOf is the directory of a package, relative.
func (m *module) dirOf(p *packages.Package) string {
	if len(p.GoFiles) == 0 {
		return ""
	}
	return m.relative(filepath.Dir(p.GoFiles[0]))
}

func (m *module) position(pos token.Pos) token.Position {
	at := m.fset.Position(pos)
	at.Filename = m.relative(at.Filename)
	return at
}

func (m *module) keyOf(o types.Object) key {
	at := m.position(o.Pos())
	return key{at.Filename, at.Line, o.Name(), kindOf(o)}
}

func kindOf(o types.Object) string {
	switch o := o.(type) {
	case *types.TypeName:
		return "type"
	case *types.Func:
		return "func"
	case *types.Const:
		return "const"
	case *types.PkgName:
		return "package"
	case *types.Var:
		if o.IsField() {
			return "field"
		}
		return "var"
	}
	return fmt.Sprintf("%T", o)
}

// identifiers calls f for each identifier of the tree that stands for an object.
func (m *module) identifiers(f func(p *packages.Package, id *ast.Ident, o types.Object)) {
	for _, p := range m.packages {
		for id, o := range p.TypesInfo.Defs {
			if o != nil {
				f(p, id, o)
			}
		}
		for id, o := range p.TypesInfo.Uses {
			f(p, id, o)
		}
	}
}
