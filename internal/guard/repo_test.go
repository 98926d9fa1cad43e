package guard

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
)

// root is the top of the repository, and module the path of its Go module.
const (
	root   = "../.."
	module = "baremetal.cloud/ccm"
)

// source is one Go file of the main module, whatever its build tags.
type source struct {
	path    string // relative to root, with slashes
	dir     string
	test    bool
	made    bool // generated
	syntax  *ast.File
	fileSet *token.FileSet
}

// imports returns the import paths of s.
func (s source) imports() []string {
	var paths []string
	for _, spec := range s.syntax.Imports {
		path, _ := strconv.Unquote(spec.Path.Value) // the parser accepted it
		paths = append(paths, path)
	}
	return paths
}

// at renders the position of n as "path:line".
func (s source) at(n ast.Node) string {
	return s.path + ":" + strconv.Itoa(s.fileSet.Position(n.Pos()).Line)
}

// selector returns the names of n where it is an expression "a.b" on a package or variable.
func selector(n ast.Node) (left, right string) {
	e, ok := n.(*ast.SelectorExpr)
	if !ok {
		return "", ""
	}
	x, ok := e.X.(*ast.Ident)
	if !ok {
		return "", ""
	}
	return x.Name, e.Sel.Name
}

var loadSources = sync.OnceValues(func() ([]source, error) {
	var all []source
	err := walk(func(path string) error {
		if !strings.HasSuffix(path, ".go") {
			return nil
		}
		fileSet := token.NewFileSet()
		syntax, err := parser.ParseFile(fileSet, filepath.Join(root, path), nil, parser.ParseComments|parser.SkipObjectResolution)
		if err != nil {
			return err
		}
		all = append(all, source{
			path: path, dir: filepath.ToSlash(filepath.Dir(path)), test: strings.HasSuffix(path, "_test.go"),
			made: ast.IsGenerated(syntax), syntax: syntax, fileSet: fileSet,
		})
		return nil
	})
	return all, err
})

func sources(t *testing.T) []source {
	t.Helper()
	all, err := loadSources()
	require.NoError(t, err)
	require.NotEmpty(t, all)
	return all
}

// walk calls visit with every file that belongs to the repository, in order.
func walk(visit func(path string) error) error {
	return filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name := d.Name()
		if d.IsDir() && (name == ".git" || name == ".cache" || name == "testdata") {
			return filepath.SkipDir
		}
		if !d.Type().IsRegular() {
			return nil
		}
		relative, err := filepath.Rel(root, path)
		if err != nil {
			return err
		}
		return visit(filepath.ToSlash(relative))
	})
}

// files returns the files of the repository whose name ends in suffix.
func files(t *testing.T, suffix string) []string {
	t.Helper()
	var found []string
	require.NoError(t, walk(func(path string) error {
		if strings.HasSuffix(path, suffix) {
			found = append(found, path)
		}
		return nil
	}))
	return found
}

func read(t *testing.T, path string) string {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(root, path))
	require.NoError(t, err)
	return string(data)
}

// under reports whether path is dir or below it.
func under(path, dir string) bool { return path == dir || strings.HasPrefix(path, dir+"/") }
