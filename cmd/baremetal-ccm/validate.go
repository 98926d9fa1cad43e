package main

import (
	"errors"
	"fmt"
	"io"
	"math/big"
	"strings"

	"baremetal.cloud/ccm/pkg/cloud"
	"baremetal.cloud/ccm/pkg/cloud/config"
)

// standardInput is the value of --validate-config for what is piped in.
const standardInput = "-"

// validateConfig prints what the cloud-config of --validate-config holds, and with
// --kubeconfig what in the cluster speaks against it. Its error is what is wrong.
func (p *program) validateConfig(in io.Reader, out io.Writer) error {
	name := p.flags.validateConfig
	text, err := readConfig(in, name)
	if err != nil {
		return fmt.Errorf("the cloud-config cannot be checked:\n%w", err)
	}
	if name == standardInput {
		name = "stdin"
	}
	cfg, warnings, err := config.Parse(text, name)
	for _, warning := range warnings {
		fmt.Fprintln(out, "warning:", warning.Detail())
	}
	if err != nil {
		return fmt.Errorf("the cloud-config is refused:\n%w", detailed(err))
	}
	if err := p.doubt(out, cfg); err != nil {
		return err
	}
	plural := "s"
	if len(cfg.Pools) == 1 {
		plural = ""
	}
	fmt.Fprintf(out, "%s: ok, %d pool%s\n", name, len(cfg.Pools), plural)
	for _, pool := range cfg.Pools {
		size, ranges := new(big.Int), make([]string, 0, len(pool.Ranges))
		for _, r := range pool.Ranges {
			size.Add(size, r.Size())
			ranges = append(ranges, r.String())
		}
		fmt.Fprintf(out, "  %s: %s addresses: %s\n", pool.Name, size, strings.Join(ranges, ", "))
	}
	return nil
}

func readConfig(in io.Reader, name string) ([]byte, error) {
	if name == standardInput {
		return config.ReadFrom(in, "stdin")
	}
	return config.Read(name)
}

// doubt prints what in the cluster of --kubeconfig, if that is given, speaks against config.
func (p *program) doubt(out io.Writer, cfg *config.Config) error {
	if p.options.Generic.ClientConnection.Kubeconfig == "" && p.options.Master == "" {
		return nil
	}
	reach, err := newClients(p.options)
	if err != nil {
		return err
	}
	found, err := cloud.Doubts(p.ctx, reach.general, cfg)
	if err != nil {
		return fmt.Errorf("the cloud-config is good by itself, but could not be compared with the cluster: %w", err)
	}
	for _, doubt := range found {
		fmt.Fprintln(out, "warning:", doubt)
	}
	return nil
}

// detailed returns err with the lines of a cloud-config that it is about, for readers of a
// terminal or of the last words of a process.
func detailed(err error) error {
	e, ok := errors.AsType[*config.Error](err)
	if !ok {
		return err
	}
	return detailedError{err, strings.Replace(err.Error(), e.Error(), e.Detail(), 1)}
}

type detailedError struct {
	error
	text string
}

func (e detailedError) Error() string { return e.text }

func (e detailedError) Unwrap() error { return e.error }
