package main

import (
	"fmt"
	"os"
	"strings"
)

// What is between these lines of the document is made here.
const (
	begins = "<!-- made by `make bench QUOTE=yes`; do not edit -->\n"
	ends   = "<!-- end of what is made -->\n"
)

// rewrite replaces the tables of a document.
func rewrite(path, text string) error {
	data, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	changed, err := replace(string(data), text)
	if err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	return os.WriteFile(path, []byte(changed), 0o644)
}

// replace puts text between the marks of a page.
func replace(page, text string) (string, error) {
	before, rest, found := strings.Cut(page, begins)
	_, after, closed := strings.Cut(rest, ends)
	if !found || !closed {
		return "", fmt.Errorf("it has no lines %q and %q", strings.TrimSpace(begins), strings.TrimSpace(ends))
	}
	return before + begins + "\n" + text + "\n" + ends + after, nil
}
