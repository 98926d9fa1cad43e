package main

import (
	"cmp"
	"fmt"
	"runtime"
	"runtime/debug"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"k8s.io/cli-runtime/pkg/genericclioptions"
	"k8s.io/cli-runtime/pkg/genericiooptions"
)

// newCommand returns the whole command.
func newCommand(streams genericiooptions.IOStreams) *cobra.Command {
	flags := genericclioptions.NewConfigFlags(true)
	command := &cobra.Command{
		Use:           "kubectl-baremetal",
		Short:         "Look after baremetal-ccm, the load balancer for clusters on your own machines",
		Version:       versionText(),
		SilenceUsage:  true,
		SilenceErrors: true,
		Annotations:   map[string]string{cobra.CommandDisplayNameAnnotation: "kubectl baremetal"},
	}
	command.SetIn(streams.In)
	command.SetOut(streams.Out)
	command.SetErr(streams.ErrOut)
	flags.AddFlags(command.PersistentFlags())
	command.AddCommand(newServices(flags, streams), newWho(flags, streams), newPools(flags, streams), newMigrate(flags, streams), newValidate(streams))
	return command
}

// output is the value of the flag -o: "" or one of some words.
type output struct {
	value string
	words []string
}

func (o *output) String() string { return o.value }

// Type implements pflag.Value.
func (o *output) Type() string { return strings.Join(o.words, "|") }

// Set implements pflag.Value.
func (o *output) Set(value string) error {
	if !slices.Contains(o.words, value) {
		return fmt.Errorf("write one of %s", strings.Join(o.words, ", "))
	}
	o.value = value
	return nil
}

// addOutput adds the flag -o with its completion.
func addOutput(command *cobra.Command, o *output, usage string) {
	command.PersistentFlags().VarP(o, "output", "o", usage)
	_ = command.RegisterFlagCompletionFunc("output", cobra.FixedCompletions(o.words, cobra.ShellCompDirectiveNoFileComp)) // the flag is there
}

// version is set by the linker (see the Makefile); it is empty in other builds.
var version string

// versionText returns the version that was linked in, else the module's, and the Go version.
func versionText() string {
	module := "(devel)"
	if info, ok := debug.ReadBuildInfo(); ok && info.Main.Version != "" {
		module = info.Main.Version
	}
	return cmp.Or(version, module) + " " + runtime.Version()
}
