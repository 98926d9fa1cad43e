package reason

import (
	"strings"
	"unicode/utf8"
)

const (
	// MaxQuote bounds, in bytes, a text of another party that a message repeats: an
	// annotation's value, a field of a token, what a router or an API server answered.
	MaxQuote = 256
	// MaxMessage bounds a whole message, in bytes, as the Kubernetes API bounds an Event's.
	MaxMessage = 1024

	ellipsis = "…"
)

// Quote returns another party's text as a message may repeat it: valid UTF-8 of at most
// MaxQuote bytes. An ellipsis stands for what was left out.
func Quote(text string) string { return clipText(text, MaxQuote) }

// Message returns a message of at most MaxMessage bytes. What was found is clipped; the
// cure, which says what to do, never is.
func Message(found, cure string) string {
	if cure == "" {
		return clipText(found, MaxMessage)
	}
	const separator = "; "
	return clipText(found, max(MaxMessage-len(separator)-len(cure), len(ellipsis))) + separator + cure
}

func clipText(text string, limit int) string {
	cut := len(text) > limit
	if cut {
		text = text[:limit] // before the text is looked at, which may be large
	}
	text = strings.ToValidUTF8(text, "\uFFFD")
	if !cut && len(text) <= limit {
		return text
	}
	end := min(limit-len(ellipsis), len(text))
	for end > 0 && end < len(text) && !utf8.RuneStart(text[end]) {
		end--
	}
	return text[:end] + ellipsis
}
