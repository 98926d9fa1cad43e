package control

import "sync"

// mailbox holds the newest value that was put into it. Putting never waits; readers
// that were slow find the newest value and none of those between.
type mailbox[T any] struct {
	mu      sync.Mutex
	value   T
	full    bool
	changed chan struct{}
}

func newMailbox[T any]() *mailbox[T] { return &mailbox[T]{changed: make(chan struct{})} }

// putNewest replaces the value and wakes every reader.
func (m *mailbox[T]) putNewest(value T) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.value, m.full = value, true
	close(m.changed)
	m.changed = make(chan struct{})
}

// getNewest returns the newest value, whether there ever was one, and a channel that is closed
// as soon as there is a newer one.
func (m *mailbox[T]) getNewest() (value T, ok bool, changed <-chan struct{}) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.value, m.full, m.changed
}
