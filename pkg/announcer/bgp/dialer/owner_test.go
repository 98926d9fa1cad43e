package dialer

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"runtime"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// stranger, in the environment, makes the test binary another process that connects there.
const stranger = "DIALER_TEST_STRANGER"

func TestMain(m *testing.M) {
	if address := os.Getenv(stranger); address != "" {
		os.Exit(intrude(address))
	}
	os.Exit(m.Run())
}

// intrude sends what gobgp would, and returns 0 if the connection is closed unanswered.
func intrude(address string) int {
	conn, err := net.Dial("tcp", address)
	if errors.Is(err, syscall.ECONNRESET) {
		return 0 // It was closed before this process could see that it was open.
	}
	if err != nil {
		fmt.Println(err)
		return 1
	}
	_, _ = conn.Write(append(ours.frame(), keepalive()...)) // It may be closed already.
	if answer, _ := io.ReadAll(conn); len(answer) > 0 {
		fmt.Printf("answered %x\n", answer)
		return 1
	}
	return 0
}

// TestFault_K5_6_AnotherUserConnects: of what another process of the host sends to the port on the
// loopback, be it by another user or by the same one, not one byte reaches the router. What gobgp
// sends does, afterwards.
func TestFault_K5_6_AnotherUserConnects(t *testing.T) {
	router, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer router.Close()
	accepted := make(chan net.Conn)
	go func() {
		defer close(accepted)
		for {
			conn, err := router.Accept()
			if err != nil {
				return
			}
			accepted <- conn
		}
	}()
	c := settings()
	c.Router = router.Addr().(*net.TCPAddr).AddrPort()
	d, err := New(c, Options{OnState: func() {}, OnConnected: func(context.Context, netip.Addr) {}})
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		d.Run(ctx)
	}()
	defer func() {
		cancel()
		<-done
	}()

	users := []*syscall.Credential{nil}
	if os.Geteuid() == 0 {
		users = append(users, &syscall.Credential{Uid: 65534, Gid: 65534})
	}
	for _, user := range users {
		cmd := exec.Command("/proc/self/exe")
		cmd.Env = append(os.Environ(), stranger+"="+d.Address().String())
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: user}
		out, err := cmd.CombinedOutput()
		require.NoError(t, err, "%s", out)
	}

	// Had one of them been served, the router would have been connected to first by it.
	gobgp, err := net.Dial("tcp", d.Address().String())
	require.NoError(t, err)
	defer gobgp.Close()
	_, err = gobgp.Write(open())
	require.NoError(t, err)
	select {
	case conn := <-accepted:
		defer conn.Close()
		sent := make([]byte, len(ours.frame()))
		_, err = io.ReadFull(conn, sent)
		require.NoError(t, err)
		require.Equal(t, []byte(ours.frame()), sent)
	case <-time.After(time.Minute):
		require.Fail(t, "gobgp's own connection is not served")
	}
	select {
	case <-accepted:
		require.Fail(t, "the router was connected to twice")
	default:
	}
}

// TestFault_K5_2_RunLeavesNothing: Run returns and nothing listens for gobgp afterwards, also where what
// else depends on the same context takes its time to see the end.
func TestFault_K5_2_RunLeavesNothing(t *testing.T) {
	for range 20 {
		d, err := New(settings(), Options{OnState: func() {}, OnConnected: func(context.Context, netip.Addr) {}})
		require.NoError(t, err)
		ctx, cancel := context.WithCancel(t.Context())
		for range 10000 {
			context.AfterFunc(ctx, func() {})
		}
		done := make(chan struct{})
		go func() {
			defer close(done)
			d.Run(ctx)
		}()
		runtime.Gosched()
		cancel()
		select {
		case <-done:
		case <-time.After(time.Minute):
			require.Fail(t, "Run does not return")
		}
		_, err = net.Dial("tcp", d.Address().String())
		require.ErrorIs(t, err, syscall.ECONNREFUSED)
	}
}
