package config

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
)

// MaxSize is the largest cloud-config that is read, in bytes: what a ConfigMap can hold.
const MaxSize = 1 << 20

// Load reads and checks the file at path. The error is always an *Error; it wraps the
// system's error where the file could not be read. The file is opened once, so that a
// ConfigMap mount that is swapped meanwhile yields the old or the new text, never a mix.
func Load(path string) (*Config, []Warning, error) {
	data, err := Read(path)
	if err != nil {
		return nil, nil, err
	}
	return Parse(data, path)
}

// Read returns the text of the file at path, for Parse; of a file that is too large only as
// much as Parse needs to refuse it. The error is always an *Error that wraps the system's.
func Read(path string) ([]byte, error) {
	if path == "" {
		return nil, fileError("cloud-config", nil, "no file is given", "set --cloud-config")
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, openError(path, err)
	}
	defer f.Close()
	if info, err := f.Stat(); err == nil && info.IsDir() {
		return nil, fileError(path, nil, "is a directory", "name the file in it")
	}
	return ReadFrom(f, path)
}

// ReadFrom is Read of what r returns; name stands for it in errors.
func ReadFrom(r io.Reader, name string) ([]byte, error) {
	data, err := io.ReadAll(io.LimitReader(r, MaxSize+1))
	if err != nil {
		return nil, openError(name, err)
	}
	return data, nil
}

// openError drops the system's repetition of the path.
func openError(path string, err error) error {
	cause := err
	if perr, ok := errors.AsType[*fs.PathError](err); ok {
		cause = perr.Err
	}
	cure := ""
	if errors.Is(err, fs.ErrNotExist) {
		cure = "create it, or the ConfigMap that is mounted there"
	}
	return fileError(path, err, fmt.Sprintf("cannot be read: %s", cause), cure)
}

func fileError(path string, cause error, message, cure string) error {
	return &Error{Name: path, Problems: []Problem{{Message: message, Cure: cure}}, cause: cause}
}
