// Command web is the server behind the testbed's Services: HTTP on port 8080 answers
// every request with the Pod's name and a newline, but for /client, which it answers with
// the address that it sees the client under. UDP on port 8081 answers every packet with
// itself, and on port 8082 with that address. All serve IPv4 and IPv6. Once it is to end it
// goes on for the duration in the environment variable LINGER, as servers do that wait until
// nobody is sent to them any more.
package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"os"
	"os/signal"
	"syscall"
	"time"

	"golang.org/x/sync/errgroup"
)

func main() { os.Exit(run()) }

func run() int {
	linger, err := time.ParseDuration(cmp.Or(os.Getenv("LINGER"), "0s"))
	if err != nil {
		fmt.Fprintln(os.Stderr, "web: LINGER:", err)
		return 1
	}
	told, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	ctx, end := context.WithCancel(context.Background())
	defer end()
	context.AfterFunc(told, func() {
		time.Sleep(linger)
		end()
	})
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return serveHTTP(ctx, os.Getenv("POD_NAME")) })
	group.Go(func() error { return answer(ctx, ":8081", func(p []byte, _ netip.Addr) []byte { return p }) })
	group.Go(func() error {
		return answer(ctx, ":8082", func(_ []byte, from netip.Addr) []byte { return []byte(from.String()) })
	})
	if err := group.Wait(); err != nil {
		fmt.Fprintln(os.Stderr, "web:", err)
		return 1
	}
	return 0
}

func serveHTTP(ctx context.Context, name string) error {
	server := &http.Server{
		Addr:              ":8080",
		Handler:           handler(name),
		ReadHeaderTimeout: 10 * time.Second,
	}
	stop := context.AfterFunc(ctx, func() { _ = server.Close() })
	defer stop()
	if err := server.ListenAndServe(); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

func handler(name string) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("/", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, name) })
	mux.HandleFunc("/client", func(w http.ResponseWriter, r *http.Request) {
		from, err := netip.ParseAddrPort(r.RemoteAddr)
		if err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
		fmt.Fprintln(w, from.Addr().Unmap())
	})
	return mux
}

// answer answers every packet to a UDP port.
func answer(ctx context.Context, listen string, reply func(packet []byte, from netip.Addr) []byte) error {
	address, err := net.ResolveUDPAddr("udp", listen)
	if err != nil {
		return err
	}
	conn, err := net.ListenUDP("udp", address)
	if err != nil {
		return err
	}
	stop := context.AfterFunc(ctx, func() { _ = conn.Close() })
	defer stop()
	buffer := make([]byte, 64<<10)
	for {
		n, from, err := conn.ReadFromUDPAddrPort(buffer)
		if errors.Is(err, net.ErrClosed) {
			return nil
		}
		if err != nil {
			continue
		}
		// An answer that cannot be sent is lost like any other packet.
		_, _ = conn.WriteToUDPAddrPort(reply(buffer[:n], from.Addr().Unmap()), from)
	}
}
