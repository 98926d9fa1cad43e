// Command chartschema prints deploy/helm/baremetal-ccm/values.schema.json.
package main

import (
	"fmt"
	"os"

	"baremetal.cloud/ccm/internal/chart"
)

func main() {
	text, err := chart.Schema()
	if err == nil {
		_, err = os.Stdout.Write(text)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "chartschema:", err)
		os.Exit(1)
	}
}
