package protocol

import (
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// A million schedules: BFD_SCHEDULES=1000000 go test -run TestSimulation -timeout 0 ./pkg/announcer/bfd/protocol
// One again, with its history: go test -v -run TestSimulation ./pkg/announcer/bfd/protocol -seed N
var seedFlag = flag.Uint64("seed", 0, "run only this schedule of TestSimulation and log its history")

const (
	simulations = 300
	// transit is the longest that a packet takes.
	transit = 30 * time.Millisecond
	// healed is how long two systems need at most to be Up again: sequence numbers may have to
	// be forgotten first, which takes twice the longest detection time of a slow session.
	healed = 2*5*slowest + 5*time.Second
	// calm is how long they are watched from then on.
	calm = 5 * time.Second
)

// TestSimulation holds two systems against random schedules of loss, cuts of one and of both
// ways, reordering, duplicates, restarts, goodbyes and changed configurations. They are never
// both Up for longer than the detection time after a cut; they are always Up again after the
// path is whole; and then nothing makes them flap: no change of intervals, no replay. RFC 5880
// §6.8.3, §6.8.4, §6.8.6, §6.8.7.
func TestSimulation(t *testing.T) {
	if *seedFlag != 0 {
		require.NoError(t, simulate(*seedFlag, t.Logf))
		return
	}
	n := uint64(simulations)
	if v := os.Getenv("BFD_SCHEDULES"); v != "" {
		given, err := strconv.ParseUint(v, 10, 64)
		require.NoError(t, err)
		n = given
	}
	first := rand.Uint64() >> 1
	t.Logf("%d schedules from seed %d", n, first)
	for seed := first + 1; seed <= first+n; seed++ {
		require.NoError(t, simulate(seed, nil), "seed %d", seed)
	}
}

// system is one end of the simulated session.
type system struct {
	name    string
	config  Config
	session Session
	alive   bool
	leaving bool
	// periodic is when it sent its last periodic packet.
	periodic time.Duration
	// detection is its longest detection time since it became deaf.
	detection time.Duration
	// flaps is how often it ceased to be Up.
	flaps int
}

// flight is a packet on its way.
type flight struct {
	at     time.Duration
	to     int
	octets []byte
}

type simulation struct {
	log     func(string, ...any)
	random  *rand.Rand
	now     time.Duration
	systems [2]*system
	flights []flight
	// sent are packets that went to each system, for replays.
	sent [2][][]byte
	// cut says that the system hears nothing, since the time in deaf.
	cut  [2]bool
	deaf [2]time.Duration
	// loss, disorder and doubles are the wire's.
	loss, doubles float64
	disorder      bool
	// even says that all packets take the same time, so that nothing breaks a round dance.
	even bool
	// held is until when nothing reaches the system, and nothing is lost: its address is not
	// resolved yet.
	held    [2]time.Duration
	last    [2]time.Duration
	failure error
}

func simulate(seed uint64, log func(string, ...any)) error {
	if log == nil {
		log = func(string, ...any) {}
	}
	s := &simulation{log: log, random: rand.New(rand.NewPCG(seed, 1)), now: time.Hour}
	s.even = s.random.IntN(2) == 0
	auth := []Auth{{}, {Type: KeyedSHA1, KeyID: 3, Key: key}, {Type: MeticulousKeyedSHA1, Key: key}}[s.random.IntN(3)]
	for i, name := range []string{"a", "b"} {
		s.systems[i] = &system{name: name, config: s.config(auth)}
		s.start(s.systems[i])
	}
	for range 3 + s.random.IntN(8) {
		s.storm()
		s.run(s.now + time.Duration(s.random.IntN(4000))*time.Millisecond)
	}
	s.heal()
	s.run(s.now + healed)
	s.rest()
	return s.failure
}

// config returns any configuration.
func (s *simulation) config(auth Auth) Config {
	interval := func() time.Duration { return time.Duration(50+s.random.IntN(300)) * time.Millisecond }
	return Config{DesiredMinTx: interval(), RequiredMinRx: interval(), DetectMultiplier: uint8(2 + s.random.IntN(4)), Auth: auth}
}

// start begins a new life.
func (s *simulation) start(x *system) {
	s.log("%s: %s starts: %+v", s.now, x.name, x.config)
	x.session = New(x.config, 1+s.random.Uint32N(1<<31), s.random.Uint32(), s.now)
	x.alive, x.leaving, x.periodic = true, false, -time.Hour
}

// storm makes something happen.
func (s *simulation) storm() {
	i := s.random.IntN(2)
	x := s.systems[i]
	switch what := s.random.IntN(9); what {
	case 0, 1:
		s.setCut(i, !s.cut[i])
	case 2:
		s.setCut(0, true)
		s.setCut(1, true)
	case 3:
		s.setCut(0, false)
		s.setCut(1, false)
	case 4:
		s.loss, s.doubles, s.disorder = s.random.Float64()*0.5, s.random.Float64()*0.2, s.random.IntN(2) == 0
		s.log("%s: loss %.2f, doubles %.2f, disorder %t", s.now, s.loss, s.doubles, s.disorder)
	case 5:
		s.loss, s.doubles, s.disorder = 0, 0, false
	case 6:
		if x.alive = !x.alive; x.alive {
			s.start(x)
		} else {
			s.log("%s: %s is killed", s.now, x.name)
		}
	case 7:
		if x.alive && !x.leaving {
			s.log("%s: %s leaves", s.now, x.name)
			x.leaving = true
			s.step(i, Left{})
		}
	case 8:
		s.reconfigure(i)
	}
}

func (s *simulation) setCut(i int, cut bool) {
	s.log("%s: %s hears: %t", s.now, s.systems[i].name, !cut)
	if cut && !s.cut[i] {
		s.deaf[i], s.systems[i].detection = s.now, 0
	}
	s.cut[i] = cut
}

func (s *simulation) reconfigure(i int) {
	if x := s.systems[i]; x.alive && !x.leaving {
		x.config = s.config(x.config.Auth)
		s.log("%s: %s is configured: %+v", s.now, x.name, x.config)
		s.step(i, Configured{x.config})
	}
}

// heal makes the path whole and both systems live.
func (s *simulation) heal() {
	s.log("%s: healed", s.now)
	s.cut, s.loss, s.doubles, s.disorder = [2]bool{}, 0, 0, false
	for _, x := range s.systems {
		x.flaps = 0
		if !x.alive || x.leaving {
			s.start(x)
		}
	}
}

// rest watches two systems on a whole path whose configurations change and, where packets
// count once, who hear everything that was ever said again.
func (s *simulation) rest() {
	for i, x := range s.systems {
		if x.flaps > 3 && s.failure == nil {
			s.failure = fmt.Errorf("%s: %s has flapped %d times on a whole path", s.now, x.name, x.flaps)
		}
		if x.session.state != Up && s.failure == nil {
			s.failure = fmt.Errorf("%s: %s is %s on a whole path", s.now, x.name, x.session.state)
		}
		s.systems[i].flaps = 0
	}
	s.log("%s: calm", s.now)
	for end := s.now + calm; s.now < end && s.failure == nil; {
		s.run(s.now + time.Duration(s.random.IntN(1000))*time.Millisecond)
		i := s.random.IntN(2)
		if s.random.IntN(2) == 0 {
			s.reconfigure(i)
		} else if s.systems[i].config.Auth.Type == MeticulousKeyedSHA1 {
			// The last ones are still on their way.
			for _, octets := range s.sent[i][:max(0, len(s.sent[i])-20)] {
				s.flights = append(s.flights, flight{s.now, i, octets})
			}
		}
	}
	for _, x := range s.systems {
		if x.flaps > 0 && s.failure == nil {
			s.failure = fmt.Errorf("%s: %s flapped on a whole path", s.now, x.name)
		}
	}
}

// run lets time pass.
func (s *simulation) run(end time.Duration) {
	for s.failure == nil {
		next, do := end, func() {}
		for i, x := range s.systems {
			if wake := x.session.Wake(); x.alive && wake < next {
				next, do = wake, func() { s.step(i, Tick{Drained: max(s.now, wake)}) }
			}
		}
		for i, f := range s.flights {
			if f.at < next {
				next, do = f.at, func() {
					s.flights = slices.Delete(s.flights, i, i+1)
					s.deliver(f)
				}
			}
		}
		s.now = max(s.now, next)
		do()
		s.check()
		if next >= end {
			return
		}
	}
}

func (s *simulation) deliver(f flight) {
	p, err := Parse(f.octets)
	x := s.systems[f.to]
	switch {
	case err != nil:
		s.failure = err
	case !x.alive:
	case p.YourDiscriminator != 0 && p.YourDiscriminator != x.session.discriminator: // For an earlier life.
	default:
		s.step(f.to, Received{Packet: p, At: s.now})
	}
}

func (s *simulation) step(i int, e Event) {
	x := s.systems[i]
	before := x.session
	var effects Effects
	x.session, effects = before.Step(e, s.now, s.random.Float64())
	if effects.Changed {
		s.log("%s: %s is %s (%s)", s.now, x.name, x.session.state, x.session.diagnostic)
		if before.state == Up {
			x.flaps++
		}
	}
	if effects.Send != nil {
		s.inspect(x, &before, effects.Send)
		s.send(1-i, effects.Send)
	}
	if x.leaving && x.session.Done() {
		x.alive = false
	}
}

// inspect holds a packet against what may be sent, and when.
func (s *simulation) inspect(x *system, before *Session, octets []byte) {
	p, err := Parse(octets)
	fail := func(text string) { s.failure = fmt.Errorf("%s: %s: %s: %+v", s.now, x.name, text, p) }
	switch {
	case err != nil:
		fail(err.Error())
	case p.Poll && p.Final:
		fail("Poll and Final")
	case p.State != Up && p.DesiredMinTx < slowest:
		fail("fast, and not Up")
	}
	if x.session.periodicAt == before.periodicAt { // Not a periodic one.
		return
	}
	if gap, least := s.now-x.periodic, leastShare*float64(min(before.Interval(), x.session.Interval())); float64(gap) < least-1 {
		fail(fmt.Sprintf("%s after the last, %s at least", gap, time.Duration(least)))
	}
	x.periodic = s.now
}

// send puts a packet on the wire.
func (s *simulation) send(to int, octets []byte) {
	s.sent[to] = append(s.sent[to], octets)
	for copies := 1; copies > 0; copies-- {
		if s.random.Float64() < s.doubles {
			copies++
		}
		if s.cut[to] || s.random.Float64() < s.loss {
			continue
		}
		at := s.now + 50*time.Microsecond
		if !s.even {
			at = s.now + time.Duration(s.random.Int64N(int64(time.Millisecond)))
		}
		if s.disorder {
			at = s.now + time.Duration(s.random.Int64N(int64(transit)))
		} else {
			at = max(at, s.last[to])
		}
		at = max(at, s.held[to])
		s.last[to] = max(at, s.last[to])
		s.flights = append(s.flights, flight{at, to, octets})
	}
}

// check holds the one thing that BFD is for.
func (s *simulation) check() {
	both := true
	for _, x := range s.systems {
		both = both && x.alive && x.session.state == Up
	}
	for i, x := range s.systems {
		x.detection = max(x.detection, x.session.DetectionTime())
		if silent := s.now - s.deaf[i]; s.cut[i] && both && silent > x.detection+2*transit {
			s.failure = fmt.Errorf("%s: both are Up, and %s has been deaf for %s with a detection time of %s", s.now, x.name, silent, x.detection)
		}
	}
}

// TestNoRoundDance: two systems that begin at about the same time, and whose packets cross,
// overtake each other or not, come up without going round in circles.
func TestNoRoundDance(t *testing.T) {
	for seed := range uint64(2000) {
		s := &simulation{log: func(string, ...any) {}, random: rand.New(rand.NewPCG(seed, 2)), now: time.Hour}
		s.held = [2]time.Duration{s.now + time.Duration(s.random.Int64N(int64(4*time.Second))), s.now + time.Duration(s.random.Int64N(int64(4*time.Second)))}
		s.even, s.disorder = seed%3 == 0, seed%3 == 1
		for i, name := range []string{"a", "b"} {
			s.systems[i] = &system{name: name, config: s.config(Auth{})}
		}
		for i, x := range s.systems {
			s.start(x)
			if i == 0 {
				s.run(s.now + time.Duration(s.random.IntN(200))*time.Microsecond)
			}
		}
		s.run(s.now + 8*time.Second)
		require.NoError(t, s.failure, "seed %d", seed)
		for _, x := range s.systems {
			require.Equal(t, Up, x.session.state, "seed %d", seed)
			require.LessOrEqual(t, x.flaps, 3, "seed %d", seed)
		}
	}
}
