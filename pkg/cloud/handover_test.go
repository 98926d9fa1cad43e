package cloud

import (
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	clienttesting "k8s.io/client-go/testing"

	"baremetal.cloud/ccm/pkg/reason"
)

// gate keeps the status of one Service from being written.
type gate struct {
	mu     sync.Mutex
	closed string
}

func (g *gate) react(action clienttesting.Action) (bool, runtime.Object, error) {
	patch, ok := action.(clienttesting.PatchAction)
	g.mu.Lock()
	defer g.mu.Unlock()
	switch {
	case !ok:
		return false, nil, nil
	case patch.GetName() == g.closed:
		return true, nil, errors.New("the gate is closed")
	}
	return false, nil, nil
}

func (g *gate) close(name string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.closed = name
}

// An address that changes hands leaves the one status before it enters the other: a
// leader that ends in between must not leave it in both.
func TestAddressLeavesOneStatusBeforeItEntersAnother(t *testing.T) {
	c := start(t)
	g := &gate{}
	c.react("patch", "services", g.react)
	require.NoError(t, c.create(loadBalancer("web")))
	c.published("web", "10.0.0.0")

	g.close("web")
	svc := c.service("web")
	svc.Annotations = map[string]string{AnnotationAddresses: "10.0.0.3"}
	_, err := c.client.CoreV1().Services("default").Update(t.Context(), svc, metav1.UpdateOptions{})
	require.NoError(t, err)
	require.Eventually(t, func() bool { return c.p.core.isLingering("uid-web") }, waitAtMost, time.Millisecond)

	heir := loadBalancer("heir", func(svc *corev1.Service) { svc.Annotations[AnnotationAddresses] = "10.0.0.0" })
	require.ErrorContains(t, c.create(heir), "is still in the status of Service default/web")
	c.says("heir", ConditionAllocated, reason.AddressInUse)
	require.Empty(t, publishedAddresses(c.service("heir")))

	g.close("")
	c.published("heir", "10.0.0.0")
	c.published("web", "10.0.0.3")
}
