package main

import (
	"regexp"
	"strings"
)

var (
	// naming is the beginning of a declaration's comment: the names, and what it says of them.
	naming = regexp.MustCompile(`^(//\s+(?:\w+(?:\.\w+)?)(?:(?:, | and | or |, and )\w+)*) (says?) that\b`)
	saying = regexp.MustCompile(`\b(says|say) that\b`)
	// wrapped is the same with the second word on the next line.
	wrapped = regexp.MustCompile(`(//.*)\b(says|say)(\n\s*// )that\b`)
	// meaning are names of values that stand for a fact, and do not tell whether it is so.
	meaning = regexp.MustCompile(`^//\s+(Err|err|Cause|cause|flag|event|Tick\b|Left\b|NodeConnected|NodeDisconnected|[A-Z]\w*Error\b|\w+Error\b)`)
)

// plainSays has the comments of the product tell in plain words what a value is for: a boolean reports
// whether something is so, an error means that it is, and a node reports that it is.
func plainSays(file string, content []byte) []byte {
	if strings.HasSuffix(file, "_test.go") || !strings.HasPrefix(file, "pkg/") && !strings.HasPrefix(file, "cmd/") || strings.HasSuffix(file, ".pb.go") {
		return content
	}
	verbs := map[string]string{"says": "reports", "say": "report"}
	content = wrapped.ReplaceAllFunc(content, func(found []byte) []byte {
		m := wrapped.FindSubmatch(found)
		that := "that"
		if naming.MatchString(string(m[1]) + string(m[2]) + " that") {
			that = "whether"
		}
		return []byte(string(m[1]) + verbs[string(m[2])] + string(m[3]) + that)
	})
	return proseOf(content, func(text []byte) []byte {
		if len(text) < 2 || text[0] != '/' {
			return text
		}
		inReasons := strings.HasPrefix(file, "pkg/reason/")
		if m := naming.FindSubmatch(text); m != nil {
			plural := string(m[2]) == "say"
			verb := " reports whether"
			switch {
			case (inReasons || meaning.Match(text)) && plural:
				verb = " mean that"
			case inReasons || meaning.Match(text):
				verb = " means that"
			case plural:
				verb = " report whether"
			}
			text = []byte(string(m[1]) + verb + string(text[len(m[0]):]))
		}
		return saying.ReplaceAllFunc(text, func(found []byte) []byte {
			return []byte(verbs[strings.TrimSuffix(string(found), " that")] + " that")
		})
	})
}
