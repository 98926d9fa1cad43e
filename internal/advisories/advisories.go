// Package advisories compares what govulncheck finds with the advisories that
// docs/security.md accepts.
package advisories

import (
	"encoding/json"
	"errors"
	"fmt"
	"go/version"
	"io"
	"maps"
	"regexp"
	"slices"
	"strings"
)

// Accepted is a row of the table of accepted advisories.
type Accepted struct {
	ID, Module, Version, Reason string
}

// row is a row of the table: | GO-2026-1 | `example.org/m` v1.2.3 | reason |
var row = regexp.MustCompile("(?m)^\\| (GO-\\d{4}-\\d+) \\| `([^`]+)` (\\S+) \\| (.+) \\|$")

// Table returns the accepted advisories in the text of docs/security.md.
func Table(text string) []Accepted {
	var out []Accepted
	for _, m := range row.FindAllStringSubmatch(text, -1) {
		out = append(out, Accepted{ID: m[1], Module: m[2], Version: m[3], Reason: m[4]})
	}
	return out
}

// Finding is what govulncheck says of one advisory and module.
type Finding struct {
	ID, Module, Version, Fixed string
}

// message is the part of govulncheck's JSON that is read here.
type message struct {
	Config *struct {
		ScanLevel string `json:"scan_level"`
	} `json:"config"`
	Finding *struct {
		OSV          string `json:"osv"`
		FixedVersion string `json:"fixed_version"`
		Trace        []struct {
			Module, Version, Package, Function string
		} `json:"trace"`
	} `json:"finding"`
}

// Read returns what govulncheck -format json found at its own level: a symbol that is called,
// or a package that is imported. Each advisory and module comes once.
func Read(r io.Reader) ([]Finding, error) {
	found, level := map[Finding]bool{}, ""
	for decoder := json.NewDecoder(r); ; {
		var m message
		if err := decoder.Decode(&m); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			return nil, fmt.Errorf("output of govulncheck: %w", err)
		}
		if m.Config != nil {
			level = m.Config.ScanLevel
		}
		if m.Finding == nil || len(m.Finding.Trace) == 0 {
			continue
		}
		at := m.Finding.Trace[0]
		if level == "symbol" && at.Function == "" || level == "package" && at.Package == "" {
			continue
		}
		found[Finding{m.Finding.OSV, at.Module, at.Version, m.Finding.FixedVersion}] = true
	}
	if level == "" {
		return nil, errors.New("output of govulncheck: it is empty; see what it printed above")
	}
	return slices.SortedFunc(maps.Keys(found), func(a, b Finding) int { return strings.Compare(a.ID+a.Module, b.ID+b.Module) }), nil
}

// standardLibrary is the module of what comes with Go.
const standardLibrary = "stdlib"

// Judge returns what is wrong, sorted, and what is only worth a note. imageGo is the version of
// Go that images are built with, like "go1.26.11": what is fixed there is in no image.
func Judge(found []Finding, accepted []Accepted, imageGo string) (wrong, notes []string) {
	used := map[string]bool{}
	for _, f := range found {
		i := slices.IndexFunc(accepted, func(a Accepted) bool { return a.ID == f.ID && a.Module == f.Module })
		switch {
		case i >= 0:
			used[f.ID+f.Module] = true
		case f.Module == standardLibrary && f.Fixed != "" && version.Compare("go"+strings.TrimPrefix(f.Fixed, "v"), imageGo) <= 0:
			notes = append(notes, fmt.Sprintf("%s: Go %s has it, images are built with %s, where it is fixed", f.ID, strings.TrimPrefix(f.Version, "v"), imageGo))
		case f.Module == standardLibrary && f.Fixed != "":
			wrong = append(wrong, fmt.Sprintf("%s: images are built with %s; name Go %s or later in the Dockerfile", f.ID, imageGo, strings.TrimPrefix(f.Fixed, "v")))
		case f.Fixed != "":
			wrong = append(wrong, fmt.Sprintf("%s: %s %s; run go get %s@%s", f.ID, f.Module, f.Version, f.Module, f.Fixed))
		default:
			wrong = append(wrong, fmt.Sprintf("%s: %s %s has no fix; contain it, and add it with the reason to the table in docs/security.md", f.ID, f.Module, f.Version))
		}
	}
	for _, a := range accepted {
		if !used[a.ID+a.Module] {
			wrong = append(wrong, fmt.Sprintf("%s: docs/security.md accepts it for %s, and it is not found; remove the row", a.ID, a.Module))
		}
	}
	slices.Sort(wrong)
	return wrong, notes
}
