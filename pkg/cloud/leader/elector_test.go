package leader

import (
	"log/slog"
	"math/rand/v2"
	"strconv"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	coordinationv1 "k8s.io/api/coordination/v1"
	"k8s.io/utils/ptr"
)

func testLogger(t *testing.T) *slog.Logger {
	return slog.New(slog.NewTextHandler(t.Output(), nil))
}

const (
	// retry is the retry period of a second with all of client-go's jitter (a factor of 1.2).
	retry = 2200 * time.Millisecond
	// takenOver is the longest time after which a standby leads: it sees the last change of
	// the Lease one retry late, is patient for a lease duration, and then tries once more.
	takenOver = retry + 10*time.Second + retry
	// remade is the longest time after which a standby leads by a Lease that was gone: it
	// sees that one retry late, gives its holder the time of a request, tries once more,
	// and leads with its first renewal after a lease duration.
	remade = retry + 3*time.Second + retry + 10*time.Second + time.Second
)

// wait lets d pass and everything that is due then happen.
func wait(d time.Duration) {
	time.Sleep(d) // a synctest bubble's clock, not the machine's
	synctest.Wait()
}

func TestOneOfTwoLeadsAndHandsOver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newAPIServer()
		a := start(t, s, "a")
		wait(0)
		b := start(t, s, "b")
		wait(time.Minute)
		require.True(t, a.leads())
		require.False(t, b.leads())
		require.ErrorIs(t, b.Fence().Err(), ErrFenced)
		require.Equal(t, uint64(1), a.Term())
		require.Zero(t, b.Term())
		require.Equal(t, "1", s.annotation())

		a.stop()
		<-a.done
		require.NoError(t, a.err)
		require.False(t, a.leads())
		require.Empty(t, s.holder(), "the Lease is given back")
		require.Equal(t, "1", s.annotation(), "the term stays in it")

		wait(retry) // not a lease duration
		require.True(t, b.leads())
		require.Equal(t, uint64(2), b.Term())
		<-b.Leading()
	})
}

func TestCrashedLeaderIsReplacedAfterItsLease(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newAPIServer()
		a := start(t, s, "a")
		wait(5 * time.Second)
		b := start(t, s, "b")
		wait(5 * time.Second)
		// Only b's requests are answered from now on: a might as well be dead.
		cut(a, s)
		began := time.Now()
		wait(5 * time.Second)
		require.True(t, a.leads(), "the renew deadline has not passed")
		wait(time.Second)
		require.False(t, a.leads(), "fenced by its own clock")
		require.False(t, b.leads())
		<-b.Leading()
		require.LessOrEqual(t, time.Since(began), takenOver)
		require.False(t, a.ended(), "it does not know and waits for the API server")
	})
}

// cut replaces r's client by one that never gets an answer.
func cut(r *replica, s *apiServer) {
	gone := &apiServer{down: true}
	r.lock.turn <- struct{}{}
	r.lock.leases = gone.client().Leases("baremetal-ccm")
	<-r.lock.turn
}

func rejoin(r *replica, s *apiServer) {
	r.lock.turn <- struct{}{}
	r.lock.leases = s.client().Leases("baremetal-ccm")
	<-r.lock.turn
}

func TestOutageClosesTheFenceAndLeadershipGoesOn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newAPIServer()
		a := start(t, s, "a")
		wait(time.Second)
		require.True(t, a.leads())
		<-a.Changed()

		s.setDown(true)
		wait(5*time.Second - time.Millisecond)
		require.True(t, a.leads())
		wait(2 * time.Second)
		require.False(t, a.leads())
		require.ErrorContains(t, a.Fence().Err(), "renew deadline 6s")
		select {
		case <-a.Changed():
		default:
			t.Fatal("the owner was not told that the fence closed")
		}

		wait(time.Hour)
		require.False(t, a.ended())
		s.setDown(false)
		wait(retry)
		require.True(t, a.leads(), "nobody else held the Lease")
		require.Equal(t, uint64(1), a.Term())
		<-a.Changed()
	})
}

func TestSupersededReplicaEnds(t *testing.T) {
	for name, then := range map[string]func(b *replica){
		"the other still holds the Lease": func(*replica) {},
		"the other gave the Lease back":   func(b *replica) { b.stop(); <-b.done },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := newAPIServer()
				a := start(t, s, "a")
				wait(time.Second)
				b := start(t, s, "b")
				cut(a, s)
				<-b.Leading()
				then(b)
				rejoin(a, s)
				wait(3 * time.Second)
				require.True(t, a.ended())
				require.ErrorIs(t, a.err, ErrSuperseded)
				require.False(t, a.leads())
			})
		})
	}
}

func TestSleeperIsFencedBeforeItsNextRenewal(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newAPIServer()
		a := start(t, s, "a")
		wait(500 * time.Millisecond)
		a.slept.Store(int64(time.Minute)) // the machine was suspended: no timer fired
		require.False(t, a.leads())
		wait(time.Second)
		require.True(t, a.leads(), "still the holder")
	})
}

func TestDeletedLease(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newAPIServer()
		a := start(t, s, "a")
		wait(time.Second)
		b := start(t, s, "b")
		wait(10 * time.Second)
		require.NoError(t, a.Raise(t.Context(), 41))
		require.Equal(t, uint64(42), a.Term())
		s.remove()
		wait(2 * time.Second)
		require.True(t, a.leads(), "its holder makes it again, the standby waits")
		require.Equal(t, "42", s.annotation())
		require.False(t, b.leads())

		// Its holder is gone as well: the standby leads when that one's lease is over.
		cut(a, s)
		s.remove()
		wait(6 * time.Second)
		require.False(t, b.leads())
		wait(remade - 6*time.Second)
		require.True(t, b.leads())
		require.Equal(t, uint64(1), b.Term(), "nothing is known of the earlier terms")
		require.NoError(t, b.Raise(t.Context(), 42), "until a node tells")
		require.Equal(t, uint64(43), b.Term())
		require.Equal(t, "43", s.annotation())

		rejoin(a, s)
		wait(3 * time.Second)
		require.ErrorIs(t, a.err, ErrSuperseded)
		require.True(t, b.leads())
	})
}

func TestMissingLeaseIsMade(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &apiServer{}
		a := start(t, s, "a")
		wait(9 * time.Second)
		require.False(t, a.leads(), "whoever lost it may still lead")
		wait(remade - 9*time.Second)
		require.True(t, a.leads())
		require.Equal(t, uint64(1), a.Term())
	})
}

func TestLeaseDeletedDuringAnOutageSupersedes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newAPIServer()
		a := start(t, s, "a")
		wait(time.Second)
		s.setDown(true)
		wait(time.Minute)
		s.remove()
		s.setDown(false)
		wait(3 * time.Second)
		require.True(t, a.ended())
		require.ErrorIs(t, a.err, ErrSuperseded)
	})
}

func TestTermGrowsAboveEverythingKnown(t *testing.T) {
	for name, c := range map[string]struct {
		annotation  string
		transitions int32
		heard       uint64
		want        uint64
	}{
		"annotation":        {annotation: "7", transitions: 3, heard: 5, want: 8},
		"transitions":       {annotation: "2", transitions: 9, want: 10}, // taking it is the tenth
		"heard":             {annotation: "7", transitions: 3, heard: 70, want: 71},
		"no annotation":     {heard: 0, transitions: 0, want: 1},
		"broken annotation": {annotation: "seven", transitions: 4, want: 5},
		"overflow":          {annotation: "18446744073709551615", transitions: 0, want: 1},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := &apiServer{}
				s.store(&coordinationv1.Lease{Spec: coordinationv1.LeaseSpec{LeaseTransitions: &c.transitions}})
				s.lease.Name, s.lease.UID = "baremetal-ccm", "u"
				if c.annotation != "" {
					s.lease.Annotations = map[string]string{TermAnnotation: c.annotation, "other": "kept"}
				}
				s.setDown(true)
				a := start(t, s, "a")
				require.NoError(t, a.Raise(t.Context(), c.heard), "a standby remembers")
				s.setDown(false)
				<-a.Leading()
				require.Equal(t, c.want, a.Term())
				if c.annotation != "" {
					require.Equal(t, "kept", s.now().Annotations["other"])
				}
				wait(time.Minute)
				require.Equal(t, c.want, a.Term(), "renewals keep it")
				require.True(t, a.leads())
			})
		})
	}
}

func TestRaise(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newAPIServer()
		a := start(t, s, "a")
		wait(time.Second)
		require.NoError(t, a.Raise(t.Context(), 0))
		require.Equal(t, uint64(1), a.Term(), "already above")
		require.NoError(t, a.Raise(t.Context(), 1))
		require.Equal(t, uint64(2), a.Term())

		for _, lie := range []uint64{1 << 40, 1 << 63, ^uint64(0)} {
			require.ErrorIs(t, a.Raise(t.Context(), lie), ErrImplausible)
		}
		require.Equal(t, uint64(2), a.Term())

		s.setDown(true)
		require.ErrorIs(t, a.Raise(t.Context(), 9), errDown)
		require.Equal(t, uint64(2), a.Term(), "not before it is written")
		s.setDown(false)
		wait(2 * time.Second)
		require.Equal(t, uint64(10), a.Term(), "the next renewal did it")
		require.Equal(t, "10", s.annotation())
		require.True(t, a.leads())
	})
}

func TestConflictsLoseNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newAPIServer()
		a := start(t, s, "a")
		wait(time.Second)
		label := func(lease *coordinationv1.Lease) { lease.Labels = map[string]string{"edited": "by hand"} }

		s.edit(label) // the elector's next renewal meets a newer resourceVersion
		wait(time.Minute)
		require.True(t, a.leads())

		s.mu.Lock()
		s.meanwhile = label // an edit between Raise's read and its write
		s.mu.Unlock()
		require.NoError(t, a.Raise(t.Context(), 5))
		wait(time.Minute)
		require.True(t, a.leads())
		require.Equal(t, uint64(6), a.Term())
		require.Equal(t, "6", s.annotation())
		require.Equal(t, "by hand", s.now().Labels["edited"])
		require.Equal(t, []string{"", "a"}, s.holders)

		s.edit(func(lease *coordinationv1.Lease) { lease.Annotations = nil })
		wait(2 * time.Second)
		require.Equal(t, "6", s.annotation(), "a term that was taken away comes back")
	})
}

func TestWithoutElection(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &apiServer{}
		s.store(&coordinationv1.Lease{Spec: coordinationv1.LeaseSpec{
			HolderIdentity: ptr.To("an earlier process that was killed"), LeaseTransitions: ptr.To[int32](3),
		}})
		s.lease.Name, s.lease.Annotations = "baremetal-ccm", map[string]string{TermAnnotation: "4"}
		s.setDown(true)
		alone := func(o *Options) { o.Elect = false }
		a := start(t, s, "a", alone)
		wait(time.Minute)
		require.False(t, a.leads(), "the term is not known")
		s.setDown(false)
		<-a.Leading()
		require.Equal(t, uint64(5), a.Term())

		s.setDown(true)
		wait(time.Hour)
		require.True(t, a.leads(), "nobody else could lead")
		s.setDown(false)
		require.NoError(t, a.Raise(t.Context(), 5))
		s.remove()
		require.NoError(t, a.Raise(t.Context(), 6))
		require.Equal(t, "7", s.annotation())
		a.stop()
		<-a.done
		require.NoError(t, a.err)
		require.Empty(t, s.holder())
	})
}

func TestExitWhileTheAPIServerIsDown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newAPIServer()
		a, b := start(t, s, "a"), start(t, s, "b")
		wait(time.Second)
		s.setDown(true)
		began := time.Now()
		a.stop()
		b.stop()
		<-a.done
		<-b.done
		require.NoError(t, a.err)
		require.NoError(t, b.err)
		require.LessOrEqual(t, time.Since(began), 6*time.Second)
	})
}

func TestReleaseWaitsForWritesInFlight(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newAPIServer()
		a := start(t, s, "a")
		wait(time.Second)
		leave, err := a.Fence().enterWrite()
		require.NoError(t, err)
		a.stop()
		wait(time.Second)
		require.False(t, a.leads())
		require.Equal(t, "a", s.holder())
		leave()
		<-a.done
		require.Empty(t, s.holder())
	})
}

func TestOptionsAreChecked(t *testing.T) {
	s := newAPIServer()
	good := Options{Leases: s.client(), Name: "l", Identity: "a", LeaseDuration: 10, RenewDeadline: 6, RetryPeriod: 1, Logger: testLogger(t)}
	for name, spoil := range map[string]func(*Options){
		"leaseDuration must be greater than renewDeadline":            func(o *Options) { o.RenewDeadline = 10 },
		"renewDeadline must be greater than retryPeriod*JitterFactor": func(o *Options) { o.RetryPeriod = 6 },
		"Lock identity is empty":                                      func(o *Options) { o.Identity = "" },
	} {
		options := good
		spoil(&options)
		_, err := New(options)
		require.ErrorContains(t, err, name)
	}
	_, err := New(good)
	require.NoError(t, err)
}

// Three replicas under random cuts, outages, restarts and deletions of the Lease: there
// are never two open fences, and no two leaders have the same term.
func TestNeverTwoOpenFences(t *testing.T) {
	for seed := range uint64(20) {
		t.Run(strconv.FormatUint(seed, 10), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { chaos(t, rand.New(rand.NewPCG(seed, 0))) })
		})
	}
}

func chaos(t *testing.T, random *rand.Rand) {
	s := newAPIServer()
	replicas := []*replica{start(t, s, "r0"), start(t, s, "r1"), start(t, s, "r2")}
	terms := map[uint64]string{}
	highest := uint64(0)
	for range 60 {
		victim := replicas[random.IntN(3)]
		for _, r := range replicas {
			if r.leads() && random.IntN(2) == 0 {
				victim = r
			}
		}
		switch random.IntN(6) {
		case 0, 1:
			cut(victim, s)
		case 2:
			rejoin(victim, s)
		case 3:
			victim.stop()
		case 4:
			s.setDown(random.IntN(3) == 0)
		case 5:
			if victim.leads() { // a Lease that goes with its holder loses the terms
				s.remove()
			}
		}
		for range random.IntN(120) {
			wait(time.Duration(random.IntN(200)) * time.Millisecond)
			leaders := 0
			for _, r := range replicas {
				if !r.leads() {
					continue
				}
				leaders++
				// What the nodes tell every leader that is new to them.
				other := terms[r.Term()] != "" && terms[r.Term()] != r.options.Identity
				if (r.Term() < highest || other) && r.Raise(t.Context(), highest) != nil {
					continue
				}
				who, known := terms[r.Term()]
				require.True(t, !known || who == r.options.Identity, "term %d of %s and %s", r.Term(), who, r.options.Identity)
				terms[r.Term()] = r.options.Identity
				highest = max(highest, r.Term())
			}
			require.LessOrEqual(t, leaders, 1)
		}
		for i, r := range replicas {
			if r.ended() {
				replicas[i] = start(t, s, r.options.Identity+"'")
			}
		}
	}
	require.Greater(t, len(terms), 1, "leadership did change")
}
