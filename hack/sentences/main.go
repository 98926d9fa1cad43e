// Sentences prints those of Markdown files that are hard to read, with the reason, and fails if
// there are any; hack/prose runs it.
package main

import (
	"fmt"
	"os"
	"strings"

	"baremetal.cloud/ccm/internal/prose"
)

func main() {
	bad := 0
	for _, path := range os.Args[1:] {
		text, err := os.ReadFile(path)
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		for _, s := range prose.Sentences(string(text)) {
			if complaints := prose.Check(s.Text); len(complaints) > 0 {
				fmt.Printf("%s:%d: %s: %s\n", path, s.Line, strings.Join(complaints, ", "), s.Text)
				bad++
			}
		}
	}
	if bad > 0 {
		fmt.Fprintf(os.Stderr, "%d sentences are hard to read\n", bad)
		os.Exit(1)
	}
}
