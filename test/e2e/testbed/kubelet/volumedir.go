package kubelet

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// file is one entry of a volume that is projected from API objects.
type file struct {
	data []byte
	mode os.FileMode
	// owner is a user ID, 0 for root.
	owner int
}

// writeAtomic makes dir show exactly files (by relative path), the way kubelet does: a
// fresh directory is filled and the symlink ..data is swapped to it by one rename, so
// that a reader sees all of the old content or all of the new. Equal content is left
// alone.
func writeAtomic(dir string, files map[string]file) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	link := filepath.Join(dir, "..data")
	old, _ := os.Readlink(link)
	if old != "" && sameFiles(filepath.Join(dir, old), files) {
		return nil
	}
	fresh, err := os.MkdirTemp(dir, "..")
	if err != nil {
		return err
	}
	if err := os.Chmod(fresh, 0o755); err != nil {
		return err
	}
	for name, f := range files {
		if err := writeFile(filepath.Join(fresh, name), f); err != nil {
			return err
		}
	}
	next := filepath.Join(dir, "..data_tmp")
	if err := os.Symlink(filepath.Base(fresh), next); err != nil {
		return err
	}
	if err := os.Rename(next, link); err != nil {
		return err
	}
	if err := visible(dir, files); err != nil {
		return err
	}
	if old == "" {
		return nil
	}
	return os.RemoveAll(filepath.Join(dir, old))
}

func writeFile(path string, f file) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	if err := os.WriteFile(path, f.data, f.mode); err != nil {
		return err
	}
	if err := os.Chmod(path, f.mode); err != nil {
		return err
	}
	return os.Chown(path, f.owner, f.owner)
}

// sameFiles reports whether dir holds files and nothing else.
func sameFiles(dir string, files map[string]file) bool {
	seen := 0
	err := filepath.WalkDir(dir, func(path string, entry os.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		name, err := filepath.Rel(dir, path)
		if err != nil {
			return err
		}
		data, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		if want, ok := files[name]; !ok || !bytes.Equal(want.data, data) {
			return fmt.Errorf("%s differs", name)
		}
		seen++
		return nil
	})
	return err == nil && seen == len(files)
}

// visible keeps one symlink through ..data for each name that users see.
func visible(dir string, files map[string]file) error {
	want := map[string]bool{}
	for name := range files {
		first, _, _ := strings.Cut(name, "/")
		want[first] = true
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		name := e.Name()
		if !strings.HasPrefix(name, "..") && !want[name] {
			if err := os.Remove(filepath.Join(dir, name)); err != nil {
				return err
			}
		}
		delete(want, name)
	}
	for name := range want {
		if err := os.Symlink(filepath.Join("..data", name), filepath.Join(dir, name)); err != nil {
			return err
		}
	}
	return nil
}
