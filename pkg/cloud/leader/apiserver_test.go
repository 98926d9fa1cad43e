package leader

import (
	"context"
	"errors"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	coordinationv1 "k8s.io/api/coordination/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	coordinationclient "k8s.io/client-go/kubernetes/typed/coordination/v1"
	coordinationfake "k8s.io/client-go/kubernetes/typed/coordination/v1/fake"
	clienttesting "k8s.io/client-go/testing"
	"k8s.io/utils/ptr"
)

// apiServer keeps one Lease as the API server does: with a UID, and a resourceVersion
// that every update must name (client-go's own fake does not check it).
type apiServer struct {
	mu      sync.Mutex
	lease   *coordinationv1.Lease
	version int
	down    bool
	// holders are the identities that ever held the Lease, in order, each once in a row.
	holders []string
	// meanwhile, if set, runs once just before the next update is judged.
	meanwhile func(*coordinationv1.Lease)
}

var errDown = errors.New("connection refused")

func (s *apiServer) client() coordinationclient.LeasesGetter {
	fake := &clienttesting.Fake{}
	fake.AddReactor("*", "leases", s.react)
	return &coordinationfake.FakeCoordinationV1{Fake: fake}
}

func (s *apiServer) react(action clienttesting.Action) (bool, runtime.Object, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.down {
		return true, nil, errDown
	}
	resource := action.GetResource().GroupResource()
	switch action := action.(type) {
	case clienttesting.CreateAction:
		lease := action.GetObject().(*coordinationv1.Lease)
		if action.GetVerb() == "update" {
			return s.update(resource.String(), lease)
		}
		if s.lease != nil {
			return true, nil, apierrors.NewAlreadyExists(resource, lease.Name)
		}
		s.version++
		lease = lease.DeepCopy()
		lease.UID = types.UID("uid-" + strconv.Itoa(s.version))
		s.store(lease)
		return true, s.lease.DeepCopy(), nil
	case clienttesting.GetAction:
		if s.lease == nil {
			return true, nil, apierrors.NewNotFound(resource, action.GetName())
		}
		return true, s.lease.DeepCopy(), nil
	}
	return false, nil, nil
}

func (s *apiServer) update(_ string, lease *coordinationv1.Lease) (bool, runtime.Object, error) {
	resource := coordinationv1.Resource("leases")
	if s.lease == nil {
		return true, nil, apierrors.NewNotFound(resource, lease.Name)
	}
	if s.meanwhile != nil {
		edited := s.lease.DeepCopy()
		s.meanwhile(edited)
		s.meanwhile = nil
		s.store(edited)
	}
	if lease.ResourceVersion != s.lease.ResourceVersion {
		return true, nil, apierrors.NewConflict(resource, lease.Name, errors.New("the object has been modified"))
	}
	s.store(lease.DeepCopy())
	return true, s.lease.DeepCopy(), nil
}

func (s *apiServer) store(lease *coordinationv1.Lease) {
	s.version++
	lease.ResourceVersion = strconv.Itoa(s.version)
	s.lease = lease
	holder := ptr.Deref(lease.Spec.HolderIdentity, "")
	if len(s.holders) == 0 || s.holders[len(s.holders)-1] != holder {
		s.holders = append(s.holders, holder)
	}
}

// setDown stops and restarts answering.
func (s *apiServer) setDown(down bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.down = down
}

// newAPIServer returns one that holds the Lease as the manifests ship it: without a holder.
func newAPIServer() *apiServer {
	s := &apiServer{}
	s.store(&coordinationv1.Lease{ObjectMeta: metav1.ObjectMeta{Name: "baremetal-ccm", Namespace: "baremetal-ccm", UID: "shipped"}})
	return s
}

// edit changes the Lease behind everybody's back.
func (s *apiServer) edit(change func(*coordinationv1.Lease)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	lease := s.lease.DeepCopy()
	change(lease)
	s.store(lease)
}

// remove deletes the Lease.
func (s *apiServer) remove() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.lease = nil
}

// now returns the Lease as it is.
func (s *apiServer) now() *coordinationv1.Lease {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.lease.DeepCopy()
}

func (s *apiServer) annotation() string { return s.now().Annotations[TermAnnotation] }

func (s *apiServer) holder() string { return ptr.Deref(s.now().Spec.HolderIdentity, "") }

// replica is an Elector that runs.
type replica struct {
	*Elector
	// slept is for how long the machine was suspended: only the boot clock saw it.
	slept atomic.Int64
	done  chan struct{}
	err   error
	stop  context.CancelFunc
}

// start runs a replica with the durations 10 s, 6 s, 1 s until the test ends.
func start(t *testing.T, s *apiServer, identity string, change ...func(*Options)) *replica {
	t.Helper()
	begin := time.Now()
	r := &replica{done: make(chan struct{})}
	options := Options{
		Leases: s.client(), Namespace: "baremetal-ccm", Name: "baremetal-ccm", Identity: identity, Elect: true,
		LeaseDuration: 10 * time.Second, RenewDeadline: 6 * time.Second, RetryPeriod: time.Second,
		Clock:  func() time.Duration { return time.Since(begin) + time.Duration(r.slept.Load()) },
		Logger: testLogger(t),
	}
	for _, f := range change {
		f(&options)
	}
	elector, err := New(options)
	require.NoError(t, err)
	r.Elector = elector
	ctx, cancel := context.WithCancel(t.Context())
	r.stop = cancel
	go func() {
		defer close(r.done)
		r.err = elector.Run(ctx)
	}()
	t.Cleanup(func() { cancel(); <-r.done })
	return r
}

// leads reports whether r leads and its fence is open.
func (r *replica) leads() bool { return r.Fence().Err() == nil }

// ended reports whether Run returned.
func (r *replica) ended() bool {
	select {
	case <-r.done:
		return true
	default:
		return false
	}
}
