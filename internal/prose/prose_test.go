package prose

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestSentences(t *testing.T) {
	const text = `# A heading

First one. It goes on
over two lines, with ` + "`code. And a dot`" + `, see [a page](b.md).
lower case begins too (in brackets.) "Quoted." Last

- item one
  and its end.
- item two

1. numbered

| Cell | ` + "`a|b`" + ` cell. Second |
|---|---|

` + "```sh\nnot this. Nor this.\n```" + `
<!-- nor this. -->
> quoted
`
	require.Equal(t, []Sentence{
		{1, "A heading"},
		{3, "First one."},
		{3, "It goes on over two lines, with {}, see a page."},
		{5, "lower case begins too (in brackets.)"},
		{5, `"Quoted."`},
		{5, "Last"},
		{7, "item one and its end."},
		{9, "item two"},
		{11, "numbered"},
		{13, "Cell"}, {13, "{} cell."}, {13, "Second"},
		{20, "quoted"},
	}, Sentences(text))
}

func TestCheck(t *testing.T) {
	thirty := strings.Repeat("word ", 29) + "word."
	require.Empty(t, Check(thirty))
	require.Equal(t, []string{"31 words"}, Check("one "+thirty))
	require.Empty(t, Check("one – "+thirty[5:]), "a dash is no word")
	require.Equal(t, []string{"31 words"}, Check("{}, "+thirty), "code is one")

	require.Empty(t, Check("A node that answers."))
	require.Equal(t, []string{"2 relative clauses"}, Check("A node that answers for an address that is free."))
	require.Equal(t, []string{"2 relative clauses"}, Check("The peer, which is gone, and whose address is free."))
	require.Equal(t, []string{"3 relative clauses"}, Check("A peer who sends what is read by one that knows which it was."))
	require.Empty(t, Check("It moves so that the node that left can end."))
	require.Empty(t, Check("Check that the address of that node is like that of a peer that left."))
	require.Empty(t, Check("Which node answers, and which one left?"), "a question has none at its beginning")

	for text, want := range map[string]string{
		"The flag says that it is on.":   `"says that"; better: "reports whether", or the thing itself`,
		"Whoever asks.":                  `"whoever"; better: the noun: node, peer, caller`,
		"No one answers.":                `"nobody"; better: no node, no peer, no caller`,
		"It is to be replaced.":          `"is to be"; better: the imperative`,
		"It is not there any longer.":    `"any more"; better: "no longer"`,
		"Nodes are told by a message.":   `"is told"; better: what is sent, and by which message`,
		"It has the address decided.":    `"has … decided"; better: "marks … dirty"`,
		"A listener goes without a log.": `"goes without"; better: "has no"`,
	} {
		require.Equal(t, []string{want}, Check(text))
	}
	require.Empty(t, Check("Anybodyelse"), "a part of another word")
}
