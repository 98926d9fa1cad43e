// Reasons prints docs/reasons.md; make generate runs it.
package main

import (
	"fmt"

	"baremetal.cloud/ccm/pkg/reason"
)

func main() { fmt.Print(reason.Markdown()) }
