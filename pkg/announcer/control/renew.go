package control

import (
	"time"

	"google.golang.org/grpc/connectivity"
)

const (
	// renewCheck is how often the files are looked at while a stream stands.
	renewCheck = 20 * time.Second
	// renewAfter is the age at which a stream is replaced, whatever the replica says: an
	// impostor does not.
	renewAfter = 2 * time.Hour
)

// renewStream opens the stream that takes this one's place, and ends this one: when the replica
// asks for it, as it does at maxAge, when the token or the CA has changed, or at renewAfter. The
// replica is never without a stream of this node meanwhile. renewStream returns nil if this
// stream ends before that.
//
// A replica for which a changed CA does not vouch loses its stream at once.
func (st *clientStream) renewStream() *clientStream {
	due := make(chan struct{})
	go func() { // ends with the stream
		defer close(due)
		st.awaitDraining()
	}()
	defer func() { <-due }()
	check := time.NewTicker(renewCheck)
	defer check.Stop()
	for failures := 0; ; {
		draining := false
		select {
		case <-st.ctx.Done():
			return nil
		case <-due:
			if st.ctx.Err() != nil {
				return nil // it was lost: the next one waits as after any loss
			}
			draining = true
		case <-check.C:
		}
		if !draining && !st.filesChanged() && time.Since(st.began) < renewAfter {
			continue
		}
		next, err := st.replica.openStream()
		if err == nil {
			st.cancel(nil)
			return next
		}
		failures++
		st.replica.client.log.Debug("stream not replaced yet; it goes on", "replica", st.replica.address, "err", err)
		if !sleepFor(st.ctx, backoffPause(failures, pauseLimit(err), st.replica.client.random())) {
			return nil
		}
	}
}

// filesChanged reports whether a file holds something else than when the stream was opened. It
// ends the stream where the CA does not vouch for the replica.
func (st *clientStream) filesChanged() bool {
	now, err := readCredentials(st.replica.client.options)
	if err != nil || now == st.opened {
		return false
	}
	if now.ca != st.opened.ca && !now.vouchesFor(st.tls.Load(), st.replica.client.options.ServerName) {
		st.cancel(errUntrusted)
	}
	return true
}

// awaitDraining waits until the replica reports that the connection takes no further stream
// (GOAWAY, RFC 9113 section 6.8), or the stream ends. gRPC takes such a connection for idle.
func (st *clientStream) awaitDraining() {
	for state := connectivity.Ready; state == connectivity.Ready; state = st.conn.GetState() {
		if !st.conn.WaitForStateChange(st.ctx, state) {
			return
		}
	}
}
