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
		"healthy":                     {time.Hour, allocated, announced, []string{"Normal Allocated m", "Normal Announced m"}},
		"refused":                     {time.Hour, verdict(false, reason.PoolExhausted), verdict(false, reason.NothingAllocated), []string{"Warning PoolExhausted m"}},
		"outside the pools":           {time.Hour, verdict(true, reason.AddressOutsidePools), verdict(false, reason.AddressOutsidePools), []string{"Warning AddressOutsidePools m"}},
		"clashing":                    {time.Hour, verdict(true, reason.SharingClash), announced, []string{"Warning SharingClash m", "Normal Announced m"}},
		"old, without endpoints":      {time.Hour, allocated, verdict(false, reason.NoEndpoints), []string{"Normal Allocated m"}},
		"new, its endpoints are made": {time.Second, allocated, verdict(false, reason.NoEndpoints), []string{"Normal Allocated m"}},
	} {
		t.Run(name, func(t *testing.T) {
			var s eventDedup
			now := time.Now()
			recorder := record.NewFakeRecorder(10)
			svc := loadBalancer("web", func(svc *corev1.Service) { svc.CreationTimestamp = metav1.NewTime(now.Add(-c.age)) })
			status := loadbalancer.Status{Allocated: c.allocated, Announced: c.announced}
			wait := s.emitEvents(recorder, svc, status, now)
			require.Equal(t, c.want, drain(recorder))
			require.Zero(t, s.emitEvents(recorder, svc, status, now.Add(wait)), "everything is told by then")
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
		var s eventDedup
		svc := loadBalancer("web")
		setCondition(svc, ConditionAnnounced, verdict(before == reason.Announced, before), metav1.NewTime(now))
		status := loadbalancer.Status{Announced: verdict(false, reason.WaitingForAnnouncer)}
		wait := s.waitHandover(svc, &status, now)
		require.Equal(t, want, status.Announced.Reason)
		require.Equal(t, before == reason.Announced, status.Announced.OK)
		status.Announced = verdict(false, reason.WaitingForAnnouncer)
		require.Zero(t, s.waitHandover(svc, &status, now.Add(wait)))
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
		"silent, elsewhere": {[]loadbalancer.Verdict{announced, none, announced}, []string{"node1", "", "node2"}, []string{"Normal Announced node node1 answers for 10.0.0.1", "Warning NoEndpoints m", "Normal Announced m"}},
	} {
		t.Run(name, func(t *testing.T) {
			s, recorder := eventDedup{}, record.NewFakeRecorder(10)
			now := time.Now()
			for i, v := range c.verdicts {
				now = now.Add(bareGrace) // an absence that lasts is told
				status := loadbalancer.Status{Allocated: verdict(true, reason.Allocated), Announced: v, Held: []ipam.Assignment{{Address: address}}}
				if c.nodes[i] != "" {
					status.Owners = map[netip.Addr]string{address: c.nodes[i]}
				}
				s.emitEvents(recorder, loadBalancer("web"), status, now)
				s.emitEvents(recorder, loadBalancer("web"), status, now.Add(bareGrace))
			}
			require.Equal(t, append([]string{"Normal Allocated m"}, c.want...), drain(recorder))
		})
	}
}

// TestFault_K6_3_StartingIsNoWarning: a Service whose Pods take a while to start gets no Warning,
// and one that is without for long gets one, which a Normal Event ends.
func TestFault_K6_3_StartingIsNoWarning(t *testing.T) {
	none, announced := verdict(false, reason.NoEndpoints), verdict(true, reason.Announced)
	address := netip.MustParseAddr("10.0.0.1")
	born := time.Now()
	svc := loadBalancer("web", func(svc *corev1.Service) { svc.CreationTimestamp = metav1.NewTime(born) })
	s, recorder := eventDedup{}, record.NewFakeRecorder(10)
	tell := func(v loadbalancer.Verdict, at time.Duration) time.Duration {
		status := loadbalancer.Status{Allocated: verdict(true, reason.Allocated), Announced: v, Held: []ipam.Assignment{{Address: address}}}
		if v.OK {
			status.Owners = map[netip.Addr]string{address: "node1"}
		}
		return s.emitEvents(recorder, svc, status, born.Add(at))
	}
	require.Equal(t, startGrace-2*time.Second, tell(none, 2*time.Second))
	tell(announced, 3*time.Second)
	require.Equal(t, []string{"Normal Allocated m", "Normal Announced node node1 answers for 10.0.0.1"}, drain(recorder), "its Pods took 2 s to start")

	require.Equal(t, bareGrace, tell(none, time.Minute))
	tell(announced, time.Minute+bareGrace-1)
	require.Empty(t, drain(recorder), "its only Pod was replaced")
	tell(none, 2*time.Minute)
	tell(none, 2*time.Minute+bareGrace)
	tell(announced, 3*time.Minute)
	require.Equal(t, []string{"Warning NoEndpoints m", "Normal Announced node node1 answers for 10.0.0.1"}, drain(recorder))
}

// TestFault_K6_3_NormalEndsWarning: after whatever a Warning told of, by BGP too, a Normal Event
// tells that all is well.
func TestFault_K6_3_NormalEndsWarning(t *testing.T) {
	address := netip.MustParseAddr("10.0.0.1")
	for name, c := range map[string]struct {
		bad  loadbalancer.Verdict
		node string
	}{
		"no node on layer 2":  {verdict(false, reason.NoEligibleNode), "node1"},
		"another machine":     {verdict(true, reason.AddressConflict), "node1"},
		"no router hears":     {verdict(false, reason.NoBGPSession), ""},
		"status is contested": {verdict(true, reason.StatusContested), "node1"},
	} {
		t.Run(name, func(t *testing.T) {
			s, recorder := eventDedup{}, record.NewFakeRecorder(10)
			tell := func(v loadbalancer.Verdict) {
				status := loadbalancer.Status{Allocated: verdict(true, reason.Allocated), Announced: v, Held: []ipam.Assignment{{Address: address}}}
				if c.node != "" && v.OK {
					status.Owners = map[netip.Addr]string{address: c.node}
				}
				s.emitEvents(recorder, loadBalancer("web"), status, time.Now())
			}
			tell(verdict(true, reason.Announced))
			first := drain(recorder)
			require.Contains(t, first[len(first)-1], "Normal Announced", "also by BGP")
			tell(c.bad)
			drain(recorder)
			tell(verdict(true, reason.Announced))
			require.Len(t, drain(recorder), 1, "a Normal Event ends it")
			tell(verdict(true, reason.Announced))
			require.Empty(t, drain(recorder))
		})
	}
}

// TestFault_K6_3_LeaderChangeEndsWarning: the Warning of a leader before is ended by the next one.
func TestFault_K6_3_LeaderChangeEndsWarning(t *testing.T) {
	svc := loadBalancer("web")
	setCondition(svc, ConditionAllocated, verdict(true, reason.Allocated), metav1.Now())
	setCondition(svc, ConditionAnnounced, verdict(false, reason.NoBGPSession), metav1.Now())
	s, recorder := eventDedup{}, record.NewFakeRecorder(10)
	s.emitEvents(recorder, svc, loadbalancer.Status{Allocated: verdict(true, reason.Allocated), Announced: verdict(true, reason.Announced)}, time.Now())
	require.Equal(t, []string{"Normal Announced m"}, drain(recorder))
}
