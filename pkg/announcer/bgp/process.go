package bgp

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/netip"
	"runtime/debug"
	"slices"
	"sync"
	"time"

	"baremetal.cloud/ccm/pkg/announcer/plan"
)

const (
	// countPause is how often the announcer hears how much routers have sent.
	countPause = 10 * time.Second
	// freePause is how often memory that is no longer used is given back to the kernel, if anything
	// has changed: of what 10 000 prefixes took until routers had them, Go keeps some 10 MB.
	freePause = 30 * time.Second
	// farewell is how long the process lives on after it has withdrawn what must be withdrawn, so
	// that routers hear of it.
	farewell = 200 * time.Millisecond
)

// process holds the sessions. One goroutine owns it.
type process struct {
	out   *json.Encoder
	outMu sync.Mutex
	table
	peers    []Peer
	sessions map[string]*session
	// spare are servers that no session has.
	spare     []*gobgp
	changed   chan struct{}
	connected chan connection
	seq       uint64
	begun     bool
}

// connection is that a session has a connection to its router, from the node's address local.
// done is closed when what is announced has it as its next hop.
type connection struct {
	session *session
	local   netip.Addr
	done    chan<- struct{}
}

// table has what the plan announces: routes, and by name the advertisements that say to which
// routers.
type table struct {
	advertisements map[string]plan.Advertisement
	routes         map[netip.Prefix]plan.Route
}

// Serve is the life of the process that speaks BGP: it reads updates from in, writes how its
// sessions fare to out, and returns when in ends, which is when its Speaker does. Its caller ends
// the process then, without another word to routers: that is what they take for a restart.
func Serve(in io.Reader, out io.Writer) error {
	p := &process{
		out: json.NewEncoder(out), table: table{map[string]plan.Advertisement{}, map[netip.Prefix]plan.Route{}},
		sessions: map[string]*session{}, changed: make(chan struct{}, 1), connected: make(chan connection),
	}
	updates, failed := make(chan update), make(chan error, 1)
	go func() { failed <- readUpdates(in, updates) }()
	tick := time.NewTicker(countPause)
	defer tick.Stop()
	free := time.NewTicker(freePause)
	defer free.Stop()
	for busy := false; ; {
		select {
		case <-free.C:
			if busy {
				go debug.FreeOSMemory()
			}
			busy = false
			continue
		case u := <-updates:
			busy = true
			if u.Leave {
				p.leavePeers()
				return nil
			}
			if err := p.applyUpdate(u); err != nil {
				return err
			}
		case <-p.changed:
			busy = true
			if err := p.look(); err != nil {
				return err
			}
		case c := <-p.connected:
			busy = true
			if err := p.connect(c); err != nil {
				return err
			}
			continue
		case <-tick.C:
		case err := <-failed:
			return err
		}
		if err := p.sendState(); err != nil {
			return err
		}
	}
}

// readUpdates passes on updates until in ends.
func readUpdates(in io.Reader, updates chan<- update) error {
	lines := bufio.NewReader(in)
	for {
		// A decoder of all updates would keep the room that the largest took, which is the first.
		line, err := lines.ReadBytes('\n')
		if errors.Is(err, io.EOF) {
			return nil
		}
		var u update
		if err := errors.Join(err, json.Unmarshal(line, &u)); err != nil {
			return fmt.Errorf("read what is wanted: %w", err)
		}
		updates <- u
	}
}

// applyUpdate carries out an update. A session that cannot be opened is an error of all: the
// configuration allows none such.
func (p *process) applyUpdate(u update) error {
	for _, b := range u.Broken {
		if s := p.sessions[b.Peer]; s != nil {
			if err := s.failSession(b.Message); err != nil {
				return err
			}
		}
	}
	for _, prefix := range u.Withdrawn {
		delete(p.routes, prefix)
	}
	for _, r := range u.Routes {
		p.routes[r.Prefix] = r
	}
	if u.Config != nil {
		p.advertisements = byName(u.Config.Advertisements)
		if err := p.setPeers(u.Config.Peers); err != nil {
			return err
		}
	} else if err := p.updateRoutes(u); err != nil {
		return err
	}
	p.seq, p.begun = u.Seq, true
	return nil
}

// setPeers makes peers all that there are.
func (p *process) setPeers(peers []Peer) error {
	p.peers = peers
	for name, s := range p.sessions {
		// gobgp takes the local AS when it is started.
		if slices.ContainsFunc(peers, func(x Peer) bool { return x.Name == name && x.LocalASN == s.peer.LocalASN }) {
			continue
		}
		if err := s.closeSession(); err != nil {
			return fmt.Errorf("peer %s: %w", name, err)
		}
		p.spare = append(p.spare, s.server)
		delete(p.sessions, name)
	}
	for _, peer := range peers {
		if s := p.sessions[peer.Name]; s != nil {
			if err := s.change(peer, p.table); err != nil {
				return fmt.Errorf("peer %s: %w", peer.Name, err)
			}
			continue
		}
		s, err := openSession(p.server(peer.Name), peer, p.table, !p.begun, hooks{p.wakeOwner, p.onConnected})
		if err != nil {
			return err
		}
		p.sessions[peer.Name] = s
	}
	return nil
}

// server returns one for a peer, a new one if no other is spare.
func (p *process) server(peer string) *gobgp {
	var g *gobgp
	if last := len(p.spare) - 1; last >= 0 {
		g, p.spare = p.spare[last], p.spare[:last]
	} else {
		g = newGobgp(p.sendLog)
	}
	g.log.peer.Store(&peer)
	return g
}

// onConnected makes the owner of p call connect, and waits for it.
func (p *process) onConnected(ctx context.Context, s *session, local netip.Addr) {
	done := make(chan struct{})
	select {
	case p.connected <- connection{s, local, done}:
	case <-ctx.Done():
		return
	}
	select {
	case <-done:
	case <-ctx.Done():
	}
}

// connect has the session announce the node's address of the connection as the next hop.
func (p *process) connect(c connection) error {
	defer close(c.done)
	if p.sessions[c.session.peer.Name] != c.session {
		return nil // It was closed meanwhile.
	}
	return c.session.connected(c.local, p.table)
}

// updateRoutes tells every peer what u changes of routes.
func (p *process) updateRoutes(u update) error {
	for _, s := range p.sessions {
		for _, prefix := range u.Withdrawn {
			if err := s.removePath(prefix); err != nil {
				return err
			}
		}
		for _, r := range u.Routes {
			if err := s.announceRoute(r, p.advertisements); err != nil {
				return err
			}
		}
	}
	return nil
}

// leavePeers takes back what routers would keep in vain: those that were asked to keep routes over
// a restart hear nothing.
func (p *process) leavePeers() {
	told := false
	for _, s := range p.sessions {
		if s.peer.GracefulRestart == 0 {
			s.withdrawAll()
			told = true
		}
	}
	if told {
		<-time.After(farewell)
	}
}

// wakeOwner has the state of the sessions told; any goroutine may call it.
func (p *process) wakeOwner() {
	select {
	case p.changed <- struct{}{}:
	default:
	}
}

// look takes what is new of the routers.
func (p *process) look() error {
	for _, s := range p.sessions {
		if !s.look() {
			continue
		}
		if err := s.applyTable(p.table); err != nil {
			return err
		}
	}
	return nil
}

// sendState says how the sessions fare.
func (p *process) sendState() error {
	m := message{Seq: p.seq, Sessions: []Session{}}
	for _, name := range slices.Sorted(maps.Keys(p.sessions)) {
		m.Sessions = append(m.Sessions, p.sessions[name].sessionState())
	}
	return p.writeMessage(m)
}

// sendLog passes on a line of gobgp's; any goroutine may call it.
func (p *process) sendLog(line string) { _ = p.writeMessage(message{Log: line}) } // on an error the reader is gone

func (p *process) writeMessage(m message) error {
	p.outMu.Lock()
	defer p.outMu.Unlock()
	return p.out.Encode(m)
}
