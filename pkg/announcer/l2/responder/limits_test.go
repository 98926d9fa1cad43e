package responder

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

var began = time.Date(2026, time.November, 30, 12, 0, 0, 0, time.UTC)

// reply is what host i is told.
func reply(i int) []byte { return []byte{byte(i >> 24), byte(i >> 16), byte(i >> 8), byte(i)} }

// TestFault_K1_4_RepliesAreBounded: a thousand hosts at once are all answered, also while another
// one asks fifty thousand times a second; ever new ones are answered at a bounded rate.
func TestFault_K1_4_RepliesAreBounded(t *testing.T) {
	l := newReplyLimit()
	for i := range 1000 {
		require.True(t, l.allowsReply(began, reply(i)))
	}
	now, stormed := began, 0
	for i := range 50000 {
		now = began.Add(time.Duration(i) * time.Second / 50000)
		if l.allowsReply(now, reply(-1)) {
			stormed++
		}
	}
	require.LessOrEqual(t, stormed, replyBurst+replyRate)
	for i := range 1000 {
		require.True(t, l.allowsReply(now, reply(2000+i)), "host %d", i)
	}
	fresh := 0
	for i := range 500000 {
		if l.allowsReply(now.Add(time.Duration(i)*time.Second/50000), reply(1<<20+i)) {
			fresh++
		}
	}
	require.InDelta(t, 10*replyRate, fresh, replyBurst)
}

// TestFault_K1_4_ReadingIsBounded: however much comes, a reader takes a bounded number of frames
// and is woken a bounded number of times; of little it is told at once.
func TestFault_K1_4_ReadingIsBounded(t *testing.T) {
	p := newReadPace(frameRate)
	now, frames, wakes := began, 0, 0
	for now.Before(began.Add(10 * time.Second)) {
		const waiting = 300
		now = now.Add(20 * time.Microsecond) // The next frame of fifty thousand a second.
		now = now.Add(p.restAfter(now, waiting))
		frames += waiting
		wakes++
	}
	require.LessOrEqual(t, frames, 10*frameRate+2*frameBurst)
	require.LessOrEqual(t, wakes, 10*(wakeRate+int(time.Second/nap))+wakeBurst)

	p = newReadPace(frameRate)
	for i := range 1000 {
		require.Zero(t, p.restAfter(began.Add(time.Duration(i)*3*time.Millisecond), 1))
	}
}
