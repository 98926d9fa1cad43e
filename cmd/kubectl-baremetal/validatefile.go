package main

import (
	"fmt"
	"math/big"
	"strings"

	"github.com/spf13/cobra"
	"k8s.io/cli-runtime/pkg/genericiooptions"

	"baremetal.cloud/ccm/pkg/cloud/config"
)

func newValidate(streams genericiooptions.IOStreams) *cobra.Command {
	return &cobra.Command{
		Use:   "validate FILE",
		Short: "Check a cloud-config",
		Long: `Check a cloud-config as baremetal-ccm does when it reads it; - is standard input.

Every problem is reported with file, line, column and cure, and the exit status is then 1. Warnings
are printed on standard error and do not change the exit status.`,
		Example: "  kubectl baremetal validate cloud-config.yaml",
		Args:    cobra.ExactArgs(1),
		RunE:    func(_ *cobra.Command, arguments []string) error { return validate(streams, arguments[0]) },
	}
}

func validate(streams genericiooptions.IOStreams, file string) error {
	cfg, warnings, err := load(streams, file)
	for _, warning := range warnings {
		fmt.Fprintln(streams.ErrOut, "warning:", warning)
	}
	if err != nil {
		return fmt.Errorf("the cloud-config is refused:\n%w", err)
	}
	fmt.Fprintf(streams.Out, "%s: ok, pools: %d\n", file, len(cfg.Pools))
	for _, pool := range cfg.Pools {
		size, ranges := new(big.Int), make([]string, 0, len(pool.Ranges))
		for _, r := range pool.Ranges {
			size.Add(size, r.Size())
			ranges = append(ranges, r.String())
		}
		fmt.Fprintf(streams.Out, "  %s: %s addresses: %s\n", pool.Name, size, strings.Join(ranges, ", "))
	}
	return nil
}

// load reads a file, or standard input.
func load(streams genericiooptions.IOStreams, file string) (*config.Config, []config.Warning, error) {
	if file != "-" {
		return config.Load(file)
	}
	data, err := readInput(streams.In, file, config.MaxSize)
	if err != nil {
		return nil, nil, err
	}
	return config.Parse(data, "standard input")
}
