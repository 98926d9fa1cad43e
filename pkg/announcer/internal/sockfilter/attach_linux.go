// Package sockfilter gives sockets programs by which the kernel filters or divides what comes.
package sockfilter

import (
	"fmt"

	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"
)

// Attach gives a socket a classic BPF program that is not empty. option is one of
// SO_ATTACH_FILTER and SO_ATTACH_REUSEPORT_CBPF (socket(7)).
func Attach(fd, option int, program []bpf.RawInstruction) error {
	filters := make([]unix.SockFilter, len(program))
	for i, in := range program {
		filters[i] = unix.SockFilter{Code: in.Op, Jt: in.Jt, Jf: in.Jf, K: in.K}
	}
	if err := unix.SetsockoptSockFprog(fd, unix.SOL_SOCKET, option, &unix.SockFprog{Len: uint16(len(filters)), Filter: &filters[0]}); err != nil {
		return fmt.Errorf("filter socket: %w", err)
	}
	return nil
}
