package prose

import (
	"regexp"
	"strings"
)

// Sentence is one of a Markdown document.
type Sentence struct {
	// Line is the line that it begins on, counted from 1.
	Line int
	// Text has one space between two words; code is one word, of links the text is left.
	Text string
}

// block is a paragraph, an item of a list, a heading or a cell of a table.
type block struct {
	lines []string
	first int
}

// Sentences returns those of a Markdown document, without code blocks.
func Sentences(markdown string) []Sentence {
	var all []Sentence
	for _, b := range blocks(markdown) {
		all = append(all, b.sentences()...)
	}
	return all
}

var (
	// item begins a block of its own: an item of a list, a quotation.
	item = regexp.MustCompile(`^\s*([-*+>]|\d+\.)\s+`)
	rule = regexp.MustCompile(`^\s*\|?[\s:|-]+\|?\s*$`)
)

func blocks(markdown string) []block {
	var all []block
	open, fenced := false, false
	for i, line := range strings.Split(markdown, "\n") {
		trimmed := strings.TrimSpace(line)
		switch {
		case strings.HasPrefix(trimmed, "```"):
			fenced, open = !fenced, false
		case fenced:
		case trimmed == "", strings.HasPrefix(trimmed, "<"), rule.MatchString(line):
			open = false
		case strings.HasPrefix(trimmed, "|"):
			open = false
			for _, cell := range cells(trimmed) {
				all = append(all, block{[]string{cell}, i + 1})
			}
		case strings.HasPrefix(trimmed, "#"):
			open = false
			all = append(all, block{[]string{strings.TrimLeft(trimmed, "# ")}, i + 1})
		case item.MatchString(line) || !open:
			open = true
			all = append(all, block{[]string{item.ReplaceAllString(line, "")}, i + 1})
		default:
			last := &all[len(all)-1]
			last.lines = append(last.lines, line)
		}
	}
	return all
}

// cells returns the cells of a table's row; a bar in code or after a backslash divides none.
func cells(row string) []string {
	var out []string
	var cell strings.Builder
	code := false
	for i, r := range row {
		switch {
		case r == '`':
			code = !code
			cell.WriteRune(r)
		case r == '|' && !code && (i == 0 || row[i-1] != '\\'):
			out = append(out, cell.String())
			cell.Reset()
		default:
			cell.WriteRune(r)
		}
	}
	return append(out, cell.String())
}

var (
	inlineCode = regexp.MustCompile("`[^`]+`")
	linked     = regexp.MustCompile(`!?\[([^\]]*)\]\([^)]*\)`)
	emphasis   = regexp.MustCompile(`\*+([^*]+)\*+`)
	// end is the end of a sentence before another one.
	end = regexp.MustCompile(`[.!?]["')\]]*\s+(\S)`)
)

// code stands for what stands between backquotes.
const code = "{}"

// sentences cuts a block into its sentences.
func (b block) sentences() []Sentence {
	var text strings.Builder
	starts := []int{} // of the lines in text
	for _, line := range b.lines {
		starts = append(starts, text.Len())
		line = inlineCode.ReplaceAllString(line, code)
		line = linked.ReplaceAllString(line, "$1")
		text.WriteString(emphasis.ReplaceAllString(line, "$1") + "\n")
	}
	var out []Sentence
	from := 0
	add := func(to int) {
		if words := strings.Fields(text.String()[from:to]); len(words) > 0 {
			out = append(out, Sentence{b.first + lineAt(starts, from), strings.Join(words, " ")})
		}
		from = to
	}
	for _, m := range end.FindAllStringSubmatchIndex(text.String(), -1) {
		add(m[2])
	}
	add(text.Len())
	return out
}

// lineAt returns which of the lines that begin at starts the offset is in.
func lineAt(starts []int, offset int) int {
	line := 0
	for i, start := range starts {
		if start <= offset {
			line = i
		}
	}
	return line
}
