package protocol

import (
	"math/rand/v2"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// TestTransitions is the table of RFC 5880 §6.2 and §6.8.6: the state after a packet with
// the peer's, for each state.
func TestTransitions(t *testing.T) {
	for local, row := range map[State][4]State{
		//          AdminDown  Down       Init       Up
		AdminDown: {AdminDown, AdminDown, AdminDown, AdminDown},
		Down:      {Down, Init, Up, Down},
		Init:      {Down, Init, Up, Up},
		Up:        {Down, Down, Up, Up},
	} {
		for remote, want := range row {
			got, diagnostic := transition(local, State(remote))
			require.Equal(t, want, got, "%s hears %s", local, State(remote))
			if got == Down && local != Down {
				require.Equal(t, NeighborSignaledDown, diagnostic)
			}
		}
	}
}

func TestNames(t *testing.T) {
	require.Equal(t, "AdminDown Down Init Up", AdminDown.String()+" "+Down.String()+" "+Init.String()+" "+Up.String())
	require.Equal(t, "neighbor signaled session down", NeighborSignaledDown.String())
	require.Equal(t, "9", Diagnostic(9).String())
}

func TestAuthCheck(t *testing.T) {
	require.NoError(t, Auth{Type: KeyedSHA1, Key: "k"}.Check())
	require.NoError(t, Auth{Type: MeticulousKeyedSHA1, Key: "12345678901234567890"}.Check())
	require.ErrorContains(t, Auth{Type: 2, Key: "k"}.Check(), "type 2")
	require.ErrorContains(t, Auth{Type: KeyedSHA1}.Check(), "0 octets")
	require.ErrorContains(t, Auth{Type: KeyedSHA1, Key: "123456789012345678901"}.Check(), "21 octets")
}

// up returns a session that is Up with a peer whose packet it is, too.
func up(t *testing.T, c Config) (Session, Packet) {
	t.Helper()
	s := New(c, mine, 0, time.Hour)
	p := Packet{
		State: Init, DetectMultiplier: 3, MyDiscriminator: its, YourDiscriminator: mine,
		DesiredMinTx: 50 * time.Millisecond, RequiredMinRx: 50 * time.Millisecond,
	}
	s, _ = s.Step(Received{p, time.Hour}, time.Hour, 0)
	p.State, p.Final = Up, true
	s, _ = s.Step(Received{p, time.Hour}, time.Hour, 0)
	p.Final = false
	s, _ = s.Step(Received{p, time.Hour}, time.Hour, 0)
	require.Equal(t, Up, s.state)
	return s, p
}

// TestJitter: packets wait 75 to 100 % of the interval, to 90 % with a multiplier of 1
// (RFC 5880 §6.8.7), and use all of that room.
func TestJitter(t *testing.T) {
	const interval = 100 * time.Millisecond
	for multiplier, most := range map[uint8]time.Duration{1: 90 * time.Millisecond, 3: interval} {
		s, p := up(t, Config{DesiredMinTx: interval, RequiredMinRx: interval, DetectMultiplier: multiplier})
		random := rand.New(rand.NewPCG(1, 2))
		shortest, longest, now := time.Hour, time.Duration(0), s.Wake()
		for range 10_000 {
			var effects Effects
			s, effects = s.Step(Tick{now}, now, random.Float64())
			require.NotNil(t, effects.Send)
			s, _ = s.Step(Received{p, now}, now, 0)
			gap := s.Wake() - now
			shortest, longest, now = min(shortest, gap), max(longest, gap), now+gap
		}
		require.InDelta(t, 75*time.Millisecond, shortest, float64(time.Millisecond))
		require.GreaterOrEqual(t, shortest, 75*time.Millisecond)
		require.InDelta(t, most, longest, float64(time.Millisecond))
		require.LessOrEqual(t, longest, most)
	}
}

// TestLateness: a packet that went out late does not make the next one late, and no packet
// follows another before 75 % of the interval.
func TestLateness(t *testing.T) {
	const interval = 100 * time.Millisecond
	s, p := up(t, Config{DesiredMinTx: interval, RequiredMinRx: interval, DetectMultiplier: 3})
	for _, c := range []struct{ late, next time.Duration }{
		{0, 100 * time.Millisecond},
		{10 * time.Millisecond, 90 * time.Millisecond},
		{25 * time.Millisecond, 75 * time.Millisecond},
		{90 * time.Millisecond, 75 * time.Millisecond},
	} {
		now := s.Wake()
		s, _ = s.Step(Tick{now}, now, 0) // Punctual, and the next is due after the whole interval.
		now = s.Wake() + c.late
		s, _ = s.Step(Received{p, now}, now, 0)
		require.Equal(t, c.next, s.Wake()-now, "%s late", c.late)
	}
}

// TestDrainedBeforeSilenceCounts: nobody is called gone for what is known until a time before
// the detection time ended, however late it is.
func TestDrainedBeforeSilenceCounts(t *testing.T) {
	s, p := up(t, Config{DesiredMinTx: 50 * time.Millisecond, RequiredMinRx: 50 * time.Millisecond, DetectMultiplier: 3})
	heard := time.Hour
	s, effects := s.Step(Tick{Drained: heard + 149*time.Millisecond}, heard+time.Second, 0)
	require.False(t, effects.Changed)
	s, effects = s.Step(Received{p, heard + 900*time.Millisecond}, heard+time.Second, 0)
	require.NoError(t, effects.Dropped)
	s, effects = s.Step(Tick{Drained: heard + time.Second}, heard+time.Second, 0)
	require.False(t, effects.Changed)
	// An older packet that is read later takes nothing back.
	s, _ = s.Step(Received{p, heard + 800*time.Millisecond}, heard+time.Second, 0)
	s, effects = s.Step(Tick{Drained: heard + 1049*time.Millisecond}, heard+2*time.Second, 0)
	require.False(t, effects.Changed)
	s, effects = s.Step(Tick{Drained: heard + 1050*time.Millisecond}, heard+2*time.Second, 0)
	require.True(t, effects.Changed)
	require.Equal(t, DetectionTimeExpired, s.Status().Diagnostic)
}
