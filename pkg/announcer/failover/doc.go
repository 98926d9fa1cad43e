// Package failover is how the nodes that share candidate lists watch each other, and the rule
// by which they settle among themselves which node owns an address.
//
// Every pair of them exchanges small authenticated datagrams: which node sends, in which life and
// in which order, whether it hears the other, and what it claims. What follows from that is pure:
// Decide is the rule for one address, and Node keeps what a node knows of its peers and applies
// the rule to all of its addresses. It has no clock, socket or goroutine: its owner tells it what
// happened and when, by a clock that goes on while the machine sleeps, and carries out what it
// returns. Seal and Keyring.Open are the format of the datagrams, and Network has the sockets.
package failover
