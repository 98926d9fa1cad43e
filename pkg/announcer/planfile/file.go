package planfile

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
)

const (
	ownerOnly   = 0o600
	othersWrite = 0o022
)

// readFile returns the content of the file at path. One that others than its owner may write
// is refused: a user that writes it decides what the node answers for.
func readFile(path string) ([]byte, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	info, err := file.Stat()
	switch {
	case err != nil:
		return nil, err
	case !info.Mode().IsRegular():
		return nil, fmt.Errorf("%s is no regular file", path)
	case info.Mode().Perm()&othersWrite != 0:
		return nil, fmt.Errorf("%s has mode %o: others than its owner may write it", path, info.Mode().Perm())
	case info.Size() > int64(maxFile):
		return nil, ErrDamaged
	}
	return io.ReadAll(io.LimitReader(file, int64(maxFile)))
}

// replaceFile makes data the content of the file at path, so that whatever happens, a crash of
// the machine too, the file afterwards has the old content or the new one.
func replaceFile(path string, data []byte) error {
	// The name is always the same, so that what a crash leaves behind does not pile up.
	fresh := path + ".new"
	if err := os.Remove(fresh); err != nil && !os.IsNotExist(err) {
		return err
	}
	if err := writeFile(fresh, data); err != nil {
		return err
	}
	if err := os.Rename(fresh, path); err != nil {
		return err
	}
	return syncDirectory(filepath.Dir(path))
}

func writeFile(path string, data []byte) error {
	file, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, ownerOnly)
	if err != nil {
		return err
	}
	_, err = file.Write(data)
	if err == nil {
		err = file.Sync()
	}
	if closed := file.Close(); err == nil {
		err = closed
	}
	return err
}

func syncDirectory(path string) error {
	dir, err := os.Open(path)
	if err != nil {
		return err
	}
	defer dir.Close()
	return dir.Sync()
}
