//go:build e2e

package bfd

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/stretchr/testify/require"

	"baremetal.cloud/ccm/pkg/announcer/bfd"
)

// birdConfig has sessions over one hop that are authenticated one way, and those over several
// another way.
const birdConfig = `log stderr all;
router id 192.0.2.2;
protocol device {}
protocol bfd watch {
  interface "r0" {
    min rx interval %[1]d ms; min tx interval %[2]d ms; multiplier %[3]d;
    authentication meticulous keyed sha1; password "hop by hop" { id 5; };
  };
  multihop {
    min rx interval %[1]d ms; min tx interval %[2]d ms; multiplier %[3]d;
    authentication keyed sha1; password "over several" { id 6; };
  };
  neighbor ` + node4 + ` dev "r0";
  neighbor ` + node6 + ` dev "r0" local ` + router6 + `;
  neighbor ` + nodeLL + ` dev "r0" local ` + routerLL + `;
  neighbor ` + nodeFar4 + ` local ` + routerFar4 + ` multihop yes;
  neighbor ` + nodeFar6 + ` local ` + routerFar6 + ` multihop yes;
}
`

type bird struct {
	*lab
	process *exec.Cmd
}

var _ router = (*bird)(nil)

func newBIRD(l *lab) *bird {
	b := &bird{lab: l}
	b.write(interval)
	return b
}

func (b *bird) path(name string) string { return filepath.Join(b.dir, name) }

func (b *bird) write(its time.Duration) {
	text := fmt.Sprintf(birdConfig, interval.Milliseconds(), its.Milliseconds(), multiplier)
	require.NoError(b, os.WriteFile(b.path("bird.conf"), []byte(text), 0o644))
}

func (b *bird) start() {
	_ = os.Remove(b.path("bird.ctl"))
	b.process = b.daemon("/usr/sbin/bird", "-f", "-c", b.path("bird.conf"), "-s", b.path("bird.ctl"))
	b.eventually("BIRD listens", func() bool { return exists(b.path("bird.ctl")) })
}

func (b *bird) kill() { kill(b.process) }

func (b *bird) auth(peer string) *bfd.Auth {
	if peer == routerFar4 || peer == routerFar6 {
		return &bfd.Auth{Type: bfd.KeyedSHA1, KeyID: 6, Key: "over several"}
	}
	return &bfd.Auth{Type: bfd.MeticulousKeyedSHA1, KeyID: 5, Key: "hop by hop"}
}

// ttl: over several hops BIRD sends with the kernel's default.
func (b *bird) ttl() uint8 { return 63 }

func (b *bird) control(command string) string {
	out, err := exec.Command("birdc", "-s", b.path("bird.ctl"), command).CombinedOutput()
	require.NoError(b, err, string(out))
	return string(out)
}

func (b *bird) slower(its time.Duration) {
	b.write(its)
	b.control("configure")
}

// adminDown: BIRD 2.0 has no such thing. A disabled protocol just falls silent.
func (b *bird) adminDown(bool) bool { return false }

func (b *bird) show() string { return b.control("show bfd sessions") }

func (b *bird) view(ours string) view {
	for line := range strings.Lines(b.show()) {
		if fields := strings.Fields(line); len(fields) == 6 && fields[0] == ours {
			timeout, err := time.ParseDuration(fields[5] + "s")
			require.NoError(b, err)
			return view{fields[2] == "Up", timeout}
		}
	}
	require.Fail(b, "BIRD does not know "+ours, b.show())
	return view{}
}
