// Package netns makes, enters and removes named network namespaces, the ones that
// `ip netns` shows. Nothing here ever changes the namespace of a thread that other
// goroutines may get to run on.
package netns

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// Dir is where iproute2 keeps its named namespaces.
const Dir = "/run/netns"

// Path is the file that stands for the namespace called name.
func Path(name string) string { return filepath.Join(Dir, name) }

// Do runs f on a thread inside the namespace called name and waits for it. The thread
// is thrown away afterwards, so f must not start goroutines that count on it; sockets
// that f opens stay in the namespace wherever they are used later.
func Do(name string, f func() error) error {
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread()
		if unix.Gettid() == os.Getpid() {
			// The main thread cannot be thrown away, and where it is the whole process
			// seems to be. While it is locked here the next goroutine gets another.
			done <- Do(name, f)
			runtime.UnlockOSThread()
			return
		}
		// Never unlocked: the runtime ends a locked thread with its goroutine.
		if err := enter(name); err != nil {
			done <- err
			return
		}
		done <- f()
	}()
	return <-done
}

func enter(name string) error {
	fd, err := unix.Open(Path(name), unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("open network namespace %s: %w", name, err)
	}
	defer unix.Close(fd)
	if err := unix.Setns(fd, unix.CLONE_NEWNET); err != nil {
		return fmt.Errorf("enter network namespace %s: %w", name, err)
	}
	return nil
}

// DialFunc connects like net.Dialer.DialContext.
type DialFunc func(ctx context.Context, network, address string) (net.Conn, error)

// Dialer returns a function that connects from inside the namespace called name. The
// address has to be an IP address and a port: a name would be looked up elsewhere.
func Dialer(name string) DialFunc {
	return func(ctx context.Context, network, address string) (conn net.Conn, err error) {
		err = Do(name, func() error {
			conn, err = (&net.Dialer{}).DialContext(ctx, network, address)
			return err
		})
		return conn, err
	}
}

// Add makes the namespace called name and brings its loopback up.
func Add(ctx context.Context, name string) error {
	if err := run(ctx, "", "ip", "netns", "add", name); err != nil {
		return err
	}
	return run(ctx, "", "ip", "-n", name, "link", "set", "lo", "up")
}

// Delete removes the namespace called name; one that is not there is no error.
func Delete(ctx context.Context, name string) error {
	if _, err := os.Lstat(Path(name)); errors.Is(err, os.ErrNotExist) {
		return nil
	}
	return run(ctx, "", "ip", "netns", "delete", name)
}

// List returns the names of the namespaces that begin with prefix, sorted.
func List(prefix string) ([]string, error) {
	entries, err := os.ReadDir(Dir)
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var names []string
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), prefix) {
			names = append(names, e.Name())
		}
	}
	return names, nil
}

// PIDs returns the processes that live in the namespace called name.
func PIDs(ctx context.Context, name string) ([]int, error) {
	out, err := exec.CommandContext(ctx, "ip", "netns", "pids", name).Output()
	if err != nil {
		return nil, fmt.Errorf("ip netns pids %s: %w", name, err)
	}
	var pids []int
	for field := range strings.FieldsSeq(string(out)) {
		pid, err := strconv.Atoi(field)
		if err != nil {
			return nil, fmt.Errorf("ip netns pids %s: %w", name, err)
		}
		pids = append(pids, pid)
	}
	return pids, nil
}

// Batch runs `ip -batch` with script inside the namespace called name. The error
// carries what ip said, with the line of the script.
func Batch(ctx context.Context, name, script string) error {
	return run(ctx, script, "ip", "-n", name, "-batch", "-")
}

// Sysctl sets kernel parameters under /proc/sys/net of the namespace called name. Keys
// are paths below that directory.
func Sysctl(name string, values map[string]string) error {
	return Do(name, func() error {
		for key, value := range values {
			if err := os.WriteFile(filepath.Join("/proc/sys/net", key), []byte(value), 0o644); err != nil {
				return fmt.Errorf("sysctl net/%s=%s in %s: %w", key, value, name, err)
			}
		}
		return nil
	})
}

func run(ctx context.Context, stdin, program string, args ...string) error {
	cmd := exec.CommandContext(ctx, program, args...)
	cmd.Stdin = strings.NewReader(stdin)
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%s: %w: %s", strings.Join(cmd.Args, " "), err, strings.TrimSpace(string(out)))
	}
	return nil
}
