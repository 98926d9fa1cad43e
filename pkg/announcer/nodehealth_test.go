package announcer

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"baremetal.cloud/ccm/pkg/announcer/failover"
	"baremetal.cloud/ccm/pkg/announcer/plan"
	"baremetal.cloud/ccm/pkg/announcer/proxyhealth"
)

// watched is a plan whose node asks its service proxy, and for the first address a port too.
func watched(words ...string) plan.NodePlan {
	set := nodePlan(1, words...)
	set.Health = plan.Health{Proxy: "http://127.0.0.1:10256/healthz", UnhealthyAfter: 30 * time.Second}
	first, _ := set.Assignments.Find(ip("192.0.2.200"))
	first.HealthPort = 30123
	set.Assignments = set.Assignments.With(first)
	return set
}

// TestWhatIsAsked: the proxy and the ports of addresses that may come here, on the node's
// own addresses; nothing without an address, without a URL, or without somebody to ask.
func TestWhatIsAsked(t *testing.T) {
	c := newCore("a", 1)
	c.health.asks = true
	c.setLinks(0, links(ifi(2, "eth0", "192.0.2.10/24", "2001:db8::10/64")))
	require.NoError(t, c.acceptPlan(watched("192.0.2.200=b,a", "2001:db8::200=a")))
	turn(c, began, nil)
	require.Equal(t, proxyhealth.Targets{
		Proxy: "http://127.0.0.1:10256/healthz", Ports: map[proxyhealth.Port]bool{{Number: 30123}: true},
		Own: append(loopbacks[:2:2], ip("192.0.2.10"), ip("2001:db8::10")),
	}, c.healthTargets())
	require.False(t, c.health.result.Works, "nothing is known yet")

	c.health.asks = false
	turn(c, began, nil)
	require.Zero(t, c.healthTargets())
	require.True(t, c.health.result.Works)
	c.health.asks = true
	empty := watched("192.0.2.200=a")
	empty.Version.Revision, empty.Assignments = 2, plan.Index[plan.Assignment]{}
	require.NoError(t, c.acceptPlan(empty))
	turn(c, began, nil)
	require.Zero(t, c.healthTargets())
}

// TestWhenANodeIsUnhealthy: after a while without an answer, and once it was asked anew or that takes too
// long; being well is said at once.
func TestWhenANodeIsUnhealthy(t *testing.T) {
	c := newCore("a", 1)
	c.health.asks = true
	c.setLinks(0, links(ifi(2, "eth0", "192.0.2.10/24")))
	require.NoError(t, c.acceptPlan(watched("192.0.2.200=a")))
	turn(c, began, nil) // It is time.Hour.
	unhealthyAt := time.Hour + 30*time.Second
	require.Equal(t, unhealthyAt, c.health.wakeAt())
	late := unhealthyAt + askTime
	for _, test := range []struct {
		at           time.Duration
		unwell, news bool
	}{{unhealthyAt - 1, false, false}, {unhealthyAt, false, false}, {late - 1, false, false}, {late, true, true}, {late + 1, true, false}} {
		unhealthy, news := c.health.judgeHealth(test.at)
		require.Equal(t, test.unwell, unhealthy)
		require.Equal(t, test.news, news)
		if test.at == unhealthyAt {
			require.Equal(t, unhealthyAt, c.healthTargets().After)
			require.Equal(t, late, c.health.wakeAt())
		}
	}
	require.Zero(t, c.health.wakeAt())
	require.True(t, turn(c, began, nil).Unhealthy)
	c.setHealth(proxyhealth.Result{Works: true, Since: unhealthyAt})
	unhealthy, news := c.health.judgeHealth(unhealthyAt)
	require.False(t, unhealthy)
	require.True(t, news)
	require.False(t, turn(c, began, nil).Unhealthy)

	c.setHealth(proxyhealth.Result{Since: late, Asked: late + 25*time.Second})
	unhealthy, _ = c.health.judgeHealth(late + 30*time.Second)
	require.False(t, unhealthy)
	c.setHealth(proxyhealth.Result{Since: late, Asked: late + 30*time.Second})
	unhealthy, _ = c.health.judgeHealth(late + 30*time.Second)
	require.True(t, unhealthy, "as soon as there is an answer")
}

// TestFault_K2_11_AskedAnewBeforeItRelieves: the node that has an address says that its kube-proxy does
// not work. Another one, whose own worked when it was asked last, asks it anew before it takes the
// address, and leaves it where it is if its own does not work any more either.
func TestFault_K2_11_AskedAnewBeforeItRelieves(t *testing.T) {
	for name, works := range map[string]bool{"it works": true, "it does not work either": false} {
		t.Run(name, func(t *testing.T) {
			a, _, _ := faked(func(plan.Report) {})
			var asked []proxyhealth.Targets
			a.options.Ask = func(t proxyhealth.Targets) { asked = append(asked, t) }
			a.core.health.asks = true
			set := watched("192.0.2.200=node1,node0", "192.0.2.201=node1,node0")
			set.Failover = plan.Failover{TransmitInterval: 100 * time.Millisecond, DetectMultiplier: 3, Peers: []plan.Peer{{Node: "node1"}}}
			now, boot, seq := began, time.Hour, uint64(0)
			pass := func(how time.Duration) { now, boot = now.Add(how), boot+how }
			claims := []plan.Claim{{Address: ip("192.0.2.200"), Version: set.Version}, {Address: ip("192.0.2.201"), Version: set.Version}}
			var digest failover.Digest
			digest.Toggle(claims[0])
			digest.Toggle(claims[1])
			say := func(unhealthy bool) {
				seq++
				a.step(now, boot, events{packets: arrivals(failover.Packet{
					From: "node1", Incarnation: 2, Seq: seq, Heard: failover.Echo{Incarnation: 1, Seq: 1}, Hears: true, Detect: 300 * time.Millisecond, Unhealthy: unhealthy,
					Digest: digest, Part: &failover.Part{Range: true, Claims: claims},
				})})
				a.step(now, boot, events{})
			}
			answer := func(r proxyhealth.Result) { a.step(now, boot, events{health: &r}) }
			state := links(ifi(2, "eth0", "192.0.2.10/24"))
			a.step(now, boot, events{links: &state, plans: map[string]plan.NodePlan{"r": set}})
			answer(proxyhealth.Result{Works: true, Asked: boot, Serving: map[proxyhealth.Port]bool{}})
			old := proxyhealth.Result{Works: true, Asked: boot}
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
			answer(proxyhealth.Result{Works: works, Asked: boot})
			for range 5 {
				pass(100 * time.Millisecond)
				say(true)
			}
			require.Equal(t, works, a.core.failover.Claim(ip("192.0.2.201")) == set.Version)
		})
	}
}

// TestFault_K2_11_DoubtsAreBounded: a peer that says it is unhealthy and well by turns has nobody's proxy
// asked more than once a second.
func TestFault_K2_11_DoubtsAreBounded(t *testing.T) {
	c := newCore("a", 1)
	c.health.proxy = "http://127.0.0.1:10256/healthz"
	demands := 0
	for i := range 10000 {
		boot := time.Hour + time.Duration(i)*time.Millisecond
		c.health.changed = false
		c.trustsUnhealthy(boot, failover.Packet{From: "b", Unhealthy: i%2 == 0})
		if c.health.changed {
			demands++
		}
	}
	require.LessOrEqual(t, demands, 10)
	c.startHealthChecks(time.Hour)
	require.Empty(t, c.health.doubts, "it is no peer")
}

// TestFault_K6_3_RecoveryIsOneStatement: the log says that kube-proxy works again only when it has
// answered, and that it is not asked only when it is not.
func TestFault_K6_3_RecoveryIsOneStatement(t *testing.T) {
	for name, c := range map[string]struct {
		f    nodeHealth
		want string
	}{
		"answered":          {nodeHealth{proxy: "http://127.0.0.1:10256", answered: true, result: proxyhealth.Result{Works: true}}, "kube-proxy of this node works again"},
		"no address left":   {nodeHealth{result: proxyhealth.Result{Works: true}}, "kube-proxy of this node is not asked: the plan has nothing that needs it"},
		"asked elsewhere":   {nodeHealth{proxy: "http://127.0.0.1:10257"}, "kube-proxy of this node is asked anew; nothing is known of it yet"},
		"dead, asked again": {nodeHealth{proxy: "http://127.0.0.1:10256", answered: true}, "kube-proxy of this node is asked anew; nothing is known of it yet"},
	} {
		require.Equal(t, c.want, c.f.recovery(), name)
	}
}
