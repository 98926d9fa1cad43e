// Package testlan gives tests network namespaces of their own, joined by veth pairs.
//
// A namespace has no name and vanishes with its last user; the thread that entered it
// ends with it and is never given back to the Go scheduler, so that no other test can
// end up in it. Without root the tests that need one are skipped.
package testlan

import (
	"errors"
	"net"
	"net/netip"
	"os"
	"runtime"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"baremetal.cloud/ccm/internal/need"
)

// Namespace is a network namespace that lives as long as its test.
type Namespace struct {
	fd   int
	jobs chan func()
}

// New returns a fresh namespace, or skips the test where the process may not make one.
func New(t testing.TB) *Namespace {
	t.Helper()
	need.Root(t, "network namespaces")
	n := &Namespace{jobs: make(chan func())}
	ready := make(chan error)
	go n.runJobs(ready)
	require.NoError(t, <-ready)
	t.Cleanup(func() {
		close(n.jobs)
		_ = unix.Close(n.fd)
	})
	n.Do(func() {
		// Duplicate address detection would make every test wait for a second.
		for _, name := range []string{"default", "all"} {
			_ = os.WriteFile("/proc/sys/net/ipv6/conf/"+name+"/accept_dad", []byte("0"), 0o644)
			// What an administrator sets down keeps its addresses, as it does those of IPv4.
			_ = os.WriteFile("/proc/sys/net/ipv6/conf/"+name+"/keep_addr_on_down", []byte("1"), 0o644)
		}
		// As systemd sets it: an address stays when the first one of its subnet goes.
		_ = os.WriteFile("/proc/sys/net/ipv4/conf/default/promote_secondaries", []byte("1"), 0o644)
		lo, err := netlink.LinkByName("lo")
		require.NoError(t, err)
		require.NoError(t, netlink.LinkSetUp(lo))
	})
	return n
}

// DetectDuplicates has the interfaces that the namespace gets from now on probe each of their
// IPv6 addresses, but for those of Address, so often before it is used: once a second.
func (n *Namespace) DetectDuplicates(t testing.TB, probes int) {
	t.Helper()
	var err error
	n.Do(func() {
		for name, value := range map[string]int{"accept_dad": 1, "dad_transmits": probes} {
			err = errors.Join(err, os.WriteFile("/proc/sys/net/ipv6/conf/default/"+name, []byte(strconv.Itoa(value)), 0o644))
		}
	})
	require.NoError(t, err)
}

// runJobs runs jobs in the namespace, on a thread that ends with it.
func (n *Namespace) runJobs(ready chan<- error) {
	runtime.LockOSThread()
	if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
		ready <- err
		return
	}
	fd, err := unix.Open("/proc/thread-self/ns/net", unix.O_RDONLY|unix.O_CLOEXEC, 0)
	n.fd = fd
	ready <- err
	for job := range n.jobs {
		job()
	}
}

// Do runs f in the namespace and waits for it. f must not end its goroutine, which
// require's functions do when they fail; errors are better carried out of it.
func (n *Namespace) Do(f func()) {
	done := make(chan struct{})
	n.jobs <- func() {
		defer close(done)
		f()
	}
	<-done
}

// Go runs f in the namespace on a thread of its own. The channel is closed when f ends.
func (n *Namespace) Go(f func()) <-chan struct{} {
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread()
		if err := unix.Setns(n.fd, unix.CLONE_NEWNET); err != nil {
			panic(err) // The descriptor is ours: a test that closed it too early is broken.
		}
		f()
	}()
	return done
}

// Veth joins a and b by a pair of interfaces that are both up.
func Veth(t testing.TB, a *Namespace, nameA string, b *Namespace, nameB string) {
	t.Helper()
	var err error
	a.Do(func() {
		attrs := netlink.NewLinkAttrs()
		attrs.Name = nameA
		veth := &netlink.Veth{LinkAttrs: attrs, PeerName: nameB, PeerNamespace: netlink.NsFd(b.fd)}
		if err = netlink.LinkAdd(veth); err == nil {
			err = netlink.LinkSetUp(veth)
		}
	})
	require.NoError(t, err)
	b.Change(t, nameB, netlink.LinkSetUp)
}

// Change applies change to the interface called name.
func (n *Namespace) Change(t testing.TB, name string, change func(netlink.Link) error) {
	t.Helper()
	var err error
	n.Do(func() {
		var found netlink.Link
		if found, err = netlink.LinkByName(name); err == nil {
			err = change(found)
		}
	})
	require.NoError(t, err, name)
}

// Address puts prefix, an address with the length of its subnet, on the interface, unless it is there.
func (n *Namespace) Address(t testing.TB, name, prefix string) {
	t.Helper()
	p := netip.MustParsePrefix(prefix)
	n.Change(t, name, func(l netlink.Link) error {
		return netlink.AddrReplace(l, &netlink.Addr{IPNet: &net.IPNet{
			IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen()),
		}, Flags: unix.IFA_F_NODAD})
	})
}

// RemoveAddress takes what Address put there off the interface.
func (n *Namespace) RemoveAddress(t testing.TB, name, prefix string) {
	t.Helper()
	n.Change(t, name, func(l netlink.Link) error {
		address, err := netlink.ParseAddr(prefix)
		if err != nil {
			return err
		}
		return netlink.AddrDel(l, address)
	})
}

// Route makes the kernel send prefix out by the interface without a gateway, with that metric; 0
// is what it gives by itself.
func (n *Namespace) Route(t testing.TB, name, prefix string, metric int) {
	t.Helper()
	p := netip.MustParsePrefix(prefix)
	n.Change(t, name, func(l netlink.Link) error {
		return netlink.RouteAdd(&netlink.Route{
			LinkIndex: l.Attrs().Index, Scope: netlink.SCOPE_LINK, Priority: metric,
			Dst: &net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())},
		})
	})
}

// Via makes the kernel send prefix out by a gateway.
func (n *Namespace) Via(t testing.TB, name, prefix, gateway string, metric int) {
	t.Helper()
	p := netip.MustParsePrefix(prefix)
	n.Change(t, name, func(l netlink.Link) error {
		return netlink.RouteAdd(&netlink.Route{
			LinkIndex: l.Attrs().Index, Priority: metric, Gw: net.ParseIP(gateway),
			Dst: &net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())},
		})
	})
}

// Interface returns the interface called name as package net sees it.
func (n *Namespace) Interface(t testing.TB, name string) *net.Interface {
	t.Helper()
	var found *net.Interface
	var err error
	n.Do(func() { found, err = net.InterfaceByName(name) })
	require.NoError(t, err)
	return found
}

// AwaitUp waits until the interface passes frames. The kernel activates a link some time
// after it was set up, at most once a second for all links of a machine, and drops what
// is sent before.
func (n *Namespace) AwaitUp(t testing.TB, name string) {
	t.Helper()
	require.Eventually(t, func() bool {
		up := false
		n.Change(t, name, func(link netlink.Link) error {
			up = link.Attrs().OperState == netlink.OperUp
			return nil
		})
		return up
	}, 2*time.Minute, 5*time.Millisecond, "%s does not come up", name)
}

// Resolve makes the namespace's kernel forget address, ask on the interface for it, by ARP
// or NDP, and returns the hardware address that answered within a short time, or nil.
func (n *Namespace) Resolve(name, address string) net.HardwareAddr {
	ip := net.ParseIP(address)
	var found net.HardwareAddr
	n.Do(func() {
		port, err := netlink.LinkByName(name)
		if err != nil {
			return
		}
		index := port.Attrs().Index
		_ = netlink.NeighDel(&netlink.Neigh{LinkIndex: index, IP: ip})
		conn, err := net.Dial("udp", net.JoinHostPort(address, "9"))
		if err != nil {
			return
		}
		defer conn.Close()
		_, _ = conn.Write([]byte("?"))
		deadline := time.Now().Add(300 * time.Millisecond)
		for found == nil && time.Now().Before(deadline) {
			if known, state := neighbourOf(index, ip); state&(netlink.NUD_REACHABLE|netlink.NUD_STALE) != 0 {
				found = known
			}
		}
	})
	return found
}

// NeighbourState returns what the kernel thinks of address on the interface, as one of
// netlink's NUD constants; 0 if it knows nothing.
func (n *Namespace) NeighbourState(t testing.TB, name, address string) int {
	t.Helper()
	var state int
	n.Change(t, name, func(port netlink.Link) error {
		_, state = neighbourOf(port.Attrs().Index, net.ParseIP(address))
		return nil
	})
	return state
}

func neighbourOf(index int, ip net.IP) (net.HardwareAddr, int) {
	list, err := netlink.NeighList(index, netlink.FAMILY_ALL)
	if err != nil {
		return nil, 0
	}
	for _, known := range list {
		if known.IP.Equal(ip) {
			return known.HardwareAddr, known.State
		}
	}
	return nil, 0
}
