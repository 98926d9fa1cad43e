package config

import (
	"bytes"
	"errors"
	"io"
	"regexp"
	"sort"
	"strconv"
	"strings"
	"unicode/utf8"

	"gopkg.in/yaml.v3"
)

// yamlLine is the line in the library's message. It is that of the construct around the
// mistake, or of the mistake, and of both one too low where the parser and not the scanner
// found it. It is used only for where something that is not closed was opened.
var yamlLine = regexp.MustCompile(`^line (\d+): `)

// complaint returns what the library says of data, without a line; "" where it is YAML.
func complaint(data []byte) string {
	decoder := yaml.NewDecoder(bytes.NewReader(data))
	for range 2 { // as parseYAML does
		var document yaml.Node
		err := decoder.Decode(&document)
		if errors.Is(err, io.EOF) {
			return ""
		}
		if err != nil {
			return yamlLine.ReplaceAllString(strings.TrimPrefix(err.Error(), "yaml: "), "")
		}
	}
	return ""
}

// maxExact is how much text in all is read again, once for each character of a line, to find
// the column.
const maxExact = 4 << 20

// syntaxProblem says where data, of which the library returned err, is not YAML: at the end of
// the shortest beginning of data that it says the same of.
func syntaxProblem(data []byte, err error) *Problem {
	message := yamlLine.ReplaceAllString(strings.TrimPrefix(err.Error(), "yaml: "), "")
	ends := lineEnds(data)
	line := max(1, sort.Search(len(ends)-1, func(n int) bool { return complaint(data[:ends[n]]) == message }))
	begin, end := ends[line-1], ends[min(line, len(ends)-1)]
	text := strings.TrimRight(string(data[begin:end]), breaks)
	p := &Problem{Line: line, Column: firstWord(text), Message: "not YAML: " + message}
	if aboutIndentation := strings.HasPrefix(message, "did not find expected key") || strings.Contains(message, "'-' indicator"); !aboutIndentation && end*len(text) < maxExact {
		for i, r := range text {
			if complaint(data[:begin+i+utf8.RuneLen(r)]) == message {
				p.Column = utf8.RuneCountInString(text[:opened(message, text[:i])]) + 1
				break
			}
		}
	}
	if at := unclosed(err, message, data, ends); at != nil && at.Line < line {
		p.Line, p.Column, text = at.Line, at.Column, at.Source
	}
	explain(p, message, text)
	return p
}

// unclosed returns where the list or mapping begins that err says is not closed, or nil.
func unclosed(err error, message string, data []byte, ends []int) *Problem {
	m := yamlLine.FindStringSubmatch(strings.TrimPrefix(err.Error(), "yaml: "))
	if m == nil {
		return nil
	}
	line, _ := strconv.Atoi(m[1]) // digits by the expression
	if line++; line >= len(ends) {
		return nil
	}
	text := strings.TrimRight(string(data[ends[line-1]:ends[line]]), breaks)
	i := opened(message, text)
	if i == len(text) {
		return nil
	}
	return &Problem{Line: line, Column: utf8.RuneCountInString(text[:i]) + 1, Source: text}
}

// opened returns where in a line, of which before is what stands before the mistake, the list or
// mapping begins that is not closed; the end of before where the message is about neither.
func opened(message, before string) int {
	for bracket, closing := range map[string]string{"[": "or ']'", "{": "or '}'"} {
		if i := strings.LastIndex(before, bracket); i >= 0 && strings.HasSuffix(message, closing) {
			return i
		}
	}
	return len(before)
}

// firstWord returns the column of the first character of a line that is not blank.
func firstWord(line string) int {
	return utf8.RuneCountInString(line) - utf8.RuneCountInString(strings.TrimLeft(line, " ")) + 1
}

// cures are by what the library's message begins with.
var cures = []struct{ message, cure string }{
	{"mapping values are not allowed", "begin the line in the same column as the key above it, or put a text that contains ': ' in quotes"},
	{"did not find expected key", "begin it in the same column as the keys of the mapping that it belongs to"},
	{"did not find expected '-' indicator", "begin it in the same column as the entries of the list that it belongs to"},
	{"block sequence entries are not allowed", "begin a list on a line of its own, below its key"},
	{"did not find expected ',' or ']'", "close the list with ], and separate its entries by commas"},
	{"did not find expected ',' or '}'", "close the mapping with }, and separate its keys by commas"},
	{"did not find expected node content", "close what was opened by [ or {, or put the text in quotes"},
	{"found unexpected end of stream", "close the quote that was opened here"},
	{"could not find expected ':'", "write KEY: VALUE, with a space after the colon"},
	{"found unknown escape character", "write \\\\ for a backslash, or put the text in single quotes"},
	{"found character that cannot start any token", "put the text in quotes"},
	{"unknown anchor", "anchors and aliases are not allowed; write the value out, or put the text in quotes"},
}

// explain gives p, which is in text, the cure for the library's message.
func explain(p *Problem, message, text string) {
	before := string([]rune(text)[:min(p.Column, utf8.RuneCountInString(text))])
	if strings.TrimLeft(before, " \t") == "" && strings.Contains(before, "\t") {
		p.Message, p.Cure = "a tab is in front of the first word of this line", "YAML takes spaces only; replace each tab by two spaces"
		p.Column = strings.IndexByte(text, '\t') + 1
		return
	}
	for _, c := range cures {
		if strings.HasPrefix(message, c.message) {
			p.Cure = c.cure
			return
		}
	}
}
