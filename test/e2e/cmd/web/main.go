// Command web is the server behind the testbed's Services: HTTP on port 8080 answers
// every request with the Pod's name and a newline, UDP on port 8081 answers every
// packet with itself. Both serve IPv4 and IPv6.
package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/signal"
	"syscall"
	"time"

	"golang.org/x/sync/errgroup"
)

func main() { os.Exit(run()) }

func run() int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return serveHTTP(ctx, os.Getenv("POD_NAME")) })
	group.Go(func() error { return echo(ctx) })
	if err := group.Wait(); err != nil {
		fmt.Fprintln(os.Stderr, "web:", err)
		return 1
	}
	return 0
}

func serveHTTP(ctx context.Context, name string) error {
	server := &http.Server{
		Addr: ":8080",
		Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			fmt.Fprintln(w, name)
		}),
		ReadHeaderTimeout: 10 * time.Second,
	}
	stop := context.AfterFunc(ctx, func() { _ = server.Close() })
	defer stop()
	if err := server.ListenAndServe(); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

func echo(ctx context.Context) error {
	conn, err := net.ListenPacket("udp", ":8081")
	if err != nil {
		return err
	}
	stop := context.AfterFunc(ctx, func() { _ = conn.Close() })
	defer stop()
	buffer := make([]byte, 64<<10)
	for {
		n, from, err := conn.ReadFrom(buffer)
		if errors.Is(err, net.ErrClosed) {
			return nil
		}
		if err != nil {
			continue
		}
		// An answer that cannot be sent is lost like any other packet.
		_, _ = conn.WriteTo(buffer[:n], from)
	}
}
