package main

import (
	"encoding/base64"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestAccount(t *testing.T) {
	token := func(claims string) string {
		return "e30." + base64.RawURLEncoding.EncodeToString([]byte(claims)) + ".c2ln\n"
	}
	for name, test := range map[string]struct {
		token, want, err string
	}{
		"of a ServiceAccount": {token: token(`{"kubernetes.io":{"namespace":"n","serviceaccount":{"name":"a","uid":"u-1"}}}`), want: "u-1"},
		"of nobody":           {token: token(`{"sub":"x"}`)},
		"no claims":           {token: token(`[]`), err: "cannot unmarshal array"},
		"no base64":           {token: "a.!.c", err: "illegal base64 data"},
		"no token":            {token: "secret", err: "it is no token"},
	} {
		t.Run(name, func(t *testing.T) {
			file := filepath.Join(t.TempDir(), "token")
			require.NoError(t, os.WriteFile(file, []byte(test.token), 0o600))
			got, err := accountUID(file)
			if test.err != "" {
				require.ErrorContains(t, err, test.err)
				return
			}
			require.NoError(t, err)
			require.Equal(t, test.want, got)
		})
	}
	_, err := accountUID(filepath.Join(t.TempDir(), "none"))
	require.ErrorIs(t, err, os.ErrNotExist)
}
