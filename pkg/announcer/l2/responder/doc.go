// Package responder answers address resolution requests on raw sockets: one AF_PACKET
// socket per interface and protocol, behind a filter in the kernel that lets through
// only what asks for addresses answered there, so that the process sleeps while others
// talk.
//
// What to answer is decided by a Protocol, which is pure; packages arp and ndp have one
// each. The Responder owns sockets and readers and takes the whole desired state at once.
//
// CAP_NET_RAW is needed to open the sockets, and nothing else.
package responder
