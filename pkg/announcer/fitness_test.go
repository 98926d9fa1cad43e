package announcer

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"baremetal.cloud/ccm/pkg/announcer/announcement"
	"baremetal.cloud/ccm/pkg/announcer/health"
	"baremetal.cloud/ccm/pkg/announcer/sight"
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

// TestWhenANodeIsUnwell: after a while without an answer, and once it was asked anew or that takes too
// long; being well is said at once.
func TestWhenANodeIsUnwell(t *testing.T) {
	c := newCore("a", 1)
	c.fitness.asks = true
	c.see(0, links(ifi(2, "eth0", "192.0.2.10/24")))
	require.NoError(t, c.offer(watched("192.0.2.200=a")))
	turn(c, began, nil) // It is time.Hour.
	unwellAt := time.Hour + 30*time.Second
	require.Equal(t, unwellAt, c.fitness.wake())
	late := unwellAt + askTime
	for _, test := range []struct {
		at           time.Duration
		unwell, news bool
	}{{unwellAt - 1, false, false}, {unwellAt, false, false}, {late - 1, false, false}, {late, true, true}, {late + 1, true, false}} {
		unwell, news := c.fitness.judge(test.at)
		require.Equal(t, test.unwell, unwell)
		require.Equal(t, test.news, news)
		if test.at == unwellAt {
			require.Equal(t, unwellAt, c.healthTargets().After)
			require.Equal(t, late, c.fitness.wake())
		}
	}
	require.Zero(t, c.fitness.wake())
	require.True(t, turn(c, began, nil).Unwell)
	c.heal(health.Result{Works: true, Since: unwellAt})
	unwell, news := c.fitness.judge(unwellAt)
	require.False(t, unwell)
	require.True(t, news)
	require.False(t, turn(c, began, nil).Unwell)

	c.heal(health.Result{Since: late, Asked: late + 25*time.Second})
	unwell, _ = c.fitness.judge(late + 30*time.Second)
	require.False(t, unwell)
	c.heal(health.Result{Since: late, Asked: late + 30*time.Second})
	unwell, _ = c.fitness.judge(late + 30*time.Second)
	require.True(t, unwell, "as soon as there is an answer")
}

// TestFault_K2_11_AskedAnewBeforeItRelieves: the node that has an address says that its kube-proxy does
// not work. Another one, whose own worked when it was asked last, asks it anew before it takes the
// address, and leaves it where it is if its own does not work any more either.
func TestFault_K2_11_AskedAnewBeforeItRelieves(t *testing.T) {
	for name, works := range map[string]bool{"it works": true, "it does not work either": false} {
		t.Run(name, func(t *testing.T) {
			a, _, _ := faked(func(announcement.Report) {})
			var asked []health.Targets
			a.options.Ask = func(t health.Targets) { asked = append(asked, t) }
			a.core.fitness.asks = true
			set := watched("192.0.2.200=node1,node0", "192.0.2.201=node1,node0")
			set.Sight = announcement.Sight{TransmitInterval: 100 * time.Millisecond, DetectMultiplier: 3, Peers: []announcement.Peer{{Node: "node1"}}}
			now, boot, seq := began, time.Hour, uint64(0)
			pass := func(how time.Duration) { now, boot = now.Add(how), boot+how }
			claims := []announcement.Claim{{Address: ip("192.0.2.200"), Stamp: set.Stamp}, {Address: ip("192.0.2.201"), Stamp: set.Stamp}}
			var digest sight.Digest
			digest.Toggle(claims[0])
			digest.Toggle(claims[1])
			say := func(unwell bool) {
				seq++
				a.turn(now, boot, news{packets: arrivals(sight.Packet{
					From: "node1", Boot: 2, Seq: seq, Heard: sight.Echo{Boot: 1, Seq: 1}, Hears: true, Detect: 300 * time.Millisecond, Unwell: unwell,
					Digest: digest, Part: &sight.Part{Range: true, Claims: claims},
				})})
				a.turn(now, boot, news{})
			}
			answer := func(r health.Result) { a.turn(now, boot, news{health: &r}) }
			state := links(ifi(2, "eth0", "192.0.2.10/24"))
			a.turn(now, boot, news{links: &state, plans: map[string]announcement.Set{"r": set}})
			answer(health.Result{Works: true, Asked: boot, Serving: map[health.Port]bool{}})
			old := health.Result{Works: true, Asked: boot}
			for range 40 {
				pass(100 * time.Millisecond)
				say(false)
			}
			asked = nil
			for range 5 {
				pass(100 * time.Millisecond)
				say(true)
				answer(old) // As when it was asked before.
			}
			require.Zero(t, a.core.claims.Len())
			require.Len(t, asked, 1)
			require.Equal(t, boot-400*time.Millisecond, asked[0].After)
			answer(health.Result{Works: works, Asked: boot})
			for range 5 {
				pass(100 * time.Millisecond)
				say(true)
			}
			require.Equal(t, works, a.core.sight.Claim(ip("192.0.2.201")) == set.Stamp)
		})
	}
}

// TestFault_K2_11_DoubtsAreBounded: a peer that says it is unwell and well by turns has nobody's proxy
// asked more than once a second.
func TestFault_K2_11_DoubtsAreBounded(t *testing.T) {
	c := newCore("a", 1)
	c.fitness.proxy = "http://127.0.0.1:10256/healthz"
	demands := 0
	for i := range 10000 {
		boot := time.Hour + time.Duration(i)*time.Millisecond
		c.fitness.changed = false
		c.trusts(boot, sight.Packet{From: "b", Unwell: i%2 == 0})
		if c.fitness.changed {
			demands++
		}
	}
	require.LessOrEqual(t, demands, 10)
	c.expect(time.Hour)
	require.Empty(t, c.fitness.doubts, "it is no peer")
}

// TestFault_K6_3_RecoveryIsOneStatement: the log says that kube-proxy works again only when it has
// answered, and that it is not asked only when it is not.
func TestFault_K6_3_RecoveryIsOneStatement(t *testing.T) {
	for name, c := range map[string]struct {
		f    fitness
		want string
	}{
		"answered":          {fitness{proxy: "http://127.0.0.1:10256", answered: true, result: health.Result{Works: true}}, "kube-proxy of this node works again"},
		"no address left":   {fitness{result: health.Result{Works: true}}, "kube-proxy of this node is not asked: the plan has nothing that needs it"},
		"asked elsewhere":   {fitness{proxy: "http://127.0.0.1:10257"}, "kube-proxy of this node is asked anew; nothing is known of it yet"},
		"dead, asked again": {fitness{proxy: "http://127.0.0.1:10256", answered: true}, "kube-proxy of this node is asked anew; nothing is known of it yet"},
	} {
		require.Equal(t, c.want, c.f.recovery(), name)
	}
}
