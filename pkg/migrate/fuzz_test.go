package migrate

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
)

// FuzzConvert: whatever the source is, the outcome is an error with problems, or a cloud-config that
// our own decoder accepts and that has no address the source does not have. The same source gives
// the same result.
func FuzzConvert(f *testing.F) {
	found, err := filepath.Glob("testdata/*/source.yaml")
	require.NoError(f, err)
	for _, path := range found {
		data, err := os.ReadFile(path)
		require.NoError(f, err)
		for i := range Products() {
			f.Add(i, string(data))
		}
	}
	f.Add(2, "apiVersion: metallb.io/v1beta1\nkind: IPAddressPool\nmetadata: {name: -}\nspec: {addresses: [::/0, 0.0.0.0/0]}\n")
	f.Add(0, "{apiVersion: cilium.io/v2, kind: CiliumLoadBalancerIPPool, metadata: {name: a}, spec: {blocks: [{start: 1::, stop: 1::9}]}}")
	f.Fuzz(func(t *testing.T, product int, text string) {
		if product < 0 || product >= len(Products()) {
			return
		}
		chosen := Products()[product]
		source := Source{Data: []byte(text), Name: "s"}
		result, err := Convert(chosen, source)
		again, errAgain := Convert(chosen, source)
		require.Equal(t, err, errAgain)
		require.Equal(t, result, again)
		if err == nil {
			checkResult(t, text, result)
			return
		}
		require.Nil(t, result)
		refused, ok := err.(*Error) //nolint:errorlint // it is one, unwrapped
		require.True(t, ok)
		require.NotEmpty(t, refused.Problems)
		for _, p := range refused.Problems {
			require.NotEmpty(t, p.Message)
		}
	})
}
