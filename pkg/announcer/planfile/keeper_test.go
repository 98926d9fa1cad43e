package planfile

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"baremetal.cloud/ccm/pkg/announcer/control"
	"baremetal.cloud/ccm/pkg/announcer/plan"
)

// log is what a Keeper of a test logged; it is read when the Keeper has ended, or rests.
type log struct{ bytes.Buffer }

func newKeeper(path string) (*Keeper, *log) {
	l := &log{}
	return NewKeeper(Options{
		Path: path, Node: "node1", Account: func() (string, error) { return "uid", nil },
		Logger: slog.New(slog.NewTextHandler(l, nil)),
	}), l
}

// running runs k in the bubble of the test, and returns what ends it.
func running(t *testing.T, k *Keeper) (end func()) {
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- k.Run(ctx) }()
	return func() {
		cancel()
		require.NoError(t, <-done)
	}
}

func load(path string) plan.NodePlan {
	k, _ := newKeeper(path)
	return k.Load()
}

// TestKeepAndLoad: the next life finds the last plan, and nobody but its owner can read it.
func TestKeepAndLoad(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "plan")
		k, l := newKeeper(path)
		require.Zero(t, k.Load())
		require.Contains(t, l.String(), "no plan is kept on disk")
		end := running(t, k)
		k.Keep(nodePlan(7, 1, 3))
		synctest.Wait()
		samePlan(t, nodePlan(7, 1, 3), load(path))
		info, err := os.Stat(path)
		require.NoError(t, err)
		require.Equal(t, os.FileMode(0o600), info.Mode())
		k.Keep(nodePlan(7, 2, 1))
		end()
		samePlan(t, nodePlan(7, 2, 1), load(path))
	})
}

// TestWritesAreCoalesced: of changes that follow each other closely few are written, the
// last one always, and another term at once.
func TestWritesAreCoalesced(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "plan")
		k, _ := newKeeper(path)
		end := running(t, k)
		for r := range uint64(1000) {
			k.Keep(nodePlan(7, r+1, 2))
			time.Sleep(10 * time.Millisecond)
		}
		time.Sleep(pause)
		synctest.Wait()
		samePlan(t, nodePlan(7, 1000, 2), load(path))
		written, failed := k.Counts()
		require.LessOrEqual(t, written, uint64(4), "in ten seconds, one each five")
		require.Zero(t, failed)

		k.Keep(nodePlan(7, 1001, 2))
		time.Sleep(pause)
		k.Keep(nodePlan(7, 1002, 2))
		synctest.Wait()
		k.Keep(nodePlan(8, 1, 2))
		synctest.Wait()
		samePlan(t, nodePlan(8, 1, 2), load(path))
		end()
	})
}

// TestFault_K1_5_TermsKeepThePause: a term that is raised again and again is written at once
// once a minute, and else with the usual pause.
func TestFault_K1_5_TermsKeepThePause(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "plan")
		k, _ := newKeeper(path)
		end := running(t, k)
		const seconds = 60
		for term := range uint64(5 * seconds) {
			k.Keep(nodePlan(term+1, 1, 2))
			time.Sleep(time.Second / 5)
		}
		time.Sleep(pause)
		synctest.Wait()
		samePlan(t, nodePlan(5*seconds, 1, 2), load(path))
		written, _ := k.Counts()
		require.LessOrEqual(t, written, uint64(seconds/5+4))
		end()
	})
}

// TestFailuresAreRetried: a directory that is not there is complained of once.
func TestFailuresAreRetried(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "dir", "plan")
		k, l := newKeeper(path)
		end := running(t, k)
		k.Keep(nodePlan(7, 1, 1))
		time.Sleep(3*pause + time.Second)
		synctest.Wait()
		require.Equal(t, 1, strings.Count(l.String(), "cannot be kept on disk"), l)
		_, failed := k.Counts()
		require.EqualValues(t, 4, failed)
		require.NoError(t, os.Mkdir(filepath.Dir(path), 0o700))
		time.Sleep(pause)
		synctest.Wait()
		samePlan(t, nodePlan(7, 1, 1), load(path))
		end()
	})
}

// TestNothingIsWrittenInPlace: who reads at any time finds a whole plan, and what a crash
// left behind does no harm.
func TestNothingIsWrittenInPlace(t *testing.T) {
	path := filepath.Join(t.TempDir(), "plan")
	require.NoError(t, os.WriteFile(path+".new", []byte("half"), 0o666))
	require.NoError(t, replaceFile(path, encoded(t, control.PersistedPlan{Node: "node1", Account: "uid", Plan: nodePlan(7, 1, 1)})))
	stop, read := make(chan struct{}), make(chan int)
	go func() {
		n := 0
		defer func() { read <- n }()
		for {
			select {
			case <-stop:
				return
			default:
				if load(path).Version.IsZero() {
					n = -1
					return
				}
				n++
			}
		}
	}()
	for r := range uint64(50) {
		require.NoError(t, replaceFile(path, encoded(t, control.PersistedPlan{Node: "node1", Account: "uid", Plan: nodePlan(7, r+1, 100)})))
	}
	close(stop)
	require.NotEqual(t, -1, <-read, "half a plan was read")
	entries, err := os.ReadDir(filepath.Dir(path))
	require.NoError(t, err)
	require.Len(t, entries, 1)
}

// TestDiscards: what is not this node's and this cluster's, or cannot be trusted, is not
// used, and the log says why.
func TestDiscards(t *testing.T) {
	good := encoded(t, control.PersistedPlan{Node: "node1", Account: "uid", Plan: nodePlan(7, 1, 1)})
	newer := bytes.Clone(good)
	binary.BigEndian.PutUint32(newer[versionOffset:], version+1)
	for name, test := range map[string]struct {
		data    []byte
		mode    os.FileMode
		account error
		why     string
	}{
		"another cluster":     {data: encoded(t, control.PersistedPlan{Node: "node1", Account: "other", Plan: nodePlan(7, 1, 1)}), why: `it is of another cluster (c): its ServiceAccount has UID \"other\", this one's has \"uid\"`},
		"another node":        {data: encoded(t, control.PersistedPlan{Node: "node2", Account: "uid", Plan: nodePlan(7, 1, 1)}), why: "it is of node node2, and this is node1"},
		"no token":            {data: good, account: errors.New("no token"), why: "whose plan it is cannot be told: no token"},
		"cut":                 {data: good[:len(good)-1], why: "the file is damaged"},
		"empty":               {why: "the file is damaged"},
		"a newer version":     {data: newer, why: "the file has version 2; this build reads version 1"},
		"writable for others": {data: good, mode: 0o622, why: "others than its owner may write it"},
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "plan")
			require.NoError(t, os.WriteFile(path, test.data, 0o600))
			if test.mode != 0 {
				require.NoError(t, os.Chmod(path, test.mode))
			}
			k, l := newKeeper(path)
			k.options.Account = func() (string, error) { return "uid", test.account }
			require.Zero(t, k.Load())
			require.Contains(t, l.String(), "the plan on disk is discarded")
			require.Contains(t, l.String(), test.why)
		})
	}
	k, l := newKeeper(t.TempDir())
	require.Zero(t, k.Load())
	require.Contains(t, l.String(), "is no regular file")
}

// BenchmarkSave is what a write of a plan with so many addresses costs beside the disk.
func BenchmarkSave(b *testing.B) {
	path := filepath.Join(b.TempDir(), "plan")
	k, _ := newKeeper(path)
	w := writer{Keeper: k}
	set := nodePlan(7, 1, 10000)
	b.ReportAllocs()
	for b.Loop() {
		if err := w.savePlan(set); err != nil {
			b.Fatal(err)
		}
	}
}
