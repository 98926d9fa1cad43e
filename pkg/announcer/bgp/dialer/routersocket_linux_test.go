package dialer

import (
	"context"
	"net"
	"net/netip"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

// listen returns a router's socket on a loopback address, prepared as c says.
func listen(t *testing.T, address string, c Config) netip.AddrPort {
	t.Helper()
	c.Router = netip.AddrPortFrom(netip.MustParseAddr(address), 0) // The node has the same address.
	lc := net.ListenConfig{Control: func(_, _ string, raw syscall.RawConn) error {
		var err error
		failed := raw.Control(func(fd uintptr) { err = prepare(int(fd), c) })
		if failed != nil {
			return failed
		}
		return err
	}}
	lc.SetMultipathTCP(false)
	l, err := lc.Listen(t.Context(), "tcp", c.Router.String())
	require.NoError(t, err)
	t.Cleanup(func() { _ = l.Close() })
	return l.Addr().(*net.TCPAddr).AddrPort()
}

// A connection comes about only where both sides have the same password, and are as near as
// they say.
func TestSocketOptions(t *testing.T) {
	near := Config{TTL: 255, MinimumTTL: 255}
	for name, tt := range map[string]struct {
		node, router Config
		connects     bool
	}{
		"no options":                      {Config{}, Config{}, true},
		"one hop":                         {Config{TTL: 1}, Config{}, true},
		"the same password":               {Config{Password: "secret"}, Config{Password: "secret"}, true},
		"another password":                {Config{Password: "secret"}, Config{Password: "other"}, false},
		"a password of the node only":     {Config{Password: "secret"}, Config{}, false},
		"both near":                       {near, near, true},
		"a router that may be anywhere":   {near, Config{TTL: 64}, false},
		"a node that may be anywhere":     {Config{TTL: 64}, near, false},
		"a password, and both near":       {Config{Password: "s", TTL: 255, MinimumTTL: 254}, Config{Password: "s", TTL: 255, MinimumTTL: 255}, true},
		"a source":                        {Config{Source: netip.MustParseAddr("127.0.0.1")}, Config{}, true},
		"an interface that leads nowhere": {Config{Interface: "nowhere"}, Config{}, false},
	} {
		for _, address := range []string{"127.0.0.1", "::1"} {
			t.Run(name+" "+address, func(t *testing.T) {
				t.Parallel()
				c := tt.node
				c.Router = listen(t, address, tt.router)
				if c.Source.IsValid() {
					c.Source = netip.MustParseAddr(address)
				}
				conn, err := dial(t.Context(), c)
				require.Equal(t, tt.connects, err == nil, "%v", err)
				if err == nil {
					require.NoError(t, conn.Close())
				}
			})
		}
	}
}

// The TTLs of a connection change while it lasts.
func TestFault_K5_3_TTLChanges(t *testing.T) {
	c := settings()
	c.Router = listen(t, "127.0.0.1", Config{})
	conn, err := dial(t.Context(), c)
	require.NoError(t, err)
	defer conn.Close()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	r := &relay{dialer: &Dialer{}, ctx: ctx, cancel: cancel, outer: conn, timeout: time.Second}
	c.TTL, c.MinimumTTL = 255, 254
	r.adjust(c)
	raw, err := conn.(*net.TCPConn).SyscallConn()
	require.NoError(t, err)
	var ttl, least int
	require.NoError(t, raw.Control(func(fd uintptr) {
		ttl, _ = unix.GetsockoptInt(int(fd), unix.IPPROTO_IP, unix.IP_TTL)
		least, _ = unix.GetsockoptInt(int(fd), unix.IPPROTO_IP, unix.IP_MINTTL)
	}))
	require.Equal(t, [2]int{255, 254}, [2]int{ttl, least})
}
