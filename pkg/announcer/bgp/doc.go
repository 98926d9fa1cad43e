// Package bgp speaks BGP to the routers of a node: it announces prefixes with the node as
// their next hop, and uses nothing that it hears.
//
// The protocol is gobgp's, which is seen by this package alone. It runs in a process of its
// own, this same program started again, that a Speaker feeds with what is wanted and that
// says how its sessions fare. There are three reasons. A message from a router that makes
// gobgp panic ends that process and nothing else: ARP and NDP go on, and the process is
// started again as after a graceful restart (RFC 4724). What routers send is held in its
// memory, which is bounded apart from the announcer's. And gobgp has no way to end without
// a NOTIFICATION, which would make routers drop what they must keep, but to end its process.
//
// In that process each peer has a gobgp server of its own, which holds just what that peer must
// hear: gobgp keeps no policy for single peers, and one peer's restart must not wait for another
// one.
package bgp
