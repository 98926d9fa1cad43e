package main

import (
	"fmt"
	"os"
	"strings"
)

// What is between one of the first lines and the last one is made here.
const (
	beginsSummary = "<!-- the summary is made by `make bench QUOTE=yes`; do not edit -->\n"
	begins        = "<!-- made by `make bench QUOTE=yes`; do not edit -->\n"
	ends          = "<!-- end of what is made -->\n"
)

// rewrite replaces the tables of a document.
func rewrite(path string, all []result) error {
	data, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	changed, err := quote(string(data), all)
	if err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	return os.WriteFile(path, []byte(changed), 0o644)
}

// quote replaces the tables of a page.
func quote(page string, all []result) (string, error) {
	page, err := replace(page, beginsSummary, summary(all))
	if err != nil {
		return "", err
	}
	return replace(page, begins, tables(all))
}

// replace puts text between the mark begins of a page and the next mark ends.
func replace(page, begins, text string) (string, error) {
	before, rest, found := strings.Cut(page, begins)
	_, after, closed := strings.Cut(rest, ends)
	if !found || !closed {
		return "", fmt.Errorf("it has no lines %q and %q", strings.TrimSpace(begins), strings.TrimSpace(ends))
	}
	return before + begins + "\n" + text + "\n" + ends + after, nil
}
