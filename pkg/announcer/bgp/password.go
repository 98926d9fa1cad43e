package bgp

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// maxPassword is the longest password that the kernel takes, in bytes (TCP_MD5SIG_MAXKEYLEN).
const maxPassword = 80

// readPassword reads the file of that name in dir. A line's end after the password is not part
// of it. The error is one sentence, and has nothing of the file.
func readPassword(dir, name string) (Secret, error) {
	if name != filepath.Base(name) || name == "." || name == ".." {
		return "", fmt.Errorf("the password file %q is no name of a file", name)
	}
	f, err := os.Open(filepath.Join(dir, name))
	if errors.Is(err, fs.ErrNotExist) {
		return "", fmt.Errorf("the password file %s does not exist", name)
	}
	if err != nil {
		return "", fmt.Errorf("the password file %s cannot be read", name)
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxPassword+3))
	if err != nil {
		return "", fmt.Errorf("the password file %s cannot be read", name)
	}
	password := strings.TrimRight(string(data), "\r\n")
	switch {
	case password == "":
		return "", fmt.Errorf("the password file %s is empty", name)
	case len(password) > maxPassword:
		return "", fmt.Errorf("the password in file %s is longer than %d bytes", name, maxPassword)
	}
	return Secret(password), nil
}
