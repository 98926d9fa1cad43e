package tcp

import (
	"bufio"
	"context"
	"io"
	"net"
	"net/http"
	"net/netip"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

// TestGet: the beginning of an answer, or which step failed and why.
func TestGet(t *testing.T) {
	reset := func(conn net.Conn) { _ = conn.(*net.TCPConn).SetLinger(0) }
	for name, test := range map[string]struct {
		serve func(net.Conn)
		want  string
		err   error
		text  string
	}{
		"answered": {func(conn net.Conn) {
			if r, err := http.ReadRequest(bufio.NewReader(conn)); err == nil && r.URL.Path == "/" {
				_, _ = io.WriteString(conn, "HTTP/1.0 200 OK\r\n\r\n")
			}
		}, "HTTP/1.0 200 OK\r\n\r\n", nil, ""},
		"closed without an answer": {func(conn net.Conn) { _, _ = conn.Read(make([]byte, 64)) }, "", io.EOF, "read: EOF"},
		"reset": {func(conn net.Conn) {
			_, _ = conn.Read(make([]byte, 64))
			reset(conn)
		}, "", syscall.ECONNRESET, "read: connection reset by peer"},
	} {
		t.Run(name, func(t *testing.T) {
			server := listen(t)
			done := make(chan struct{})
			go func() {
				defer close(done)
				if conn, err := server.Accept(); err == nil {
					test.serve(conn)
					_ = conn.Close()
				}
			}()
			conn, err := Open(server.Addr().(*net.TCPAddr).AddrPort())
			require.NoError(t, err)
			defer conn.Close()
			require.NoError(t, conn.Connect(t.Context()))
			answer, err := conn.Get(t.Context())
			<-done
			require.ErrorIs(t, err, test.err)
			require.Equal(t, test.want, string(answer))
			if err != nil {
				require.EqualError(t, err, test.text)
			}
		})
	}
}

// TestFailures: nobody is there, and one who is there says nothing in time.
func TestFailures(t *testing.T) {
	silent, err := Open(listen(t).Addr().(*net.TCPAddr).AddrPort())
	require.NoError(t, err)
	defer silent.Close()
	require.NoError(t, silent.Connect(t.Context()))
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	_, err = silent.Get(ctx)
	require.ErrorIs(t, err, context.DeadlineExceeded)

	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM, 0)
	require.NoError(t, err)
	defer unix.Close(fd)
	require.NoError(t, unix.Bind(fd, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}), "nobody listens on this port")
	name, err := unix.Getsockname(fd)
	require.NoError(t, err)
	refused, err := Open(netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), uint16(name.(*unix.SockaddrInet4).Port)))
	require.NoError(t, err)
	defer refused.Close()
	require.EqualError(t, refused.Connect(t.Context()), "connect: connection refused")
}

func listen(t *testing.T) net.Listener {
	t.Helper()
	server, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	t.Cleanup(func() { _ = server.Close() })
	return server
}
