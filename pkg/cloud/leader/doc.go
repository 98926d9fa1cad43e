// Package leader decides which replica of the CCM may act, and proves it at every step.
//
// The election is client-go's over one Lease, run around the stock
// cloud-controller-manager app instead of inside it. That gives what the stock app does
// not: the Lease is given back at a clean exit, so that a rolling update hands over at
// once; an API server that is lost for a while does not end the process; the identity is
// known; and every leader has a term.
//
// A term is a number that grows with every leader. It is kept in an annotation of the
// Lease and written by the same update that takes the Lease, so that no two leaders ever
// have the same one. Where the Lease was deleted or etcd was restored from a backup, the
// nodes still know the highest term that they obeyed: Raise puts ours above it.
//
// The Fence is what a leader asks before anything leaves it. It is open while the Lease
// was renewed within the renew deadline, by a clock that goes on while the machine
// sleeps; the Lease itself is good for longer (LeaseDuration), so that a write that
// passed the fence has landed before another replica may lead.
package leader
