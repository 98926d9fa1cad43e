package main

import (
	"go/ast"
	"go/types"
	"path"
	"regexp"
	"strings"
	"unicode"

	"golang.org/x/tools/go/packages"
)

// comments renames what comments say of the targets: the name that a comment of a declaration
// begins with, names in which no reader sees another word, and pkg.Name and Type.name.
func comments(m *module, ts *targets, put func(string, edit)) {
	c := &commenter{m: m, ts: ts, put: put, byDir: map[string]map[string]string{}, types: map[string]map[string]string{}, dotted: map[string]string{}, done: map[string]bool{}}
	c.collect()
	for _, p := range m.packages {
		for _, f := range p.Syntax {
			file := m.position(f.Pos()).Filename
			if c.done[file] {
				continue
			}
			c.done[file] = true
			own := c.owners(p, f)
			for _, group := range f.Comments {
				for i, line := range group.List {
					var leading map[string]string
					if i == 0 {
						leading = own[group]
					}
					if group == f.Doc {
						c.packageDoc(file, f.Name.Name, line)
					}
					c.rewriteLine(file, m.dirOf(p), line, leading)
				}
			}
		}
	}
}

type commenter struct {
	m   *module
	ts  *targets
	put func(string, edit)
	// byDir are the names that stand out, by the directory of the package that they belong to.
	byDir map[string]map[string]string
	// types are the exported types, by the directory of their package: a comment may have their names
	// after an article.
	types map[string]map[string]string
	// dotted are the same for pkg.Name, in all files.
	dotted map[string]string
	done   map[string]bool
}

// documented are the renamed names that pages and scripts may have: those that no reader takes for a
// word, and that mean one thing in the whole tree.
func documented(m *module, ts *targets) map[string]string {
	names, several := map[string]string{}, map[string]bool{}
	m.identifiers(func(_ *packages.Package, _ *ast.Ident, o types.Object) {
		if !standsOut(o.Name()) || o.Pkg() == nil || !strings.HasPrefix(o.Pkg().Path(), m.path) {
			return
		}
		t := ts.of[m.keyOf(o)]
		switch {
		case t == nil, names[o.Name()] != "" && names[o.Name()] != t.new:
			several[o.Name()] = true
		default:
			names[o.Name()] = t.new
		}
	})
	for name := range several {
		delete(names, name)
	}
	return names
}

// standsOut reports whether a name cannot be an English word.
func standsOut(name string) bool {
	if len(name) < 2 {
		return false
	}
	return strings.ContainsFunc(name[1:], unicode.IsUpper) || strings.ContainsFunc(name, unicode.IsDigit)
}

func (c *commenter) collect() {
	staying := map[string]map[string]bool{}
	c.m.identifiers(func(p *packages.Package, id *ast.Ident, o types.Object) {
		dir := c.m.dirOf(p)
		t := c.ts.of[c.m.keyOf(o)]
		if t == nil {
			if o.Pkg() == p.Types {
				if staying[dir] == nil {
					staying[dir] = map[string]bool{}
				}
				staying[dir][o.Name()] = true
			}
			return
		}
		if o.Pkg() != p.Types || t.row.kind != kindObject {
			return
		}
		if c.byDir[dir] == nil {
			c.byDir[dir] = map[string]string{}
		}
		if _, ok := o.(*types.TypeName); ok && o.Exported() {
			if c.types[dir] == nil {
				c.types[dir] = map[string]string{}
			}
			c.types[dir][o.Name()] = t.new
		}
		if standsOut(o.Name()) {
			c.byDir[dir][o.Name()] = t.new
		}
		if f, ok := o.(*types.Func); ok && f.Signature().Recv() != nil {
			if recv := typeNameOf(f.Signature().Recv().Type()); recv != nil {
				c.byDir[dir][recv.Name()+"."+o.Name()] = c.typeNow(recv) + "." + t.new
			}
		}
		if o.Parent() == p.Types.Scope() && o.Exported() {
			name := p.Types.Name()
			if q := c.ts.qualifiers[p.Types.Path()]; q != "" {
				name = q
			}
			c.dotted[p.Types.Name()+"."+o.Name()] = name + "." + t.new
		}
	})
	for dir, names := range c.byDir {
		for name := range names {
			if staying[dir][name] {
				delete(names, name) // something else has that name too
			}
		}
	}
}

func (c *commenter) typeNow(n *types.TypeName) string {
	if t := c.ts.of[c.m.keyOf(n)]; t != nil {
		return t.new
	}
	return n.Name()
}

// owners are, for each comment of a declaration, the renames of the names that are declared there.
func (c *commenter) owners(p *packages.Package, f *ast.File) map[*ast.CommentGroup]map[string]string {
	own := map[*ast.CommentGroup]map[string]string{}
	add := func(id *ast.Ident, groups ...*ast.CommentGroup) {
		o := p.TypesInfo.Defs[id]
		if o == nil {
			return
		}
		t := c.ts.of[c.m.keyOf(o)]
		if t == nil {
			return
		}
		for _, group := range groups {
			if group == nil {
				continue
			}
			if own[group] == nil {
				own[group] = map[string]string{}
			}
			own[group][id.Name] = t.new
		}
	}
	var outer *ast.CommentGroup
	ast.Inspect(f, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.FuncDecl:
			add(n.Name, n.Doc)
		case *ast.GenDecl:
			outer = n.Doc
		case *ast.TypeSpec:
			add(n.Name, n.Doc, n.Comment, outer)
		case *ast.ValueSpec:
			for _, id := range n.Names {
				add(id, n.Doc, n.Comment, outer)
			}
		case *ast.Field:
			for _, id := range n.Names {
				add(id, n.Doc, n.Comment)
			}
		}
		return true
	})
	// The names of fields may stand together in the comment of the first.
	ast.Inspect(f, func(n ast.Node) bool {
		s, ok := n.(*ast.StructType)
		if !ok {
			return true
		}
		var last *ast.CommentGroup
		for _, field := range s.Fields.List {
			if field.Doc != nil {
				last = field.Doc
			}
			for _, id := range field.Names {
				add(id, last)
			}
		}
		return true
	})
	return own
}

var (
	beginning = regexp.MustCompile(`^(//\s*|/\*\s*)`)
	nextName  = regexp.MustCompile(`^(\w+)(,? and |,? or |, |)`)
	article   = regexp.MustCompile(`\b(the zero|the|a|an|another|each|every|this|its|new|newest|last|of) ([A-Z]\w*)\b(?:$|[^.\w]|\.(?:\W|$))`)
	names     = regexp.MustCompile(`\b[A-Za-z_]\w*(\.[A-Za-z_]\w*)*`)
)

func (c *commenter) rewriteLine(file, dir string, line *ast.Comment, leading map[string]string) {
	at := c.m.position(line.Pos()).Offset
	text := line.Text
	if strings.HasPrefix(text, "//go:") || strings.HasPrefix(text, "//nolint") {
		return
	}
	start := len(beginning.FindString(text))
	for len(leading) > 0 && start < len(text) {
		found := nextName.FindStringSubmatch(text[start:])
		if found == nil {
			break
		}
		if name := leading[found[1]]; name != "" {
			c.put(file, edit{at + start, at + start + len(found[1]), name})
		}
		start += len(found[0])
		if found[2] == "" {
			break
		}
	}
	for _, span := range article.FindAllStringSubmatchIndex(text[start:], -1) {
		word, from := text[start+span[4]:start+span[5]], at+start+span[4]
		name := c.types[dir][word]
		if name == "" || c.mention(dir, word) != "" {
			continue
		}
		c.put(file, edit{from, from + len(word), name})
		if text[start+span[2]:start+span[3]] == "an" && !strings.ContainsRune("AEIOU", rune(name[0])) {
			c.put(file, edit{at + start + span[2], at + start + span[3], "a"})
		}
	}
	for _, span := range names.FindAllStringIndex(text[start:], -1) {
		from, to := start+span[0], start+span[1]
		word := text[from:to]
		if name := c.mention(dir, word); name != "" {
			c.put(file, edit{at + from, at + to, name})
		}
	}
}

// packageDoc renames the package in its comment's first words.
func (c *commenter) packageDoc(file, old string, line *ast.Comment) {
	name := c.ts.qualifiers[c.m.path+"/"+path.Dir(file)]
	if at := strings.Index(line.Text, "Package "+old+" "); name != "" && at >= 0 {
		at += c.m.position(line.Pos()).Offset + len("Package ")
		c.put(file, edit{at, at + len(old), name})
	}
}

// mention is the new form of a name in a comment of the package in dir; "" where it stays.
func (c *commenter) mention(dir, word string) string {
	if name := c.byDir[dir][word]; name != "" {
		return name
	}
	if name := c.dotted[word]; name != "" {
		return name
	}
	left, rest, ok := strings.Cut(word, ".")
	if !ok || rest == "" {
		return ""
	}
	if first, more, ok := strings.Cut(rest, "."); ok {
		if name := c.dotted[left+"."+first]; name != "" {
			return name + "." + more
		}
	}
	// A qualifier: sight.Network of another package's comment.
	if unicode.IsUpper(rune(rest[0])) {
		for at, name := range c.ts.qualifiers {
			if path.Base(at) == left {
				return name + "." + rest
			}
		}
	}
	return ""
}
