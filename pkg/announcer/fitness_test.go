package announcer

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"baremetal.cloud/ccm/pkg/announcer/announcement"
	"baremetal.cloud/ccm/pkg/announcer/health"
)

// watched is a plan whose node asks its service proxy, and for the first address a port too.
func watched(words ...string) announcement.Set {
	set := plan(1, words...)
	set.Health = announcement.Health{Proxy: "http://127.0.0.1:10256/healthz", UnwellAfter: 30 * time.Second}
	first, _ := set.Announcements.Find(ip("192.0.2.200"))
	first.HealthPort = 30123
	set.Announcements = set.Announcements.With(first)
	return set
}

// TestWhatIsAsked: the proxy and the ports of addresses that may come here, on the node's
// own addresses; nothing without an address, without a URL, or without somebody to ask.
func TestWhatIsAsked(t *testing.T) {
	c := newCore("a", 1)
	c.fitness.asks = true
	c.see(0, links(ifi(2, "eth0", "192.0.2.10/24", "2001:db8::10/64")))
	require.NoError(t, c.offer(watched("192.0.2.200=b,a", "2001:db8::200=a")))
	turn(c, began, nil)
	require.Equal(t, health.Targets{
		Proxy: "http://127.0.0.1:10256/healthz", Ports: map[health.Port]bool{{Number: 30123}: true},
		Own: append(loopbacks[:2:2], ip("192.0.2.10"), ip("2001:db8::10")),
	}, c.healthTargets())
	require.False(t, c.fitness.result.Works, "nothing is known yet")

	c.fitness.asks = false
	turn(c, began, nil)
	require.Zero(t, c.healthTargets())
	require.True(t, c.fitness.result.Works)
	c.fitness.asks = true
	empty := watched("192.0.2.200=a")
	empty.Stamp.Revision, empty.Announcements = 2, announcement.Index[announcement.Announcement]{}
	require.NoError(t, c.offer(empty))
	turn(c, began, nil)
	require.Zero(t, c.healthTargets())
}

// TestWhenANodeIsUnwell: after a while without an answer; being well is said at once.
func TestWhenANodeIsUnwell(t *testing.T) {
	c := newCore("a", 1)
	c.fitness.asks = true
	c.see(0, links(ifi(2, "eth0", "192.0.2.10/24")))
	require.NoError(t, c.offer(watched("192.0.2.200=a")))
	turn(c, began, nil) // It is time.Hour.
	unwellAt := time.Hour + 30*time.Second
	require.Equal(t, unwellAt, c.fitness.wake())
	for _, test := range []struct {
		at           time.Duration
		unwell, news bool
	}{{unwellAt - 1, false, false}, {unwellAt, true, true}, {unwellAt + 1, true, false}} {
		unwell, news := c.fitness.judge(test.at)
		require.Equal(t, test.unwell, unwell)
		require.Equal(t, test.news, news)
	}
	require.Zero(t, c.fitness.wake())
	require.True(t, turn(c, began, nil).Unwell)
	c.heal(health.Result{Works: true, Since: unwellAt})
	unwell, news := c.fitness.judge(unwellAt)
	require.False(t, unwell)
	require.True(t, news)
	require.False(t, turn(c, began, nil).Unwell)
}
