// Package observer watches a testbed's LAN from outside and judges what it saw: who
// answered for which address and when, whether requests got through, and what was done to
// the testbed meanwhile. It asks nothing of the programs under test. The judge is pure.
package observer

import (
	"net/netip"
	"slices"
	"time"
)

// Answer is a frame in which a machine said that an address is at its hardware address.
type Answer struct {
	// At is when the kernel received the frame.
	At      time.Time
	Address netip.Addr
	// Node is who sent it: the name of the node with that hardware address, or the
	// address itself if it is no node's.
	Node string
	// Delivered says that the frame was seen on its way out of the client's port; others
	// were seen where they came in. One that is not lost is seen at both.
	Delivered bool
	// Unasked is a gratuitous ARP frame or an unsolicited advertisement.
	Unasked bool
}

// Request is one GET from the client on a connection of its own.
type Request struct {
	At      time.Time
	Address netip.Addr
	// Took is the time until the first byte of the answer, or until it failed.
	Took time.Duration
	// Failure is why there was no answer; "" if there was one.
	Failure string
	// Opened says that the connection stood before it failed.
	Opened bool
}

// NoAnswer is the Failure of a request that was given up, which a slow machine explains as
// well as it explains a late answer.
const NoAnswer = "no answer"

// Stall is a time in which this machine did not run a thread that was due.
type Stall struct{ From, Until time.Time }

// Note is something to show in a timeline: a line of a log, or what the test did.
type Note struct {
	At   time.Time
	Text string
}

// Fault is something that was done to the testbed.
type Fault struct {
	Name string
	// Since is just before it was begun, Begun just after that, and Until just after it was
	// ended; zero if it never was.
	Since, Begun, Until time.Time
	// Recovered is when everything was as before; zero if it was not, or nobody looked.
	Recovered time.Time
	Effect
}

// Effect is what may be expected while a fault lasts. The zero value expects that nobody
// notices anything.
type Effect struct {
	// Out are nodes that cannot answer, nor until everything has recovered, which may take
	// as long as Recovery after the end.
	Out      []string
	Recovery time.Duration
	// Blind says that frames are lost at random, so that answers say nothing.
	Blind bool
	// TurnsAway says that new connections may fail or take long, also until everything
	// has recovered.
	TurnsAway bool
	// Stays says that nobody begins to answer for what another one answers for, as long as
	// no fault lasts that does not say so.
	Stays bool
	// Slower is by how much longer than the bound an address may be unanswered, or be answered
	// by two, while the fault lasts.
	Slower time.Duration
	// Barred is a node that must not answer from Within after the beginning until the end.
	Barred string
	Within time.Duration
	// Addresses are those that all this is about; empty for all.
	Addresses []netip.Addr
	// Elsewhere is the effect on all other addresses; nil if there is none.
	Elsewhere *Effect
}

// on returns the effect on an address, and whether there is one.
func (e Effect) on(address netip.Addr) (Effect, bool) {
	switch {
	case len(e.Addresses) == 0 || slices.Contains(e.Addresses, address):
		return e, true
	case e.Elsewhere != nil:
		return *e.Elsewhere, true
	}
	return Effect{}, false
}

// History is what was seen and done, each part in the order of time.
type History struct {
	// Asked is when the prober asked the LAN for every address.
	Asked    []time.Time
	Answers  []Answer
	Requests []Request
	Stalls   []Stall
	Faults   []Fault
	Notes    []Note
}

// sorted orders what does not come in order: stalls and requests come when they end, and
// frames from several queues.
func (h History) sorted() History {
	slices.SortStableFunc(h.Stalls, func(a, b Stall) int { return a.From.Compare(b.From) })
	slices.SortStableFunc(h.Requests, func(a, b Request) int { return a.At.Compare(b.At) })
	slices.SortStableFunc(h.Answers, func(a, b Answer) int { return a.At.Compare(b.At) })
	return h
}
