// Measure prints the figures of package measure for the directory that it is given; hack/house runs it.
package main

import (
	"fmt"
	"os"

	"baremetal.cloud/ccm/internal/measure"
)

func main() {
	dir := "."
	if len(os.Args) > 1 {
		dir = os.Args[1]
	}
	table, err := measure.Table(dir)
	if err != nil {
		fmt.Fprintln(os.Stderr, "measure:", err)
		os.Exit(1)
	}
	fmt.Printf("%-60s %12s  %s\n", "FIGURE", "VALUE", "GOAL")
	for _, f := range table {
		fmt.Printf("%-60s %12s  %s\n", f.Name, f.Value, f.Goal)
		for _, d := range f.Details {
			fmt.Println("    " + d)
		}
	}
}
