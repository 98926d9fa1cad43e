//go:build e2e

package bfd

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/stretchr/testify/require"

	"baremetal.cloud/ccm/pkg/announcer/bfd"
)

// frrDaemons is where Debian's package has them.
const frrDaemons = "/usr/lib/frr/"

// frrPeers are the lines that begin a peer's section.
var frrPeers = []string{
	"peer " + node4 + " interface r0", "peer " + node6 + " local-address " + router6 + " interface r0", "peer " + nodeLL + " local-address " + routerLL + " interface r0",
	"peer " + nodeFar4 + " multihop local-address " + routerFar4, "peer " + nodeFar6 + " multihop local-address " + routerFar6,
}

// frr is zebra, which knows the interfaces, and bfdd.
type frr struct {
	*lab
	bfdd *exec.Cmd
}

var _ router = (*frr)(nil)

func newFRR(l *lab) *frr {
	r := &frr{lab: l}
	account, err := user.Lookup("frr")
	require.NoError(l, err, "make e2e installs FRR")
	uid, err := strconv.Atoi(account.Uid)
	require.NoError(l, err)
	require.NoError(l, os.WriteFile(r.path("bfdd.conf"), []byte("bfd\n"+r.sections(peerSettings(interval))+"!\n"), 0o644))
	require.NoError(l, os.WriteFile(r.path("zebra.conf"), nil, 0o644))
	require.NoError(l, os.Chown(l.dir, uid, -1))
	l.daemon(frrDaemons+"zebra", r.arguments("zebra")...)
	l.eventually("zebra listens", func() bool { return exists(r.path("zserv")) && exists(r.path("zebra.vty")) })
	return r
}

func (r *frr) path(name string) string { return filepath.Join(r.dir, name) }

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

func (r *frr) arguments(name string) []string {
	return []string{"-f", r.path(name + ".conf"), "-z", r.path("zserv"), "--vty_socket", r.dir, "-i", r.path(name + ".pid"), "-P", "0", "--log", "stdout"}
}

func peerSettings(its time.Duration) []string {
	return []string{"detect-multiplier " + strconv.Itoa(multiplier), fmt.Sprintf("receive-interval %d", interval.Milliseconds()), fmt.Sprintf("transmit-interval %d", its.Milliseconds())}
}

// sections returns the configuration of all peers.
func (r *frr) sections(settings []string) string {
	text := ""
	for _, peer := range frrPeers {
		text += " " + peer + "\n  " + strings.Join(settings, "\n  ") + "\n exit\n"
	}
	return text
}

func (r *frr) start() {
	_ = os.Remove(r.path("bfdd.vty"))
	r.bfdd = r.daemon(frrDaemons+"bfdd", append(r.arguments("bfdd"), "--bfdctl", r.path("bfdctl"))...)
	r.eventually("bfdd listens", func() bool { return exists(r.path("bfdd.vty")) })
}

func (r *frr) kill() { kill(r.bfdd) }

// auth: bfdd has none.
func (r *frr) auth(string) *bfd.Auth { return nil }

func (r *frr) ttl() uint8 { return 254 }

// configure gives all peers settings, as an administrator does.
func (r *frr) configure(settings ...string) {
	args := []string{"--vty_socket", r.dir, "-c", "configure terminal", "-c", "bfd"}
	for line := range strings.Lines(r.sections(settings)) {
		args = append(args, "-c", strings.TrimSpace(line))
	}
	r.output("vtysh", args...)
}

func (r *frr) slower(its time.Duration) { r.configure(peerSettings(its)...) }

func (r *frr) adminDown(down bool) bool {
	if down {
		r.configure("shutdown")
	} else {
		r.configure("no shutdown")
	}
	return true
}

func (r *frr) show() string {
	out, err := exec.Command("vtysh", "--vty_socket", r.dir, "-c", "show bfd peers json").CombinedOutput()
	require.NoError(r, err, string(out))
	return string(out)
}

func (r *frr) view(ours string) view {
	out := r.show()
	var peers []struct {
		Peer, Status string
		Receive      int64 `json:"receive-interval"`
		Transmit     int64 `json:"remote-transmit-interval"`
		Multiplier   int64 `json:"remote-detect-multiplier"`
	}
	_, list, _ := strings.Cut(out, "[") // Behind what vtysh has to say of its own configuration.
	require.NoError(r, json.Unmarshal([]byte("["+list), &peers), out)
	for _, p := range peers {
		if netip.MustParseAddr(p.Peer) == netip.MustParseAddr(ours) {
			return view{p.Status == "up", time.Duration(p.Multiplier*max(p.Receive, p.Transmit)) * time.Millisecond}
		}
	}
	require.Fail(r, "bfdd does not know "+ours, out)
	return view{}
}
