package main

import (
	"context"
	"fmt"
	"net/netip"
	"sync"
	"time"

	"github.com/mdlayher/socket"
	"golang.org/x/sys/unix"

	"baremetal.cloud/ccm/test/e2e/testbed/netns"
)

// pulseLimit ends a request of a pulse. It is not made again.
const pulseLimit = time.Second

// pulse requests targets in turn at a steady rate, whether those before have ended or
// not: one GET each, on a TCP connection of its own.
type pulse struct {
	targets []netip.AddrPort
	// interval is the time between two requests, to whatever target.
	interval time.Duration
	// before, if not nil, is called before each request.
	before func(context.Context, netip.Addr) error

	mu sync.Mutex
	// requests are those that have ended, and are guarded by mu.
	requests []request
}

// request is one that has ended.
type request struct {
	target netip.AddrPort
	began  time.Time
	took   time.Duration
	// opened says that the connection came about.
	opened bool
	err    error
}

// run requests until ctx ends, and for as long as the last of them last.
func (p *pulse) run(ctx context.Context, namespace string) error {
	var group sync.WaitGroup
	defer group.Wait()
	return netns.Do(namespace, func() error {
		began := time.Now()
		for n := 0; ; n++ {
			if pause(ctx, time.Until(began.Add(time.Duration(n)*p.interval))) != nil {
				return nil
			}
			conn, err := socket.Socket(unix.AF_INET, unix.SOCK_STREAM, 0, "tcp", nil)
			if err != nil {
				return fmt.Errorf("open a socket for a request: %w", err)
			}
			group.Go(func() {
				// Not with ctx: one that is under way is let finish.
				p.request(context.WithoutCancel(ctx), conn, p.targets[n%len(p.targets)])
			})
		}
	})
}

func (p *pulse) request(ctx context.Context, conn *socket.Conn, target netip.AddrPort) {
	defer conn.Close()
	ctx, cancel := context.WithTimeout(ctx, pulseLimit)
	defer cancel()
	if p.before != nil {
		if err := p.before(ctx, target.Addr()); err != nil {
			p.ended(request{target: target, began: time.Now(), err: err})
			return
		}
	}
	began := time.Now()
	opened, err := get(ctx, conn, target)
	p.ended(request{target: target, began: began, took: time.Since(began), opened: opened, err: err})
}

// get requests / and returns when the first byte of the answer has come, with whether the
// connection came about.
func get(ctx context.Context, conn *socket.Conn, target netip.AddrPort) (opened bool, err error) {
	if err := resetAtEnd(conn); err != nil {
		return false, err
	}
	to := &unix.SockaddrInet4{Port: int(target.Port()), Addr: target.Addr().As4()}
	if _, err := conn.Connect(ctx, to); err != nil {
		return false, err
	}
	if _, err := conn.WriteContext(ctx, []byte("GET / HTTP/1.0\r\n\r\n")); err != nil {
		return true, err
	}
	n, err := conn.ReadContext(ctx, make([]byte, 1))
	if err == nil && n != 1 {
		err = fmt.Errorf("%s closed the connection", target)
	}
	return true, err
}

func (p *pulse) ended(r request) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.requests = append(p.requests, r)
}

// gap returns how long after the fault requests to a target failed: until the first that
// succeeded of those begun after the last that failed. Of several targets it is the
// longest, and 0 if none failed.
func gap(requests []request, fault time.Time) (time.Duration, error) {
	type history struct{ failed, succeeded time.Time }
	byTarget := map[netip.AddrPort]history{}
	for _, r := range requests {
		if h := byTarget[r.target]; r.err != nil && r.began.After(fault) && r.began.After(h.failed) {
			h.failed = r.began
			byTarget[r.target] = h
		}
	}
	for _, r := range requests {
		h, failed := byTarget[r.target]
		if failed && r.err == nil && r.began.After(h.failed) && (h.succeeded.IsZero() || r.began.Before(h.succeeded)) {
			h.succeeded = r.began
			byTarget[r.target] = h
		}
	}
	var longest time.Duration
	for target, h := range byTarget {
		if h.succeeded.IsZero() {
			return 0, fmt.Errorf("requests to %s did not succeed any more", target)
		}
		longest = max(longest, h.succeeded.Sub(fault))
	}
	return longest, nil
}
