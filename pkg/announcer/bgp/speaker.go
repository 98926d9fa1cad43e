package bgp

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/netip"
	"os/exec"
	"slices"
	"sync"
	"time"

	"baremetal.cloud/ccm/pkg/announcer/bfd"
	"baremetal.cloud/ccm/pkg/announcer/plan"
	"baremetal.cloud/ccm/pkg/reason"
)

const (
	// firstPause and maxPause bound the wait before a process that ended is started again.
	firstPause = 100 * time.Millisecond
	maxPause   = 30 * time.Second
	// steady is how long a process has to run for its end to count as the first.
	steady = time.Minute
	// leaving is how long a process may take to end when it must.
	leaving = 2 * time.Second
	// parting is how long routers have to notice that sessions have ended before Run does, where
	// paths are watched.
	parting = 200 * time.Millisecond
	// lookPause is how often password files are looked at.
	lookPause = 5 * time.Second
)

// Options are what a Speaker needs.
type Options struct {
	// Command returns what runs Serve in a process of its own, with its standard input and
	// output. It may be called again and again.
	Command func() *exec.Cmd
	// PasswordDir has the files that peers name.
	PasswordDir string
	// BFD watches the paths to peers that ask for it, and what it finds comes by OnBFD; with nil
	// none is watched.
	BFD BFD
	// Logger takes what an operator should know; nil discards it.
	Logger *slog.Logger
	// OnState is called with each new State, from goroutines of Run and of callers of OnBFD, one
	// call at a time. It must not block.
	OnState func(State)
}

// State is how a Speaker fares.
type State struct {
	// Plan is the version of the newest Desired that every established session has heard, and
	// that all others will hear first.
	Plan plan.Version
	// Withheld is that of the same Desired.
	Withheld []netip.Prefix
	// Sessions are sorted by peer, one for each peer of the newest Desired.
	Sessions []Session
	// Failures counts the ends of the process that the Speaker did not ask for.
	Failures uint64
}

// Speaker keeps the sessions of a node: it runs the process that does and makes it do what
// is wanted. Any goroutine may call Set.
type Speaker struct {
	options Options
	log     *slog.Logger
	wake    chan struct{}

	mu   sync.Mutex
	want Desired
	// given reports whether want was set at all.
	given bool
	// sent is what the process was told, by the update seq; acked is the newest that it has
	// carried out, and pledges are those of the updates since.
	sent    Desired
	seq     uint64
	acked   uint64
	pledges []pledge
	// withheld are the peers that the process does not hear of, with the reason.
	withheld []Session
	// paths is what is known of those that are watched, unwatched why some are not, and broken
	// are peers that the process must hear of.
	paths     map[bfd.Key]watched
	unwatched string
	broken    []breakdown
	state     State
	telling   sync.Mutex
}

// pledge is what an update is carried out for.
type pledge struct {
	seq      uint64
	plan     plan.Version
	withheld []netip.Prefix
}

// pledgeFor returns what the update seq is carried out for.
func (d Desired) pledgeFor(seq uint64) pledge { return pledge{seq, d.Plan, d.Withheld} }

// keepPledge reports whether p has been carried out.
func (s *State) keepPledge(p pledge) { s.Plan, s.Withheld = p.plan, p.withheld }

// NewSpeaker returns a Speaker that does nothing until Run.
func NewSpeaker(o Options) *Speaker {
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	return &Speaker{options: o, log: o.Logger, wake: make(chan struct{}, 1), paths: map[bfd.Key]watched{}}
}

// Set makes d all that the node says to routers. It does not wait for that.
func (s *Speaker) Set(d Desired) {
	s.mu.Lock()
	s.want, s.given = d, true
	s.watchPaths()
	s.mu.Unlock()
	s.wakeRun()
}

// wakeRun makes Run look.
func (s *Speaker) wakeRun() {
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// Run speaks until ctx is done. Then routers that were asked to keep routes over a restart hear
// nothing, from others the routes are withdrawn. It returns nil, after which paths need no longer
// be watched: FRR takes the end of BFD for a failure while its session is there.
func (s *Speaker) Run(ctx context.Context) error {
	err := s.runSessions(ctx)
	if s.watchesAny() {
		<-time.After(parting)
	}
	return err
}

// runSessions is Run but for the parting.
func (s *Speaker) runSessions(ctx context.Context) error {
	pause := firstPause
	for {
		if !s.awaitPeers(ctx) {
			return nil
		}
		began := time.Now()
		err := s.runProcess(ctx)
		if ctx.Err() != nil {
			return nil
		}
		if err == nil {
			pause = firstPause // there was no peer left to speak to
			continue
		}
		if time.Since(began) > steady {
			pause = firstPause
		}
		s.log.Error("the BGP process ended; it is started again", "error", err, "in", pause)
		s.processFailed(err)
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(pause):
		}
		pause = min(2*pause, maxPause)
	}
}

// awaitPeers waits until there is a peer to speak to, and reports whether there is before ctx is
// done.
func (s *Speaker) awaitPeers(ctx context.Context) bool {
	for {
		s.mu.Lock()
		peers, now := len(s.want.Peers)+len(s.want.Without), s.want.pledgeFor(0)
		s.mu.Unlock()
		if peers > 0 {
			return ctx.Err() == nil
		}
		s.updateState(func(st *State) {
			st.keepPledge(now)
			st.Sessions = nil
		})
		select {
		case <-ctx.Done():
			return false
		case <-s.wake:
		}
	}
}

// runProcess runs the process until it ends, which is an error, until there is no peer left to
// speak to, or until ctx is done.
func (s *Speaker) runProcess(ctx context.Context) error {
	cmd := s.options.Command()
	stdin, err := cmd.StdinPipe()
	if err != nil {
		return err
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		return err
	}
	trace := &tail{}
	cmd.Stderr = trace
	if err := cmd.Start(); err != nil {
		return err
	}
	s.mu.Lock()
	s.sent, s.seq, s.acked, s.pledges, s.broken = Desired{}, 0, 0, nil, nil
	s.mu.Unlock()
	ended := make(chan error, 1)
	go func() { // The pipe has to be read to its end before Wait.
		err := s.readState(stdout)
		ended <- errors.Join(cmd.Wait(), err)
	}()
	err = s.feedProcess(ctx, stdin, ended)
	if errors.Is(err, errEnded) {
		return fmt.Errorf("%w: %s", err, trace)
	}
	_ = stdin.Close()
	patience := time.NewTimer(leaving)
	defer patience.Stop()
	select {
	case <-ended:
	case <-patience.C:
		_ = cmd.Process.Kill()
		<-ended
	}
	return err
}

// errEnded means that the process has ended.
var errEnded = errors.New("it ended")

// feedProcess tells the process what is wanted whenever that changes. It returns nil when the
// process must end, and errEnded when it has.
func (s *Speaker) feedProcess(ctx context.Context, stdin io.Writer, ended <-chan error) error {
	encoder := json.NewEncoder(stdin)
	look := time.NewTicker(lookPause)
	defer look.Stop()
	for {
		u, more := s.nextUpdate()
		if !u.isEmpty() {
			_ = encoder.Encode(u) // the process has ended, then
		}
		if !more {
			return nil
		}
		select {
		case <-ctx.Done():
			_ = encoder.Encode(update{Leave: true}) // as above
			return nil
		case err := <-ended:
			return fmt.Errorf("%w: %w", errEnded, err)
		case <-s.wake:
		case <-look.C:
		}
	}
}

// nextUpdate returns what to tell the process now, and whether the process is still needed.
func (s *Speaker) nextUpdate() (update, bool) {
	s.mu.Lock()
	want := s.want
	s.mu.Unlock()
	want, withheld := s.addPasswords(want)
	s.mu.Lock()
	u := deltaOf(s.sent, want)
	u.Broken, s.broken = s.broken, nil
	s.sent, s.withheld = want, withheld
	switch {
	case !u.isEmpty():
		s.seq++
		u.Seq = s.seq
		s.pledges = append(s.pledges, want.pledgeFor(s.seq))
	case len(s.pledges) > 0:
		s.pledges[len(s.pledges)-1] = want.pledgeFor(s.seq)
	}
	idle := s.seq == s.acked
	s.mu.Unlock()
	s.updateState(func(st *State) {
		if idle {
			st.keepPledge(want.pledgeFor(s.seq))
		}
		st.Sessions = s.mergeSessions(st.Sessions)
	})
	return u, len(want.Peers)+len(withheld) > 0
}

// addPasswords gives the peers of d their passwords, and leaves out those with a password that is
// not there. It returns the sessions of all that are left out.
func (s *Speaker) addPasswords(d Desired) (Desired, []Session) {
	withheld := slices.Clone(d.Without)
	peers := make([]Peer, 0, len(d.Peers))
	for _, p := range d.Peers {
		if p.PasswordFile != "" {
			password, err := readPassword(s.options.PasswordDir, p.PasswordFile)
			if err != nil {
				withheld = append(withheld, sessionWithout(p.BGPPeer, reason.PasswordMissing, err.Error()))
				continue
			}
			p.Password = password
		}
		peers = append(peers, p)
	}
	d.Peers = peers
	return d, withheld
}

// mergeSessions returns one session for each peer that is wanted: those that are withheld, those in
// sessions, and new ones.
func (s *Speaker) mergeSessions(sessions []Session) []Session {
	s.mu.Lock()
	defer s.mu.Unlock()
	var out []Session
	for _, p := range s.sent.Peers {
		i := slices.IndexFunc(sessions, func(x Session) bool { return x.Peer == p.Name && !x.held })
		if i < 0 {
			out = append(out, Session{BGPSession: plan.BGPSession{Peer: p.Name, State: plan.BGPIdle}})
			continue
		}
		out = append(out, sessions[i])
	}
	out = append(out, s.withheld...)
	sortSessions(out)
	s.addPaths(out)
	return out
}

// readState takes what the process says until it ends.
func (s *Speaker) readState(stdout io.Reader) error {
	decoder := json.NewDecoder(bufio.NewReader(stdout))
	for {
		var m message
		err := decoder.Decode(&m)
		switch {
		case errors.Is(err, io.EOF):
			return nil
		case err != nil:
			_, _ = io.Copy(io.Discard, stdout) // or the process would wait to be read
			return fmt.Errorf("unexpected output: %w", err)
		case m.Log != "":
			s.log.Debug("gobgp", "line", m.Log)
		}
		if m.Sessions != nil {
			s.takeState(m)
		}
	}
}

// takeState takes how the sessions fare, and what has been carried out.
func (s *Speaker) takeState(m message) {
	s.mu.Lock()
	s.acked = m.Seq
	var kept *pledge
	for len(s.pledges) > 0 && s.pledges[0].seq <= m.Seq {
		kept, s.pledges = &s.pledges[0], s.pledges[1:]
	}
	s.mu.Unlock()
	s.updateState(func(st *State) {
		if kept != nil {
			st.keepPledge(*kept)
		}
		st.Sessions = s.mergeSessions(m.Sessions)
	})
}

// processFailed says of every session that the process has ended.
func (s *Speaker) processFailed(err error) {
	s.updateState(func(st *State) {
		st.Failures++
		sessions := slices.Clone(st.Sessions)
		for i := range sessions {
			sessions[i].BGPSession = plan.BGPSession{
				Peer: sessions[i].Peer, State: plan.BGPIdle, Reason: reason.BGPProcessFailed, Message: fmt.Sprintf("%.200s", err), BFD: sessions[i].BFD,
			}
			sessions[i].Routes, sessions[i].Received = 0, 0
		}
		st.Sessions = sessions
	})
}

// updateState changes the State, and says so if that made it another one.
func (s *Speaker) updateState(change func(*State)) {
	s.telling.Lock()
	defer s.telling.Unlock()
	before := s.state
	change(&s.state)
	if before.Plan == s.state.Plan && slices.Equal(before.Withheld, s.state.Withheld) && before.Failures == s.state.Failures && slices.Equal(before.Sessions, s.state.Sessions) {
		return
	}
	s.logChanges(before.Sessions, s.state.Sessions)
	s.options.OnState(s.state)
}
