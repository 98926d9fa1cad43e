package protocol

import (
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"baremetal.cloud/ccm/internal/scenarios"
)

// TestScenarios runs testdata/*.txt: each has what a section of RFC 5880 demands of one
// system, blocks of commands, "----", and what the system sends and becomes. Of packets that
// repeat the one before only the number is written down. The peer is whatever the commands say.
func TestScenarios(t *testing.T) {
	scenarios.Run(t, play)
}

const (
	mine, its = 1, 2
	key       = "secret"
	// half is the random number of every step: packets wait 87.5 % of their interval.
	half = 0.5
)

// scenario is one system, and a peer of which nothing is there but its packets.
type scenario struct {
	t       testing.TB
	session Session
	config  Config
	peer    Packet
	now     time.Duration
	began   time.Duration
	last    string
	repeats int
	again   time.Duration // when it was repeated last
	out     strings.Builder
}

func play(t testing.TB, text string) string {
	s := &scenario{t: t, now: time.Hour, began: time.Hour}
	s.peer = Packet{DetectMultiplier: 3, MyDiscriminator: its, DesiredMinTx: time.Second, RequiredMinRx: 100 * time.Millisecond}
	for i, block := range strings.Split(strings.TrimRight(text, "\n"), "\n\n") {
		if i > 0 {
			s.out.WriteString("\n")
		}
		commands, _, hasOutput := strings.Cut(block, "\n----")
		s.out.WriteString(commands + "\n")
		if !hasOutput && i == 0 {
			continue // What the scenario is about.
		}
		s.out.WriteString("----\n")
		for line := range strings.Lines(commands) {
			if words := strings.Fields(line); len(words) > 0 && words[0] != "#" {
				s.do(words[0], words[1:])
			}
		}
		s.flush()
	}
	return s.out.String()
}

// do carries out one command.
func (s *scenario) do(command string, words []string) {
	switch command {
	case "session": // session tx=100ms rx=100ms mult=3 auth=keyed
		s.configure(words)
		s.session = New(s.config, mine, 0, s.now)
	case "configure":
		s.configure(words)
		s.step(Configured{s.config})
	case "recv": // recv Up your=1 tx=100ms P: what is not said is as before, but for flags and diagnostic
		s.receive(words)
	case "run": // run 1s [hearing]: the peer repeats every 50 ms what it said last
		s.run(s.now+s.duration(words[0]), len(words) > 1 && words[1] == "hearing")
	case "leave":
		s.step(Left{})
	case "status":
		x := s.session.Status()
		s.print("%s, peer %s (%s), interval %s, detection time %s", x.State, x.RemoteState, x.RemoteDiagnostic, x.Interval, x.DetectionTime)
	default:
		require.Fail(s.t, "no such command: "+command)
	}
}

func (s *scenario) run(end time.Duration, hearing bool) {
	const often = 50 * time.Millisecond
	for heard := s.now; ; {
		next := s.session.Wake()
		if hears := heard + often; hearing && hears < next && hears <= end {
			heard, s.now = hears, hears
			s.receive(nil)
			continue
		}
		if next > end {
			break
		}
		s.now = next
		s.step(Tick{Drained: s.now})
	}
	s.now = end
}

func (s *scenario) configure(words []string) {
	for _, word := range words {
		name, value, _ := strings.Cut(word, "=")
		switch name {
		case "tx":
			s.config.DesiredMinTx = s.duration(value)
		case "rx":
			s.config.RequiredMinRx = s.duration(value)
		case "mult":
			s.config.DetectMultiplier = uint8(s.number(value))
		case "auth":
			s.config.Auth = Auth{Type: map[string]AuthType{"keyed": KeyedSHA1, "meticulous": MeticulousKeyedSHA1}[value], KeyID: 1, Key: key}
		default:
			require.Fail(s.t, "no such setting: "+word)
		}
	}
}

func (s *scenario) receive(words []string) {
	p, sign := &s.peer, key
	p.Poll, p.Final, p.Diagnostic = false, false, NoDiagnostic
	for _, word := range words {
		name, value, _ := strings.Cut(word, "=")
		switch name {
		case "AdminDown", "Down", "Init", "Up":
			p.State = map[string]State{"AdminDown": AdminDown, "Down": Down, "Init": Init, "Up": Up}[name]
		case "your":
			p.YourDiscriminator = s.number(value)
		case "my":
			p.MyDiscriminator = s.number(value)
		case "tx":
			p.DesiredMinTx = s.duration(value)
		case "rx":
			p.RequiredMinRx = s.duration(value)
		case "mult":
			p.DetectMultiplier = uint8(s.number(value))
		case "diag":
			p.Diagnostic = Diagnostic(s.number(value))
		case "P":
			p.Poll = true
		case "F":
			p.Final = true
		case "D":
			p.Demand = value != "0"
		case "seq":
			p.Authentication.Sequence = s.number(value)
		case "auth":
			p.Authentication.Type = AuthType(s.number(value))
		case "keyid":
			p.Authentication.KeyID = uint8(s.number(value))
		case "key":
			sign = value
		default:
			require.Fail(s.t, "no such field: "+word)
		}
	}
	received, err := Parse(p.Encode(sign))
	if err != nil {
		s.print("refused: %s", err)
		return
	}
	s.step(Received{Packet: received, At: s.now})
}

func (s *scenario) step(e Event) {
	var effects Effects
	s.session, effects = s.session.Step(e, s.now, half)
	if effects.Dropped != nil {
		s.print("dropped: %s", effects.Dropped)
	}
	if effects.Changed {
		s.print("is %s (%s)", s.session.state, s.session.diagnostic)
	}
	if effects.Send != nil {
		s.sent(effects.Send)
	}
}

// sent writes down a packet, or counts it where it says what the last one said.
func (s *scenario) sent(octets []byte) {
	p, err := Parse(octets)
	require.NoError(s.t, err)
	flags := ""
	if p.Poll {
		flags += " P"
	}
	if p.Final {
		flags += " F"
	}
	text := fmt.Sprintf("send %s%s your=%d mult=%d tx=%s rx=%s", p.State, flags, p.YourDiscriminator, p.DetectMultiplier, p.DesiredMinTx, p.RequiredMinRx)
	if p.Diagnostic != NoDiagnostic {
		text += fmt.Sprintf(" diag=%d", p.Diagnostic)
	}
	if p.Authentication.Type != NoAuth {
		require.Equal(s.t, packetDigest(p.signed, key), p.Authentication.Digest)
		text += fmt.Sprintf(" seq=%d", p.Authentication.Sequence)
	}
	if text == s.last {
		s.repeats++
		s.again = s.now
		return
	}
	s.print("%s", text)
	s.last = text
}

func (s *scenario) print(format string, args ...any) {
	s.flush()
	fmt.Fprintf(&s.out, "%8s  "+format+"\n", append([]any{(s.now - s.began).Round(time.Microsecond)}, args...)...)
}

// flush writes down how often the last packet was repeated.
func (s *scenario) flush() {
	if s.repeats > 0 {
		fmt.Fprintf(&s.out, "%8s  … %d more, the last at %s\n", "", s.repeats, (s.again - s.began).Round(time.Microsecond))
	}
	s.repeats = 0
}

func (s *scenario) duration(text string) time.Duration {
	d, err := time.ParseDuration(text)
	require.NoError(s.t, err)
	return d
}

func (s *scenario) number(text string) uint32 {
	n, err := strconv.ParseUint(text, 10, 32)
	require.NoError(s.t, err)
	return uint32(n)
}
