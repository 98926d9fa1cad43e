package measure

import (
	"errors"
	"go/ast"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/tools/go/packages"
)

// patterns are the product: what is in the two programs, without the tests and their tools.
var patterns = []string{"./pkg/...", "./cmd/..."}

// load type-checks the product of the module in dir, without tests.
func load(dir string) ([]*packages.Package, error) {
	mode := packages.NeedName | packages.NeedFiles | packages.NeedSyntax | packages.NeedTypes | packages.NeedTypesInfo | packages.NeedImports
	loaded, err := packages.Load(&packages.Config{Dir: dir, Mode: mode}, patterns...)
	if err != nil {
		return nil, err
	}
	for _, p := range loaded {
		for _, e := range p.Errors {
			err = errors.Join(err, e)
		}
		p.Syntax = slices.DeleteFunc(p.Syntax, ast.IsGenerated)
	}
	loaded = slices.DeleteFunc(loaded, func(p *packages.Package) bool { return len(p.Syntax) == 0 })
	return loaded, err
}

// fileOf returns the base name of the file that n of p is in.
func fileOf(p *packages.Package, n ast.Node) string {
	return filepath.Base(p.Fset.Position(n.Pos()).Filename)
}

// short returns the path of p without its module.
func short(p *packages.Package) string {
	for _, top := range []string{"/pkg/", "/cmd/"} {
		if i := strings.Index(p.PkgPath, top); i >= 0 {
			return p.PkgPath[i+1:]
		}
	}
	return path.Base(p.PkgPath)
}
