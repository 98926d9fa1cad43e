package cloudconfig

import (
	"testing"

	"github.com/stretchr/testify/require"
)

// TestLargeRanges: a range that a slip of the pen made large is accepted with a warning at its
// place; ranges of a size that is in use have none.
func TestLargeRanges(t *testing.T) {
	for text, want := range map[string]string{
		"192.68.1.1-192.168.1.255":     "192.68.1.1-192.168.1.255 is 6553855 addresses; check both ends; each address has to be yours",
		"9.0.0.0/8":                    "9.0.0.0-9.255.255.255 is 16777216 addresses; check both ends; each address has to be yours",
		"2001:db8::-2001:db9::":        "2001:db8::-2001:db9:: is 79228162514264337593543950337 addresses; check both ends; each address has to be yours",
		"2001:db8::/32":                "2001:db8::-2001:db8:ffff:ffff:ffff:ffff:ffff:ffff is 79228162514264337593543950336 addresses; check both ends; each address has to be yours",
		"10.1.0.0/16":                  "",
		"10.1.0.0-10.1.255.255":        "",
		"2001:db8::/48":                "",
		"2001:db8::-2001:db8::ffff:1":  "",
		"2001:db8:1::1-2001:db8:1::20": "",
	} {
		_, warnings, err := Parse([]byte("apiVersion: "+APIVersion+"\nkind: "+Kind+"\npools:\n- name: a\n  addresses: [\""+text+"\"]\n"), "c.yaml")
		require.NoError(t, err, text)
		if want == "" {
			require.Empty(t, warnings, text)
			continue
		}
		require.Len(t, warnings, 1, text)
		require.Equal(t, "c.yaml:5:15: pools[0].addresses[0]: "+want, warnings[0].String())
	}
}
