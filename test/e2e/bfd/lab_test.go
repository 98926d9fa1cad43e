//go:build e2e

package bfd

import (
	"context"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"baremetal.cloud/ccm/pkg/announcer/bfd"
	"baremetal.cloud/ccm/pkg/announcer/realtime"
	"baremetal.cloud/ccm/test/e2e/testbed/netns"
	"baremetal.cloud/ccm/test/e2e/testbed/proc"
)

// Routers are started through the shim.
func TestMain(m *testing.M) {
	proc.RunIfShim()
	os.Exit(m.Run())
}

// patience is for what takes some seconds where nothing else runs.
const patience = time.Minute

// The node is joined to the router by one link, and by another way through a third system.
//
//	node eth0 ──────────────────────────── r0 router
//	     eth1 ────────── h0 hop h1 ─────── r1
const (
	node4, router4       = "192.0.2.1", "192.0.2.2"
	node6, router6       = "2001:db8::1", "2001:db8::2"
	nodeLL, routerLL     = "fe80::1", "fe80::2"
	nodeFar4, routerFar4 = "203.0.113.1", "198.51.100.2"
	nodeFar6, routerFar6 = "2001:db8:1::1", "2001:db8:2::2"
)

const nodeLinks = `link add eth0 type veth peer name r0 netns ROUTER
link add eth1 type veth peer name h0 netns HOP
addr add 192.0.2.1/24 dev eth0
addr add 2001:db8::1/64 dev eth0 nodad
addr add fe80::1/64 dev eth0 nodad
addr add 203.0.113.1/24 dev eth1
addr add 2001:db8:1::1/64 dev eth1 nodad
link set eth0 up
link set eth1 up
route add 198.51.100.0/24 via 203.0.113.254
route add 2001:db8:2::/64 via 2001:db8:1::fe
`

const hopLinks = `link add h1 type veth peer name r1 netns ROUTER
addr add 203.0.113.254/24 dev h0
addr add 2001:db8:1::fe/64 dev h0 nodad
addr add 198.51.100.254/24 dev h1
addr add 2001:db8:2::fe/64 dev h1 nodad
link set h0 up
link set h1 up
`

const routerLinks = `addr add 192.0.2.2/24 dev r0
addr add 2001:db8::2/64 dev r0 nodad
addr add fe80::2/64 dev r0 nodad
addr add 198.51.100.2/24 dev r1
addr add 2001:db8:2::2/64 dev r1 nodad
link set r0 up
link set r1 up
route add 203.0.113.0/24 via 198.51.100.254
route add 2001:db8:1::/64 via 2001:db8:2::fe
`

// lab is the namespaces and what runs in them.
type lab struct {
	*testing.T
	// whole is the test that the lab lives as long as; T may be a part of it.
	whole             *testing.T
	dir               string
	node, hop, router string
	spawner           *proc.Spawner
	runner            *bfd.Runner

	mu     sync.Mutex
	events []bfd.Event
}

func newLab(t *testing.T, name string) *lab {
	t.Helper()
	t.Parallel()
	require.Zero(t, os.Geteuid(), "make e2e needs root")
	prefix := fmt.Sprintf("%s%d-", name, os.Getpid())
	dir, err := os.MkdirTemp("", prefix) // Not t.TempDir, which routers that give up root cannot reach.
	require.NoError(t, err)
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	l := &lab{T: t, whole: t, dir: dir, node: prefix + "node", hop: prefix + "hop", router: prefix + "router", spawner: proc.NewSpawner()}
	for _, name := range []string{l.node, l.hop, l.router} {
		require.NoError(t, netns.Add(t.Context(), name))
		t.Cleanup(func() { require.NoError(t, netns.Delete(context.Background(), name)) })
		require.NoError(t, netns.Sysctl(name, map[string]string{"ipv6/conf/default/accept_dad": "0", "ipv4/ip_forward": "1", "ipv6/conf/all/forwarding": "1"}))
	}
	links := strings.NewReplacer("ROUTER", l.router, "HOP", l.hop)
	require.NoError(t, netns.Batch(t.Context(), l.node, links.Replace(nodeLinks)))
	require.NoError(t, netns.Batch(t.Context(), l.hop, links.Replace(hopLinks)))
	require.NoError(t, netns.Batch(t.Context(), l.router, routerLinks))
	l.background(l.spawner.Run)
	return l
}

// background runs f until the test ends.
func (l *lab) background(f func(context.Context) error) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- f(ctx) }()
	l.Cleanup(func() {
		cancel()
		require.NoError(l, <-done)
	})
}

// daemon starts a program in the router's namespace. Its end is not awaited until kill.
func (l *lab) daemon(path string, args ...string) *exec.Cmd {
	l.Helper()
	log, err := os.OpenFile(filepath.Join(l.dir, filepath.Base(path)+".log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	require.NoError(l, err)
	defer log.Close()
	cmd, err := l.spawner.Start(l.whole.Context(), proc.Command{Path: path, Args: args, NetNS: l.router}, log)
	require.NoError(l, err)
	l.whole.Cleanup(func() {
		kill(cmd)
		if text, err := os.ReadFile(log.Name()); err == nil && l.whole.Failed() {
			l.whole.Logf("%s:\n%s", log.Name(), text)
		}
	})
	return cmd
}

// kill ends a program without giving it the time to say anything, and waits for its end.
func kill(cmd *exec.Cmd) {
	if cmd.ProcessState == nil {
		_ = cmd.Process.Signal(syscall.SIGKILL)
		_ = cmd.Wait()
	}
}

// output runs a command line tool and returns what it printed.
func (l *lab) output(program string, args ...string) string {
	l.Helper()
	out, err := exec.CommandContext(l.Context(), program, args...).CombinedOutput()
	require.NoError(l, err, "%s %s: %s", program, strings.Join(args, " "), out)
	return string(out)
}

// run runs our end until the returned function is called.
func (l *lab) run(options bfd.Options, configs []bfd.SessionConfig) (end func()) {
	l.Helper()
	options.OnEvent = func(e bfd.Event) {
		l.mu.Lock()
		defer l.mu.Unlock()
		l.events = append(l.events, e)
	}
	loop, err := realtime.NewLoop(realtime.NewThread(false, nil))
	require.NoError(l, err)
	options.Loop = loop
	runner := bfd.New(options)
	require.NoError(l, runner.Set(configs))
	l.runner = runner
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- netns.Do(l.node, func() error { return runner.Run(ctx) }) }()
	end = sync.OnceFunc(func() {
		cancel()
		require.NoError(l, <-done)
	})
	l.Cleanup(end)
	return end
}

// heard returns the events so far that left or reached Up, and forgets them.
func (l *lab) heard() []bfd.Event {
	l.mu.Lock()
	defer l.mu.Unlock()
	var events []bfd.Event
	for _, e := range l.events {
		if e.State == bfd.Up || e.Previous == bfd.Up {
			events = append(events, e)
		}
	}
	l.events = nil
	return events
}

// eventually waits until ok. It asks on the test's own goroutine, so that ok may fail it.
func (l *lab) eventually(what string, ok func() bool) {
	l.Helper()
	for deadline := time.Now().Add(patience); !ok(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			if l.runner != nil {
				l.Logf("%+v\n%v", l.runner.Sessions(), l.runner.Dropped())
			}
			require.Fail(l, "not in time: "+what)
		}
	}
}

// awaitAll waits until all our sessions are in one state.
func (l *lab) awaitAll(state bfd.State) {
	l.Helper()
	l.eventually("all are "+state.String(), func() bool {
		all := l.runner.Sessions()
		return len(all) == len(ourAddress) && !slices.ContainsFunc(all, func(s bfd.Status) bool { return s.State != state })
	})
}

// status returns what our end knows of the session with peer.
func (l *lab) status(peer string) bfd.Status {
	l.Helper()
	for _, s := range l.runner.Sessions() {
		if s.Peer == netip.MustParseAddr(peer) {
			return s
		}
	}
	require.Fail(l, "no session with "+peer)
	return bfd.Status{}
}

// link sets a link of the node up or down, and gives it back what it loses by that.
func (l *lab) link(name, state string) {
	l.Helper()
	script := "link set " + name + " " + state + "\n"
	if state == "up" {
		for line := range strings.Lines(nodeLinks) {
			lost := strings.HasPrefix(line, "route") || strings.HasPrefix(line, "addr") && strings.Contains(line, ":") && strings.Contains(line, " dev "+name)
			if lost && (name == "eth1" || !strings.HasPrefix(line, "route")) {
				script += strings.Replace(line, " add ", " replace ", 1)
			}
		}
	}
	require.NoError(l, netns.Batch(l.Context(), l.node, script))
}
