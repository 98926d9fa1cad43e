//go:build e2e

package bfd

import (
	"net/netip"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"baremetal.cloud/ccm/pkg/announcer/bfd"
)

const (
	// interval and multiplier are both ends': a machine on which much else runs keeps them.
	interval   = 300 * time.Millisecond
	multiplier = 10
	detection  = multiplier * interval
	// slack is what a process may have to wait for its turn on such a machine.
	slack = 5 * time.Second
)

// router is the other end: a real one.
type router interface {
	// start starts it, or starts it again.
	start()
	// kill ends it without a word.
	kill()
	// auth is what it wants of a session, nil for nothing.
	auth(peer string) *bfd.Auth
	// ttl is what its multihop packets arrive with.
	ttl() uint8
	// view is what it says of its session with our address, and show all that it says.
	view(ours string) view
	show() string
	// slower makes its transmit interval of all sessions another one.
	slower(interval time.Duration)
	// adminDown takes its sessions administratively down, or lets them come up again, and
	// reports whether it is able to.
	adminDown(down bool) bool
}

// view is a session as the router sees it.
type view struct {
	up bool
	// detection is its detection time.
	detection time.Duration
}

// The peers of all sessions, and our address of each.
var ourAddress = map[string]string{router4: node4, router6: node6, routerLL: nodeLL, routerFar4: nodeFar4, routerFar6: nodeFar6}

func TestFRR(t *testing.T)  { l := newLab(t, "frr"); l.interoperate(newFRR(l)) }
func TestBIRD(t *testing.T) { l := newLab(t, "bird"); l.interoperate(newBIRD(l)) }

// sessions returns one of each shape.
func sessions(r router) []bfd.SessionConfig {
	one := func(peer string, change func(*bfd.SessionConfig)) bfd.SessionConfig {
		c := bfd.SessionConfig{Key: bfd.Key{Peer: netip.MustParseAddr(peer)}, TransmitInterval: interval, ReceiveInterval: interval, DetectMultiplier: multiplier, Auth: r.auth(peer)}
		change(&c)
		return c
	}
	multihop := func(c *bfd.SessionConfig) { c.Multihop, c.MinimumTTL = true, r.ttl() }
	return []bfd.SessionConfig{
		one(router4, func(*bfd.SessionConfig) {}),
		one(router6, func(c *bfd.SessionConfig) { c.Local = netip.MustParseAddr(node6) }),
		one(routerLL, func(c *bfd.SessionConfig) { c.Interface, c.Local = "eth0", netip.MustParseAddr(nodeLL) }),
		one(routerFar4, multihop), one(routerFar6, multihop),
	}
}

// interoperate holds one router to what BFD is for, on one boot of the lab. Row R10.
func (l *lab) interoperate(r router) {
	r.start()
	l.Cleanup(func() {
		if l.Failed() {
			l.Log(r.show())
		}
	})
	end := l.run(bfd.Options{AdminDown: true}, sessions(r))
	for _, step := range []struct {
		name string
		do   func(router)
	}{
		{"come up", l.comeUp}, {"our intervals change", l.ourIntervals}, {"its intervals change", l.itsIntervals},
		{"it is administratively down", l.itsAdminDown}, {"we are administratively down", l.ourAdminDown},
		{"it is killed", l.killed}, {"the wire is cut", l.cut}, {"the key is wrong", l.wrongKey},
	} {
		if !l.Run(step.name, func(t *testing.T) {
			outer := l.T
			defer func() { l.T = outer }()
			l.T = t
			step.do(r)
		}) {
			return
		}
	}
	end()
	for peer, ours := range ourAddress {
		l.eventually(peer+" knows that we have left", func() bool { return !r.view(ours).up })
	}
}

// comeUp waits until both ends say that all sessions are up, at what both want.
func (l *lab) comeUp(r router) {
	l.Helper()
	l.awaitAll(bfd.Up)
	for peer, ours := range ourAddress {
		l.eventually(peer+" says so too", func() bool { return r.view(ours) == view{true, detection} })
		l.eventually(peer+" agrees on the intervals", func() bool {
			s := l.status(peer)
			return s.Interval == interval && s.DetectionTime == detection
		})
	}
	l.heard()
}

// calm holds that nothing has flapped.
func (l *lab) calm(r router) {
	l.Helper()
	for _, s := range l.runner.Sessions() {
		require.Equal(l, bfd.Up, s.State, s.Peer)
		require.True(l, r.view(ourAddress[s.Peer.String()]).up, s.Peer)
	}
	require.Empty(l, l.heard())
}

// ourIntervals changes ours and back: both ends know, and no session flaps.
func (l *lab) ourIntervals(r router) {
	slow := sessions(r)
	for i := range slow {
		slow[i].TransmitInterval, slow[i].ReceiveInterval = 3*interval/2, 2*interval
	}
	for _, configs := range [][]bfd.SessionConfig{slow, sessions(r)} {
		require.NoError(l, l.runner.Set(configs))
		for _, c := range configs {
			peer := c.Peer.String()
			l.eventually("the intervals are negotiated", func() bool {
				s := l.status(peer)
				return s.Interval == c.TransmitInterval && s.DetectionTime == multiplier*c.ReceiveInterval &&
					r.view(ourAddress[peer]).detection == multiplier*c.TransmitInterval
			})
		}
		l.calm(r)
	}
}

func (l *lab) itsIntervals(r router) {
	for _, its := range []time.Duration{3 * interval / 2, interval} {
		r.slower(its)
		for peer := range ourAddress {
			l.eventually(peer+" has told us", func() bool { return l.status(peer).DetectionTime == multiplier*its })
		}
		l.calm(r)
	}
}

// itsAdminDown: what the router's administrator does is not a failure.
func (l *lab) itsAdminDown(r router) {
	if !r.adminDown(true) {
		return
	}
	l.awaitAll(bfd.Down)
	events := l.heard()
	require.Len(l, events, len(ourAddress))
	for _, e := range events {
		require.False(l, e.Failure(), "%+v", e)
		require.Equal(l, bfd.AdminDown, e.RemoteState, "%+v", e)
	}
	r.adminDown(false)
	l.comeUp(r)
}

// ourAdminDown: the router hears that a session ends before its detection time is over.
func (l *lab) ourAdminDown(r router) {
	require.NoError(l, l.runner.Set(nil))
	for peer, ours := range ourAddress {
		l.eventually(peer+" knows", func() bool { return !r.view(ours).up })
	}
	require.Empty(l, l.runner.Sessions())
	require.NoError(l, l.runner.Set(sessions(r)))
	l.comeUp(r)
}

// killed: the router dies without a word, and comes back.
func (l *lab) killed(r router) {
	began := time.Now()
	r.kill()
	dead := time.Now()
	l.awaitAll(bfd.Down)
	events := l.heard()
	require.Len(l, events, len(ourAddress))
	for _, e := range events {
		require.True(l, e.Failure(), "%+v", e)
		require.Equal(l, "detection time expired", e.Diagnostic.String())
		require.Greater(l, e.Since, began.Add(detection-2*interval))
		require.Less(l, e.Since, dead.Add(detection+slack))
		l.Logf("%s: Down %s after the kill, detection time %s", e.Name(), e.Since.Sub(dead).Round(time.Millisecond), detection)
	}
	r.start()
	l.comeUp(r)
}

// cut: neither end hears the other any more; both find out, and come back.
func (l *lab) cut(r router) {
	l.link("eth0", "down")
	l.link("eth1", "down")
	l.awaitAll(bfd.Down)
	for peer, ours := range ourAddress {
		l.eventually(peer+" knows", func() bool { return !r.view(ours).up })
	}
	for _, e := range l.heard() {
		require.True(l, e.Failure(), "%+v", e)
	}
	l.link("eth0", "up")
	l.link("eth1", "up")
	l.comeUp(r)
}

// wrongKey: where the router wants a key, no session comes up with another.
func (l *lab) wrongKey(r router) {
	wrong := sessions(r)
	for i := range wrong {
		if wrong[i].Auth != nil {
			other := *wrong[i].Auth
			other.Key = "other"
			wrong[i].Auth = &other
		}
	}
	if r.auth(router4) == nil {
		for i := range wrong {
			wrong[i].Auth = &bfd.Auth{Type: bfd.KeyedSHA1, Key: "other"}
		}
	}
	require.NoError(l, l.runner.Set(wrong))
	l.awaitAll(bfd.Down)
	for _, c := range wrong {
		l.eventually("what comes is dropped", func() bool {
			s := l.status(c.Peer.String())
			return s.Dropped["authentication digest is wrong"]+s.Dropped["authentication is missing"] > 0
		})
	}
	require.NoError(l, l.runner.Set(sessions(r)))
	l.comeUp(r)
}
