//go:build e2e

package e2e

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"baremetal.cloud/ccm/test/e2e/testbed"
)

// TestFault_K1_1_AFloodOnTheLAN: a machine on the LAN claims the addresses of a Service under ever
// new hardware addresses, slowly and as fast as it can, and then asks for them fifty thousand times
// a second (K1.4). The announcer takes no more than a fifth of a core, writes few log lines, and the
// addresses stay where they are.
func TestFault_K1_1_AFloodOnTheLAN(t *testing.T) {
	l := up(t, testbed.Options{Nodes: 2, Proxy: "nftables", Mgmt: "lan"})
	l.create("web", of(dual, false))
	addresses := l.addresses("web", 2)
	for _, flood := range []struct {
		name      string
		form      testbed.Form
		perSecond int
	}{{"claims, slowly", testbed.Claim, 300}, {"claims", testbed.Claim, 20000}, {"requests", testbed.Plain, 50000}} {
		for _, address := range addresses {
			t.Run(fmt.Sprintf("%s of %s", flood.name, address), func(t *testing.T) {
				l := l.with(t)
				owner := l.answerer(address)
				node := l.nodeOf(owner)
				pid, lines, used := l.announcerPID(node), l.announcerLines(), processorTimeOf(l, l.announcerPID(node))
				began := time.Now()
				sent := l.flood(testbed.Question{Address: address, Form: flood.form}, flood.perSecond, 10*time.Second)
				core := (processorTimeOf(l, l.announcerPID(node)) - used).Seconds() / time.Since(began).Seconds()
				lines = l.announcerLines() - lines
				t.Logf("%d frames, %.1f %% of a core, %d log lines", sent, 100*core, lines)
				require.LessOrEqual(t, core, 0.2)
				require.LessOrEqual(t, lines, 60)
				require.Equal(t, pid, l.announcerPID(node))
				l.stays(address, owner)
			})
		}
	}
}

// flood has ever new machines on the client host's port put q, and returns how often.
func (l *lab) flood(q testbed.Question, perSecond int, how time.Duration) int {
	l.Helper()
	frames := make([][]byte, 4096)
	for i := range frames {
		mac := net.HardwareAddr{6, 0, 0, 0, byte(i >> 8), byte(i)}
		from := netip.AddrFrom4([4]byte{198, 18, byte(i >> 8), byte(i)})
		if q.Address.Is6() {
			from = netip.AddrFrom16([16]byte{0xfe, 0x80, 14: byte(i >> 8), 15: byte(i)})
		}
		frame, err := q.Frame(mac, from)
		require.NoError(l, err)
		frames[i] = frame
	}
	ctx, cancel := context.WithTimeout(l.Context(), how)
	defer cancel()
	sent, err := pour(ctx, l.c.Layout().Client, perSecond, func(i int) ([]byte, error) { return frames[i%len(frames)], nil })
	require.NoError(l, err)
	return sent
}

// announcerLines returns how many lines all announcers have written.
func (l *lab) announcerLines() (lines int) {
	l.Helper()
	logs, err := filepath.Glob(filepath.Join(l.c.Logs(), system+"_baremetal-announcer-*.log"))
	require.NoError(l, err)
	require.NotEmpty(l, logs)
	for _, log := range logs {
		text, err := os.ReadFile(log)
		require.NoError(l, err)
		lines += bytes.Count(text, []byte("\n"))
	}
	return lines
}
