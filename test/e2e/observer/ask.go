package observer

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"sync"
	"time"

	"baremetal.cloud/ccm/test/e2e/testbed"
	"baremetal.cloud/ccm/test/e2e/testbed/netns"
	"baremetal.cloud/ccm/test/e2e/testbed/tcp"
)

// probe asks the LAN for every address, round by round, until ctx ends.
func (o *Observer) probe(ctx context.Context) error {
	var frames [][]byte
	for _, a := range o.addresses {
		frame, err := question(a)
		if err != nil {
			return err
		}
		frames = append(frames, frame)
	}
	conn, _, err := testbed.Listen(o.cluster.Layout().Client, "eth0", 0)
	if err != nil {
		return err
	}
	defer conn.Close()
	return every(ctx, AskInterval, func() error {
		o.asked(time.Now())
		for _, frame := range frames {
			if err := testbed.Send(conn, frame); err != nil {
				return fmt.Errorf("ask the LAN: %w", err)
			}
		}
		return nil
	})
}

// request requests the addresses of services in turn, each time on a new connection from the client,
// until ctx ends.
func (o *Observer) request(ctx context.Context) error {
	var under sync.WaitGroup
	defer under.Wait()
	return netns.Do(o.cluster.Layout().Client.NetNS, func() error {
		next := 0
		return every(ctx, o.requestEvery, func() error {
			address := o.services[next%len(o.services)]
			next++
			conn, err := tcp.Open(netip.AddrPortFrom(address, port))
			if err != nil {
				return err
			}
			under.Go(func() {
				defer conn.Close()
				began := time.Now()
				opened, failure := get(ctx, conn)
				if ctx.Err() == nil {
					o.requested(Request{began, address, time.Since(began), failure, opened})
				}
			})
			return nil
		})
	})
}

// get does one GET, until the first bytes of the answer, and returns why that failed and
// whether the connection stood by then.
func get(ctx context.Context, conn *tcp.Conn) (opened bool, failure string) {
	ctx, cancel := context.WithTimeout(ctx, requestPatience)
	defer cancel()
	if err := conn.Connect(ctx); err != nil {
		return false, why(err)
	}
	answer, err := conn.Get(ctx)
	switch {
	case err != nil:
		return true, why(err)
	case !bytes.HasPrefix(answer, []byte("HTTP/1.0 200")):
		return true, fmt.Sprintf("it was answered by %q", answer)
	}
	return true, ""
}

func why(err error) string {
	if errors.Is(err, context.DeadlineExceeded) {
		return NoAnswer
	}
	return err.Error()
}

// every does something at a steady rate until ctx ends or it fails. What a machine that stood
// still has missed it catches up with, up to a second.
func every(ctx context.Context, interval time.Duration, do func() error) error {
	timer := time.NewTimer(interval)
	defer timer.Stop()
	for due := time.Now().Add(interval); ; due = due.Add(interval) {
		select {
		case <-ctx.Done():
			return nil
		case <-timer.C:
		}
		if err := do(); err != nil {
			return err
		}
		if now := time.Now(); now.Sub(due) > time.Second {
			due = now
		}
		timer.Reset(time.Until(due.Add(interval)))
	}
}
