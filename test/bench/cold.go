package main

import (
	"context"
	"errors"
	"net/netip"
	"time"

	"github.com/mdlayher/ethernet"

	"baremetal.cloud/ccm/test/e2e/testbed"
	"baremetal.cloud/ccm/test/e2e/testbed/lan"
)

// cold starts announcers with plans on their disks and no CCM, as after a power cut, and measures
// until the last of a thousand addresses is announced.
func cold(ctx context.Context, _ *lab, runs int) (result, error) {
	return repeat(ctx, runs, func(ctx context.Context, _ int) (s sample, err error) {
		ring, err := newRing(ctx, "")
		defer func() { err = errors.Join(err, ring.end()) }()
		if err != nil {
			return s, err
		}
		return ring.powerOn(ctx)
	})
}

// powerOn starts the announcers of r, which have nothing but their plans.
func (r *ring) powerOn(ctx context.Context) (sample, error) {
	s := newSample()
	conn, _, err := testbed.Listen(lan.Host{Name: "switch", NetNS: r.switchSpace}, "lan0", ethernet.EtherTypeARP)
	if err != nil {
		return s, err
	}
	w := &wire{conn: conn}
	w.anew("")
	done := make(chan struct{})
	go func() {
		defer close(done)
		w.read()
	}()
	defer func() {
		_ = conn.Close()
		<-done
	}()
	if err := w.widen(); err != nil {
		return s, err
	}
	began := time.Now()
	if err := r.start(ctx, crowd, nil); err != nil {
		return s, err
	}
	var addresses []netip.Addr
	for i := range crowd {
		if address := ringAddress(i); address.Is4() {
			addresses = append(addresses, address)
		}
	}
	ctx, cancel := context.WithTimeout(ctx, ringPatience)
	defer cancel()
	heard, err := w.all(ctx, addresses)
	for _, h := range heard {
		s.Figures["last_ms"] = max(s.Figures["last_ms"], ms(h.at.Sub(began)))
	}
	return s, err
}
