package main

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// seen are the files by which behaviour shows: scenarios, golden files, manifests and the
// reference configuration.
var seen = globsOf("**/testdata/**,deploy/**,docs/reference.yaml")

// verify prints every file of these that differs from what the table makes of it as of the commit base.
func verify(dir, base string, t *table) error {
	list, err := git(dir, "ls-tree", "-r", "-z", "--name-only", base)
	if err != nil {
		return err
	}
	words := newTexts(t)
	compared, differ := 0, 0
	expected := map[string]bool{}
	for file := range strings.SplitSeq(strings.TrimRight(string(list), "\x00"), "\x00") {
		r := row{globs: seen}
		if !r.covers(file) || own(file) {
			continue
		}
		before, err := git(dir, "show", base+":"+file)
		if err != nil {
			return err
		}
		to := t.newPath(file)
		expected[to] = true
		want := before
		if bytes.IndexByte(before, 0) < 0 {
			want = words.apply(before, file, to, map[string]bool{})
		}
		got, err := os.ReadFile(filepath.Join(dir, to))
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			return err
		}
		compared++
		if err != nil || !bytes.Equal(want, got) {
			differ++
			fmt.Printf("%s (was %s) differs by more than the table\n", to, file)
		}
	}
	files, err := tracked(dir)
	if err != nil {
		return err
	}
	for _, file := range files {
		r := row{globs: seen}
		if r.covers(file) && !expected[file] && !own(file) {
			differ++
			fmt.Printf("%s is new\n", file)
		}
	}
	fmt.Printf("%d files compared with %s, %d differ by more than the table\n", compared, base, differ)
	if differ > 0 {
		return fmt.Errorf("%d files differ", differ)
	}
	return nil
}

func git(dir string, args ...string) ([]byte, error) {
	cmd := exec.Command("git", args...)
	cmd.Dir = dir
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("git %s: %w: %s", strings.Join(args, " "), err, stderr.String())
	}
	return out, nil
}
