package guard

import (
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
)

// plainWords are what comments of the product do not say, and what they say in its place: a reader who
// asks which of node, peer, caller or Service is meant finds it in the sentence.
var plainWords = []struct {
	find    *regexp.Regexp
	instead string
}{
	{regexp.MustCompile(`(?i)\b(nobody|no one|anybody|anyone|somebody|someone)\b`), "name what it is: no node, any caller, a peer"},
	{regexp.MustCompile(`(?i)\b(who|whoever|whom)\b`), "name what it is: the node that, each caller that"},
	{regexp.MustCompile(`(?i)\bsays that\b`), "write reports whether, or what the thing means"},
	{regexp.MustCompile(`(?i)\bis to be\b`), "write the imperative, or is"},
	{regexp.MustCompile(`(?i)\bany more\b`), "write no longer"},
	{regexp.MustCompile(`(?i)\bis told\b`), "say what is sent, and to what"},
	{regexp.MustCompile(`(?i)\bgoes without\b`), "write does not have"},
}

// Comments of the product name the noun.
func TestCommentsArePlain(t *testing.T) {
	for _, s := range sources(t) {
		if s.test || s.made || !under(s.dir, "pkg") && !under(s.dir, "cmd") {
			continue
		}
		for _, group := range s.syntax.Comments {
			for _, comment := range group.List {
				text := strings.Join(strings.Fields(comment.Text), " ")
				for _, word := range plainWords {
					if found := word.find.FindString(text); found != "" {
						assert.Fail(t, "a comment says "+found, "%s: %s", s.at(comment), word.instead)
					}
				}
			}
		}
	}
}
