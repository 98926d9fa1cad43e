package guard

import (
	"go/ast"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"baremetal.cloud/ccm/internal/need"
	"baremetal.cloud/ccm/pkg/reason"
)

func TestPackageComments(t *testing.T) {
	comments := map[string]string{}
	for _, s := range sources(t) {
		if s.test || s.made {
			continue
		}
		comments[s.dir] += s.syntax.Doc.Text()
		if name := s.syntax.Name.Name; s.syntax.Doc != nil && name != "main" {
			assert.Regexp(t, "^Package "+name+" ", s.syntax.Doc.Text(), s.path)
		}
	}
	for dir, comment := range comments {
		assert.NotEmpty(t, comment, "no file of %s has a package comment", dir)
	}
}

// unfinished finds the marks of work left for later. It is put together here so that this
// file has none.
var unfinished = regexp.MustCompile(`\b(` + strings.Join([]string{"TO" + "DO", "FIX" + "ME", "X" + "XX"}, "|") + `)\b`)

func TestNothingIsLeftForLater(t *testing.T) {
	for _, suffix := range []string{".go", ".md", ".yaml", ".proto", "Makefile", "Dockerfile"} {
		for _, path := range files(t, suffix) {
			for i, line := range strings.Split(read(t, path), "\n") {
				assert.NotRegexp(t, unfinished, line, "%s:%d", path, i+1)
			}
		}
	}
}

// skips finds tests that skip themselves.
var skips = regexp.MustCompile(`\bt\.Skip(f|Now)?\(`)

// A test that skips itself does so by internal/need, which lets none do so in continuous integration.
func TestSkipsGoByNeed(t *testing.T) {
	for _, s := range sources(t) {
		if s.dir != "internal/need" {
			assert.False(t, skips.MatchString(read(t, s.path)), "%s skips a test without internal/need", s.path)
		}
	}
	assert.Contains(t, read(t, "hack/fresh"), "export "+need.Everything+"=yes")
}

// Whoever waits does so for something that a context can end, and tests wait for what
// they test. Under testing/synctest a sleep takes no time.
func TestNobodySleeps(t *testing.T) {
	bubbles := map[string]bool{} // directories whose tests run on a false clock
	for _, s := range sources(t) {
		if s.test && slices.Contains(s.imports(), "testing/synctest") {
			bubbles[s.dir] = true
		}
	}
	for _, s := range sources(t) {
		if under(s.dir, "test/e2e") || (s.test && bubbles[s.dir]) {
			continue
		}
		ast.Inspect(s.syntax, func(n ast.Node) bool {
			if left, right := selector(n); left == "time" && right == "Sleep" {
				assert.Fail(t, "time.Sleep", s.at(n))
			}
			return true
		})
	}
}

// Programs end in main and nowhere else.
func TestOnlyMainExits(t *testing.T) {
	for _, s := range sources(t) {
		if s.syntax.Name.Name == "main" || s.test || s.made || under(s.dir, "test/e2e") {
			continue
		}
		ast.Inspect(s.syntax, func(n ast.Node) bool {
			left, right := selector(n)
			assert.False(t, left == "os" && right == "Exit" || left == "log" && strings.HasPrefix(right, "Fatal") || left == "klog" && strings.HasPrefix(right, "Fatal"),
				"%s ends the process", s.path)
			return true
		})
	}
}

// A Reason that nothing gives would be a promise in docs/reasons.md that nobody keeps.
func TestEveryReasonIsGiven(t *testing.T) {
	used := map[string]bool{}
	for _, s := range sources(t) {
		if s.test || under(s.dir, "pkg/reason") {
			continue
		}
		ast.Inspect(s.syntax, func(n ast.Node) bool {
			if left, right := selector(n); left == "reason" {
				used[right] = true
			}
			return true
		})
	}
	for _, e := range reason.Table() {
		assert.True(t, used[string(e.Reason)], "no code gives the Reason %s", e.Reason)
	}
}

// metricName is what Prometheus recommends: a prefix, lower case, base units.
var metricName = regexp.MustCompile(`^baremetal_(ccm|announcer)(_[a-z0-9]+)+$`)

// oddUnits are the units that a metric should have been converted from.
var oddUnits = regexp.MustCompile(`_(milliseconds|ms|microseconds|nanoseconds|minutes|kilobytes|kb|megabytes|percent)(_|$)`)

func TestMetricNames(t *testing.T) {
	documented := map[string]bool{}
	for _, m := range regexp.MustCompile("(?m)^\\| `(baremetal_[a-z0-9_]+)").FindAllStringSubmatch(read(t, "docs/metrics.md"), -1) {
		documented[m[1]] = true
	}
	for _, name := range metricNames(t) {
		assert.Regexp(t, metricName, name)
		assert.NotRegexp(t, oddUnits, name)
		assert.False(t, strings.HasSuffix(name, "_count") || strings.HasSuffix(name, "_sum") || strings.HasSuffix(name, "_bucket"), "%s ends as part of a histogram", name)
		assert.True(t, documented[name], "docs/metrics.md does not explain %s", name)
		delete(documented, name)
	}
	assert.Empty(t, documented, "docs/metrics.md explains what the code does not have")
}

// metricNames returns the string literals of the code that begin like our metrics.
func metricNames(t *testing.T) []string {
	var names []string
	for _, s := range sources(t) {
		if s.test || under(s.dir, "internal/guard") || under(s.dir, "test") {
			continue
		}
		ast.Inspect(s.syntax, func(n ast.Node) bool {
			literal, ok := n.(*ast.BasicLit)
			if !ok {
				return true
			}
			text, err := strconv.Unquote(literal.Value)
			if err == nil && strings.HasPrefix(text, "baremetal_") {
				names = append(names, text)
			}
			return true
		})
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// A counter counts up and says so; anything else does not.
func TestCountersEndInTotal(t *testing.T) {
	for _, s := range sources(t) {
		ast.Inspect(s.syntax, func(n ast.Node) bool {
			literal, ok := n.(*ast.CompositeLit)
			if !ok {
				return true
			}
			_, kind := selector(literal.Type)
			name := optsName(t, literal)
			if name == "" || !strings.HasSuffix(kind, "Opts") {
				return true
			}
			assert.Equal(t, strings.HasPrefix(kind, "Counter"), strings.HasSuffix(name, "_total"), "%s: %s is a %s", s.at(n), name, kind)
			return true
		})
	}
}

// optsName returns the field Name of a composite literal where it is a constant metric name.
func optsName(t *testing.T, literal *ast.CompositeLit) string {
	for _, element := range literal.Elts {
		pair, ok := element.(*ast.KeyValueExpr)
		if !ok {
			continue
		}
		key, isName := pair.Key.(*ast.Ident)
		value, isLiteral := pair.Value.(*ast.BasicLit)
		if isName && isLiteral && key.Name == "Name" {
			name, err := strconv.Unquote(value.Value)
			require.NoError(t, err)
			return name
		}
	}
	return ""
}
