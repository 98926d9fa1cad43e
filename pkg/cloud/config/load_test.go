package config

import (
	"bytes"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestLoad(t *testing.T) {
	path := filepath.Join(t.TempDir(), "cloud-config.yaml")
	require.NoError(t, os.WriteFile(path, []byte(head+pool), 0o600))
	c, warnings, err := Load(path)
	require.NoError(t, err)
	require.Empty(t, warnings)
	require.Equal(t, "a", c.Pools[0].Name)
}

func TestLoadNamesTheFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "cloud-config.yaml")
	require.NoError(t, os.WriteFile(path, []byte(head+"pools: 1\n"), 0o600))
	_, _, err := Load(path)
	require.EqualError(t, err, path+":3:8: pools: want a list, got the number 1")
}

func TestLoadMissing(t *testing.T) {
	path := filepath.Join(t.TempDir(), "cloud-config.yaml")
	_, _, err := Load(path)
	require.EqualError(t, err, path+": cannot be read: no such file or directory; create it, or the ConfigMap that is mounted there")
	require.ErrorIs(t, err, fs.ErrNotExist)

	_, _, err = Load("")
	require.EqualError(t, err, "cloud-config: no file is given; set --cloud-config")
}

func TestLoadDirectory(t *testing.T) {
	dir := t.TempDir()
	_, _, err := Load(dir)
	require.EqualError(t, err, dir+": is a directory; name the file in it")
}

// Ten megabytes of garbage are refused at once, as bytes, as text and as YAML.
func TestLoadGarbage(t *testing.T) {
	const size = 10 << 20
	random := make([]byte, size)
	_, _ = rand.NewChaCha8([32]byte{1}).Read(random)
	for name, data := range map[string][]byte{
		"random":  random,
		"text":    bytes.Repeat([]byte("lorem ipsum "), size/12),
		"pools":   append([]byte(head+"pools:\n"), bytes.Repeat([]byte("- name: a\n"), size/10)...),
		"nothing": bytes.Repeat([]byte("\n"), size),
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "cloud-config.yaml")
			require.NoError(t, os.WriteFile(path, data, 0o600))
			start := time.Now()
			_, _, err := Load(path)
			require.EqualError(t, err, path+": is larger than 1048576 bytes; a cloud-config is small; is this the right file?")
			require.Less(t, time.Since(start), 5*time.Minute)
		})
	}
}

// What just fits is read in reasonable time, whatever its shape: seconds, not an hour. A
// machine that does much besides has taken half a minute under the race detector.
func TestParseLargestInTime(t *testing.T) {
	for name, unit := range map[string]string{
		"keys":    "a: 1\n",
		"lists":   "- ",
		"opening": "[",
		"flow":    "{a: ",
		"anchors": "- &a *a\n",
		"quotes":  "\"",
		"spaces":  "a:\n ",
		"entries": "- 192.0.2.1\n",
	} {
		t.Run(name, func(t *testing.T) {
			start := time.Now()
			_, _, err := Parse(bytes.Repeat([]byte(unit), MaxSize/len(unit)), "c.yaml")
			require.Error(t, err)
			require.Less(t, time.Since(start), 5*time.Minute)
		})
	}
}
