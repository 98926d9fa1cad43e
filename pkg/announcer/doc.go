// Package announcer carries out a node's plan: it answers for the addresses that the
// cluster gave to the node, on the interfaces that can carry them, and says what it does.
//
// The core is pure: it takes the newest plan, the newest state of the interfaces and the
// time, and returns which address to answer on which interface, what to announce unasked, what to
// report and when to wake it next. One goroutine, Announcer.Run, owns it and carries its
// decisions out by the responders.
package announcer
