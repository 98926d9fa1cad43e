// Package logqueue keeps a log that is read slowly, or not at all, from holding up the program that
// writes it.
//
// A container's stderr is a pipe. Where its reader stops, on a full disk for instance, a write blocks as
// soon as 64 KiB wait, and with it the goroutine that logs: an announcer that is held up so is late with
// heartbeats, and loses its addresses.
package logqueue

import (
	"fmt"
	"io"
	"sync"
	"time"
)

// Limit is how many bytes wait for the reader at most.
const Limit = 1 << 20

// Writer hands lines to another writer in order, on a goroutine of its own. Lines that find the queue
// full are counted and left out; a line says how many as soon as the reader goes on. It is safe for
// concurrent use.
type Writer struct {
	out   io.Writer
	news  chan struct{}
	ended chan struct{}

	mu      sync.Mutex
	waiting []byte
	lost    uint64 // since the last line that said so
	total   uint64
	closed  bool
}

// New returns a Writer to out. Close ends its goroutine.
func New(out io.Writer) *Writer {
	w := &Writer{out: out, news: make(chan struct{}, 1), ended: make(chan struct{})}
	go w.run()
	return w
}

// Write queues a line, or several that belong together. It never waits for the reader, and it never
// fails.
func (w *Writer) Write(line []byte) (int, error) {
	w.mu.Lock()
	if w.closed || len(w.waiting)+len(line) > Limit {
		w.lost++
		w.total++
	} else {
		w.waiting = append(w.waiting, line...)
	}
	w.mu.Unlock()
	w.wake()
	return len(line), nil
}

// Lost returns how many lines were left out so far.
func (w *Writer) Lost() uint64 {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.total
}

// Close waits until what is queued is written, for limit at most, and takes no lines after it.
func (w *Writer) Close(limit time.Duration) {
	w.mu.Lock()
	w.closed = true
	w.mu.Unlock()
	w.wake()
	timer := time.NewTimer(limit)
	defer timer.Stop()
	select {
	case <-w.ended:
	case <-timer.C:
	}
}

func (w *Writer) wake() {
	select {
	case w.news <- struct{}{}:
	default:
	}
}

func (w *Writer) run() {
	defer close(w.ended)
	var spare []byte
	for range w.news {
		for {
			lines, lost, closed := w.take(spare)
			if lost > 0 {
				lines = fmt.Appendf(lines, "time=%s level=WARN msg=\"log lines lost: stderr was not read\" lines=%d\n",
					time.Now().UTC().Format(time.RFC3339), lost)
			}
			if len(lines) > 0 {
				_, _ = w.out.Write(lines) // Where it fails there is no other place to say so.
			}
			spare = lines
			if len(lines) == 0 && closed {
				return
			}
			if len(lines) == 0 {
				break
			}
		}
	}
}

// take returns what waits, and leaves an empty buffer in its place.
func (w *Writer) take(spare []byte) (lines []byte, lost uint64, closed bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	lines, lost = w.waiting, w.lost
	w.waiting, w.lost = spare[:0], 0
	return lines, lost, w.closed
}
