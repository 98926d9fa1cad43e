//go:build e2e

package e2e

import (
	"testing"

	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"

	"baremetal.cloud/ccm/test/e2e/testbed"
)

// TestOneService is the main job from outside, in both proxy modes and on both shapes
// of network: a Service gets an address, one node answers for it, it can be requested,
// it survives what may happen to the CCM, and nobody answers once it is gone.
func TestOneService(t *testing.T) {
	for _, world := range []testbed.Options{
		{Nodes: 3, Proxy: "nftables", Mgmt: "lan"},
		{Nodes: 3, Proxy: "iptables", Mgmt: "separate"},
	} {
		t.Run(world.Proxy+", management network "+world.Mgmt, func(t *testing.T) {
			l := up(t, world)
			l.create("web", nil)
			address := l.address("web")
			require.True(t, l.c.PoolV4().Contains(address), "%s is not in the pool", address)
			owner := l.addressOwner(address)
			l.requested(address)

			t.Run("conditions and Events say so", func(t *testing.T) { l.with(t).described("web", address, "default") })
			t.Run("survives a restart of the CCM", func(t *testing.T) {
				l := l.with(t)
				l.stop("ccm")
				require.Equal(t, owner, l.addressOwner(address), "without a control plane nothing changes on the wire")
				l.requested(address)
				l.start("ccm")
				l.leader("")
				l.unchanged("web", address, owner)
			})
			t.Run("survives a change of leader", func(t *testing.T) {
				l := l.with(t)
				before := l.leader("")
				node := l.nodeOfReplica(before)
				l.stop("ccm:" + node)
				l.leader(before)
				l.unchanged("web", address, owner)
				l.start("ccm:" + node)
			})
			t.Run("a second Service gets another address", func(t *testing.T) {
				l := l.with(t)
				l.create("other", nil)
				require.NotEqual(t, address, l.address("other"))
				l.delete("other")
			})
			t.Run("deletion ends the answers", func(t *testing.T) {
				l := l.with(t)
				l.delete("web")
				l.silent(address)
			})
		})
	}
}

// TestService covers what a single testbed shows beside the main path.
func TestService(t *testing.T) {
	l := up(t, testbed.Options{Nodes: 3, Proxy: "nftables", Mgmt: "lan"})

	// Row IP2: a refusal names its cause and releases nothing.
	t.Run("a refused request keeps what is held", func(t *testing.T) {
		l := l.with(t)
		l.create("one", nil)
		l.create("two", nil)
		one, two := l.address("one"), l.address("two")
		l.annotate("one", "baremetal.cloud/addresses", two.String())
		l.told("one", "AddressInUse", "is held by Service default/two")
		l.says("one", "baremetal.cloud/Allocated", "AddressInUse")
		require.Equal(t, one, l.address("one"))
		l.delete("one")
		l.delete("two")
	})

	// The type change wipes the status; the address must be free for others all the same.
	t.Run("type change frees the address", func(t *testing.T) {
		l := l.with(t)
		l.create("web", nil)
		address := l.address("web")
		l.addressOwner(address)
		l.change("web", func(svc *corev1.Service) { svc.Spec.Type = corev1.ServiceTypeClusterIP })
		l.silent(address)
		l.delete("web")
	})

	// Our class, which the stock controller ignores.
	t.Run("loadBalancerClass", func(t *testing.T) {
		l := l.with(t)
		class := "baremetal.cloud/lb"
		l.create("classed", func(svc *corev1.Service) { svc.Spec.LoadBalancerClass = &class })
		address := l.address("classed")
		l.addressOwner(address)
		l.requested(address)
		l.delete("classed")
		l.silent(address)
	})

	// A wiped status is repaired from memory.
	t.Run("status is repaired", func(t *testing.T) {
		l := l.with(t)
		l.create("web", nil)
		address := l.address("web")
		l.wipeStatus("web")
		require.Eventually(t, func() bool { return l.published("web") == address }, patience, pause)
		l.delete("web")
	})

	// Promise 4: with the API server and every replica gone nothing changes on the wire,
	// and a restarted leader learns from the announcers.
	t.Run("the control plane may die", func(t *testing.T) {
		l := l.with(t)
		l.create("web", nil)
		address := l.address("web")
		owner := l.addressOwner(address)
		for _, what := range []string{"apiserver", "etcd", "ccm"} {
			l.stop(what)
		}
		require.Equal(t, owner, l.addressOwner(address))
		l.requested(address)
		for _, what := range []string{"etcd", "apiserver", "ccm"} {
			l.start(what)
		}
		l.leader("")
		l.unchanged("web", address, owner)
		l.delete("web")
	})

	t.Run("announcers hold no permission", func(t *testing.T) { l.with(t).announcersHoldNoPermission() })
	t.Run("a bad cloud-config changes nothing", func(t *testing.T) { l.with(t).badConfigChangesNothing() })
	t.Run("cleanup leaves no Service in Terminating", func(t *testing.T) { l.with(t).cleanupUnblocksDeletion() })
}
