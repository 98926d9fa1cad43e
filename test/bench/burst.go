package main

import (
	"context"
	"fmt"
	"time"
)

// crowd is how many Services are created at once.
const crowd = 1000

// burst creates many Services as fast as the API server takes them.
func burst(ctx context.Context, bed *lab, runs int) (result, error) {
	return repeat(ctx, runs, func(ctx context.Context, i int) (sample, error) {
		if err := bed.quiet(ctx); err != nil {
			return sample{}, err
		}
		before, err := bed.writes(ctx)
		if err != nil {
			return sample{}, err
		}
		names := series(fmt.Sprintf("burst-%d", i), crowd)
		began := time.Now()
		created, err := bed.createAll(ctx, names, nil)
		if err != nil {
			return sample{}, err
		}
		seen, err := bed.watch.addressed(ctx, names)
		if err != nil {
			return sample{}, err
		}
		if err := bed.quiet(ctx); err != nil {
			return sample{}, err
		}
		after, err := bed.writes(ctx)
		if err != nil {
			return sample{}, err
		}
		s := newSample()
		addressed, announced := latest(seen)
		s.Figures["created_ms"] = ms(created.Sub(began))
		s.Figures["tail_ms"] = ms(addressed.Sub(created))
		s.Figures["total_ms"] = ms(addressed.Sub(began))
		s.Figures["announced_tail_ms"] = ms(announced.Sub(created))
		after.since(before).figures(s, crowd)
		return s, bed.deleteAll(ctx, names)
	})
}

// latest returns when the last address and the last announcement were seen.
func latest(seen []sighting) (addressed, announced time.Time) {
	for _, s := range seen {
		if s.addressed.After(addressed) {
			addressed = s.addressed
		}
		if s.announced.After(announced) {
			announced = s.announced
		}
	}
	return addressed, announced
}
