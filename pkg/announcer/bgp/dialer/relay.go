package dialer

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"time"

	"baremetal.cloud/ccm/pkg/announcer/plan"
	"baremetal.cloud/ccm/pkg/reason"
)

const (
	// aliveInterval is the least time between two KEEPALIVEs that gobgp reads.
	aliveInterval = time.Second
	// refreshInterval is the least time between two ROUTE-REFRESHes of a family that gobgp
	// reads: it answers each with all routes.
	refreshInterval = 10 * time.Second
	// innerTimeout is how long gobgp may take to read a message, and to send its OPEN.
	innerTimeout = 10 * time.Second
	// openTimeout is how long writing to a router may take that no hold time is negotiated with
	// yet, and partTimeout how long an end may.
	openTimeout = 30 * time.Second
	partTimeout = 200 * time.Millisecond
	// upkeep is how often what waits is looked at.
	upkeep = time.Second

	buffer = 16 << 10
)

// relay is one connection of gobgp and the one to the router that belongs to it.
type relay struct {
	dialer *Dialer
	config Config
	inner  net.Conn
	ctx    context.Context
	cancel context.CancelFunc

	// out guards what is written to the router.
	out    sync.Mutex
	writer *bufio.Writer
	// finished is that no message may follow: the last one was written, or one in part.
	finished bool
	// deadline guards outer, which is nil before there is a connection to the router, timeout,
	// which is how long writing to it may take, and leaving, which is that less is left.
	deadline sync.Mutex
	outer    net.Conn
	timeout  time.Duration
	leaving  bool

	// in guards what is written to gobgp, and what follows.
	in sync.Mutex
	// alive is when gobgp was last told that the router is there.
	alive time.Time
	// asked is when gobgp was last asked for all routes of IPv4 and IPv6, and waiting are the
	// families that it has still to be asked for.
	asked   [2]time.Time
	waiting Families
	// ended are the families whose End-of-RIB has come.
	ended Families
	// router is the OPEN of the router, once there is one.
	router Open
	phase  plan.BGPState
}

// End is why a session ended, or is not established. Without a Reason the node wanted it.
type End struct {
	Reason  reason.Reason
	Message string
}

// run carries messages until the session ends. It returns why.
func (r *relay) run() End {
	defer r.cancel()
	var group sync.WaitGroup
	ends := make(chan End, 2)
	group.Go(func() { ends <- r.fromGobgp() })
	end, connected := r.connect(ends)
	if connected {
		group.Go(func() { ends <- r.fromRouter() })
		end = r.await(ends)
	}
	r.cancel()
	_ = r.inner.Close()
	r.part()
	group.Wait()
	return end
}

// connect connects to the router, and sends it the OPEN. It reports false if the session ended before.
func (r *relay) connect(ends <-chan End) (End, bool) {
	ctx, cancel := context.WithCancel(r.ctx)
	defer cancel()
	dialled := make(chan net.Conn, 1)
	go func() { dialled <- r.dialer.connect(ctx) }()
	var conn net.Conn
	select {
	case conn = <-dialled:
	case end := <-ends:
		cancel()
		if conn := <-dialled; conn != nil {
			_ = conn.Close()
		}
		return end, false
	}
	if conn == nil {
		return End{}, false
	}
	r.out.Lock()
	r.writer = bufio.NewWriterSize(conn, buffer)
	r.out.Unlock()
	r.deadline.Lock()
	r.outer = conn
	r.deadline.Unlock()
	if local, ok := addrPort(conn.LocalAddr()); ok {
		r.dialer.options.OnConnected(ctx, local.Addr())
	}
	open := r.config.Open
	open.GracefulRestart.Restarting = open.GracefulRestart.Restarting && !r.dialer.wasEstablished()
	r.setPhase(plan.BGPOpenSent)
	if err := r.send(open.frame(), true); err != nil {
		return closed(err), false
	}
	return End{}, true
}

// await waits for the end of the session.
func (r *relay) await(ends <-chan End) End {
	tick := time.NewTicker(upkeep)
	defer tick.Stop()
	for {
		select {
		case end := <-ends:
			return better(end, ends)
		case <-r.ctx.Done():
			return End{}
		case now := <-tick.C:
			if err := r.keepUp(now); err != nil {
				return End{}
			}
		}
	}
}

// better returns the other side's end if that explains more: a router that closes the connection
// may have said why.
func better(end End, ends <-chan End) End {
	if end.Reason != reason.PeerClosed {
		return end
	}
	select {
	case other := <-ends:
		if other.Reason != "" {
			return other
		}
	case <-time.After(partTimeout):
	}
	return end
}

// keepUp tells gobgp what had to wait, and that the router is there if that is not told.
func (r *relay) keepUp(now time.Time) error {
	r.in.Lock()
	defer r.in.Unlock()
	if r.phase != plan.BGPEstablished {
		return nil
	}
	if r.config.holdTime(r.router) == 0 {
		if err := r.tellAlive(now); err != nil {
			return err
		}
	}
	return r.tellRefresh(now)
}

// part closes the connection to the router. What was said last is waited for: a connection
// that is closed while something of the router is unread is reset, and takes it along.
func (r *relay) part() {
	r.hurry()
	r.out.Lock()
	defer r.out.Unlock()
	conn := r.connection()
	if conn == nil {
		return
	}
	if tcp, ok := conn.(*net.TCPConn); ok && r.finished && tcp.CloseWrite() == nil {
		_ = conn.SetReadDeadline(time.Now().Add(partTimeout))
		_, _ = io.CopyN(io.Discard, conn, 2*receiveBuffer)
	}
	_ = conn.Close()
}

// connection returns the one to the router, or nil.
func (r *relay) connection() net.Conn {
	r.deadline.Lock()
	defer r.deadline.Unlock()
	return r.outer
}

// hurry leaves a short time for what is being written to the router.
func (r *relay) hurry() {
	r.deadline.Lock()
	defer r.deadline.Unlock()
	r.leaving = true
	if r.outer != nil {
		_ = r.outer.SetWriteDeadline(time.Now().Add(partTimeout))
	}
}

// send writes a message to the router, at once or with what follows.
func (r *relay) send(f frame, flush bool) error {
	r.out.Lock()
	defer r.out.Unlock()
	if r.finished {
		return net.ErrClosed
	}
	r.extend()
	_, err := r.writer.Write(f)
	if err == nil && flush {
		err = r.writer.Flush()
	}
	r.finished = err != nil
	return err
}

// extend gives the next message its time.
func (r *relay) extend() {
	r.deadline.Lock()
	defer r.deadline.Unlock()
	if !r.leaving {
		_ = r.outer.SetWriteDeadline(time.Now().Add(r.timeout))
	}
}

// refuse ends the session with a NOTIFICATION.
func (r *relay) refuse(n *Notification) {
	r.hurry()
	r.out.Lock()
	defer r.out.Unlock()
	if r.finished || r.writer == nil {
		return
	}
	r.in.Lock()
	n = r.config.outgoing(n, r.router)
	r.in.Unlock()
	_, err := r.writer.Write(n.frame())
	_ = errors.Join(err, r.writer.Flush()) // The session ends in any case.
	r.finished = true
}

// tell writes a message to gobgp. The caller holds in.
func (r *relay) tell(f frame) error {
	if err := r.inner.SetWriteDeadline(time.Now().Add(innerTimeout)); err != nil {
		return err
	}
	_, err := r.inner.Write(f)
	return err
}

// setPhase notes how far the session is.
func (r *relay) setPhase(phase plan.BGPState) {
	r.in.Lock()
	r.phase = phase
	router := r.router
	r.in.Unlock()
	r.dialer.advance(phase, router)
}

// closed returns the end of a connection that failed.
func closed(err error) End {
	if errors.Is(err, net.ErrClosed) {
		return End{}
	}
	return End{reason.PeerClosed, fmt.Sprintf("the connection was closed: %.200s", err)}
}
