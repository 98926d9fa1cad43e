package bgp

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"baremetal.cloud/ccm/pkg/announcer/announcement"
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
	routes := map[string]bool{}
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
		m := message{Seq: u.Seq, Sessions: []Session{}}
		for _, p := range peers {
			if p.Name == "crash" {
				fmt.Fprintln(os.Stderr, "panic: a message that gobgp does not like")
				return 2
			}
			m.Sessions = append(m.Sessions, Session{
				BGPSession: announcement.BGPSession{Peer: p.Name, State: announcement.BGPEstablished, Message: string(p.Password)}, Routes: len(routes),
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
		PasswordDir: s.dir, Logger: slog.New(slog.NewTextHandler(s, nil)),
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

func plan(n uint64) announcement.Stamp { return announcement.Stamp{Term: 1, Revision: n} }

func at(n uint64) func(State) bool { return func(s State) bool { return s.Plan == plan(n) } }

// The newest plan is acknowledged once the process has carried it out; one that changes
// nothing at once; and no process runs where there is nobody to speak to.
func TestSpeaker(t *testing.T) {
	s := speak(t, "fake")
	s.Set(Desired{Plan: plan(1)})
	require.Empty(t, s.until("nobody to speak to", at(1)).Sessions)
	s.Set(Desired{Plan: plan(2), Peers: []Peer{external("a"), external("b")}, Routes: []announcement.Route{{Prefix: v4}, {Prefix: v6}}})
	state := s.until("both sessions", func(s State) bool {
		return s.Plan == plan(2) && len(s.Sessions) == 2 && s.Sessions[1].State == announcement.BGPEstablished
	})
	require.Equal(t, 2, state.Sessions[0].Routes)
	s.Set(Desired{Plan: plan(3), Peers: []Peer{external("a"), external("b")}, Routes: []announcement.Route{{Prefix: v4}, {Prefix: v6}}})
	s.until("nothing changed", at(3))
	s.Set(Desired{Plan: plan(4), Peers: []Peer{external("b")}, Routes: []announcement.Route{{Prefix: v6}}})
	state = s.until("one peer and one route less", at(4))
	require.Len(t, state.Sessions, 1)
	require.Equal(t, 1, state.Sessions[0].Routes)
	s.Set(Desired{Plan: plan(5)})
	require.Empty(t, s.until("nobody to speak to again", at(5)).Sessions)
	s.Set(Desired{Plan: plan(6), Peers: []Peer{external("a")}})
	s.until("a new process", at(6))
	require.Zero(t, s.until("no failure", at(6)).Failures)
	s.stop()
	require.FileExists(t, filepath.Join(s.dir, "left"), "the process is told to leave")
}

// A process that ends by itself is started again with all that is wanted; the trace is in the
// log, and nothing is acknowledged that nobody carried out.
func TestSpeakerStartsAgain(t *testing.T) {
	s := speak(t, "fake")
	s.Set(Desired{Plan: plan(1), Peers: []Peer{external("a"), external("crash")}, Routes: []announcement.Route{{Prefix: v4}}})
	state := s.until("a failure", func(s State) bool { return s.Failures > 1 })
	for _, session := range state.Sessions {
		require.Equal(t, reason.SpeakerFailed, session.Reason)
		require.Equal(t, announcement.BGPIdle, session.State)
	}
	require.False(t, s.saw(at(1)))
	s.Set(Desired{Plan: plan(2), Peers: []Peer{external("a")}, Routes: []announcement.Route{{Prefix: v4}}})
	state = s.until("it goes on", at(2))
	require.Equal(t, 1, state.Sessions[0].Routes)
	require.Contains(t, s.log(), "panic: a message that gobgp does not like")
}

// A peer whose password is not there is not connected to; the others are, and it is once the
// file is there. The password is nowhere in the log.
func TestSpeakerPasswords(t *testing.T) {
	s := speak(t, "fake")
	locked := external("locked")
	locked.PasswordFile = "key"
	want := Desired{Plan: plan(1), Peers: []Peer{external("a"), locked}}
	s.Set(want)
	state := s.until("one of two", func(s State) bool { return len(s.Sessions) == 2 && s.Sessions[0].State == announcement.BGPEstablished })
	require.Equal(t, reason.PasswordMissing, state.Sessions[1].Reason)
	require.Equal(t, "the password file key does not exist", state.Sessions[1].Message)
	require.NoError(t, os.WriteFile(filepath.Join(s.dir, "key"), []byte("hunter2\n"), 0o600))
	want.Plan = plan(2)
	s.Set(want)
	state = s.until("both", func(s State) bool { return len(s.Sessions) == 2 && s.Sessions[1].State == announcement.BGPEstablished })
	require.Equal(t, "hunter2", state.Sessions[1].Message, "the process has it")
	require.NotContains(t, s.log(), "hunter2")
}
