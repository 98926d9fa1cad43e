package main

import (
	"fmt"
	"io"
	"math/big"
	"strings"

	"baremetal.cloud/ccm/pkg/cloud/cloudconfig"
)

// validateConfig prints what the cloud-config in path holds. Its error is what is wrong.
func validateConfig(out io.Writer, path string) error {
	config, warnings, err := cloudconfig.Load(path)
	if err != nil {
		return fmt.Errorf("the cloud-config is refused:\n%w", err)
	}
	for _, warning := range warnings {
		fmt.Fprintln(out, "warning:", warning)
	}
	plural := "s"
	if len(config.Pools) == 1 {
		plural = ""
	}
	fmt.Fprintf(out, "%s: ok, %d pool%s\n", path, len(config.Pools), plural)
	for _, pool := range config.Pools {
		size, ranges := new(big.Int), make([]string, 0, len(pool.Ranges))
		for _, r := range pool.Ranges {
			size.Add(size, r.Size())
			ranges = append(ranges, r.String())
		}
		fmt.Fprintf(out, "  %s: %s addresses: %s\n", pool.Name, size, strings.Join(ranges, ", "))
	}
	return nil
}
