//go:build e2e

package e2e

import (
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"baremetal.cloud/ccm/test/e2e/history"
	"baremetal.cloud/ccm/test/e2e/testbed"
)

// randomBudget is how long random operations go on where nothing else is said.
const randomBudget = 40 * time.Second

// TestRandomOperations does random operations from a seed: Services are created, edited
// and deleted in three namespaces, pools grow and shrink, replicas of the CCM stop, die
// and come back meanwhile. After some operations nothing is done until a naive model has
// no objection to what everybody has; the whole way there is judged from the API server's
// watch history. DURATION and SEED are set by `make chaos`.
func TestRandomOperations(t *testing.T) {
	seed := uint64(time.Now().UnixNano()) % 1_000_000
	if text := os.Getenv("SEED"); text != "" {
		var err error
		seed, err = strconv.ParseUint(text, 10, 64)
		require.NoError(t, err, "SEED is a number")
	}
	budget := randomBudget
	if text := os.Getenv("DURATION"); text != "" {
		var err error
		budget, err = time.ParseDuration(text)
		require.NoError(t, err, "DURATION is one of Go's, like 10m")
	}
	t.Logf("seed %d, for %s; repeat with: make chaos SEED=%d DURATION=%s", seed, budget, seed, budget)

	r := &randomOperations{
		witness: up(t, testbed.Options{Nodes: 2, Proxy: "nftables", Mgmt: "lan"}).witness(),
		random:  rand.New(rand.NewPCG(seed, 0)),
		living:  map[string]bool{},
	}
	for _, name := range namespaces[1:] {
		_, err := r.client.CoreV1().Namespaces().Create(t.Context(), &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name}}, metav1.CreateOptions{})
		require.NoError(t, err)
	}
	r.reload()
	r.agreed()
	rounds := 0
	for end := time.Now().Add(budget); time.Now().Before(end); rounds++ {
		r.round(rounds)
	}
	t.Logf("%d rounds, %d operations, %d refused by the API server", rounds, r.operations, r.refused)
	require.Positive(t, rounds)
}

// randomOperations is a run of them. What it draws depends on the seed alone, not on how
// fast anything happens, so that a seed leads to the same operations again.
type randomOperations struct {
	*witness
	random *rand.Rand
	// living are the Services that were created and not deleted, by key.
	living map[string]bool
	// config is the cloud-config that was written last.
	config string
	// back are what a fault of this round is ended by.
	back                []func()
	operations, refused int
}

// round does some operations, with a fault on some of them, and waits for peace.
func (r *randomOperations) round(n int) {
	r.Helper()
	count := 10 + r.random.IntN(15)
	fault := r.fault()
	begin, end := r.random.IntN(count), r.random.IntN(count)
	for i := range count {
		if i == begin {
			fault()
		}
		r.operate()
		if i == max(begin, end) {
			r.recover()
		}
	}
	r.recover()
	r.note("round %d is over", n)
	r.agreed()
}

func (r *randomOperations) recover() {
	for _, f := range r.back {
		f()
	}
	r.back = nil
}

// fault draws what happens to the CCM in a round.
func (r *randomOperations) fault() func() {
	switch r.random.IntN(12) {
	case 0, 1, 2:
		return r.stopBoth
	case 3, 4:
		return r.stopLeader
	case 5:
		return r.killLeader
	}
	return func() {}
}

func (r *randomOperations) stopBoth() {
	r.note("both replicas are stopped")
	r.stop("ccm")
	r.back = append(r.back, func() { r.note("both replicas are started"); r.start("ccm") })
}

func (r *randomOperations) stopLeader() {
	node, _ := r.leading()
	r.note("the leader on %s is stopped", node)
	r.stop("ccm:" + node)
	r.back = append(r.back, func() { r.note("the replica on %s is started", node); r.start("ccm:" + node) })
}

func (r *randomOperations) killLeader() {
	node, pid := r.leading()
	r.note("SIGKILL to the leader on %s", node)
	r.signal(pid, syscall.SIGKILL)
}

// agreed waits until the leader uses the cloud-config that was written last, unless that
// would take away somebody's address, and until the model agrees with what everybody has.
func (r *randomOperations) agreed() {
	r.Helper()
	want := history.NewConfig(r.config)
	r.eventually(func(t *assert.CollectT) {
		h := r.recorder.History()
		used := h.Config()
		require.NotNil(t, used)
		if used.Text == r.config {
			return
		}
		require.NotEqual(t, "Reassign", string(want.OnShrink), "the leader does not use\n%s", r.config)
		require.NotEmpty(t, used.Strands(want, h.Services()), "the leader does not use, though nobody would lose an address by it,\n%s", r.config)
	}, "cloud-config")
	r.settled()
}

// key draws the key of a Service.
func (r *randomOperations) key() (namespace, name string) {
	return namespaces[r.random.IntN(len(namespaces))], fmt.Sprint("s", r.random.IntN(8))
}
