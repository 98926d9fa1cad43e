package bfd

import (
	"net/netip"
	"time"
)

const (
	// singleHopPort and multihopPort are where packets arrive (RFC 5881 §4, RFC 5883 §5).
	singleHopPort, multihopPort = 3784, 4784
	// firstSourcePort is the first that packets may be sent from (RFC 5881 §4).
	firstSourcePort = 49152
	// singleHopTTL is what packets leave with, and arrive with if no router forwarded them (RFC
	// 5881 §5).
	singleHopTTL = 255
)

// wire is how datagrams come and go: network, or the tests' own.
type wire interface {
	// Open makes wanted the open sockets, in the calling thread's network namespace, each for
	// packets of its admissions. The error joins one for each that could not be opened.
	Open(wanted map[socket][]admission) error
	// Broken reports whether a socket failed, which the next Open replaces.
	Broken() bool
	// Receive returns what was read since the last call, in the order of arrival; with everything, also what of sessions has arrived and was not read yet.
	Receive(everything bool) []datagram
	// Send sends one, or says why not. It never waits.
	Send(outgoing) error
	// Index returns the index of the interface called name now.
	Index(name string) (int, error)
	// Source returns the address that packets to peer have as their source now, through the
	// interface with an index, or, with 0, that of the route.
	Source(peer netip.Addr, index int) (netip.Addr, error)
	// Close closes all sockets.
	Close()
}

// admission is how packets of a session are distinguished from all others: by the discriminator
// that the peer was given, and, until it knows that, by where they come from.
type admission struct {
	discriminator uint32
	peer          netip.Addr
	// every is the least time between two of them.
	every time.Duration
}

// socket tells the sockets that receive apart.
type socket struct{ ipv6, multihop bool }

func (s socket) String() string {
	text := "IPv4"
	if s.ipv6 {
		text = "IPv6"
	}
	if s.multihop {
		return text + " UDP port 4784"
	}
	return text + " UDP port 3784"
}

func (k Key) socketOf() socket { return socket{k.Peer.Is6(), k.Multihop} }

// datagram is one that arrived.
type datagram struct {
	socket
	from, to netip.Addr // without zones
	index    int        // of the interface
	ttl      int        // or hop limit; -1 if the kernel did not say
	at       time.Duration
	octets   []byte
}

// outgoing is a datagram to be sent.
type outgoing struct {
	socket
	to, from netip.Addr
	index    int // of the interface, 0 for that of the route
	octets   []byte
}
