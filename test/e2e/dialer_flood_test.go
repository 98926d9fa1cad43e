//go:build e2e

package e2e

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	node "baremetal.cloud/ccm/pkg/announcer/bgp"
)

// flood is a router that sends what the test wants, to a BGP process on this host.
type flood struct {
	*pair
	conn net.Conn
	cmd  *exec.Cmd
}

// message returns a BGP message (RFC 4271 section 4.1).
func message(kind byte, body ...byte) []byte {
	out := binary.BigEndian.AppendUint16(bytes.Repeat([]byte{0xff}, 16), uint16(19+len(body)))
	return append(append(out, kind), body...)
}

// newFlood establishes a session with a hold time of 9 s, in which the node has routes routes.
func newFlood(t *testing.T, routes int) *flood {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer l.Close()
	program, err := filepath.Abs("../../.cache/bin/baremetal-announcer")
	require.NoError(t, err)
	f := &flood{pair: &pair{T: t}}
	peer := routerPeer("127.0.0.1")
	peer.Port = l.Addr().(*net.TCPAddr).AddrPort().Port()
	f.begin(func() *exec.Cmd {
		f.cmd = exec.Command(program, "bgp-speaker")
		f.cmd.Env = append(os.Environ(), "GOMEMLIMIT=64MiB", "GOGC=30") // As the announcer has it.
		return f.cmd
	})
	var prefixes []string
	for i := range routes {
		prefixes = append(prefixes, fmt.Sprintf("10.%d.%d.%d/32", i>>16, i>>8&0xff, i&0xff))
	}
	f.set(1, peer, prefixes...)
	f.conn, err = l.Accept()
	require.NoError(t, err)
	t.Cleanup(func() { _ = f.conn.Close() })
	capabilities := []byte{2, 14, 1, 4, 0, 1, 0, 1, 2, 0, 65, 4, 0, 0, 0xfc, 1}
	open := append([]byte{4, 0xfc, 1, 0, 90, 192, 0, 2, 1, byte(len(capabilities))}, capabilities...)
	_, err = f.conn.Write(append(message(1, open...), message(4)...))
	require.NoError(t, err)
	go func() { _, _ = io.Copy(io.Discard, f.conn) }()
	f.until("established", func(s node.Session) bool { return s.IPv4 && s.Routes == routes })
	return f
}

// used returns the processor time that the BGP process has used, and its memory in bytes.
func (f *flood) used() (time.Duration, int) {
	f.Helper()
	stat, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(f.cmd.Process.Pid), "stat"))
	require.NoError(f, err)
	fields := strings.Fields(string(stat[bytes.LastIndexByte(stat, ')')+2:]))
	user, err := strconv.Atoi(fields[11])
	require.NoError(f, err)
	system, err := strconv.Atoi(fields[12])
	require.NoError(f, err)
	pages, err := strconv.Atoi(fields[21])
	require.NoError(f, err)
	return time.Duration(user+system) * 10 * time.Millisecond, pages * os.Getpagesize() // USER_HZ is 100.
}

// during sends data again and again for a time, as fast as it is taken or so often a second, and
// returns the share of a core that the node needed, and how much its memory grew.
func (f *flood) during(d time.Duration, data []byte, perSecond int) (share float64, grown int) {
	f.Helper()
	began := time.Now()
	before, memory := f.used()
	sent := 0
	for time.Since(began) < d {
		if perSecond > 0 {
			time.Sleep(time.Until(began.Add(time.Duration(sent) * time.Second / time.Duration(perSecond))))
		}
		require.NoError(f, f.conn.SetWriteDeadline(time.Now().Add(time.Minute)))
		_, err := f.conn.Write(data)
		require.NoError(f, err)
		sent++
	}
	after, now := f.used()
	share = (after - before).Seconds() / time.Since(began).Seconds()
	f.Logf("%d × %d bytes in %s: %.1f %% of a core, %d KiB more memory", sent, len(data), time.Since(began).Round(time.Second), 100*share, (now-memory)/1024)
	return share, now - memory
}

// TestFault_K5_6_Floods: a router that sends all that it can costs no more than a fifth of a core and no
// memory, and keeps its session: UPDATEs, small messages, and requests for all routes.
func TestFault_K5_6_Floods(t *testing.T) {
	attributes := []byte{0x40, 1, 1, 0, 0x40, 2, 6, 2, 1, 0, 0, 0xfc, 1, 0x40, 3, 4, 192, 0, 2, 1}
	updates := func(prefixes int) []byte {
		body := append(binary.BigEndian.AppendUint16([]byte{0, 0}, uint16(len(attributes))), attributes...)
		return message(2, append(body, bytes.Repeat([]byte{24, 10, 1, 2}, prefixes)...)...)
	}
	f := newFlood(t, 10000)
	for name, tt := range map[string]struct {
		data      []byte
		perSecond int
		duration  time.Duration
	}{
		"UPDATEs with many prefixes":  {bytes.Repeat(updates(900), 16), 0, 10 * time.Second},
		"UPDATEs with one prefix":     {bytes.Repeat(updates(1), 1000), 0, 10 * time.Second},
		"KEEPALIVEs":                  {bytes.Repeat(message(4), 3000), 0, 10 * time.Second},
		"ROUTE-REFRESHes":             {bytes.Repeat(message(5, 0, 1, 0, 1), 3000), 0, 25 * time.Second},
		"a million prefixes a minute": {updates(500), 2000 / 60, time.Minute},
	} {
		t.Run(name, func(t *testing.T) {
			f.T = t
			share, grown := f.during(tt.duration, tt.data, tt.perSecond)
			require.LessOrEqual(t, share, 0.2)
			require.Less(t, grown, 4<<20)
			s := f.session()
			require.True(t, s.IPv4 && s.Losses == 0, "%+v", s)
		})
	}
}
