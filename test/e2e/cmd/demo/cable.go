package main

import (
	"context"
	"fmt"
	"net/netip"
	"sync"
	"time"

	"baremetal.cloud/ccm/test/e2e/testbed"
)

// pace is the time between two requests while a cable is cut, and giveUp the time after
// which one has failed.
const (
	pace   = 20 * time.Millisecond
	giveUp = time.Second
)

// cut cuts the cable of the node that answers and shows how long the address is gone. It
// tells nobody: the switch port stays up, and every frame is lost.
func (s *story) cut(ctx context.Context, address netip.Addr) error {
	say("The cable of the node that answers is cut, and its link still looks fine")
	before, err := s.owner(ctx, address)
	if err != nil {
		return err
	}
	began := time.Now()
	if err := s.c.Cut(ctx, before, testbed.Silent); err != nil {
		return err
	}
	gap, err := s.gap(ctx, address, began)
	if err != nil {
		return err
	}
	after, err := s.owner(ctx, address)
	if err != nil {
		return err
	}
	fmt.Printf("%s is cut off. %s answers for %s; the first page came %s after the cut.\n", before, after, address, gap.Round(time.Millisecond))
	fmt.Printf("(The Pod on %s is gone too: until Kubernetes takes it for lost, kube-proxy goes on sending it its share.)\n", before)

	say("The cable is back")
	if err := s.c.Heal(ctx, before); err != nil {
		return err
	}
	if err := sleep(ctx, 2*time.Second); err != nil {
		return err
	}
	now, err := s.owner(ctx, address)
	if err != nil {
		return err
	}
	fmt.Printf("%s answers as before: a node that returns takes nothing back.\n", now)
	return nil
}

// gap requests the address at a steady pace and returns when, counted from began, the
// first request that succeeded was made.
func (s *story) gap(ctx context.Context, address netip.Addr, began time.Time) (time.Duration, error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	var requests sync.WaitGroup
	defer requests.Wait()
	first := make(chan time.Duration, 1)
	for {
		started := time.Since(began)
		requests.Go(func() {
			ctx, cancel := context.WithTimeout(ctx, giveUp)
			defer cancel()
			if _, err := s.c.Curl(ctx, "http://"+address.String()+"/"); err != nil {
				return
			}
			select {
			case first <- started:
			default:
			}
		})
		select {
		case gap := <-first:
			return gap, nil
		case <-ctx.Done():
			return 0, fmt.Errorf("no page since the cut: %w", ctx.Err())
		case <-time.After(pace):
		}
	}
}

func sleep(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(d):
		return nil
	}
}
