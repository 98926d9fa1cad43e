package main

import (
	"context"
	"errors"
	"log/slog"
	"runtime"
	"sync"

	"golang.org/x/sync/errgroup"

	"baremetal.cloud/ccm/pkg/announcer/realtime"
	"baremetal.cloud/ccm/pkg/announcer/status"
)

// threads are those that must not be late: one answers and speaks to peers, the other keeps BFD
// sessions. All others of the process are normal ones.
type threads struct{ announcer, bfd thread }

type thread struct {
	*realtime.Thread
	loop *realtime.Loop
}

// newThreads gives all threads that there are normal scheduling, and returns those that will go
// before others, if that is wanted. What the kernel refuses is logged once.
func newThreads(wanted bool, log *slog.Logger) (threads, error) {
	runtime.GOMAXPROCS(realtime.Processors(runtime.NumCPU()))
	if err := realtime.Share(); err != nil {
		log.Warn("threads take longer turns than they should on a busy node", "err", err)
	}
	var once sync.Once
	granted := func(class realtime.Class, err error) {
		if err != nil {
			once.Do(func() {
				log.Warn("no deadline scheduling; on a busy node peers may take this one for dead", "class", class, "err", err)
			})
		}
	}
	var t threads
	var failed [2]error
	for i, one := range []*thread{&t.announcer, &t.bfd} {
		one.Thread = realtime.NewThread(wanted, granted)
		one.loop, failed[i] = realtime.NewLoop(one.Thread)
	}
	return t, errors.Join(failed[:]...)
}

// threadClasses returns what the metrics say of them.
func (t threads) threadClasses() []status.Thread {
	var all []string
	for _, c := range realtime.Classes() {
		all = append(all, c.String())
	}
	class := func(of thread) func() string { return func() string { return of.Class().String() } }
	return []status.Thread{
		{Name: "announcer", Classes: all, Class: class(t.announcer)},
		{Name: "bfd", Classes: all, Class: class(t.bfd)},
	}
}

// guardThreads watches those whose share the kernel does not bound, until ctx ends.
func (t threads) guardThreads(ctx context.Context, log *slog.Logger) error {
	var group errgroup.Group
	group.Go(func() error { return t.announcer.Guard(ctx, log.With("thread", "announcer")) })
	group.Go(func() error { return t.bfd.Guard(ctx, log.With("thread", "bfd")) })
	return group.Wait()
}
