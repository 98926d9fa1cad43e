package cloud

import (
	"log/slog"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	corelisters "k8s.io/client-go/listers/core/v1"
	"k8s.io/client-go/tools/cache"
	"k8s.io/client-go/tools/record"

	"baremetal.cloud/ccm/pkg/cloud/config"
	"baremetal.cloud/ccm/pkg/loadbalancer"
)

// What a node's labels make of a peer is told once on the Node, again when it is another thing,
// and by the leader only. No label at all is nothing to tell.
func TestInvalidPeersAreTold(t *testing.T) {
	cfg, _, err := config.Parse([]byte(`apiVersion: baremetal.cloud/v1alpha1
kind: CloudConfig
pools: [{name: a, addresses: [192.0.2.0/24], bgp: [{}]}]
bgp: {peers: [{name: tor, address: "10.0.{label:rack}.1", localASN: 64512, peerASN: "{label:asn}"}]}
`), "c.yaml")
	require.NoError(t, err)
	recorder := record.NewFakeRecorder(10)
	p := &Provider{core: newCore(time.Now, func(...string) {}), recorder: recorder}
	p.options.Logger = slog.New(slog.DiscardHandler)
	p.listers.nodes = corelisters.NewNodeLister(cache.NewIndexer(cache.MetaNamespaceKeyFunc, nil))
	require.NoError(t, p.core.setConfig(coreConfig(cfg)))
	var told []loadbalancer.InvalidPeer
	events := func() []string {
		told = p.tellInvalidPeers(told)
		var out []string
		for len(recorder.Events) > 0 {
			out = append(out, <-recorder.Events)
		}
		return out
	}
	label := func(labels map[string]string) {
		n := &corev1.Node{}
		n.Name, n.Labels = "node1", labels
		p.core.setNode(nodeOf(n))
	}
	label(map[string]string{"rack": "7", "asn": "none"})
	require.Empty(t, events(), "a standby tells nothing")
	p.publishing.Store(true)
	require.Equal(t, []string{`Warning NodeLabelInvalid BGP peer tor: the labels make the peerASN {label:asn} "none", which is no AS's number`}, events())
	require.Empty(t, events())
	label(map[string]string{"rack": "7"})
	require.Equal(t, []string{`Warning NodeLabelInvalid BGP peer tor: the node has the labels that the peer is made from but for asn`}, events())
	label(nil)
	require.Equal(t, []string{`Normal NodeLabelValid BGP peer tor: the node's labels are not in its way any longer`}, events(), "a Normal Event ends what a Warning began")
	label(map[string]string{"rack": "7", "asn": "64513"})
	require.Empty(t, events())
	label(map[string]string{"rack": "7"})
	require.Len(t, events(), 1, "it was well meanwhile")
}
