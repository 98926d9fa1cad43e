package responder

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"baremetal.cloud/ccm/pkg/announcer/plan"
)

// errFenced means that nothing may be sent at present.
var errFenced = errors.New("not allowed to answer at present")

// Options are what a Responder needs.
type Options struct {
	Protocol Protocol
	// Listen opens the socket of a Port; nil is Listen of this package.
	Listen ListenFunc
	// OnFailure, if not nil, is called from a reader's goroutine when its socket failed.
	// The next Apply opens it anew.
	OnFailure func()
	// OnConflict, if not nil, is called from a reader's goroutine with each frame whose Outcome
	// is Conflict. It must not keep the frame. With it fewer frames a second are read.
	OnConflict func(port *Port, frame []byte)
	// Allowed, if not nil, is asked before anything is sent, from any goroutine.
	Allowed func() bool
	// Poller, if not nil, lets the owner read the sockets that it can poll: OnFailure and
	// OnConflict are called by the owner then, and no goroutine is needed.
	Poller Poller
}

// Poller has its owner call ready whenever a socket that does not block has something.
type Poller interface {
	Add(socket int, ready func()) error
	// Pause has it not call ready for a while, however much the socket has.
	Pause(socket int, how time.Duration)
	// Remove ends that while the socket is open; it ends by itself when that is closed.
	Remove(socket int)
}

// Responder answers requests of one protocol. Apply, Announce and Close are called by one
// owner; any goroutine may call Counts.
type Responder struct {
	options Options
	listens listenFunc
	open    map[int]*socket
	counts  counts
	limit   *replyLimit
	readers sync.WaitGroup
}

// New returns a Responder that has no socket and answers nothing until Apply.
func New(options Options) *Responder {
	r := &Responder{open: make(map[int]*socket), limit: newReplyLimit(), listens: options.listenFunc()}
	if options.OnFailure == nil {
		options.OnFailure = func() {}
	}
	if options.OnConflict == nil {
		options.OnConflict = func(*Port, []byte) {}
	}
	if options.Allowed == nil {
		options.Allowed = func() bool { return true }
	}
	r.options = options
	return r
}

// Apply makes ports, each interface once, the whole of what is answered; none means
// nothing. What is no longer wanted stops before anything new starts, and when Apply
// returns the kernel's filters let through what is wanted. The result says, by interface
// index, where that failed and nothing is answered; Apply with the same ports tries again. It does not wait for
// readers and takes well under a millisecond per port.
func (r *Responder) Apply(ports []*Port) map[int]error {
	wanted := make(map[int]*Port, len(ports))
	for _, p := range ports {
		if p.Addresses.Len() > 0 {
			wanted[p.Index] = p
		}
	}
	for index, s := range r.open {
		if wanted[index] == nil || s.failed.Load() {
			r.stopSocket(s)
			delete(r.open, index)
			continue
		}
		s.narrowPort(wanted[index])
	}
	failures := map[int]error{}
	for index, port := range wanted {
		if err := r.applyPort(port); err != nil {
			failures[index] = fmt.Errorf("%s on %s: %w", r.options.Protocol.Name(), port.Name, err)
		}
	}
	return failures
}

func (r *Responder) applyPort(port *Port) error {
	if s := r.open[port.Index]; s != nil {
		err := s.updatePort(r.options.Protocol, port)
		if err != nil {
			r.stopSocket(s)
			delete(r.open, port.Index)
		}
		return err
	}
	s, err := openPort(r.options.Protocol, r.listens, port)
	if err != nil {
		return err
	}
	if err := r.startReading(s); err != nil {
		r.stopSocket(s)
		return err
	}
	r.open[port.Index] = s
	return nil
}

// Announce tells the segments of every port that answers for one of addresses where it
// is, unasked, in the first of the forms there are. It never waits, and returns those for which
// there was no room on some port. The error joins one error for each port that could not send.
func (r *Responder) Announce(addresses []netip.Addr) (unsent []netip.Addr, err error) {
	return r.announceAddresses(addresses, func(frames [][]byte) [][]byte { return frames[:min(1, len(frames))] })
}

// AnnounceOtherwise does the same in all other forms, for hosts that do not heed the first.
func (r *Responder) AnnounceOtherwise(addresses []netip.Addr) error {
	_, err := r.announceAddresses(addresses, func(frames [][]byte) [][]byte { return frames[min(1, len(frames)):] })
	return err
}

// announceAddresses sends some of the frames that announce addresses.
func (r *Responder) announceAddresses(addresses []netip.Addr, some func([][]byte) [][]byte) (unsent []netip.Addr, err error) {
	var failures []error
	for _, s := range r.open {
		left, err := r.announceOn(s, addresses, some)
		if err != nil {
			failures = append(failures, fmt.Errorf("%s on %s: %w", r.options.Protocol.Name(), s.port.Load().Name, err))
		}
		unsent = append(unsent, left...)
	}
	return unsent, errors.Join(failures...)
}

// announceOn announces on one port, and returns the addresses for which there was no room. One
// frame that cannot be sent is no reason not to send the others; the error is the first.
func (r *Responder) announceOn(s *socket, addresses []netip.Addr, some func([][]byte) [][]byte) (unsent []netip.Addr, err error) {
	port := s.port.Load()
	for _, address := range addresses {
		if !port.Has(address) {
			continue
		}
		for _, frame := range some(r.options.Protocol.Announcement(port, address)) {
			if !r.options.Allowed() {
				return unsent, errFenced
			}
			failed := s.conn.Send(frame)
			if failed == nil {
				r.counts.announced.Add(1)
				continue
			}
			r.counts.failed.Add(1)
			err = cmp.Or(err, failed)
			if errors.Is(failed, unix.EAGAIN) || errors.Is(failed, unix.ENOBUFS) {
				unsent = append(unsent, address)
			}
		}
	}
	return unsent, err
}

// Close stops answering, and returns once every reader has ended.
func (r *Responder) Close() {
	r.Apply(nil)
	r.readers.Wait()
}

// readLoop answers until the socket is stopped or fails. Nothing that a frame holds ends it.
func (r *Responder) readLoop(s *socket, conn Conn) {
	defer func() { _ = conn.Close() }()
	buffer := make([]byte, maxFrame)
	for {
		n, _, err := conn.ReadFrom(buffer)
		port := s.port.Load()
		if port == nil {
			return
		}
		if err != nil {
			// Also where the interface went down for a moment: the socket would go on, but
			// it is also all that is ever heard of an interface that was deleted.
			s.failed.Store(true)
			r.options.OnFailure()
			return
		}
		r.answerFrame(s, port, buffer[:n])
	}
}

// answerFrame answers a frame.
func (r *Responder) answerFrame(s *socket, port *Port, frame []byte) {
	reply, outcome := r.options.Protocol.Decide(frame, port)
	switch {
	case reply == nil:
	case !r.options.Allowed():
		reply, outcome = nil, Fenced
	case !r.limit.allowsReply(time.Now(), reply):
		reply, outcome = nil, Limited
	}
	r.counts.outcomes[outcome].Add(1)
	switch outcome {
	case NotOurs:
		s.filter.noteWasted()
	case Conflict:
		r.options.OnConflict(port, frame)
	}
	if reply != nil && s.conn.Send(reply) != nil {
		r.counts.failed.Add(1)
	}
}

// Counts is what a Responder did since it was made.
type Counts struct {
	// Outcomes is the number of frames that came through the kernel's filter, by Outcome.
	Outcomes [outcomes]uint64
	// Announced is the number of frames sent unasked, Failed that of frames of either
	// kind that could not be sent.
	Announced, Failed uint64
}

type counts struct {
	outcomes          [outcomes]atomic.Uint64
	announced, failed atomic.Uint64
}

// Counts returns what was done so far.
func (r *Responder) Counts() Counts {
	c := Counts{Announced: r.counts.announced.Load(), Failed: r.counts.failed.Load()}
	for i := range r.counts.outcomes {
		c.Outcomes[i] = r.counts.outcomes[i].Load()
	}
	return c
}

// samePort reports whether two ports say the same.
func samePort(a, b *Port) bool {
	return a.Index == b.Index && a.Name == b.Name && bytes.Equal(a.MAC, b.MAC) && a.Addresses.Equal(b.Addresses) &&
		slices.EqualFunc(a.Ports, b.Ports, func(x, y net.HardwareAddr) bool { return bytes.Equal(x, y) })
}

// commonPort returns port with those of its addresses that wanted has too, under wanted's MAC.
func commonPort(port, wanted *Port) *Port {
	kept := port.Addresses
	for address, left := range plan.Delta(port.Addresses, wanted.Addresses) {
		if left == nil {
			kept = kept.Without(address)
		}
	}
	return &Port{Index: wanted.Index, Name: wanted.Name, MAC: wanted.MAC, Ports: wanted.Ports, Addresses: kept}
}
