package history

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"sync"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"
)

// Names of what is recorded beside Services.
const (
	namespace = "baremetal-ccm"
	lastGood  = "baremetal-cloud-config-last-good"
	leaseName = "baremetal-ccm"
	configKey = "cloud-config.yaml"
)

// Recorder writes down what the API server says, from before the first action of a test.
type Recorder struct {
	client kubernetes.Interface
	ready  sync.WaitGroup

	mu sync.Mutex
	// changes is guarded by mu, and so is everything below.
	changes []Change
	// living are the Services that exist as far as is known.
	living map[types.UID]Change
	leader string
	config string
	// listedBefore says that Services have been listed once.
	listedBefore bool
}

// NewRecorder returns a Recorder that does nothing until Run.
func NewRecorder(client kubernetes.Interface) *Recorder {
	r := &Recorder{client: client, living: map[types.UID]Change{}}
	r.ready.Add(3)
	return r
}

// Run records until ctx ends. It outlives outages of the API server.
func (r *Recorder) Run(ctx context.Context) {
	var group sync.WaitGroup
	for _, f := range []*follower{
		{source: r.services(), changed: r.service, listed: r.relisted},
		{source: r.leases(), changed: r.lease},
		{source: r.configs(), changed: r.configMap},
	} {
		group.Go(func() { f.run(ctx, r.ready.Done) })
	}
	group.Wait()
}

// WaitReady waits until everything that exists has been written down.
func (r *Recorder) WaitReady() { r.ready.Wait() }

// Note writes down what the test does, for the timeline.
func (r *Recorder) Note(format string, args ...any) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.changes = append(r.changes, Change{At: time.Now(), Note: fmt.Sprintf(format, args...)})
}

// History returns what was recorded so far.
func (r *Recorder) History() History {
	r.mu.Lock()
	defer r.mu.Unlock()
	return order(slices.Clone(r.changes))
}

func (r *Recorder) add(c Change) {
	c.At = time.Now()
	r.changes = append(r.changes, c)
}

// service takes down a version of a Service, or its end.
func (r *Recorder) service(object any, revision uint64, gone bool) {
	svc, ok := object.(*corev1.Service)
	if !ok {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if known, ok := r.living[svc.UID]; ok && known.Revision >= revision {
		return // listed anew, unchanged
	}
	c := Change{Revision: revision, Service: NewService(svc), Gone: gone}
	r.add(c)
	if gone {
		delete(r.living, svc.UID)
		return
	}
	r.living[svc.UID] = c
}

// relisted takes down who is gone, after a watch could not be resumed where it ended.
func (r *Recorder) relisted(present map[types.UID]bool, revision uint64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.listedBefore {
		r.changes = append(r.changes, Change{At: time.Now(), Note: fmt.Sprintf("listed anew at revision %d: what was written and not seen before the watch ended is missing", revision)})
	}
	r.listedBefore = true
	for _, uid := range slices.Sorted(maps.Keys(r.living)) {
		if c := r.living[uid]; !present[uid] {
			r.add(Change{Revision: revision, Service: c.Service, Gone: true})
			delete(r.living, uid)
		}
	}
}

func (r *Recorder) lease(object any, revision uint64, gone bool) {
	lease, ok := object.(*coordinationv1.Lease)
	if !ok {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	holder := ""
	if !gone && lease.Spec.HolderIdentity != nil {
		holder = *lease.Spec.HolderIdentity
	}
	if holder == r.leader {
		return // a renewal
	}
	r.leader = holder
	r.add(Change{Revision: revision, Leader: &holder})
}

func (r *Recorder) configMap(object any, revision uint64, gone bool) {
	configMap, ok := object.(*corev1.ConfigMap)
	if !ok || gone {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if text := configMap.Data[configKey]; text != "" && text != r.config {
		r.config = text
		r.add(Change{Revision: revision, Config: NewConfig(text)})
	}
}

func revisionOf(text string) uint64 {
	n, err := strconv.ParseUint(text, 10, 64)
	if err != nil {
		return 0 // the API server promises numbers since 1.35 (KEP-5504)
	}
	return n
}
