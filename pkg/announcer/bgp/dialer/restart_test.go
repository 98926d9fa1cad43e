package dialer

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"baremetal.cloud/ccm/pkg/announcer/plan"
	"baremetal.cloud/ccm/pkg/reason"
)

// notifications returns the bodies of those that have come.
func (e *end) notifications() [][]byte {
	out := [][]byte{}
	for _, f := range e.take() {
		if f.kind() == kindNotification {
			out = append(out, f.body())
		}
	}
	return out
}

// without returns what a router offers that keeps no routes, and plainly those that keep them
// only over the end of a connection.
func without() Open {
	o := theirs
	o.GracefulRestart = GracefulRestart{}
	return o
}

func plainly() Open {
	o := theirs
	o.GracefulRestart.Notification = false
	return o
}

// TestFault_K5_4_HoldTimeOfZero: a router that asks for no hold time is refused by 2/6 with a
// Reason, unless BFD watches the path to it. Then the session lasts, without a KEEPALIVE.
func TestFault_K5_4_HoldTimeOfZero(t *testing.T) {
	silent := theirs
	silent.HoldTime = 0
	t.Run("refused", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			l := newLab(t, settings())
			l.say(l.router, silent.frame())
			require.Equal(t, [][]byte{{2, 6}}, l.router.notifications())
			end := l.State().End
			require.Equal(t, reason.NotificationSent, end.Reason)
			require.Contains(t, end.Message, "Unacceptable Hold Time (2/6): it asks for a hold time of 0")
		})
	})
	t.Run("with BFD", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			c := settings()
			c.WithoutHoldTime = true
			l := newLab(t, c)
			l.establish(silent)
			for range 300 {
				l.say(l.gobgp, keepalive())
				time.Sleep(time.Second)
			}
			require.Empty(t, l.router.kinds())
			require.Equal(t, plan.BGPEstablished, l.State().Phase)
			require.InDelta(t, 300, len(l.gobgp.kinds()), 3, "gobgp's hold timer lives")
		})
	})
}

// TestFault_K5_4_ForwardingAndNotificationBits: the F bits and the N bit are always set; that the
// node has restarted is said until it has had a session.
func TestFault_K5_4_ForwardingAndNotificationBits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLab(t, settings())
		bits := func(e *end) GracefulRestart {
			f := e.take()
			require.NotEmpty(t, f)
			o, bad := parseOpen(f[0].body())
			require.Nil(t, bad)
			return o.GracefulRestart
		}
		require.Equal(t, ours.GracefulRestart, bits(l.router))
		l.say(l.router, theirs.frame())
		l.say(l.gobgp, keepalive())
		l.say(l.router, keepalive())
		require.NoError(t, l.router.Close())
		<-l.over
		require.Equal(t, reason.PeerClosed, l.State().End.Reason)
		require.EqualValues(t, 1, l.State().Losses)
		again := &lab{t: t, Dialer: l.Dialer}
		again.reconnect()
		want := ours.GracefulRestart
		want.Restarting = false
		require.Equal(t, want, bits(again.router))
	})
}

// TestFault_K5_4_PlannedEndsThatWithdraw: a router that keeps routes over a NOTIFICATION is sent a
// Hard Reset where it must not keep them; any other is sent the NOTIFICATION itself.
func TestFault_K5_4_PlannedEndsThatWithdraw(t *testing.T) {
	fail := func(l *lab) { require.True(l.t, l.Fail("BFD: nothing was heard")) }
	remove := func(l *lab) { l.Remove() }
	for name, tt := range map[string]struct {
		router Open
		end    func(*lab)
		want   []byte
	}{
		"BFD":                             {theirs, fail, []byte{6, 9, 6, 10}},
		"BFD, without the N bit":          {plainly(), fail, []byte{6, 10}},
		"BFD, without graceful restart":   {without(), fail, []byte{6, 10}},
		"removed":                         {theirs, remove, []byte{6, 9, 6, 3}},
		"removed, without the N bit":      {plainly(), remove, []byte{6, 3}},
		"gobgp removes the peer":          {theirs, func(l *lab) { l.say(l.gobgp, (&Notification{6, 3, nil}).frame()) }, []byte{6, 9, 6, 3}},
		"gobgp's hold timer, N bit or no": {theirs, func(l *lab) { l.say(l.gobgp, (&Notification{4, 0, nil}).frame()) }, []byte{4, 0}},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				l := newLab(t, settings())
				l.establish(tt.router)
				tt.end(l)
				require.Equal(t, [][]byte{tt.want}, l.router.notifications())
				require.True(t, l.router.isClosed())
				require.True(t, l.gobgp.isClosed())
			})
		})
	}
}

// TestFault_K5_3_WhatIsNotNegotiated changes while the session goes on. What is negotiated ends
// it: without a word to a router that keeps the routes until it is back, else by Cease.
func TestFault_K5_3_WhatIsNotNegotiated(t *testing.T) {
	for name, tt := range map[string]struct {
		change func(*Config)
		router Open
		ends   bool
		want   [][]byte
	}{
		"keepaliveTime":                        {func(c *Config) { c.Keepalive = time.Second }, theirs, false, nil},
		"connectRetryTime":                     {func(c *Config) { c.ConnectRetry = time.Minute }, theirs, false, nil},
		"ttlSecurity":                          {func(c *Config) { c.TTL, c.MinimumTTL = 255, 254 }, theirs, false, nil},
		"bfd":                                  {func(c *Config) { c.WithoutHoldTime = true }, theirs, false, nil},
		"holdTime":                             {func(c *Config) { c.Open.HoldTime = 30 }, theirs, true, nil},
		"holdTime, without graceful restart":   {func(c *Config) { c.Open.HoldTime = 30 }, without(), true, [][]byte{{6, 6}}},
		"password":                             {func(c *Config) { c.Password = "another" }, plainly(), true, nil},
		"routerID":                             {func(c *Config) { c.Open.Identifier = [4]byte{1} }, theirs, true, nil},
		"families":                             {func(c *Config) { c.Open.Families.IPv4 = false }, theirs, true, [][]byte{{6, 9, 6, 6}}},
		"families, without the N bit":          {func(c *Config) { c.Open.Families.IPv4 = false }, plainly(), true, [][]byte{{6, 6}}},
		"the router":                           {func(c *Config) { c.Router = addrPortOf("192.0.2.2:179") }, theirs, true, [][]byte{{6, 9, 6, 3}}},
		"the router, without graceful restart": {func(c *Config) { c.Router = addrPortOf("192.0.2.2:179") }, without(), true, [][]byte{{6, 3}}},
		"the AS of the router, as it was changed": {func(c *Config) { c.PeerASN = 1 }, without(), true, [][]byte{{6, 3}}},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				l := newLab(t, settings())
				l.establish(tt.router)
				c := settings()
				tt.change(&c)
				require.Equal(t, tt.ends, l.Set(c))
				require.Equal(t, tt.ends, l.State().Phase == plan.BGPIdle, "at once: the next node waits for it")
				require.Equal(t, tt.ends, l.router.isClosed())
				if tt.want == nil {
					tt.want = [][]byte{}
				}
				require.Equal(t, tt.want, l.router.notifications())
				state := l.State()
				require.Zero(t, state.End, "the node wanted it")
				require.Zero(t, state.Losses)
			})
		})
	}
}

// TestFault_K5_3_KeepaliveTime: the router hears KEEPALIVEs as often as is asked for, which
// changes at once.
func TestFault_K5_3_KeepaliveTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLab(t, settings())
		l.establish(theirs)
		heard := func() int {
			for range 30 {
				time.Sleep(gobgpKeepalive)
				l.say(l.gobgp, keepalive())
				l.say(l.router, keepalive())
			}
			return len(l.router.kinds())
		}
		require.Equal(t, 10, heard())
		c := settings()
		c.Keepalive = 2 * time.Second
		require.False(t, l.Set(c))
		require.Equal(t, 15, heard())
		c.Keepalive = time.Minute
		require.False(t, l.Set(c))
		require.InDelta(t, 10, heard(), 1, "a third of the hold time at least")
	})
}
