// Package bfd watches paths to other systems by Bidirectional Forwarding Detection: RFC 5880
// in Asynchronous mode, over one hop (RFC 5881) and several (RFC 5883), IPv4 and IPv6.
//
// A Runner holds any number of sessions over a few shared sockets. Set gives it the whole list
// of sessions that there should be; it finds out the differences by itself, and a session
// whose entry is the same, or differs in timers and keys only, goes on without interruption.
// Options.OnEvent hears of every change of state:
//
//	runner := bfd.New(bfd.Options{Loop: loop, OnEvent: func(e bfd.Event) {
//		if e.Failure() {
//			// The path to e.Peer was Up and no longer is.
//		}
//	}})
//	err := runner.Set([]bfd.SessionConfig{{Peer: router, TransmitInterval: …}})
//	go runner.Run(ctx)
//
// A client acts on Failure and not on State: a session that never came up says nothing, since
// the peer may not speak BFD, and one that the peer took down administratively did not fail
// (RFC 5882 §4.2). And a client that drops its own session with the peer because of a Failure
// must not do so a second time for the same Event: the next session of the client begins
// while this one is Down still.
//
// The state machine is the package protocol, which is pure. This package has the sockets, the
// clock and the one goroutine that owns all sessions.
package bfd
