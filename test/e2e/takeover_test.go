//go:build e2e

package e2e

import (
	"fmt"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"

	"baremetal.cloud/ccm/test/e2e/testbed"
)

// gapAllowed bounds what takes little more than the two seconds of detection, on a machine that
// does much besides.
const gapAllowed = 20 * time.Second

// TestTakeover is a cable that is cut while no control plane is alive: another node answers
// by itself, and when the first one is back it takes nothing back. Rows L1 and L10.
func TestTakeover(t *testing.T) {
	l := up(t, testbed.Options{Nodes: 3, Proxy: "nftables", Mgmt: "lan"})
	l.create("web", func(svc *corev1.Service) {
		// Every node answers by its own Pod: nobody can say now that others are gone.
		svc.Spec.ExternalTrafficPolicy = corev1.ServiceExternalTrafficPolicyLocal
	})
	address := l.address("web")
	owner := l.addressOwner(address)
	l.requested(address)
	t.Run("the leader tells of a move", func(t *testing.T) {
		l, node := l.with(t), l.nodeOf(owner)
		l.stop("announcer:" + node)
		l.eventuallyAnsweredByAnother(address, node)
		l.told("web", "Announced", fmt.Sprintf("answers for %s now, after node %s (AnnouncerStopped", address, node))
		l.start("announcer:" + node)
	})
	owner = l.addressOwner(address)
	l.stop("ccm")
	l.stop("apiserver")
	l.stays(address, owner)

	t.Run("a silent cut", func(t *testing.T) { l.with(t).cutAndHeal(address, testbed.Silent) })
	t.Run("a loud cut", func(t *testing.T) { l.with(t).cutAndHeal(address, testbed.Loud) })
	t.Run("an announcer ends", func(t *testing.T) {
		l := l.with(t)
		node := l.nodeOf(l.addressOwner(address))
		l.stop("announcer:" + node)
		gap := l.gap(address, time.Now())
		l.eventuallyAnsweredByAnother(address, node)
		mac := l.addressOwner(address)
		l.start("announcer:" + node)
		t.Logf("%s ended: %s answers, the first request succeeded after %s", node, l.nodeOf(mac), gap)
		l.stays(address, mac)
	})
	t.Run("an announcer is killed", func(t *testing.T) { l.with(t).killed(address) })
	t.Run("all announcers restart", func(t *testing.T) { l.with(t).allRestarted(address) })
	t.Run("the plan on disk is another cluster's", func(t *testing.T) {
		l := l.with(t)
		l.planDiscarded(address, "it is of another cluster (another)", l.ofAnotherCluster)
	})
	t.Run("the plan on disk is damaged", func(t *testing.T) {
		l := l.with(t)
		l.planDiscarded(address, "the file is damaged", func(data []byte) []byte { return data[:len(data)-1] })
	})
	t.Run("the control plane is back", func(t *testing.T) {
		l := l.with(t)
		l.start("announcer")
		l.stays(address, l.addressOwner(address))
		l.start("apiserver")
		l.start("ccm")
		l.leader("")
		l.described("web", address, "default")
		l.stays(address, l.addressOwner(address))
	})
}

// cutAndHeal cuts the cable of who answers, and heals it.
func (l *lab) cutAndHeal(address netip.Addr, how testbed.Cut) {
	l.Helper()
	before := l.addressOwner(address)
	node := l.nodeOf(before)
	require.NoError(l, l.c.Cut(l.Context(), node, how))
	gap := l.gap(address, time.Now())
	after := l.addressOwner(address)
	require.NotEqual(l, before, after)
	l.Logf("%s was cut: %s answers, the first request succeeded after %s", node, l.nodeOf(after), gap)
	require.Less(l, gap, gapAllowed)

	require.NoError(l, l.c.Heal(l.Context(), node))
	healed := time.Now()
	require.Equal(l, after, l.addressOwner(address), "nothing is taken back")
	l.Logf("one owner within %s of the heal", time.Since(healed))
	l.stays(address, after)
	l.requested(address)
}

// gap requests the address until that succeeds, and returns how long after a fault that was.
func (l *lab) gap(address netip.Addr, fault time.Time) time.Duration {
	l.Helper()
	url := "http://" + net.JoinHostPort(address.String(), "80") + "/"
	for time.Since(fault) < patience {
		body, err := l.c.In(l.Context(), "client", "curl", "-s", "-m", "0.2", url)
		if err == nil && strings.HasPrefix(body, "web-") {
			return time.Since(fault)
		}
	}
	require.Fail(l, "no request succeeded")
	return 0
}
