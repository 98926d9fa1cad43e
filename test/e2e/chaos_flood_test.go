//go:build e2e

package e2e

import (
	"context"
	"fmt"
	"net/netip"
	"sync"
	"time"

	"github.com/stretchr/testify/assert"

	"baremetal.cloud/ccm/test/e2e/observer"
	"baremetal.cloud/ccm/test/e2e/testbed"
	"baremetal.cloud/ccm/test/e2e/testbed/lan"
)

const (
	// floodLeast and floodMost are how many claims a second there are in a flood.
	floodLeast, floodMost = 300, 2000
	// mended is how long after a flood clients may be led astray: a node defends an address
	// once in 10 s, and announces at most so often.
	mended = 12 * time.Second
)

// floodFromClient has the client host claim all addresses under ever new hardware addresses. It
// hears nothing of that itself, so its requests succeed.
func (c *chaos) floodFromClient(string) func() { return c.floods(c.c.Layout().Client) }

// floodFromAnother has another host do it, which leads the client astray: it believes what it
// hears, as on every LAN.
func (c *chaos) floodFromAnother(string) func() {
	hosts := []lan.Host{c.c.Layout().FRR, c.c.Layout().BIRD}
	end := c.floods(hosts[c.random.IntN(len(hosts))])
	return func() {
		end()
		c.requestedWithin(mended)
	}
}

// floods begins a flood.
func (c *chaos) floods(host lan.Host) (end func()) {
	c.Helper()
	perSecond := floodLeast + c.random.IntN(floodMost-floodLeast+1)
	c.observer.Note("    %d claims a second from %s", perSecond, host.Name)
	ctx, cancel := context.WithCancel(c.Context())
	var running sync.WaitGroup
	running.Go(func() {
		_, err := pour(ctx, host, perSecond, func(i int) ([]byte, error) {
			address := c.addresses[i%len(c.addresses)]
			return testbed.Question{Address: address, Form: testbed.Claim}.Frame(observer.Forged(i), address)
		})
		assert.NoError(c, err)
	})
	return func() {
		cancel()
		running.Wait()
	}
}

// requestedWithin waits until requests to all addresses succeed, and complains if that takes long.
func (c *chaos) requestedWithin(limit time.Duration) {
	c.Helper()
	began := time.Now()
	missing := map[netip.Addr]bool{}
	for _, a := range c.addresses {
		missing[a] = true
	}
	for ; len(missing) > 0 && time.Since(began) < patience; time.Sleep(pause) {
		for _, r := range c.observer.History().Requests {
			if r.Failure == "" && r.At.After(began) {
				delete(missing, r.Address)
			}
		}
	}
	took := time.Since(began)
	c.observer.Note("    requests to all addresses succeed after %s", ms(took))
	assert.Empty(c, missing, "no request to them succeeded")
	assert.LessOrEqual(c, took, limit, "time until requests succeeded again")
}

// pour sends frames from a host's port on the LAN at a steady rate until ctx ends, and returns
// how many.
func pour(ctx context.Context, host lan.Host, perSecond int, frame func(i int) ([]byte, error)) (sent int, err error) {
	conn, _, err := testbed.Listen(host, "eth0", 0)
	if err != nil {
		return 0, err
	}
	defer conn.Close()
	for began := time.Now(); ctx.Err() == nil; time.Sleep(time.Millisecond) {
		for due := int(time.Since(began).Seconds() * float64(perSecond)); sent < due && ctx.Err() == nil; sent++ {
			data, err := frame(sent)
			if err != nil {
				return sent, err
			}
			if err := testbed.Send(conn, data); err != nil {
				return sent, fmt.Errorf("frame %d: %w", sent, err)
			}
		}
	}
	return sent, nil
}
