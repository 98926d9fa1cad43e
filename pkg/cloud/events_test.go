package cloud

import (
	"net/netip"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/tools/record"

	"baremetal.cloud/ccm/pkg/ipam"
	"baremetal.cloud/ccm/pkg/loadbalancer"
	"baremetal.cloud/ccm/pkg/reason"
)

func verdict(ok bool, r reason.Reason) loadbalancer.Verdict {
	return loadbalancer.Verdict{OK: ok, Reason: r, Message: "m"}
}

// What is told of a Service, by what becomes of it.
func TestEvents(t *testing.T) {
	allocated, announced := verdict(true, reason.Allocated), verdict(true, reason.Announced)
	for name, c := range map[string]struct {
		age                  time.Duration
		allocated, announced loadbalancer.Verdict
		want                 []string
	}{
		"healthy":                     {time.Hour, allocated, announced, []string{"Normal Allocated m"}},
		"refused":                     {time.Hour, verdict(false, reason.PoolExhausted), verdict(false, reason.NothingAllocated), []string{"Warning PoolExhausted m"}},
		"outside the pools":           {time.Hour, verdict(true, reason.AddressOutsidePools), verdict(false, reason.AddressOutsidePools), []string{"Warning AddressOutsidePools m"}},
		"clashing":                    {time.Hour, verdict(true, reason.SharingClash), announced, []string{"Warning SharingClash m"}},
		"without endpoints":           {time.Hour, allocated, verdict(false, reason.NoEndpoints), []string{"Normal Allocated m", "Warning NoEndpoints m"}},
		"new, its endpoints are made": {time.Second, allocated, verdict(false, reason.NoEndpoints), []string{"Normal Allocated m"}},
	} {
		t.Run(name, func(t *testing.T) {
			var s sayings
			now := time.Now()
			recorder := record.NewFakeRecorder(10)
			svc := loadBalancer("web", func(svc *corev1.Service) { svc.CreationTimestamp = metav1.NewTime(now.Add(-c.age)) })
			status := loadbalancer.Status{Allocated: c.allocated, Announced: c.announced}
			wait := s.tell(recorder, svc, status, now)
			require.Equal(t, c.want, drain(recorder))
			require.Zero(t, s.tell(recorder, svc, status, now.Add(wait)), "everything is told by then")
			if wait > 0 {
				require.Equal(t, []string{"Warning NoEndpoints m"}, drain(recorder))
			}
			require.Empty(t, drain(recorder), "nothing twice")
		})
	}
}

func drain(recorder *record.FakeRecorder) []string {
	var out []string
	for {
		select {
		case e := <-recorder.Events:
			out = append(out, e)
		default:
			return out
		}
	}
}

// A condition that says more than that something is waited for stays until it is clear what
// becomes of the address: a new leader has not decided yet.
func TestHesitation(t *testing.T) {
	now := time.Now()
	for before, want := range map[reason.Reason]reason.Reason{
		reason.Announced:           reason.Announced,
		reason.NoEndpoints:         reason.NoEndpoints,
		reason.WaitingForAnnouncer: reason.WaitingForAnnouncer,
		reason.NothingAllocated:    reason.WaitingForAnnouncer,
	} {
		var s sayings
		svc := loadBalancer("web")
		setCondition(svc, ConditionAnnounced, verdict(before == reason.Announced, before), metav1.NewTime(now))
		status := loadbalancer.Status{Announced: verdict(false, reason.WaitingForAnnouncer)}
		wait := s.hesitate(svc, &status, now)
		require.Equal(t, want, status.Announced.Reason)
		require.Equal(t, before == reason.Announced, status.Announced.OK)
		status.Announced = verdict(false, reason.WaitingForAnnouncer)
		require.Zero(t, s.hesitate(svc, &status, now.Add(wait)))
		require.Equal(t, reason.WaitingForAnnouncer, status.Announced.Reason, "not for ever")
	}
}

// Who answers is told when it is the first, and again after it was told that nobody does. A
// move to another node is not told here.
func TestAnswersAreToldAgainAfterSilence(t *testing.T) {
	address := netip.MustParseAddr("10.0.0.1")
	waits, none, announced := verdict(false, reason.WaitingForAnnouncer), verdict(false, reason.NoEndpoints), verdict(true, reason.Announced)
	for name, c := range map[string]struct {
		verdicts []loadbalancer.Verdict
		nodes    []string
		want     []string
	}{
		"first":             {[]loadbalancer.Verdict{waits, announced, announced}, []string{"", "node1", "node1"}, []string{"Normal WaitingForAnnouncer m", "Normal Announced node node1 answers for 10.0.0.1"}},
		"moved":             {[]loadbalancer.Verdict{announced, announced}, []string{"node1", "node2"}, []string{"Normal Announced node node1 answers for 10.0.0.1"}},
		"silent, back":      {[]loadbalancer.Verdict{announced, none, announced}, []string{"node1", "", "node1"}, []string{"Normal Announced node node1 answers for 10.0.0.1", "Warning NoEndpoints m", "Normal Announced node node1 answers for 10.0.0.1"}},
		"silent, elsewhere": {[]loadbalancer.Verdict{announced, none, announced}, []string{"node1", "", "node2"}, []string{"Normal Announced node node1 answers for 10.0.0.1", "Warning NoEndpoints m"}},
	} {
		t.Run(name, func(t *testing.T) {
			s, recorder := sayings{}, record.NewFakeRecorder(10)
			for i, v := range c.verdicts {
				status := loadbalancer.Status{Allocated: verdict(true, reason.Allocated), Announced: v, Held: []ipam.Assignment{{Address: address}}}
				if c.nodes[i] != "" {
					status.Answering = map[netip.Addr]string{address: c.nodes[i]}
				}
				s.tell(recorder, loadBalancer("web"), status, time.Now())
			}
			require.Equal(t, append([]string{"Normal Allocated m"}, c.want...), drain(recorder))
		})
	}
}
