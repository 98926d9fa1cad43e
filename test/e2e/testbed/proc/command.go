// Package proc runs programs inside namespaces of their own and keeps them running.
//
// A child is started through a shim, this same program under the name ShimName, which
// enters the network namespace, builds the mount namespace, gives up privileges and
// then becomes the program. All of them die with the supervisor, however it ends.
package proc

// Command is a program to run and the surroundings it sees.
type Command struct {
	// Path is the program, as seen inside Root if that is set.
	Path string
	// Args are its arguments without the program's own name.
	Args []string
	// Env is its whole environment, KEY=value.
	Env []string
	// NetNS names the network namespace, "" for the host's.
	NetNS string
	// Root is an empty directory that an in-memory root file system with nothing but
	// /proc, /sys, /dev, /etc and the binds is mounted over. "" keeps the host's root.
	Root string
	// ReadOnlyRoot makes Root read-only once it is built.
	ReadOnlyRoot bool
	// Binds are mounted in order.
	Binds []Bind
	// Tmpfs are directories that get an empty in-memory file system.
	Tmpfs []string
	// Identity is who the program runs as, nil for root with all capabilities.
	Identity *Identity
}

// Bind shows a file or directory of the host at Target.
type Bind struct {
	Source, Target string
	ReadOnly       bool
}

// Identity is what a process is allowed to be.
type Identity struct {
	UID, GID int
	// Capabilities are the names of those that stay, as in "NET_RAW". A user other
	// than 0 keeps none after the program starts, like under a container runtime.
	Capabilities []string
	// NoNewPrivileges forbids the program to gain any.
	NoNewPrivileges bool
}

// spec is what the spawner tells the shim.
type spec struct {
	Command
	Parent int
}
