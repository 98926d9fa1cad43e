// Package protocol is Bidirectional Forwarding Detection as RFC 5880 has it: the control
// packet, its authentication, and one session's state machine in Asynchronous mode.
//
// It is pure. A Session is a value; Step takes what happened and the time, and returns the
// session as it is now and what to do. The owner of the session has the sockets, the clock and
// the random numbers.
package protocol
