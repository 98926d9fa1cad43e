package status_test

import (
	"context"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil/promlint"
	"github.com/stretchr/testify/require"

	"baremetal.cloud/ccm/pkg/announcer"
	"baremetal.cloud/ccm/pkg/announcer/bgp"
	"baremetal.cloud/ccm/pkg/announcer/failover"
	"baremetal.cloud/ccm/pkg/announcer/l2/responder"
	"baremetal.cloud/ccm/pkg/announcer/plan"
	"baremetal.cloud/ccm/pkg/announcer/status"
	"baremetal.cloud/ccm/pkg/reason"
)

var since = time.Date(2026, 11, 1, 12, 0, 0, 0, time.UTC)

func busy() announcer.Status {
	arp := responder.Counts{Announced: 10, Failed: 1}
	arp.Outcomes[responder.Answered], arp.Outcomes[responder.BadSender] = 7, 2
	return announcer.Status{
		Started: true,
		Plan:    plan.Version{Term: 3, Revision: 17},
		Claims:  plan.NewIndex(announcer.Claim{Address: netip.MustParseAddr("192.0.2.1"), Interfaces: "eth0", Since: since}),
		Problems: []plan.Problem{
			{Address: netip.MustParseAddr("192.0.2.2"), Reason: reason.SocketFailed, Message: "no"},
		},
		Backup:        4,
		Working:       true,
		Written:       8,
		Unwritten:     2,
		Peers:         [3]int{failover.Unknown: 3, failover.Up: 2, failover.Down: 1},
		ClaimsStarted: map[string]uint64{"takeover": 5}, ClaimsEnded: map[string]uint64{"moved": 3},
		Found:      2,
		Conflicts:  announcer.ConflictCounts{Probed: 40, Claimed: 9, Defended: 3},
		Sent:       100,
		Unsent:     6,
		Dropped:    map[string]uint64{"forged": 7},
		Streams:    []announcer.Stream{{Replica: "10.0.0.1:10270", Up: true, Since: since}, {Replica: "10.0.0.2:10270", Since: since}},
		Refused:    map[string]uint64{"stale": 5},
		Responders: map[string]responder.Counts{"ipv4": arp, "ipv6": {}},
		BGP: bgp.State{Failures: 2, Sessions: []bgp.Session{
			{BGPSession: plan.BGPSession{Peer: "tor-a", State: plan.BGPEstablished, IPv4: true, BFD: plan.BFDUp}, Routes: 12, Received: 3, Losses: 1, BFDFailures: 4},
			{BGPSession: plan.BGPSession{Peer: "tor-b", State: plan.BGPActive, Reason: reason.PeerUnreachable, Message: "refused"}},
		}},
	}
}

func get(t *testing.T, s announcer.Status, path string) (int, string) {
	t.Helper()
	handler, err := status.NewHandler(func() announcer.Status { return s }, status.Process{Version: "v1", Threads: []status.Thread{
		{Name: "announcer", Classes: []string{"normal", "deadline"}, Class: func() string { return "deadline" }},
	}, LogLinesLost: func() uint64 { return 7 }})
	require.NoError(t, err)
	recorder := httptest.NewRecorder()
	handler.ServeHTTP(recorder, httptest.NewRequest(http.MethodGet, path, nil))
	return recorder.Code, recorder.Body.String()
}

func TestHealth(t *testing.T) {
	code, text := get(t, announcer.Status{}, "/healthz")
	require.Equal(t, http.StatusServiceUnavailable, code)
	require.Equal(t, "starting: the network interfaces are not known yet\n", text)

	code, text = get(t, announcer.Status{Started: true}, "/healthz")
	require.Equal(t, http.StatusOK, code, "a node that nobody has told anything is well")
	require.Equal(t, "ok\nplan: none yet\naddresses: 0 answered, 0 with a problem, 0 answered by others\npeers: 0 up, 0 down, 0 never heard\nstreams: none yet\n", text)

	for _, waiting := range []announcer.Status{{}, {Started: true}} {
		code, text = get(t, waiting, "/readyz")
		require.Equal(t, http.StatusServiceUnavailable, code)
		require.NotEmpty(t, text)
	}
	code, text = get(t, busy(), "/readyz")
	require.Equal(t, http.StatusOK, code)
	require.Contains(t, text, "ok\nplan: 3.17\n")

	kept := announcer.Status{Started: true, Persisted: true, Plan: plan.Version{Term: 3, Revision: 17}}
	_, text = get(t, kept, "/healthz")
	require.Contains(t, text, "plan: 3.17, kept on disk; no leader has confirmed it yet\n")
	_, text = get(t, kept, "/metrics")
	require.Contains(t, text, "baremetal_announcer_plan_kept 1\n")

	code, text = get(t, busy(), "/healthz")
	require.Equal(t, http.StatusOK, code, "a lost stream is no illness")
	require.Equal(t, `ok
plan: 3.17
addresses: 1 answered, 1 with a problem, 4 answered by others
peers: 2 up, 1 down, 3 never heard
BGP session to tor-a: established, 12 routes told; BFD up
BGP session to tor-b: active: PeerUnreachable: refused
stream to 10.0.0.1:10270: up since 2026-11-01T12:00:00Z
stream to 10.0.0.2:10270: down since 2026-11-01T12:00:00Z
`, text)
}

// TestFault_K2_10_HungCoreFailsLiveness: an announcer whose loop goes on no longer is ended by its
// kubelet, however well it knows its interfaces.
func TestFault_K2_10_HungCoreFailsLiveness(t *testing.T) {
	hung := busy()
	hung.Busy = 11 * time.Second
	for _, path := range []string{"/healthz", "/readyz"} {
		code, text := get(t, hung, path)
		require.Equal(t, http.StatusServiceUnavailable, code)
		require.Equal(t, "hung: the announcer has been at one turn of its loop for 11s\n", text)
	}
	hung.Busy = 5 * time.Second
	code, _ := get(t, hung, "/healthz")
	require.Equal(t, http.StatusOK, code, "a long turn is no illness yet")
}

func TestMetrics(t *testing.T) {
	code, text := get(t, busy(), "/metrics")
	require.Equal(t, http.StatusOK, code)
	for _, line := range []string{
		`baremetal_announcer_plan_term 3`,
		`baremetal_announcer_plan_revision 17`,
		`baremetal_announcer_plan_kept 0`,
		`baremetal_announcer_kube_proxy_working 1`,
		`baremetal_announcer_kube_proxy_unhealthy 0`,
		`baremetal_announcer_scheduling{class="deadline",thread="announcer"} 1`,
		`baremetal_announcer_scheduling{class="normal",thread="announcer"} 0`,
		`baremetal_announcer_plan_writes_total{result="success"} 8`,
		`baremetal_announcer_plan_writes_total{result="failure"} 2`,
		`baremetal_announcer_plans_refused_total{cause="stale"} 5`,
		`baremetal_announcer_plans_refused_total{cause="foreign"} 0`,
		`baremetal_announcer_addresses{state="claimed"} 1`,
		`baremetal_announcer_addresses{state="planned"} 4`,
		`baremetal_announcer_peers{state="unknown"} 3`,
		`baremetal_announcer_peers{state="up"} 2`,
		`baremetal_announcer_peers{state="down"} 1`,
		`baremetal_announcer_claims_started_total{cause="takeover"} 5`,
		`baremetal_announcer_claims_started_total{cause="plan"} 0`,
		`baremetal_announcer_claims_ended_total{cause="moved"} 3`,
		`baremetal_announcer_probes_total 40`,
		`baremetal_announcer_conflicts 2`,
		`baremetal_announcer_conflicting_claims_total 9`,
		`baremetal_announcer_defences_total 3`,
		`baremetal_announcer_heartbeats_sent_total 100`,
		`baremetal_announcer_heartbeats_send_failures_total 6`,
		`baremetal_announcer_heartbeats_dropped_total{cause="forged"} 7`,
		`baremetal_announcer_heartbeats_dropped_total{cause="replayed"} 0`,
		`baremetal_announcer_addresses{state="problem"} 1`,
		`baremetal_announcer_claim_start_timestamp_seconds{address="192.0.2.1",interfaces="eth0"} 1.7935344e+09`,
		`baremetal_announcer_requests_answered_total{family="ipv4"} 7`,
		`baremetal_announcer_requests_ignored_total{family="ipv4",reason="bad_sender"} 2`,
		`baremetal_announcer_requests_ignored_total{family="ipv6",reason="not_ours"} 0`,
		`baremetal_announcer_unsolicited_sent_total{family="ipv4"} 10`,
		`baremetal_announcer_send_failures_total{family="ipv4"} 1`,
		`baremetal_announcer_bgp_session{peer="tor-a",state="established"} 1`,
		`baremetal_announcer_bgp_session{peer="tor-a",state="idle"} 0`,
		`baremetal_announcer_bgp_session{peer="tor-b",state="active"} 1`,
		`baremetal_announcer_bgp_session_problem{peer="tor-b",reason="PeerUnreachable"} 1`,
		`baremetal_announcer_bfd_session_up{peer="tor-a"} 1`,
		`baremetal_announcer_bfd_failures_total{peer="tor-a"} 4`,
		`baremetal_announcer_bgp_session_losses_total{peer="tor-a"} 1`,
		`baremetal_announcer_bgp_routes_sent{peer="tor-a"} 12`,
		`baremetal_announcer_bgp_routes_received{peer="tor-a"} 3`,
		`baremetal_announcer_bgp_process_failures_total 2`,
		`baremetal_announcer_control_stream_up{replica="10.0.0.1:10270"} 1`,
		`baremetal_announcer_control_stream_up{replica="10.0.0.2:10270"} 0`,
	} {
		require.Contains(t, text, "\n"+line+"\n")
	}
	require.Contains(t, text, `baremetal_announcer_build_info{goversion="go`)
	require.Contains(t, text, "baremetal_announcer_log_lines_lost_total 7\n")
	require.NotContains(t, text, `reason="answered"`)
}

// TestMetricsLint holds all of them to the conventions of Prometheus.
func TestMetricsLint(t *testing.T) {
	_, text := get(t, busy(), "/metrics")
	var ours []string
	for line := range strings.Lines(text) {
		if strings.Contains(line, "baremetal_") {
			ours = append(ours, line)
		}
	}
	problems, err := promlint.New(strings.NewReader(strings.Join(ours, ""))).Lint()
	require.NoError(t, err)
	require.Empty(t, problems)
}

func TestServeEndsWithItsContext(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	handler, err := status.NewHandler(busy, status.Process{})
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error)
	go func() { ended <- status.Serve(ctx, listener, handler) }()
	response, err := http.Get("http://" + listener.Addr().String() + "/healthz")
	require.NoError(t, err)
	body, err := io.ReadAll(response.Body)
	require.NoError(t, err)
	require.NoError(t, response.Body.Close())
	require.Contains(t, string(body), "ok\n")
	cancel()
	require.NoError(t, <-ended)
	require.ErrorIs(t, listener.Close(), net.ErrClosed)
}

// TestFault_K6_3_ReadinessWaitsForTheFirstPlan: a probe that comes while the first leader begins is
// answered as soon as there is a plan, and fails only when its time is over.
func TestFault_K6_3_ReadinessWaitsForTheFirstPlan(t *testing.T) {
	var now atomic.Pointer[announcer.Status]
	now.Store(&announcer.Status{})
	looks := make(chan struct{}, 1)
	handler, err := status.NewHandler(func() announcer.Status {
		select {
		case looks <- struct{}{}:
		default:
		}
		return *now.Load()
	}, status.Process{})
	require.NoError(t, err)
	ask := func(ctx context.Context, path string) <-chan int {
		code := make(chan int, 1)
		go func() {
			recorder := httptest.NewRecorder()
			handler.ServeHTTP(recorder, httptest.NewRequestWithContext(ctx, http.MethodGet, path, nil))
			code <- recorder.Code
		}()
		return code
	}
	require.Equal(t, http.StatusServiceUnavailable, <-ask(t.Context(), "/readyz"), "at once")
	require.Equal(t, http.StatusServiceUnavailable, <-ask(t.Context(), "/readyz?wait=1ms"))
	require.Equal(t, http.StatusServiceUnavailable, <-ask(t.Context(), "/readyz?wait=soon"))

	gone, leave := context.WithCancel(t.Context())
	code := ask(gone, "/readyz?wait=8s")
	leave()
	<-code // nobody waits for the answer

	waiting := busy()
	waiting.Plan = plan.Version{}
	now.Store(&waiting)
	code = ask(t.Context(), "/readyz?wait=8s")
	<-looks
	<-looks
	there := busy()
	now.Store(&there)
	require.Equal(t, http.StatusOK, <-code)
}
