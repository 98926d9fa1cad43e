package migrate

import (
	"flag"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"baremetal.cloud/ccm/pkg/cloud/config"
	"baremetal.cloud/ccm/pkg/ipam"
)

var update = flag.Bool("update", false, "write the golden files anew")

// productOf finds the product in the name of a directory of testdata, like 01-metallb-simple.
func productOf(t *testing.T, directory string) Product {
	t.Helper()
	for _, p := range Products() {
		if strings.Contains(filepath.Base(directory), string(p)) {
			return p
		}
	}
	require.Failf(t, "no product", "%s", directory)
	return ""
}

// sources returns the directories of testdata with a source.
func sources(t *testing.T) []string {
	t.Helper()
	found, err := filepath.Glob("testdata/*/source.yaml")
	require.NoError(t, err)
	require.NotEmpty(t, found)
	for i := range found {
		found[i] = filepath.Dir(found[i])
	}
	return found
}

// transcript renders a result, or the error, as one text.
func transcript(result *Result, err error) string {
	if err != nil {
		return "error:\n" + err.Error() + "\n"
	}
	var b strings.Builder
	b.WriteString(result.CloudConfig)
	for _, l := range result.Losses {
		fmt.Fprintln(&b, "# lost:", l)
	}
	for _, n := range result.Notes {
		fmt.Fprintln(&b, "# note:", n)
	}
	for _, a := range result.Annotations {
		fmt.Fprintf(&b, "# annotate %s/%s: %s=%q (%s)\n", a.Namespace, a.Service, a.Key, a.Value, a.From)
	}
	return b.String()
}

// TestGolden compares what is made of each source with the file beside it. `go test -update` writes
// the files anew.
func TestGolden(t *testing.T) {
	for _, directory := range sources(t) {
		t.Run(filepath.Base(directory), func(t *testing.T) {
			data, err := os.ReadFile(filepath.Join(directory, "source.yaml"))
			require.NoError(t, err)
			result, err := Convert(productOf(t, directory), Source{Data: data, Name: "source.yaml"})
			got := transcript(result, err)
			golden := filepath.Join(directory, "golden.yaml")
			if *update {
				require.NoError(t, os.WriteFile(golden, []byte(got), 0o600))
			}
			want, err := os.ReadFile(golden)
			require.NoError(t, err)
			require.Equal(t, string(want), got)
			if result != nil {
				checkResult(t, string(data), result)
			}
		})
	}
}

// checkResult checks what holds for each result: our own decoder accepts the cloud-config, and it
// has no address that the source does not have.
func checkResult(t *testing.T, source string, result *Result) {
	t.Helper()
	cfg, _, err := config.Parse([]byte(result.CloudConfig), "cloud-config.yaml")
	require.NoError(t, err, "%s", result.CloudConfig)
	require.NotEmpty(t, cfg.Pools)
	given := addressesIn(source)
	for _, pool := range cfg.Pools {
		for _, r := range pool.Ranges {
			require.True(t, given.covers(r), "%s of the pool %s is not in the source", r, pool.Name)
		}
	}
	for _, finding := range append(result.Losses, result.Notes...) {
		require.NotEmpty(t, finding.Reason)
		require.NotContains(t, finding.String(), "%!", "a format is wrong")
	}
}

// rangesOf are the runs of addresses that stand in a text, found in the plainest way.
type rangesOf []ipam.Range

// addressesIn looks at each word of a text that could be an address, a CIDR or a range.
func addressesIn(text string) rangesOf {
	var out rangesOf
	words := strings.FieldsFunc(text, func(r rune) bool {
		return !strings.ContainsRune("0123456789abcdefABCDEF.:/-", r)
	})
	var single []netip.Addr
	for _, word := range words {
		for _, w := range []string{word, strings.Trim(word, ":-."), strings.TrimLeft(word, "-: "), strings.TrimPrefix(word, "-")} {
			if p, err := netip.ParsePrefix(w); err == nil {
				if r, err := ipam.ParseRange(p.Masked().String()); err == nil {
					out = append(out, r)
				}
			}
			if r, err := ipam.ParseRange(w); err == nil {
				out = append(out, r)
			}
			for _, part := range strings.Split(w, "-") {
				if a, err := netip.ParseAddr(part); err == nil {
					single = append(single, a)
				}
			}
		}
	}
	for _, a := range single { // start and stop stand apart in some sources
		for _, b := range single {
			if a.Is4() == b.Is4() && a.Less(b) {
				out = append(out, ipam.Range{First: a, Last: b})
			}
		}
	}
	return out
}

func (all rangesOf) covers(r ipam.Range) bool {
	for _, given := range all {
		if given.Contains(r.First) && given.Contains(r.Last) {
			return true
		}
	}
	return false
}

// acceptedByDecoder reports whether our own decoder accepts a cloud-config.
func acceptedByDecoder(text string) bool {
	_, _, err := config.Parse([]byte(text), "cloud-config.yaml")
	return err == nil
}
