package cloud

import (
	"fmt"
	"net/netip"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"baremetal.cloud/ccm/pkg/cloud/config"
)

func TestDoubts(t *testing.T) {
	cfg, _, err := config.Parse([]byte(`apiVersion: baremetal.cloud/v1alpha1
kind: CloudConfig
pools:
- {name: lan, addresses: [192.168.1.200-192.168.1.255]}
- {name: far, addresses: [10.96.0.0/16, 2001:db8:1::/64]}
- {name: clean, addresses: [203.0.113.0/24]}
`), "test")
	require.NoError(t, err)
	got := lintPools(cfg.Pools, clusterNetworks{
		nodes: []*corev1.Node{{
			ObjectMeta: metav1.ObjectMeta{Name: "node1"},
			Spec:       corev1.NodeSpec{PodCIDRs: []string{"10.244.0.0/24", "2001:db8:1::/80"}},
			Status:     corev1.NodeStatus{Addresses: []corev1.NodeAddress{{Type: corev1.NodeHostName, Address: "node1"}, {Type: corev1.NodeInternalIP, Address: "192.168.1.201"}}},
		}},
		services: []*corev1.Service{
			{Spec: corev1.ServiceSpec{ClusterIPs: []string{"10.96.0.10"}}}, {Spec: corev1.ServiceSpec{ClusterIPs: []string{"10.96.0.1"}}}, {Spec: corev1.ServiceSpec{ClusterIPs: []string{"None"}}},
		},
		links: []netip.Prefix{netip.MustParsePrefix("192.168.1.0/24"), netip.MustParsePrefix("fe80::/64"), netip.MustParsePrefix("203.0.113.4/31")},
	})
	require.Equal(t, []string{
		`pool "far" overlaps 2001:db8:1::/80, which is for the Pods of node node1`,
		`pool "far" overlaps the range of cluster IPs: it contains 10.96.0.1`,
		`pool "lan" contains 192.168.1.201, which is an address of node node1; take it out of the pool`,
		`pool "lan" contains 192.168.1.255, the broadcast address of 192.168.1.0/24 on the nodes' network`,
	}, got)
}

// All Services and Nodes are looked at only where something changed, and not all the time.
func TestFault_K1_8_DoubtsAreLookedForOnChange(t *testing.T) {
	now := time.Now()
	one, two := &config.Config{}, &config.Config{}
	var changed atomic.Bool
	d := &linter{}
	require.True(t, d.isDue(one, &changed, now))
	for range 1000 {
		now = now.Add(configPeriod)
		require.False(t, d.isDue(one, &changed, now), "nothing changed")
	}
	looks := 0
	for range 150 { // five minutes of changes
		now = now.Add(configPeriod)
		changed.Store(true)
		if d.isDue(one, &changed, now) {
			looks++
		}
	}
	require.Equal(t, 10, looks)
	require.True(t, d.isDue(two, &changed, now), "another cloud-config at once")
}

// A kubelet that writes ever new addresses of a pool into its Node makes a bounded number of lines.
func TestFault_K1_8_DoubtsAreBounded(t *testing.T) {
	d := &linter{told: map[string]bool{}}
	told := 0
	for round := range 10 {
		var doubts []string
		for i := range 100 {
			doubts = append(doubts, fmt.Sprint("address ", 100*round+i))
		}
		told += len(d.newWarnings(doubts))
		require.Empty(t, d.newWarnings(doubts[:1]), "each once")
	}
	require.Equal(t, lintLimit+1, told)
	require.Len(t, d.told, lintLimit+1)
}
