package config

import (
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"baremetal.cloud/ccm/internal/scenarios"
)

// K6.8: what is said of each mistake, with the line and a caret, is in testdata/*.txt below the
// mistake, with the cure. (K6.5: so are the line numbers of what is not YAML.)
func TestFault_K6_8_Mistakes(t *testing.T) {
	said := map[string]string{}
	scenarios.Run(t, func(t testing.TB, text string) string {
		config, _, _ := strings.Cut(text, "\n----\n")
		_, warnings, err := Parse([]byte(config), "cloud-config.yaml")
		var out []string
		if err != nil {
			out = append(out, Detail(err))
		} else {
			out = append(out, "accepted")
		}
		for _, w := range warnings {
			out = append(out, "warning: "+w.Detail())
		}
		said[filepath.Base(t.Name())] = strings.Join(out, "\n")
		return config + "\n----\n" + said[filepath.Base(t.Name())] + "\n"
	})
	for mistake, cure := range map[string]string{
		"tab":               "replace each tab by two spaces",
		"tab_further_down":  "replace each tab by two spaces",
		"metallb_keys":      "write pools: [{name: default",
		"metallb_object":    "IPAddressPool is an object of MetalLB and no cloud-config; it becomes pools:",
		"metallb_peer":      "write localASN",
		"our_configmap":     "give the text under data, cloud-config.yaml alone",
		"short_range":       "write 10.0.0.1-10.0.0.10",
		"comma_list":        "write each as an entry of its own: [10.0.0.1, 10.0.0.5-10.0.0.9]",
		"brackets":          "write 2001:db8::1",
		"netmask":           "write 10.0.0.0/24",
		"range_in_words":    "write 10.0.0.1-10.0.0.10",
		"no_list":           "write [10.0.0.0/24]",
		"unnumbered":        "(BGP unnumbered) is not supported by this version; give the router a global address",
		"external":          "external is not supported by this version; write the number of the router's AS",
		"asdot":             "write 65546",
		"underscore":        "",
		"public":            "what is announced here is taken from its owner",
		"anycast":           "is the subnet-router anycast address of 2001:db8:50::/64",
		"unused_peer":       `no pool is announced to peer "spare"`,
		"missing_colon":     "write KEY: VALUE, with a space after the colon",
		"open_list":         "close the list with ]",
		"open_quote":        "close the quote that was opened here",
		"indented_too_far":  "begin the line in the same column as the key above it",
		"indented_too_less": "begin it in the same column as",
	} {
		text, ok := said[mistake]
		require.True(t, ok, "there is no testdata/%s.txt", mistake)
		require.Contains(t, text, cure, mistake)
		if cure == "" {
			require.Equal(t, "accepted", text, mistake)
		}
	}
}

// A caret stands below its column whatever is in front of it, and a long line is cut.
func TestExcerpt(t *testing.T) {
	require.Equal(t, "    a: ü [\n        ^", excerpt("a: ü [", 5))
	require.Equal(t, "    \ta\n    \t^", excerpt("\ta", 2))
	require.Equal(t, "    a", excerpt("a", 0))
	require.Equal(t, "    a\n         ^", excerpt("a", 6), "behind the end")
	long := strings.Repeat("x", 300)
	require.Equal(t, "    "+long[:100]+"…\n    ^", excerpt(long, 1))
	lines := strings.Split(excerpt(long[:199]+"Y"+long, 200), "\n")
	require.Equal(t, 'Y', []rune(lines[0])[len([]rune(lines[1]))-1])
	require.LessOrEqual(t, len([]rune(lines[0])), maxExcerpt+2+len(excerptIndent))
	require.NotContains(t, excerpt("a\x1b[31mb", 1), "\x1b", "a file does not colour the terminal")
}

// K6.5: the position of what is not YAML is that of the mistake, and not of the line before it
// or of what is around it.
func TestFault_K6_5_LinesOfSyntaxErrors(t *testing.T) {
	for name, c := range map[string]struct {
		text         string
		line, column int
	}{
		"a tab":                     {"pools:\n\t- name: a\n", 4, 1},
		"an open quote":             {"onShrink: \"Refuse\nnodes: {}\n# more\n", 3, 11},
		"an open list":              {"pools: [\nonShrink: Refuse\n", 3, 8},
		"an open list with entries": {"pools:\n- addresses: [a, b\n  name: c\n", 4, 14},
		"an open mapping":           {"nodes: {a: b\nonShrink: Refuse\n", 3, 8},
		"a key too far in":          {"pools:\n- name: a\n    addresses: []\n", 5, 14},
		"a key not far enough in":   {"pools:\n- name: a\n addresses: []\n", 5, 2},
		"an entry not in its list":  {"pools:\n  - name: a\n - name: b\n", 5, 2},
		"no colon":                  {"onShrink\nnodes: {}\n", 3, 1},
		"two colons":                {"onShrink: a: b\n", 3, 12},
		"an unknown escape":         {"onShrink: \"\\q\"\n", 3, 12},
		"a mark of its own":         {"onShrink: @a\n", 3, 11},
	} {
		t.Run(name, func(t *testing.T) {
			_, _, err := Parse([]byte(head+c.text+"# end\n"), "c.yaml")
			var e *Error
			require.ErrorAs(t, err, &e)
			require.Len(t, e.Problems, 1)
			require.Equal(t, []int{c.line, c.column}, []int{e.Problems[0].Line, e.Problems[0].Column}, e.Detail())
			require.NotEmpty(t, e.Problems[0].Cure)
		})
	}
}

// The work for a position is bounded, however long the text and its lines are.
func TestPositionsInAHugeFile(t *testing.T) {
	for name, text := range map[string]string{
		"many lines":  strings.Repeat("# a comment\n", 60000) + "onShrink: \"Refuse\n",
		"a long line": "onShrink: [" + strings.Repeat("a, ", 200000) + "\n",
	} {
		_, _, err := Parse([]byte(head+text), "c.yaml")
		require.ErrorContains(t, err, "not YAML: ", name)
		require.Less(t, len(Detail(err)), 1000, name)
	}
}

// Positions are right whatever ends lines, and however many come before.
func TestFault_K6_5_LinesWhateverEndsThem(t *testing.T) {
	for _, end := range []string{"\n", "\r\n", "\r"} {
		for _, before := range []int{0, 1, 2, 300} {
			text := head + strings.Repeat("# a"+end, before) + "pools:" + end + "- name: a" + end + " addresses: [192.0.2.1]" + end + "onShrink: Refuse" + end
			_, _, err := Parse([]byte(text), "c.yaml")
			var e *Error
			require.ErrorAs(t, err, &e)
			require.Len(t, e.Problems, 1)
			require.Equal(t, before+5, e.Problems[0].Line, "%q", end)
			require.Equal(t, 2, e.Problems[0].Column)
			require.Equal(t, " addresses: [192.0.2.1]", e.Problems[0].Source)
		}
	}
}
