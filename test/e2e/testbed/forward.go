package testbed

import (
	"context"
	"errors"
	"io"
	"net"
	"sync"

	"baremetal.cloud/ccm/test/e2e/testbed/netns"
)

// forward carries connections to l over to address, dialled by dial, until ctx ends.
// It is how programs outside the testbed reach the API server without any route.
func forward(ctx context.Context, l net.Listener, dial netns.DialFunc, address string) error {
	stop := context.AfterFunc(ctx, func() { _ = l.Close() })
	defer stop()
	var group sync.WaitGroup
	defer group.Wait()
	for {
		conn, err := l.Accept()
		if errors.Is(err, net.ErrClosed) {
			return nil
		}
		if err != nil {
			return err
		}
		group.Go(func() { splice(ctx, conn, dial, address) })
	}
}

// splice connects one connection through; it is closed if nobody is there.
func splice(ctx context.Context, near net.Conn, dial netns.DialFunc, address string) {
	defer near.Close()
	far, err := dial(ctx, "tcp", address)
	if err != nil {
		return
	}
	defer far.Close()
	stop := context.AfterFunc(ctx, func() {
		_ = near.Close()
		_ = far.Close()
	})
	defer stop()
	var group sync.WaitGroup
	group.Go(func() { oneWay(far, near) })
	group.Go(func() { oneWay(near, far) })
	group.Wait()
}

// oneWay copies until from ends and says so to to. Errors mean the same.
func oneWay(to, from net.Conn) {
	_, _ = io.Copy(to, from)
	if half, ok := to.(interface{ CloseWrite() error }); ok {
		_ = half.CloseWrite()
	}
}
