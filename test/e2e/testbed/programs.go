package testbed

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
)

// program is one that somebody runs, and the Debian packages that have it.
type program struct {
	group, name string
	packages    []string
}

// programs reads the repository's list of programs, hack/programs.
func programs() ([]program, error) {
	repo, err := Repository()
	if err != nil {
		return nil, err
	}
	f, err := os.Open(filepath.Join(repo, "hack", "programs"))
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return parsePrograms(f)
}

func parsePrograms(r io.Reader) ([]program, error) {
	var list []program
	scanner := bufio.NewScanner(r)
	for scanner.Scan() {
		fields := strings.Fields(scanner.Text())
		switch {
		case len(fields) == 0 || fields[0][0] == '#':
		case len(fields) < 3:
			return nil, fmt.Errorf("hack/programs: %q: want a group, a program and its Debian packages", scanner.Text())
		default:
			list = append(list, program{group: fields[0], name: fields[1], packages: fields[2:]})
		}
	}
	return list, scanner.Err()
}

// checkPrograms reports by name the programs that a testbed runs and this machine lacks. What
// waits until a program says something would else wait in vain for one that does not exist.
func checkPrograms() error {
	list, err := programs()
	if err != nil {
		return err
	}
	var missing, packages []string
	for _, p := range list {
		if p.group != "testbed" {
			continue
		}
		if _, err := exec.LookPath(p.name); err != nil {
			missing = append(missing, p.name)
			packages = append(packages, p.packages...)
		}
	}
	if len(missing) == 0 {
		return nil
	}
	slices.Sort(packages)
	return fmt.Errorf("this machine lacks %s: run hack/ensure testbed, or install %s (Debian's names of the packages)",
		strings.Join(missing, ", "), strings.Join(slices.Compact(packages), ", "))
}
