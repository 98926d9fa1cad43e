package announcer

import "time"

// Loop is what the owner waits by; *realtime.Loop is one. Any goroutine may call Wake, and the
// owner the rest.
type Loop interface {
	// Begin makes the calling goroutine the owner, on a thread of its own, and Hasten makes that
	// go before others.
	Begin()
	Hasten()
	// Add has Wait call ready whenever a socket has something, until Remove, and not during a Pause.
	Add(socket int, ready func()) error
	Pause(socket int, how time.Duration)
	Remove(socket int)
	// Wait returns when a socket had something, after Wake, or after pause; a negative one is
	// without end.
	Wait(pause time.Duration)
	Wake()
	Close()
}

// forever is a pause without end.
const forever = time.Duration(-1)

// waiting is how the owner waits.
type waiting struct {
	loop Loop
	// woken is used where there is no loop. It is of one, and never closed.
	woken chan struct{}
}

func newWaiting(loop Loop) waiting { return waiting{loop, make(chan struct{}, 1)} }

// wakeOwner makes the owner look; any goroutine may call it.
func (w waiting) wakeOwner() {
	if w.loop != nil {
		w.loop.Wake()
		return
	}
	select {
	case w.woken <- struct{}{}:
	default:
	}
}

func (w waiting) beginWaiting() {
	if w.loop != nil {
		w.loop.Begin()
		w.loop.Hasten()
	}
}

// waitFor returns when something happened, or after pause.
func (w waiting) waitFor(pause time.Duration) {
	if w.loop != nil {
		w.loop.Wait(pause)
		return
	}
	var due <-chan time.Time // Nothing ever comes from it while it is nil.
	if pause >= 0 {
		due = time.After(pause)
	}
	select {
	case <-w.woken:
	case <-due:
	}
}

func (w waiting) endWaiting() {
	if w.loop != nil {
		w.loop.Close()
	}
}

// takeEvents returns what happened since the last call.
func (a *Announcer) takeEvents() events {
	n := a.mailbox.takeEvents()
	n.packets = append(n.packets, a.arrived...)
	a.arrived = a.arrived[:0]
	return n
}
