package main

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"

	"github.com/spf13/cobra"
	"k8s.io/cli-runtime/pkg/genericclioptions"
	"k8s.io/cli-runtime/pkg/genericiooptions"
)

func newServices(flags *genericclioptions.ConfigFlags, streams genericiooptions.IOStreams) *cobra.Command {
	v := newView(flags, streams)
	command := &cobra.Command{
		Use:     "services",
		Short:   "List the Services of type LoadBalancer, their addresses and why they wait",
		Example: "  kubectl baremetal services -A\n  kubectl baremetal services -n web -o wide",
		Args:    cobra.NoArgs,
		RunE:    func(command *cobra.Command, _ []string) error { return v.showServices(command.Context()) },
	}
	command.Flags().BoolVarP(&v.allSpaces, "all-namespaces", "A", false, "list the Services of all namespaces")
	addOutput(command, &v.output, "table, wide (with messages), json or yaml")
	return command
}

func (v *view) showServices(ctx context.Context) error {
	namespace := ""
	if !v.allSpaces {
		var err error
		if namespace, _, err = v.flags.ToRawKubeConfigLoader().Namespace(); err != nil {
			return err
		}
	}
	client, err := v.client()
	if err != nil {
		return err
	}
	found, err := services(ctx, client, namespace)
	if err != nil {
		return err
	}
	if len(found) == 0 && v.output.value != "json" && v.output.value != "yaml" {
		fmt.Fprintln(v.ErrOut, "no Services of type LoadBalancer found")
		return nil
	}
	return v.print(found, serviceRows(found, v.output.value == "wide"))
}

func newWho(flags *genericclioptions.ConfigFlags, streams genericiooptions.IOStreams) *cobra.Command {
	v := newView(flags, streams)
	command := &cobra.Command{
		Use:   "who ADDRESS",
		Short: "Show which Services hold an address, and whether it is announced",
		Long: `Show which Services hold an address, and whether it is announced, as the API server has it.

The exit status is 0 if the address is announced, and 1 if it is not or no Service holds it.`,
		Example: "  kubectl baremetal who 192.168.50.211",
		Args:    cobra.ExactArgs(1),
		RunE: func(command *cobra.Command, arguments []string) error {
			return v.showHolders(command.Context(), arguments[0])
		},
	}
	addOutput(command, &v.output, "table, wide (with messages), json or yaml")
	return command
}

func (v *view) showHolders(ctx context.Context, text string) error {
	address, err := netip.ParseAddr(text)
	if err != nil {
		return fmt.Errorf("%q is not an address", text)
	}
	client, err := v.client()
	if err != nil {
		return err
	}
	found, err := services(ctx, client, "")
	if err != nil {
		return err
	}
	holders := slices.DeleteFunc(found, func(s serviceView) bool { return !slices.Contains(s.Addresses, address) })
	if len(holders) == 0 {
		if v.output.value == "json" || v.output.value == "yaml" {
			return errors.Join(v.print(holders, nil), statusOf(statusError))
		}
		return fmt.Errorf("no Service holds %s", address)
	}
	if err := v.print(holders, serviceRows(holders, v.output.value == "wide")); err != nil {
		return err
	}
	if !slices.ContainsFunc(holders, func(s serviceView) bool { return s.Announced.isTrue() }) {
		return statusOf(statusError)
	}
	return nil
}
