package proc

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"

	"baremetal.cloud/ccm/test/e2e/testbed/netns"
	"golang.org/x/sys/unix"
)

// ShimName is the program name under which the shim is started.
const ShimName = "testbed-shim"

// RunIfShim becomes the program that the spawner asked for, if this process was
// started as the shim; otherwise it returns at once. A main that supervises processes
// calls it first.
func RunIfShim() {
	if filepath.Base(os.Args[0]) != ShimName {
		return
	}
	// Namespaces and credentials belong to a thread; exec keeps those of the caller.
	runtime.LockOSThread()
	err := become(os.Args[1])
	fmt.Fprintln(os.Stderr, "testbed: cannot start the program:", err)
	os.Exit(127)
}

func become(encoded string) error {
	var s spec
	if err := json.Unmarshal([]byte(encoded), &s); err != nil {
		return err
	}
	if s.NetNS != "" {
		if err := enterNetNS(s.NetNS); err != nil {
			return err
		}
	}
	if err := mounts(s.Command); err != nil {
		return err
	}
	if s.Identity != nil {
		if err := assume(*s.Identity); err != nil {
			return err
		}
	}
	// Changing the user clears the signal that the spawner asked for.
	if err := unix.Prctl(unix.PR_SET_PDEATHSIG, uintptr(unix.SIGKILL), 0, 0, 0); err != nil {
		return fmt.Errorf("PR_SET_PDEATHSIG: %w", err)
	}
	if os.Getppid() != s.Parent {
		return errors.New("the supervisor is gone")
	}
	err := unix.Exec(s.Path, append([]string{s.Path}, s.Args...), s.Env)
	return fmt.Errorf("exec %s: %w", s.Path, err)
}

func enterNetNS(name string) error {
	fd, err := unix.Open(netns.Path(name), unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("network namespace %s: %w", name, err)
	}
	defer unix.Close(fd)
	return unix.Setns(fd, unix.CLONE_NEWNET)
}

// mounts gives the process a mount namespace of its own. The host sees none of it.
func mounts(c Command) error {
	if err := unix.Unshare(unix.CLONE_NEWNS); err != nil {
		return fmt.Errorf("unshare the mount namespace: %w", err)
	}
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("make mounts private: %w", err)
	}
	if c.Root == "" {
		return hostRoot(c)
	}
	if err := skeleton(c.Root); err != nil {
		return fmt.Errorf("root file system: %w", err)
	}
	if err := binds(c); err != nil {
		return err
	}
	if c.ReadOnlyRoot {
		if err := unix.Mount("", c.Root, "", unix.MS_REMOUNT|unix.MS_RDONLY, ""); err != nil {
			return fmt.Errorf("make the root file system read-only: %w", err)
		}
	}
	if err := unix.Chroot(c.Root); err != nil {
		return fmt.Errorf("chroot: %w", err)
	}
	return unix.Chdir("/")
}

// hostRoot keeps the host's files, but /sys has to show the devices of the process's
// own network namespace.
func hostRoot(c Command) error {
	if c.NetNS != "" {
		if err := unix.Mount("sysfs", "/sys", "sysfs", 0, ""); err != nil {
			return fmt.Errorf("mount /sys: %w", err)
		}
	}
	return binds(c)
}

// skeleton builds what a container image without an operating system offers.
func skeleton(root string) error {
	if err := unix.Mount("tmpfs", root, "tmpfs", unix.MS_NOSUID, "mode=0755"); err != nil {
		return err
	}
	for _, dir := range []string{"proc", "sys", "dev", "etc", "run", "tmp"} {
		if err := os.MkdirAll(filepath.Join(root, dir), 0o755); err != nil {
			return err
		}
	}
	if err := os.Chmod(filepath.Join(root, "tmp"), 0o1777); err != nil {
		return err
	}
	files := map[string]string{
		"etc/passwd": "root:x:0:0:root:/:/sbin/nologin\nnonroot:x:65532:65532:nonroot:/:/sbin/nologin\n",
		"etc/group":  "root:x:0:\nnonroot:x:65532:\n",
		"etc/hosts":  "127.0.0.1 localhost\n::1 localhost\n",
	}
	for name, text := range files {
		if err := os.WriteFile(filepath.Join(root, name), []byte(text), 0o644); err != nil {
			return err
		}
	}
	return errors.Join(
		unix.Mount("proc", filepath.Join(root, "proc"), "proc", 0, ""),
		unix.Mount("sysfs", filepath.Join(root, "sys"), "sysfs", unix.MS_RDONLY, ""),
		unix.Mount("/dev", filepath.Join(root, "dev"), "", unix.MS_BIND|unix.MS_REC, ""),
	)
}

func binds(c Command) error {
	for _, dir := range c.Tmpfs {
		target := filepath.Join(c.Root, dir)
		if err := os.MkdirAll(target, 0o755); err != nil {
			return err
		}
		if err := unix.Mount("tmpfs", target, "tmpfs", 0, "mode=0755"); err != nil {
			return fmt.Errorf("mount an empty %s: %w", dir, err)
		}
	}
	for _, b := range c.Binds {
		if err := bind(b, filepath.Join(c.Root, b.Target)); err != nil {
			return fmt.Errorf("mount %s on %s: %w", b.Source, b.Target, err)
		}
	}
	return nil
}

func bind(b Bind, target string) error {
	info, err := os.Stat(b.Source)
	if err != nil {
		return err
	}
	if info.IsDir() {
		err = os.MkdirAll(target, 0o755)
	} else {
		err = touch(target)
	}
	if err != nil {
		return err
	}
	if err := unix.Mount(b.Source, target, "", unix.MS_BIND|unix.MS_REC, ""); err != nil {
		return err
	}
	if !b.ReadOnly {
		return nil
	}
	return unix.Mount("", target, "", unix.MS_BIND|unix.MS_REMOUNT|unix.MS_RDONLY, "")
}

func touch(path string) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDONLY, 0o644)
	if err != nil {
		return err
	}
	return f.Close()
}

// assume gives up everything that id does not have.
func assume(id Identity) error {
	keep, err := capabilityMask(id.Capabilities)
	if err != nil {
		return err
	}
	for c := 0; c <= unix.CAP_LAST_CAP; c++ {
		if keep&(1<<c) != 0 {
			continue
		}
		if err := unix.Prctl(unix.PR_CAPBSET_DROP, uintptr(c), 0, 0, 0); err != nil && !errors.Is(err, unix.EINVAL) {
			return fmt.Errorf("drop capability %d: %w", c, err)
		}
	}
	if err := setUser(id.UID, id.GID); err != nil {
		return err
	}
	if id.UID != 0 {
		keep = 0
	}
	if err := setCapabilities(keep); err != nil {
		return err
	}
	if !id.NoNewPrivileges {
		return nil
	}
	return unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
}

// setUser uses the bare system calls: only this thread is going to live on.
func setUser(uid, gid int) error {
	if _, _, e := unix.RawSyscall(unix.SYS_SETGROUPS, 0, 0, 0); e != 0 {
		return fmt.Errorf("setgroups: %w", e)
	}
	if _, _, e := unix.RawSyscall(unix.SYS_SETRESGID, uintptr(gid), uintptr(gid), uintptr(gid)); e != 0 {
		return fmt.Errorf("setresgid: %w", e)
	}
	if _, _, e := unix.RawSyscall(unix.SYS_SETRESUID, uintptr(uid), uintptr(uid), uintptr(uid)); e != 0 {
		return fmt.Errorf("setresuid: %w", e)
	}
	return nil
}

func setCapabilities(mask uint64) error {
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	low, high := uint32(mask), uint32(mask>>32)
	data := [2]unix.CapUserData{{Effective: low, Permitted: low}, {Effective: high, Permitted: high}}
	if err := unix.Capset(&header, &data[0]); err != nil {
		return fmt.Errorf("capset: %w", err)
	}
	return nil
}

func capabilityMask(names []string) (uint64, error) {
	var mask uint64
	for _, name := range names {
		number, ok := capabilityNumber(strings.TrimPrefix(strings.ToUpper(name), "CAP_"))
		if !ok {
			return 0, fmt.Errorf("unknown capability %q", name)
		}
		mask |= 1 << number
	}
	return mask, nil
}
