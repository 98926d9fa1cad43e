// Command rename applies a table of renames to a whole tree at once: packages, files, and
// everything that Go's type checker knows the uses of, and words that users see.
//
//	go run ./hack/rename [-table hack/rename/table.txt] [-lenient] [-verify COMMIT] [DIR]
//
// It writes the working tree of DIR and commits nothing. Applied twice it changes nothing the
// second time. table.txt explains its rows.
package main

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
)

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "rename:", err)
		os.Exit(1)
	}
}

func run() error {
	path := flag.String("table", "hack/rename/table.txt", "the table of renames")
	lenient := flag.Bool("lenient", false, "rows that match nothing are reported and do not fail")
	base := flag.String("verify", "", "change nothing: print how what users see differs from this commit, but for the table")
	flag.Parse()
	dir := "."
	if flag.NArg() > 0 {
		dir = flag.Arg(0)
	}
	dir, err := filepath.Abs(dir)
	if err != nil {
		return err
	}
	t, err := readTable(*path)
	if err != nil {
		return err
	}
	if *base != "" {
		return verify(dir, *base, t)
	}
	return apply(dir, t, *lenient)
}

// apply changes the tree at dir.
func apply(dir string, t *table, lenient bool) error {
	mod, err := load(dir)
	if err != nil {
		return err
	}
	targets := resolve(mod, t)
	if err := targets.link(mod); err != nil {
		return err
	}
	if err := collisions(mod, targets); err != nil {
		return err
	}
	out, err := rewrite(mod, targets)
	if err != nil {
		return err
	}
	moved, err := moves(dir, t)
	if err != nil {
		return err
	}
	used, err := writeAll(dir, t, out, moved, documented(mod, targets))
	if err != nil {
		return err
	}
	return report(t, targets, used, lenient)
}

// report prints the rows that matched nothing.
func report(t *table, targets *targets, used map[string]bool, lenient bool) error {
	idle := 0
	for _, r := range t.rows {
		if !targets.matched[r.line] && !used[r.line] {
			idle++
			fmt.Printf("%s: nothing matches: %s\n", r.at, r.line)
		}
	}
	fmt.Printf("%d rows, %d without a match\n", len(t.rows), idle)
	if idle > 0 && !lenient {
		return fmt.Errorf("%d rows match nothing; -lenient allows that", idle)
	}
	return nil
}
