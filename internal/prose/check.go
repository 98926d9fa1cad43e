package prose

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
)

// MaxWords is how many words a sentence may have.
const MaxWords = 30

// Word is an expression that plain English avoids.
type Word struct {
	find *regexp.Regexp
	// Text is the expression, and Better what to write instead.
	Text, Better string
}

// Words is the list, for documents as for comments.
var Words = []Word{
	word(`says? that`, "says that", `"reports whether", or the thing itself`),
	word(`who(so)?ever`, "whoever", "the noun: node, peer, caller"),
	word(`nobody|no one`, "nobody", "no node, no peer, no caller"),
	word(`somebody|someone`, "somebody", "the noun: a user, a host"),
	word(`anybody|anyone`, "anybody", "the noun: any host, any user"),
	word(`(is|are) to be`, "is to be", "the imperative"),
	word(`any more|any longer`, "any more", `"no longer"`),
	word(`goes without|go without`, "goes without", `"has no"`),
	word(`(is|are|be|been|was|were) told`, "is told", "what is sent, and by which message"),
	word(`(has|have) \w+ \w*\s?decided`, "has … decided", `"marks … dirty"`),
}

func word(expression, text, better string) Word {
	return Word{regexp.MustCompile(`(?i)\b(` + expression + `)\b`), text, better}
}

// Find returns how often w stands in text.
func (w Word) Find(text string) int { return len(w.find.FindAllString(text, -1)) }

// Check returns what makes a sentence hard to read, or nothing.
func Check(text string) []string {
	var complaints []string
	if n := countWords(text); n > MaxWords {
		complaints = append(complaints, fmt.Sprintf("%d words", n))
	}
	if n := relatives(text); n >= 2 {
		complaints = append(complaints, fmt.Sprintf("%d relative clauses", n))
	}
	for _, w := range Words {
		if w.Find(text) > 0 {
			complaints = append(complaints, fmt.Sprintf("%q; better: %s", w.Text, w.Better))
		}
	}
	return complaints
}

// countWords does not count what is only punctuation.
func countWords(text string) int {
	n := 0
	for field := range strings.FieldsSeq(text) {
		if strings.ContainsFunc(field, isWordRune) || strings.Contains(field, code) {
			n++
		}
	}
	return n
}

func isWordRune(r rune) bool {
	return r >= '0' && r <= '9' || r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r > 0x7f && r != '…' && r != '–' && r != '→' && r != '≤'
}

var (
	// pronouns begin a relative clause wherever they stand, but for a question.
	pronouns = []string{"which", "who", "whom", "whose"}
	// noRelative are words after which "that" begins no relative clause: it is a conjunction after
	// them, or points at something.
	noRelative = []string{
		"about", "after", "and", "as", "at", "before", "but", "by", "check", "checks", "ensure", "except", "for", "from", "if", "in", "is", "know", "knows", "like", "made", "make", "mean",
		"means", "not", "of", "on", "only", "or", "over", "reports", "said", "say", "saying", "says", "see", "sees", "show", "shows", "so", "such", "than", "then", "to", "until", "was", "when", "with", "without",
	}
)

// relatives counts the relative clauses of a sentence that begin with a pronoun.
func relatives(text string) int {
	words := strings.Fields(strings.ToLower(text))
	n := 0
	for i, w := range words {
		w = strings.Trim(w, `.,;:!?()"'`)
		switch {
		case i == 0:
		case slices.Contains(pronouns, w):
			n++
		case w == "that" && beginsClause(words, i):
			n++
		}
	}
	return n
}

// beginsClause reports whether the "that" at words[i] follows a noun and something follows it.
func beginsClause(words []string, i int) bool {
	before := words[i-1]
	if strings.HasSuffix(before, ",") || strings.HasSuffix(before, ":") || strings.HasSuffix(before, ";") || slices.Contains(noRelative, before) {
		return false
	}
	return i+1 < len(words) && words[i+1] != "of" && !strings.HasSuffix(words[i], ".") && !strings.HasSuffix(words[i], ",")
}
