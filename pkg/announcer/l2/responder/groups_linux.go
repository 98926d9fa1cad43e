package responder

import (
	"errors"
	"fmt"
	"net/netip"

	"golang.org/x/sys/unix"
)

// maxGroups is how many groups one socket joins. The kernel takes their memory from the
// socket's net.core.optmem_max, which has been as small as 20 KiB.
const maxGroups = 256

// memberships keeps an interface in IPv6 multicast groups. The sockets are bound to no
// port and receive nothing: they are there so that the interface lets the groups' frames
// in, and so that the kernel speaks MLD for them.
type memberships struct {
	index  int
	joined map[netip.Addr]*membership
	use    map[int]int // descriptor to number of groups
}

type membership struct {
	descriptor int
	// members is how many need it.
	members int
}

func newMemberships(index int) *memberships {
	return &memberships{index: index, joined: map[netip.Addr]*membership{}, use: map[int]int{}}
}

// addGroup keeps the interface in group for one more, and remove for one less. After an error
// it may not be in it.
func (m *memberships) addGroup(group netip.Addr) error {
	if m.joined[group] == nil {
		if err := m.joinGroup(group); err != nil {
			return fmt.Errorf("join group %s: %w", group, err)
		}
	}
	m.joined[group].members++
	return nil
}

func (m *memberships) removeGroup(group netip.Addr) error {
	joined := m.joined[group]
	if joined.members--; joined.members > 0 {
		return nil
	}
	if err := m.leaveGroup(group, joined.descriptor); err != nil {
		return fmt.Errorf("leave group %s: %w", group, err)
	}
	return nil
}

// joinGroup uses a socket that has room, or a new one where none has.
func (m *memberships) joinGroup(group netip.Addr) error {
	for fd, used := range m.use {
		if used >= maxGroups {
			continue
		}
		err := m.joinBy(fd, group)
		if !errors.Is(err, unix.ENOBUFS) && !errors.Is(err, unix.ENOMEM) {
			return err
		}
	}
	fd, err := unix.Socket(unix.AF_INET6, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	m.use[fd] = 0
	return m.joinBy(fd, group)
}

func (m *memberships) joinBy(fd int, group netip.Addr) error {
	err := unix.SetsockoptIPv6Mreq(fd, unix.IPPROTO_IPV6, unix.IPV6_JOIN_GROUP, m.groupRequest(group))
	if err == nil {
		m.joined[group] = &membership{descriptor: fd}
		m.use[fd]++
	}
	return err
}

// leaveGroup ends a membership. An interface that is gone took it along.
func (m *memberships) leaveGroup(group netip.Addr, fd int) error {
	err := unix.SetsockoptIPv6Mreq(fd, unix.IPPROTO_IPV6, unix.IPV6_LEAVE_GROUP, m.groupRequest(group))
	if err != nil && !errors.Is(err, unix.EADDRNOTAVAIL) && !errors.Is(err, unix.ENODEV) {
		return err
	}
	delete(m.joined, group)
	if m.use[fd]--; m.use[fd] == 0 {
		delete(m.use, fd)
		return unix.Close(fd)
	}
	return nil
}

func (m *memberships) groupRequest(group netip.Addr) *unix.IPv6Mreq {
	return &unix.IPv6Mreq{Multiaddr: group.As16(), Interface: uint32(m.index)}
}

// closeGroups ends all memberships.
func (m *memberships) closeGroups() error {
	var failures []error
	for fd := range m.use {
		failures = append(failures, unix.Close(fd))
	}
	clear(m.joined)
	clear(m.use)
	return errors.Join(failures...)
}
