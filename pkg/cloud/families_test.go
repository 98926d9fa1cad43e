package cloud

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"baremetal.cloud/ccm/pkg/reason"
)

// Rows L2 and L3: the Pods have IPv4 addresses only, so nobody answers for the IPv6 address
// of the Service, and its condition says so, until there is an IPv6 endpoint.
func TestEachFamilyGoesByItsOwnEndpoints(t *testing.T) {
	c := start(t, endpointsFor("web"))
	require.NoError(t, c.create(loadBalancer("web", func(svc *corev1.Service) {
		svc.Spec.IPFamilies = []corev1.IPFamily{corev1.IPv4Protocol, corev1.IPv6Protocol}
	})))
	c.acknowledge("10.0.0.0")
	c.published("web", "10.0.0.0", "2001:db8::")
	c.says("web", ConditionAnnounced, reason.NoEndpoints)
	require.Contains(t, conditionOf(c.service("web"), ConditionAnnounced).Message, "2001:db8::")
	c.told("Announced: node node1 answers for 10.0.0.0")

	v6 := endpointsFor("web")
	v6.Name, v6.AddressType = "web-v6", discoveryv1.AddressTypeIPv6
	_, err := c.client.DiscoveryV1().EndpointSlices("default").Create(t.Context(), v6, metav1.CreateOptions{})
	require.NoError(t, err)
	c.acknowledge("10.0.0.0", "2001:db8::")
	c.says("web", ConditionAnnounced, reason.Announced)
	c.told("Announced: node node1 answers for 2001:db8::")
}

// told waits until there is that Event.
func (c *cluster) told(want string) {
	c.t.Helper()
	require.EventuallyWithT(c.t, func(t *assert.CollectT) {
		require.Contains(t, c.events(), want)
	}, waitAtMost, 5*time.Millisecond)
}
