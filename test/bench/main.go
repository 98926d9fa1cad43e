// Command bench measures what docs/performance.md quotes: the allocator alone, and the
// whole system on a testbed of real Kubernetes components. It writes raw results as JSON
// and makes the tables from them, so that no figure in the documentation was typed.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"
)

// quotedResults is where the results that docs/performance.md quotes are kept.
const quotedResults = "test/bench/results"

// document is the page with the tables.
const document = "docs/performance.md"

func main() { os.Exit(run()) }

func run() int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	defer stop()
	what := bench
	if len(os.Args) == 2 && os.Args[1] == bfdEndCommand {
		what = func(ctx context.Context, _ []string) error { return runBFDEnd(ctx, os.Stdin, os.Stdout) }
	}
	if len(os.Args) == 3 && os.Args[1] == fleetCoreCommand {
		what = func(ctx context.Context, args []string) error { return runFleetCore(ctx, args[1], os.Stdin, os.Stdout) }
	}
	if err := what(ctx, os.Args[1:]); err != nil {
		if errors.Is(err, flag.ErrHelp) {
			return 0
		}
		fmt.Fprintln(os.Stderr, "bench:", err)
		return 1
	}
	return 0
}

// settings are what the command line says.
type settings struct {
	out   string
	runs  int
	nodes int
	// routers says that the testbed has FRR and BIRD.
	routers bool
	bed     string
	only    []string
	quote   bool
	// duration is how long what has no end of its own is measured.
	duration time.Duration
}

func parse(args []string) (settings, error) {
	var s settings
	var only string
	flags := flag.NewFlagSet("bench", flag.ContinueOnError)
	flags.StringVar(&s.out, "out", ".cache/bench", "directory to write NAME.json into")
	flags.IntVar(&s.runs, "runs", 3, "how often to measure everything; the tables show the median")
	flags.IntVar(&s.nodes, "nodes", 3, "nodes of the testbed")
	flags.StringVar(&s.bed, "testbed", "", "directory of a testbed that is up, to measure on it and leave it there; one is booted otherwise")
	flags.StringVar(&only, "only", "", "measure only these, separated by commas: "+strings.Join(names(), ", "))
	flags.DurationVar(&s.duration, "duration", 10*time.Minute, "how long to measure what has no end of its own: bfd, groups, quiet, starved")
	flags.BoolVar(&s.quote, "quote", false, "copy the results to "+quotedResults+" and write the tables of "+document)
	if err := flags.Parse(args); err != nil {
		return s, err
	}
	if s.duration <= 0 {
		return s, fmt.Errorf("--duration=%s: how long?", s.duration)
	}
	if s.runs < 1 {
		return s, fmt.Errorf("--runs=%d: at least one", s.runs)
	}
	for name := range strings.SplitSeq(only, ",") {
		if name == "" {
			continue
		}
		if !slices.Contains(names(), name) {
			return s, fmt.Errorf("--only: %q is none of %s", name, strings.Join(names(), ", "))
		}
		s.only = append(s.only, name)
	}
	return s, nil
}

// wants reports whether the measure is asked for.
func (s settings) wants(name string) bool {
	return len(s.only) == 0 || slices.Contains(s.only, name)
}

// bench measures what is asked for. Results are written one by one, so that a failure
// loses none that went before it.
func bench(ctx context.Context, args []string) (err error) {
	s, err := parse(args)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(s.out, 0o755); err != nil {
		return err
	}
	background, err := describe(ctx)
	if err != nil {
		return err
	}
	var bed *lab
	defer func() {
		if bed != nil {
			err = errors.Join(err, bed.down())
		}
	}()
	for _, m := range measures {
		if !s.wants(m.name) || m.alternative && len(s.only) == 0 {
			continue
		}
		if m.onTestbed && bed == nil {
			if bed, err = s.lab(ctx); err != nil {
				return err
			}
		}
		say("%s: %s", m.name, m.title)
		r, err := m.measure(ctx, bed, s)
		if err != nil {
			return fmt.Errorf("%s: %w", m.name, err)
		}
		r.Name, r.Title, r.background = m.name, m.title, background
		if err := r.write(filepath.Join(s.out, m.name+".json")); err != nil {
			return err
		}
	}
	return s.report()
}

// report prints the tables of what was measured now, and keeps them if they are to be quoted.
func (s settings) report() error {
	all, err := readResults(s.out)
	all = slices.DeleteFunc(all, func(r result) bool { return !s.wants(r.Name) })
	if err != nil {
		return err
	}
	text := tables(all)
	fmt.Printf("\n%s\nThe raw results are in %s.\n", text, s.out)
	if !s.quote {
		return nil
	}
	for _, r := range all {
		if err := r.write(filepath.Join(quotedResults, r.Name+".json")); err != nil {
			return err
		}
	}
	if all, err = readResults(quotedResults); err != nil {
		return err
	}
	return rewrite(document, all)
}

// say tells people how it goes.
func say(format string, args ...any) { fmt.Printf("==> "+format+"\n", args...) }
