package kubelet

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestWriteAtomic(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "volume")
	mine := os.Getuid()
	put := func(files map[string]string) {
		t.Helper()
		all := map[string]file{}
		for name, text := range files {
			all[name] = file{data: []byte(text), mode: 0o640, owner: mine}
		}
		require.NoError(t, writeAtomic(dir, all))
		for name, text := range files {
			data, err := os.ReadFile(filepath.Join(dir, name))
			require.NoError(t, err)
			require.Equal(t, text, string(data))
			info, err := os.Stat(filepath.Join(dir, name))
			require.NoError(t, err)
			require.Equal(t, os.FileMode(0o640), info.Mode().Perm())
		}
	}
	generation := func() string {
		target, err := os.Readlink(filepath.Join(dir, "..data"))
		require.NoError(t, err)
		return target
	}
	put(map[string]string{"a": "1", "sub/b": "2"})
	first := generation()
	put(map[string]string{"a": "1", "sub/b": "2"})
	require.Equal(t, first, generation(), "equal content is not written again")
	put(map[string]string{"a": "changed", "c": "3"})
	require.NotEqual(t, first, generation())
	require.NoFileExists(t, filepath.Join(dir, "sub", "b"))
	_, err := os.Lstat(filepath.Join(dir, "sub"))
	require.ErrorIs(t, err, os.ErrNotExist, "links to what is gone go, too")
	_, err = os.Lstat(filepath.Join(dir, first))
	require.ErrorIs(t, err, os.ErrNotExist)
	put(map[string]string{})
	entries, err := os.ReadDir(dir)
	require.NoError(t, err)
	require.Len(t, entries, 2, "..data and what it points to")
}

// A reader that opened the file before the swap goes on reading the old content.
func TestWriteAtomicSparesReaders(t *testing.T) {
	dir, mine := t.TempDir(), os.Getuid()
	require.NoError(t, writeAtomic(dir, map[string]file{"a": {data: []byte("old"), mode: 0o600, owner: mine}}))
	f, err := os.Open(filepath.Join(dir, "a"))
	require.NoError(t, err)
	defer f.Close()
	require.NoError(t, writeAtomic(dir, map[string]file{"a": {data: []byte("new!"), mode: 0o600, owner: mine}}))
	buffer := make([]byte, 8)
	n, err := f.Read(buffer)
	require.NoError(t, err)
	require.Equal(t, "old", string(buffer[:n]))
}
