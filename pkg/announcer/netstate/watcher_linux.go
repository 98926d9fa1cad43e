package netstate

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/mdlayher/socket"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
	"golang.org/x/time/rate"
)

const (
	// minPause and maxPause bound the time between two readings of the kernel's tables;
	// the first change after a quiet time is read at once.
	minPause = 20 * time.Millisecond
	maxPause = 5 * time.Second
	// confirmPause is how long an interface has to be without what it needs to send a family
	// before that is handed out: what renews an address takes the old one away first.
	confirmPause = 50 * time.Millisecond
	// pauseFactor is how many times as long as the last reading took the pause is, so
	// that tables of any size take at most a twentieth of a processor.
	pauseFactor = 20
	// retryPause is the time before a failed subscription or reading is tried again.
	retryPause = time.Second
	// othersRate is how often a second the tables are read because of what machines on the LAN can
	// have the kernel change, by router advertisements, and othersBurst how often at once.
	othersRate  = 1
	othersBurst = 5
	// messageRate is how many notifications a second are read, and messageBurst how many at once.
	// What is beyond the kernel drops, and tells so.
	messageRate  = 1000
	messageBurst = 1000
	// messageSize holds the head of a notification; the rest is cut off, because the
	// tables are read whole.
	messageSize = 4096
)

// groups are the rtnetlink multicast groups that are listened to.
const groups = 1<<(unix.RTNLGRP_LINK-1) | 1<<(unix.RTNLGRP_IPV4_IFADDR-1) | 1<<(unix.RTNLGRP_IPV6_IFADDR-1) |
	1<<(unix.RTNLGRP_IPV4_ROUTE-1) | 1<<(unix.RTNLGRP_IPV6_ROUTE-1)

// Options are what a Watcher needs.
type Options struct {
	// Logger takes failures of netlink; nil discards them.
	Logger *slog.Logger
	// OnSnapshot takes the first state and every later one that differs. It is called
	// from Run's goroutine and must not block long.
	OnSnapshot func(Snapshot)
	// OnNotifyPeers, if not nil, takes the index of an interface that asks for its addresses to
	// be announced again: a bond that goes on by another port, or a machine that was moved. It
	// is called from a goroutine of Run's and must not block long.
	OnNotifyPeers func(index int)
}

// Watcher reports the node's interfaces and their changes.
type Watcher struct {
	options Options
	log     *slog.Logger
}

// NewWatcher returns a Watcher that does nothing until Run.
func NewWatcher(options Options) *Watcher {
	if options.Logger == nil {
		options.Logger = slog.New(slog.DiscardHandler)
	}
	return &Watcher{options: options, log: options.Logger}
}

// Run watches the calling thread's network namespace until ctx is done and then returns
// nil. Failures of netlink, a receive
// buffer that overflowed among them, are logged, and everything is read anew.
func (w *Watcher) Run(ctx context.Context) error {
	var last *Snapshot
	for {
		err := w.watchNetlink(ctx, &last)
		if ctx.Err() != nil {
			return nil
		}
		w.log.Warn("watching network interfaces failed; starting over", "error", err)
		if !sleepFor(ctx, retryPause) {
			return nil
		}
	}
}

// watchNetlink subscribes, reads everything, and then whatever notifications point to.
func (w *Watcher) watchNetlink(ctx context.Context, last **Snapshot) error {
	notifications, err := socket.Socket(unix.AF_NETLINK, unix.SOCK_RAW, unix.NETLINK_ROUTE, "netlink", nil)
	if err != nil {
		return fmt.Errorf("open netlink socket: %w", err)
	}
	defer notifications.Close()
	if err := notifications.Bind(&unix.SockaddrNetlink{Family: unix.AF_NETLINK, Groups: groups}); err != nil {
		return fmt.Errorf("subscribe to rtnetlink: %w", err)
	}
	handle, err := netlink.NewHandle(unix.NETLINK_ROUTE)
	if err != nil {
		return fmt.Errorf("open netlink socket: %w", err)
	}
	defer handle.Close()

	changes := newDirty()
	changes.addClasses(classes{true, true, true}, false)
	var receiving sync.WaitGroup
	defer receiving.Wait()
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	receiving.Go(func() { cancel(receiveNotifications(ctx, notifications, changes, w.options.OnNotifyPeers)) })
	return w.followChanges(ctx, handle, changes, last)
}

// followChanges reads the tables whenever changes say so and hands out what differs.
func (w *Watcher) followChanges(ctx context.Context, handle *netlink.Handle, changes *dirty, last **Snapshot) error {
	var state tables
	for {
		if !changes.awaitDirty(ctx) {
			return context.Cause(ctx)
		}
		began := time.Now()
		if err := state.readTables(handle, changes.takeClasses()); err != nil {
			return err
		}
		snapshot := state.snapshotOf()
		if *last != nil && snapshot.losesFamily(**last) {
			if !sleepFor(ctx, confirmPause) {
				return context.Cause(ctx)
			}
			began = time.Now()
			if err := state.readTables(handle, changes.takeClasses().orClasses(classes{addresses: true, routes: true})); err != nil {
				return err
			}
			snapshot = state.snapshotOf()
		}
		if *last == nil || !snapshot.Equal(**last) {
			*last = &snapshot
			w.options.OnSnapshot(snapshot)
		}
		if !sleepFor(ctx, min(max(minPause, pauseFactor*time.Since(began)), maxPause)) {
			return context.Cause(ctx)
		}
	}
}

// receiveNotifications notes what each notification is about, until ctx is done or the socket fails.
func receiveNotifications(ctx context.Context, notifications *socket.Conn, changes *dirty, notifyPeers func(int)) error {
	stop := context.AfterFunc(ctx, func() { _ = notifications.SetReadDeadline(time.Unix(1, 0)) })
	defer stop()
	buffer, pace := make([]byte, messageSize), rate.NewLimiter(messageRate, messageBurst)
	for pace.Wait(ctx) == nil {
		n, _, err := notifications.Recvfrom(context.Background(), buffer, 0)
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case errors.Is(err, unix.ENOBUFS):
			// Notifications were lost, which ones is unknown.
			changes.addClasses(classes{true, true, true}, true)
		case err != nil:
			return fmt.Errorf("read rtnetlink notification: %w", err)
		default:
			changes.addClasses(tablesOf(buffer[:n]), byOthers(buffer[:n]))
			if index, ok := notifiesPeers(buffer[:n]); ok && notifyPeers != nil {
				notifyPeers(index)
			}
		}
	}
	return ctx.Err()
}

// sleepFor reports whether the whole pause passed before ctx was done.
func sleepFor(ctx context.Context, pause time.Duration) bool {
	timer := time.NewTimer(pause)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}
