// Package dialer stands between gobgp and a router, so that gobgp reads only what this
// package wrote.
//
// gobgp v3 no longer gets fixes, and published advisories name messages by which a router makes
// it fail. A Dialer therefore owns the TCP connection to the router. It frames messages (RFC 4271
// section 4.1), and writes OPEN, NOTIFICATION, ROUTE-REFRESH, KEEPALIVE and End-of-RIB anew from
// the few fields that it knows. The node uses no route of a router, so every other UPDATE is
// dropped after its prefixes are counted by their lengths. A KEEPALIVE stands in for it, since
// each message restarts the hold timer (RFC 4271 section 8.2.2).
//
// gobgp cannot be handed a connection. It dials a port of the loopback that the Dialer listens
// on, and the Dialer serves a connection only if its other end is a socket of this process.
package dialer
