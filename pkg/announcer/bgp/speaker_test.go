package bgp

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"baremetal.cloud/ccm/pkg/announcer/bfd"
	"baremetal.cloud/ccm/pkg/announcer/plan"
	"baremetal.cloud/ccm/pkg/reason"
)

// role, in the environment, makes the test binary a process that speaks BGP: the real one, or
// one that only says that it does.
const role = "BGP_TEST_ROLE"

// patience bounds what has to happen at some time; nothing is measured by it.
const patience = time.Minute

func TestMain(m *testing.M) {
	switch os.Getenv(role) {
	case "real":
		if err := Serve(os.Stdin, os.Stdout); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
	case "fake":
		os.Exit(fake(os.Stdin, os.Stdout))
	default:
		os.Exit(m.Run())
	}
}

// fake says of every peer that its session is established. It ends at once when a peer is
// called crash, and leaves a file when it is told to leave.
func fake(in io.Reader, out io.Writer) int {
	decoder, encoder := json.NewDecoder(in), json.NewEncoder(out)
	var peers []Peer
	routes, broken := map[string]bool{}, map[string]string{}
	for {
		var u update
		if err := decoder.Decode(&u); errors.Is(err, io.EOF) {
			return 0
		}
		if u.Config != nil {
			peers = u.Config.Peers
		}
		for _, r := range u.Routes {
			routes[r.Prefix.String()] = true
		}
		for _, p := range u.Withdrawn {
			delete(routes, p.String())
		}
		for _, b := range u.Broken {
			broken[b.Peer] = b.Message
		}
		m := message{Seq: u.Seq, Sessions: []Session{}}
		for _, p := range peers {
			if p.Name == "crash" {
				fmt.Fprintln(os.Stderr, "panic: a message that gobgp does not like")
				return 2
			}
			if why := broken[p.Name]; why != "" {
				m.Sessions = append(m.Sessions, Session{BGPSession: plan.BGPSession{Peer: p.Name, State: plan.BGPIdle, Reason: reason.BFDDown, Message: why}})
				continue
			}
			m.Sessions = append(m.Sessions, Session{
				BGPSession: plan.BGPSession{Peer: p.Name, State: plan.BGPEstablished, Message: string(p.Password)}, Routes: len(routes),
			})
		}
		if u.Leave {
			_ = os.WriteFile(os.Getenv("BGP_TEST_LEFT"), []byte("left"), 0o600)
			return 0
		}
		_ = encoder.Encode(m)
	}
}

// speaking is a Speaker that runs for the duration of a test.
type speaking struct {
	t *testing.T
	*Speaker
	dir  string
	end  context.CancelFunc
	done chan struct{}

	mu     sync.Mutex
	states []State
	logs   strings.Builder
	// watched are the paths that were asked for last.
	watched []bfd.SessionConfig
}

// watching is a speaking as Paths.
type watching struct{ *speaking }

// Set takes what is to be watched.
func (s watching) Set(configs []bfd.SessionConfig) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.watched = configs
	return nil
}

// Write takes the log.
func (s *speaking) Write(b []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.logs.Write(b)
}

func (s *speaking) log() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.logs.String()
}

func speak(t *testing.T, as string) *speaking {
	t.Helper()
	s := &speaking{t: t, dir: t.TempDir(), done: make(chan struct{})}
	s.Speaker = NewSpeaker(Options{
		PasswordDir: s.dir, BFD: watching{s}, Logger: slog.New(slog.NewTextHandler(s, nil)),
		Command: func() *exec.Cmd {
			cmd := exec.Command(os.Args[0])
			cmd.Env = append(os.Environ(), role+"="+as, "BGP_TEST_LEFT="+filepath.Join(s.dir, "left"))
			return cmd
		},
		OnState: func(st State) {
			s.mu.Lock()
			defer s.mu.Unlock()
			s.states = append(s.states, st)
		},
	})
	ctx, cancel := context.WithCancel(context.Background())
	s.end = cancel
	go func() {
		defer close(s.done)
		_ = s.Run(ctx)
	}()
	t.Cleanup(s.stop)
	return s
}

func (s *speaking) stop() {
	s.end()
	<-s.done
}

// until waits for a State and returns it.
func (s *speaking) until(what string, ok func(State) bool) State {
	s.t.Helper()
	var last State
	require.Eventually(s.t, func() bool {
		s.mu.Lock()
		defer s.mu.Unlock()
		if len(s.states) == 0 {
			return false
		}
		last = s.states[len(s.states)-1]
		return ok(last)
	}, patience, 5*time.Millisecond, "%s", what)
	return last
}

// saw reports whether there ever was such a State.
func (s *speaking) saw(ok func(State) bool) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.ContainsFunc(s.states, ok)
}

func nodePlan(n uint64) plan.Version { return plan.Version{Term: 1, Revision: n} }

func at(n uint64) func(State) bool { return func(s State) bool { return s.Plan == nodePlan(n) } }

// The newest plan is acknowledged once the process has carried it out; one that changes
// nothing at once; and no process runs where there is nobody to speak to.
func TestSpeaker(t *testing.T) {
	s := speak(t, "fake")
	s.Set(Desired{Plan: nodePlan(1)})
	require.Empty(t, s.until("nobody to speak to", at(1)).Sessions)
	s.Set(Desired{Plan: nodePlan(2), Peers: []Peer{external("a"), external("b")}, Routes: []plan.Route{{Prefix: v4}, {Prefix: v6}}})
	state := s.until("both sessions", func(s State) bool {
		return s.Plan == nodePlan(2) && len(s.Sessions) == 2 && s.Sessions[1].State == plan.BGPEstablished
	})
	require.Equal(t, 2, state.Sessions[0].Routes)
	s.Set(Desired{Plan: nodePlan(3), Peers: []Peer{external("a"), external("b")}, Routes: []plan.Route{{Prefix: v4}, {Prefix: v6}}})
	s.until("nothing changed", at(3))
	s.Set(Desired{Plan: nodePlan(4), Peers: []Peer{external("b")}, Routes: []plan.Route{{Prefix: v6}}})
	state = s.until("one peer and one route less", at(4))
	require.Len(t, state.Sessions, 1)
	require.Equal(t, 1, state.Sessions[0].Routes)
	s.Set(Desired{Plan: nodePlan(5)})
	require.Empty(t, s.until("nobody to speak to again", at(5)).Sessions)
	s.Set(Desired{Plan: nodePlan(6), Peers: []Peer{external("a")}})
	s.until("a new process", at(6))
	require.Zero(t, s.until("no failure", at(6)).Failures)
	s.stop()
	require.FileExists(t, filepath.Join(s.dir, "left"), "the process is told to leave")
}

// A path that fails ends the session over it and no other; its state is told, and is no reason
// for a new process or another session. That the router took it down on purpose is no failure.
func TestSpeakerWatchesPaths(t *testing.T) {
	s := speak(t, "fake")
	a, b, twin, deaf := external("a"), external("b"), external("twin"), external("unwatched")
	settings := plan.BFD{TransmitInterval: 50 * time.Millisecond, ReceiveInterval: 100 * time.Millisecond, DetectMultiplier: 3}
	a.BFD, b.BFD, twin.BFD = settings, settings, settings
	b.Address, twin.Port = netip.MustParseAddr("198.51.100.2"), 1179
	s.Set(Desired{Plan: nodePlan(1), Peers: []Peer{a, b, twin, deaf}})
	all := func(ok func(Session) bool) func(State) bool {
		return func(s State) bool {
			return len(s.Sessions) == 4 && !slices.ContainsFunc(s.Sessions, func(x Session) bool { return !ok(x) })
		}
	}
	s.until("all established", all(func(x Session) bool { return x.State == plan.BGPEstablished }))
	s.mu.Lock()
	require.Len(t, s.watched, 2, "the path to one address is watched once")
	require.Equal(t, bfd.SessionConfig{
		Key: bfd.Key{Peer: a.Address}, TransmitInterval: 50 * time.Millisecond, ReceiveInterval: 100 * time.Millisecond, DetectMultiplier: 3,
	}, s.watched[0])
	s.mu.Unlock()

	up := func(p Peer) bfd.Event {
		return bfd.Event{Key: bfd.Key{Peer: p.Address}, State: bfd.Up, Previous: bfd.Init, RemoteState: bfd.Up}
	}
	s.OnBFD(up(a))
	s.OnBFD(up(b))
	s.OnBFD(bfd.Event{Key: bfd.Key{Peer: netip.MustParseAddr("198.51.100.9")}, State: bfd.Down, Previous: bfd.Up, RemoteState: bfd.Down})
	s.until("states", all(func(x Session) bool {
		want := plan.BFDUp
		if x.Peer == "unwatched" {
			want = ""
		}
		return x.BFD == want && x.State == plan.BGPEstablished
	}))
	s.OnBFD(bfd.Event{Key: bfd.Key{Peer: b.Address}, State: bfd.Down, Previous: bfd.Up, RemoteState: bfd.AdminDown, Diagnostic: bfd.NeighborSignaledDown})
	s.OnBFD(bfd.Event{Key: bfd.Key{Peer: a.Address}, State: bfd.Down, Previous: bfd.Up, RemoteState: bfd.Down, Diagnostic: bfd.DetectionTimeExpired})
	state := s.until("a failure", func(s State) bool {
		return s.Sessions[0].Reason == reason.BFDDown && s.Sessions[2].Reason == reason.BFDDown
	})
	require.Contains(t, state.Sessions[0].Message, "nothing was heard")
	require.Equal(t, plan.BFDDown, state.Sessions[0].BFD)
	require.Equal(t, uint64(1), state.Sessions[0].BFDFailures)
	require.Equal(t, plan.BFDAdminDown, state.Sessions[1].BFD)
	require.Zero(t, state.Sessions[1].BFDFailures)
	require.Equal(t, plan.BGPEstablished, state.Sessions[1].State)
	require.Equal(t, plan.BGPEstablished, state.Sessions[3].State)

	b.BFD = plan.BFD{}
	s.Set(Desired{Plan: nodePlan(2), Peers: []Peer{b}})
	state = s.until("not watched any more", at(2))
	require.Empty(t, state.Sessions[0].BFD)
	require.Empty(t, s.watched)
}

// A process that ends by itself is started again with all that is wanted; the trace is in the
// log, and nothing is acknowledged that nobody carried out.
func TestSpeakerStartsAgain(t *testing.T) {
	s := speak(t, "fake")
	s.Set(Desired{Plan: nodePlan(1), Peers: []Peer{external("a"), external("crash")}, Routes: []plan.Route{{Prefix: v4}}})
	state := s.until("a failure", func(s State) bool { return s.Failures > 1 })
	for _, session := range state.Sessions {
		require.Equal(t, reason.BGPProcessFailed, session.Reason)
		require.Equal(t, plan.BGPIdle, session.State)
	}
	require.False(t, s.saw(at(1)))
	s.Set(Desired{Plan: nodePlan(2), Peers: []Peer{external("a")}, Routes: []plan.Route{{Prefix: v4}}})
	state = s.until("it goes on", at(2))
	require.Equal(t, 1, state.Sessions[0].Routes)
	require.Contains(t, s.log(), "panic: a message that gobgp does not like")
}

// A peer that the node has no router for has its reason while that is so, also where there is
// no other peer; and none once there is one.
func TestSpeakerWithout(t *testing.T) {
	s := speak(t, "fake")
	gone := sessionWithout(external("gw").BGPPeer, reason.NoGateway, "the node has no default gateway of IPv4")
	want := Desired{Plan: nodePlan(1), Without: []Session{gone}}
	s.Set(want)
	require.Equal(t, []Session{gone}, s.until("none but that", func(s State) bool { return s.Plan == nodePlan(1) && len(s.Sessions) == 1 }).Sessions)
	want.Plan, want.Peers = nodePlan(2), []Peer{external("a")}
	s.Set(want)
	state := s.until("another one", func(s State) bool { return s.Plan == nodePlan(2) && len(s.Sessions) == 2 })
	require.Equal(t, plan.BGPEstablished, state.Sessions[0].State)
	require.Equal(t, gone, state.Sessions[1])
	want = Desired{Plan: nodePlan(3), Peers: []Peer{external("a"), external("gw")}}
	s.Set(want)
	state = s.until("both", func(s State) bool { return len(s.Sessions) == 2 && s.Sessions[1].State == plan.BGPEstablished })
	require.Empty(t, state.Sessions[1].Reason)
	s.Set(Desired{Plan: nodePlan(4), Without: []Session{gone}})
	require.Equal(t, []Session{gone}, s.until("none again", func(s State) bool { return s.Plan == nodePlan(4) && len(s.Sessions) == 1 }).Sessions)
}

// A peer whose password is not there is not connected to; the others are, and it is once the
// file is there. The password is nowhere in the log.
func TestSpeakerPasswords(t *testing.T) {
	s := speak(t, "fake")
	locked := external("locked")
	locked.PasswordFile = "key"
	want := Desired{Plan: nodePlan(1), Peers: []Peer{external("a"), locked}}
	s.Set(want)
	state := s.until("one of two", func(s State) bool { return len(s.Sessions) == 2 && s.Sessions[0].State == plan.BGPEstablished })
	require.Equal(t, reason.PasswordMissing, state.Sessions[1].Reason)
	require.Equal(t, "the password file key does not exist", state.Sessions[1].Message)
	require.NoError(t, os.WriteFile(filepath.Join(s.dir, "key"), []byte("hunter2\n"), 0o600))
	want.Plan = nodePlan(2)
	s.Set(want)
	state = s.until("both", func(s State) bool { return len(s.Sessions) == 2 && s.Sessions[1].State == plan.BGPEstablished })
	require.Equal(t, "hunter2", state.Sessions[1].Message, "the process has it")
	require.NotContains(t, s.log(), "hunter2")
}
