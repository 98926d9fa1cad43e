package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/spf13/cobra"
	"gopkg.in/yaml.v3"
	"k8s.io/cli-runtime/pkg/genericclioptions"
	"k8s.io/cli-runtime/pkg/genericiooptions"

	"baremetal.cloud/ccm/pkg/migrate"
)

// titles are how products are spelled.
var titles = map[migrate.Product]string{
	migrate.MetalLB: "MetalLB", migrate.OpenELB: "OpenELB", migrate.KubeVIP: "kube-vip", migrate.PureLB: "PureLB", migrate.Cilium: "Cilium",
}

// migration is one run of the subcommand.
type migration struct {
	genericiooptions.IOStreams
	flags       *genericclioptions.ConfigFlags
	file        string
	annotations string
	plan        string
	allSpaces   bool
	output      output
}

// planOnError is the value of --plan without a file.
const planOnError = "-"

func newMigrate(flags *genericclioptions.ConfigFlags, streams genericiooptions.IOStreams) *cobra.Command {
	m := &migration{IOStreams: streams, flags: flags, output: output{words: []string{"json", "yaml"}}}
	command := &cobra.Command{
		Use:   "migrate PRODUCT",
		RunE:  needProduct,
		Short: "Turn the configuration of another load balancer into a cloud-config",
		Long: `Turn the configuration of another load balancer into a cloud-config.

The cloud-config is printed on standard output, and what is lost on standard error. Nothing in the
cluster is changed. The exit status is 0 if all is carried over, 3 if something is lost, and 1 if
something is not understood; then nothing is printed on standard output.`,
	}
	all := command.PersistentFlags()
	all.StringVarP(&m.file, "filename", "f", "", "file with the objects as YAML or JSON, - for standard input; without it they are read from the cluster")
	all.StringVar(&m.annotations, "annotations", "", "write kubectl commands that annotate the Services into this file")
	all.StringVar(&m.plan, "plan", "", "print the steps of the change-over on standard error, or write them into the file --plan=FILE")
	all.Lookup("plan").NoOptDefVal = planOnError
	all.BoolVarP(&m.allSpaces, "all-namespaces", "A", false, "read the objects of all namespaces, even if the context has one; the default without -n")
	addOutput(command, &m.output, "print cloud-config, losses, notes, annotations and plan as one document: json or yaml")
	for _, product := range migrate.Products() {
		command.AddCommand(&cobra.Command{
			Use:     string(product),
			Short:   "Turn the configuration of " + titles[product],
			Example: fmt.Sprintf("  kubectl baremetal migrate %s -f FILE >cloud-config.yaml\n  kubectl baremetal migrate %s --plan --annotations annotations.sh >cloud-config.yaml", product, product),
			Args:    cobra.NoArgs,
			RunE:    func(command *cobra.Command, _ []string) error { return m.run(command.Context(), product) },
		})
	}
	return command
}

// needProduct runs where no product that is known is named.
func needProduct(command *cobra.Command, arguments []string) error {
	if len(arguments) == 0 {
		return command.Help()
	}
	var names []string
	for _, product := range migrate.Products() {
		names = append(names, string(product))
	}
	return fmt.Errorf("%q is not a product that can be read; write one of %s", arguments[0], strings.Join(names, ", "))
}

func (m *migration) run(ctx context.Context, product migrate.Product) error {
	source, err := m.source(ctx, product)
	if err != nil {
		return err
	}
	result, err := migrate.Convert(product, source)
	if err != nil {
		return fmt.Errorf("the configuration is not understood:\n%w", err)
	}
	if err := m.write(result, source); err != nil {
		return err
	}
	if len(result.Losses) > 0 {
		return statusOf(statusLost)
	}
	return nil
}

// source reads the file, or the cluster.
func (m *migration) source(ctx context.Context, product migrate.Product) (migrate.Source, error) {
	if m.file == "" {
		data, err := readCluster(ctx, m.flags, product, m.allSpaces)
		return migrate.Source{Data: data, Name: "cluster", Generated: true}, err
	}
	data, err := readInput(m.In, m.file, migrate.MaxSize)
	name := m.file
	if name == "-" {
		name = "standard input"
	}
	return migrate.Source{Data: data, Name: name}, err
}

// readInput returns the text of a file, - for standard input, and at most one byte more than limit.
func readInput(in io.Reader, file string, limit int64) ([]byte, error) {
	if file != "-" {
		opened, err := os.Open(file)
		if err != nil {
			return nil, err
		}
		defer opened.Close()
		in = opened
	}
	return io.ReadAll(io.LimitReader(in, limit+1))
}

// write prints and writes the result. Files come first, so that the cloud-config is not there if
// they cannot be written.
func (m *migration) write(result *migrate.Result, source migrate.Source) error {
	if m.annotations != "" {
		if err := os.WriteFile(m.annotations, []byte(annotationScript(result.Annotations)), 0o644); err != nil { //nolint:gosec // no secrets
			return err
		}
	}
	if m.plan != "" && m.plan != planOnError {
		if err := os.WriteFile(m.plan, []byte(planText(result.Plan)), 0o644); err != nil { //nolint:gosec // no secrets
			return err
		}
	}
	m.report(result, source)
	if m.plan == planOnError {
		fmt.Fprint(m.ErrOut, planText(result.Plan))
	}
	text := result.CloudConfig
	if m.output.value != "" {
		document, err := encode(result, m.output.value)
		if err != nil {
			return err
		}
		text = document
	}
	_, err := io.WriteString(m.Out, text)
	return err
}

// report prints what is lost, and what deserves a look.
func (m *migration) report(result *migrate.Result, source migrate.Source) {
	prefix := source.Name + ":"
	if source.Generated {
		prefix = ""
	}
	for _, finding := range result.Losses {
		fmt.Fprintf(m.ErrOut, "lost: %s%s\n", prefix, finding)
	}
	for _, finding := range result.Notes {
		fmt.Fprintf(m.ErrOut, "note: %s%s\n", prefix, finding)
	}
	if len(result.Annotations) > 0 && m.annotations == "" {
		fmt.Fprintf(m.ErrOut, "note: %d annotations of Services have to be written anew; --annotations FILE writes the commands\n", len(result.Annotations))
	}
}

// encode renders a document as JSON or YAML.
func encode(value any, format string) (string, error) {
	text, err := json.MarshalIndent(value, "", "  ")
	if err != nil || format == "json" {
		return string(text) + "\n", err
	}
	var document any
	if err := json.Unmarshal(text, &document); err != nil {
		return "", err
	}
	text, err = yaml.Marshal(document)
	return string(text), err
}

// annotationScript renders annotations as commands for a shell. Values come from the owners of
// Services, and are quoted.
func annotationScript(annotations []migrate.Annotation) string {
	var b strings.Builder
	b.WriteString("# Annotations of Services, written by kubectl baremetal migrate. Run with: sh FILE\n")
	for _, a := range annotations {
		fmt.Fprintf(&b, "kubectl annotate --overwrite -n %s service %s %s # from %s\n", quote(a.Namespace), quote(a.Service), quote(a.Key+"="+a.Value), a.From)
	}
	return b.String()
}

// quote returns text as one word of a shell.
func quote(text string) string {
	plain := strings.IndexFunc(text, func(r rune) bool {
		return !(r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune("-_./=:,", r))
	}) < 0
	if plain && text != "" && text[0] != '-' {
		return text
	}
	return "'" + strings.ReplaceAll(text, "'", `'\''`) + "'"
}

// planText renders the steps.
func planText(plan []migrate.Step) string {
	var b strings.Builder
	for i, step := range plan {
		fmt.Fprintf(&b, "%d. %s\n", i+1, step.Title)
		for _, command := range step.Commands {
			fmt.Fprintf(&b, "   %s\n", command)
		}
	}
	return b.String()
}
