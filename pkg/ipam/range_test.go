package ipam

import (
	"net/netip"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestParseRange(t *testing.T) {
	for text, want := range map[string]string{
		"10.0.0.0/24":               "10.0.0.0-10.0.0.255",
		" 10.0.0.9 - 10.0.0.12 ":    "10.0.0.9-10.0.0.12",
		"10.0.0.7":                  "10.0.0.7",
		"2001:db8::/120":            "2001:db8::-2001:db8::ff",
		"2001:db8::1-2001:db8::1:0": "2001:db8::1-2001:db8::1:0",
		"10.0.0.253-10.0.1.2":       "10.0.0.253-10.0.1.2",
	} {
		r, err := ParseRange(text)
		require.NoError(t, err, text)
		require.Equal(t, want, r.String())
	}
}

// Rows IP15 and IP16.
func TestParseRangeRefuses(t *testing.T) {
	for text, want := range map[string]error{
		"1.2.3.4-fe80::1":       ErrMixedFamily,
		"10.0.0.9-10.0.0.1":     ErrReversed,
		"10.0.0.0/33":           ErrNotAddress,
		"10.0.0":                ErrNotAddress,
		"":                      ErrNotAddress,
		"10.0.0.1-":             ErrNotAddress,
		"10.0.0.5/24":           ErrHostBits,
		"224.0.0.0/24":          ErrUnusable,
		"127.0.0.1":             ErrUnusable,
		"169.254.1.0/24":        ErrUnusable,
		"0.0.0.0/0":             ErrUnusable,
		"255.255.255.255":       ErrUnusable,
		"::":                    ErrUnusable,
		"::1":                   ErrUnusable,
		"fe80::1-fe80::2":       ErrUnusable,
		"ff02::/64":             ErrUnusable,
		"::ffff:10.0.0.1":       ErrUnusable,
		"223.0.0.0-225.0.0.0":   ErrUnusable,
		"2001:db8::1%eth0":      ErrUnusable,
		"10.0.0.1-2001:db8::/1": ErrNotAddress,
	} {
		_, err := ParseRange(text)
		require.ErrorIs(t, err, want, text)
	}
	_, err := ParseRange("10.0.0.5/24")
	require.ErrorContains(t, err, "10.0.0.0/24", "the network that was probably meant")
}

func FuzzParseRange(f *testing.F) {
	for _, s := range []string{"10.0.0.0/24", "10.0.0.1-10.0.0.9", "2001:db8::/64", "::-::", "1/2-3", "fe80::%x/10"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		r, err := ParseRange(s)
		if err != nil {
			return
		}
		require.False(t, r.Last.Less(r.First))
		require.True(t, r.Contains(r.First) && r.Contains(r.Last) && r.Overlaps(r))
		require.Positive(t, r.Size().Sign())
		again, err := ParseRange(r.String())
		require.NoError(t, err)
		require.Equal(t, r, again)
		require.NotEqual(t, netip.Addr{}, r.First)
	})
}
