package config

import (
	"strings"
	"unicode/utf8"
)

const (
	// maxExcerpt bounds what is shown of a line, in characters, and excerptBefore how many of
	// them stand before the column.
	maxExcerpt    = 100
	excerptBefore = 60
	excerptIndent = "    "
)

// quoteLines puts the line of each problem into it.
func quoteLines(text []byte, problems []Problem) {
	var ends []int
	for i := range problems {
		if problems[i].Line == 0 {
			continue
		}
		if ends == nil {
			ends = lineEnds(text)
		}
		if n := problems[i].Line; n < len(ends) {
			problems[i].Source = strings.TrimRight(string(text[ends[n-1]:ends[n]]), breaks+" \t")
		}
	}
}

// breaks are what YAML takes for the end of a line (YAML 1.1 section 5.4).
const breaks = "\r\n\u0085\u2028\u2029"

// lineEnds returns where the lines of text end, after a 0.
func lineEnds(text []byte) []int {
	ends := []int{0}
	for i := 0; i < len(text); {
		r, size := utf8.DecodeRune(text[i:])
		i += size
		if r == '\r' && i < len(text) && text[i] == '\n' {
			continue // the end of the line is after both
		}
		if strings.ContainsRune(breaks, r) || i == len(text) {
			ends = append(ends, i)
		}
	}
	return ends
}

// excerpt returns a line with a caret below the column, which counts characters from 1; without
// a column there is no caret. Of a long line it returns what is near the column.
func excerpt(line string, column int) string {
	runes, cut := []rune(strings.ToValidUTF8(line, "\uFFFD")), ""
	for i, r := range runes {
		if r < ' ' && r != '\t' || r == 0x7f {
			runes[i] = '\uFFFD'
		}
	}
	if first := column - excerptBefore; len(runes) > maxExcerpt && first > 1 {
		first = min(first, len(runes)) // a column may be one behind the end
		runes, column, cut = runes[first-1:], column-first+1, "…"
	}
	if len(runes) > maxExcerpt {
		runes = append(runes[:maxExcerpt:maxExcerpt], '…')
	}
	out := excerptIndent + cut + string(runes)
	if column < 1 {
		return out
	}
	// The caret is as far to the right as tabs, which are kept, take the text.
	var pad strings.Builder
	for i := range column - 1 {
		if i < len(runes) && runes[i] == '\t' {
			pad.WriteByte('\t')
		} else {
			pad.WriteByte(' ')
		}
	}
	return out + "\n" + excerptIndent + strings.Repeat(" ", len([]rune(cut))) + pad.String() + "^"
}
