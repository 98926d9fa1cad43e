// Advisories reads what govulncheck -format json found on its standard input, and fails for
// each advisory that docs/security.md does not accept; make vuln runs it.
package main

import (
	"fmt"
	"os"
	"regexp"

	"baremetal.cloud/ccm/internal/advisories"
)

func main() { os.Exit(run()) }

// imageGo finds the version of Go in the Dockerfile.
var imageGo = regexp.MustCompile(`golang:(\d+\.\d+\.\d+) AS build`)

func run() int {
	security, err := os.ReadFile("docs/security.md")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	dockerfile, err := os.ReadFile("Dockerfile")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	image := imageGo.FindSubmatch(dockerfile)
	if image == nil {
		fmt.Fprintln(os.Stderr, "Dockerfile: no line FROM golang:VERSION AS build")
		return 1
	}
	found, err := advisories.Read(os.Stdin)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	accepted := advisories.Table(string(security))
	wrong, notes := advisories.Judge(found, accepted, "go"+string(image[1]))
	for _, n := range notes {
		fmt.Println("note:", n)
	}
	for _, w := range wrong {
		fmt.Fprintln(os.Stderr, w)
	}
	if len(wrong) > 0 {
		return 1
	}
	fmt.Printf("no advisory but the %d that docs/security.md accepts\n", len(accepted))
	return 0
}
