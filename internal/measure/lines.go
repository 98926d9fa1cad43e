package measure

import (
	"go/scanner"
	"go/token"
	"os"

	"golang.org/x/tools/go/packages"
)

// lines is how long files are.
type lines struct {
	all  int
	code int // without blank lines and those that hold only comments
}

func (l *lines) add(other lines) {
	l.all += other.all
	l.code += other.code
}

// linesOf returns how long p is, file by file.
func linesOf(p *packages.Package) (map[string]lines, error) {
	sizes := map[string]lines{}
	for _, f := range p.Syntax {
		file := p.Fset.File(f.Pos())
		text, err := os.ReadFile(file.Name())
		if err != nil {
			return nil, err
		}
		sizes[fileOf(p, f)] = lines{all: file.LineCount(), code: countCode(text)}
	}
	return sizes, nil
}

// countCode returns how many lines of text have a token on them.
func countCode(text []byte) int {
	set := token.NewFileSet()
	file := set.AddFile("", -1, len(text))
	var s scanner.Scanner
	s.Init(file, text, nil, 0)
	with := map[int]bool{}
	for {
		at, kind, literal := s.Scan()
		if kind == token.EOF {
			return len(with)
		}
		if kind == token.SEMICOLON && literal == "\n" {
			continue
		}
		first := file.Line(at)
		for line := first; line <= file.Line(at+token.Pos(len(literal))); line++ {
			with[line] = true
		}
	}
}
