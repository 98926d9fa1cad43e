package leader

import (
	"errors"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

// K3.1: a replica whose watches are broken leaves a free Lease alone until they are not.
func TestFault_K3_1_NoCandidateWhileAWatchIsBroken(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newAPIServer()
		var broken atomic.Bool
		a := start(t, s, "a")
		wait(time.Second)
		b := start(t, s, "b", func(o *Options) {
			o.MayStand = func() error {
				if broken.Load() {
					return errors.New("EndpointSlices")
				}
				return nil
			}
		})
		broken.Store(true)
		a.stop()
		<-a.done
		wait(time.Minute)
		require.False(t, b.leads())
		require.Empty(t, s.holder())

		s.remove() // nor does it make one that is gone
		wait(time.Minute)
		require.False(t, b.leads())

		broken.Store(false)
		wait(remade)
		require.True(t, b.leads())
		broken.Store(true)
		wait(time.Minute)
		require.True(t, b.leads(), "a leader goes on with what it has")
	})
}

// K3.2: who led leads again as soon as the API server is known to be back, and before
// another replica whose watches are restored at the same moment.
func TestFault_K3_2_WhoLedLeadsAgainAtOnce(t *testing.T) {
	for range 10 {
		synctest.Test(t, func(t *testing.T) {
			s := newAPIServer()
			a := start(t, s, "a")
			wait(time.Second)
			var restored time.Time
			b := start(t, s, "b", func(o *Options) {
				o.MayStand = func() error {
					if time.Since(restored) < 2500*time.Millisecond {
						return errors.New("restored just now")
					}
					return nil
				}
			})
			wait(10 * time.Second)
			s.setDown(true)
			wait(75 * time.Second)
			require.False(t, a.leads())
			restored = time.Now()
			s.setDown(false)
			a.Retry()
			b.Retry()
			wait(time.Millisecond)
			require.True(t, a.leads())
			wait(time.Minute)
			require.True(t, a.leads())
			require.False(t, b.leads())
			require.Equal(t, []string{"", "a"}, s.holders)
		})
	}
}

// K3.8: a standby takes the Lease of a leader that is cut off as soon as it has expired, and
// the Lease is written no more often than the retry period says.
func TestFault_K3_8_LeaseIsTakenOnceItExpires(t *testing.T) {
	const interval = time.Second/2 + 600*time.Millisecond // with all of client-go's jitter
	var worst time.Duration
	for i := range 20 {
		synctest.Test(t, func(t *testing.T) {
			s := newAPIServer()
			a := start(t, s, "a")
			wait(time.Second)
			b := start(t, s, "b")
			wait(time.Minute)
			before := s.now().ResourceVersion
			wait(time.Duration(i) * 100 * time.Millisecond)
			require.True(t, a.leads())
			require.NotEmpty(t, before)
			cut(a, s)
			began := time.Now()
			<-b.Leading()
			worst = max(worst, time.Since(began))
		})
	}
	require.LessOrEqual(t, worst, interval+10*time.Second+interval)
}

func TestLeaseIsNotWrittenMoreOftenThanAskedFor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newAPIServer()
		start(t, s, "a")
		wait(time.Second)
		s.mu.Lock()
		before := s.version
		s.mu.Unlock()
		wait(time.Minute)
		s.mu.Lock()
		writes := s.version - before
		s.mu.Unlock()
		require.InDelta(t, 60, writes, 3)
	})
}

func TestWaitOpen(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		began := time.Now()
		f := newFence(func() time.Duration { return time.Since(began) }, 6*time.Second)
		opened := make(chan time.Duration)
		waits := func() {
			go func() {
				if f.WaitOpen(t.Context()) == nil {
					opened <- time.Since(began)
				}
			}()
		}
		waits()
		wait(5 * time.Second)
		f.renewUntil(5 * time.Second)
		require.Equal(t, 5*time.Second, <-opened)
		waits()
		require.Equal(t, 5*time.Second, <-opened)
		wait(10 * time.Second)
		f.waitForWrites(20 * time.Second)
		f.renewUntil(15 * time.Second)
		waits()
		require.Equal(t, 20*time.Second, <-opened)
	})
}
