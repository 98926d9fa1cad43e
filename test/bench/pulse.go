package main

import (
	"context"
	"fmt"
	"net/netip"
	"sync"
	"time"

	"baremetal.cloud/ccm/test/e2e/testbed/netns"
	"baremetal.cloud/ccm/test/e2e/testbed/tcp"
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
			target := p.targets[n%len(p.targets)]
			conn, err := tcp.Open(target)
			if err != nil {
				return err
			}
			group.Go(func() {
				// Not with ctx: one that is under way is let finish.
				p.request(context.WithoutCancel(ctx), conn, target)
			})
		}
	})
}

func (p *pulse) request(ctx context.Context, conn *tcp.Conn, target netip.AddrPort) {
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
	opened, err := get(ctx, conn)
	p.ended(request{target: target, began: began, took: time.Since(began), opened: opened, err: err})
}

// get requests / and returns when the first byte of the answer has come, with whether the
// connection came about.
func get(ctx context.Context, conn *tcp.Conn) (opened bool, err error) {
	if err := conn.Connect(ctx); err != nil {
		return false, err
	}
	_, err = conn.Get(ctx)
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
