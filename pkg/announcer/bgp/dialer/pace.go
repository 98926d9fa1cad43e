package dialer

import (
	"io"
	"time"
)

const (
	// readRate is how many bytes a second of a router are read. One that sends more waits for
	// TCP, and counts as heard all the while.
	readRate = 8 << 20
	// readBurst is how far reading may go ahead of that.
	readBurst = 1 << 20
)

// paced reads no more than readRate.
type paced struct {
	io.Reader
	// debt is how many bytes were read that the rate did not allow for yet, at the time at.
	debt int
	at   time.Time
}

// Read implements io.Reader. It waits after what was too much, not before.
func (p *paced) Read(b []byte) (int, error) {
	n, err := p.Reader.Read(b)
	now := time.Now()
	if !p.at.IsZero() {
		since := min(now.Sub(p.at), time.Second) // Longer than all debt lasts.
		p.debt = max(0, p.debt-int(since*readRate/time.Second))
	}
	p.debt, p.at = p.debt+n, now
	if wait := time.Duration(p.debt-readBurst) * time.Second / readRate; wait > 0 {
		<-time.After(wait)
	}
	return n, err
}
