package main

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"baremetal.cloud/ccm/pkg/cloud/config"
)

// What is quoted was made from the results that are kept, and by nobody's hand.
func TestDocumentQuotesTheResults(t *testing.T) {
	root := filepath.Join("..", "..")
	page, err := os.ReadFile(filepath.Join(root, document))
	require.NoError(t, err)
	all, err := readResults(filepath.Join(root, quotedResults))
	require.NoError(t, err)
	want, err := quote(string(page), all)
	require.NoError(t, err)
	require.Equal(t, want, string(page), "make bench QUOTE=yes writes it")
}

// The page begins with twelve rows, each with its figure, a row of the appendix and the heading of
// its result to go to.
func TestSummary(t *testing.T) {
	all, err := readResults(filepath.Join("..", "..", quotedResults))
	require.NoError(t, err)
	rows := strings.Split(strings.TrimSpace(summary(all)), "\n")[2:]
	require.Len(t, rows, 12)
	appendix := tables(all)
	for i, h := range headlines() {
		require.Contains(t, rows[i], h.what)
		require.True(t, slices.ContainsFunc(goals(), func(g goal) bool { return g.measure == h.measure && g.figure == h.figure }), h.what)
		r := named(all)[h.measure]
		require.Contains(t, appendix, "\n### "+heading(r)+"\n")
	}
	require.Equal(t, "a-b_c-1000-ms--3-x", anchor(result{Name: "a", Title: "B_c 1000 ms × 3, (X)"}))
}

// A measure that is quoted has every figure that a goal is about.
func TestEveryGoalHasItsFigure(t *testing.T) {
	all, err := readResults(filepath.Join("..", "..", quotedResults))
	require.NoError(t, err)
	require.NotEmpty(t, all, "make bench QUOTE=yes keeps them in %s", quotedResults)
	byName := map[string]result{}
	for _, r := range all {
		byName[r.Name] = r
	}
	for _, g := range goals() {
		if _, quoted := byName[g.measure]; !quoted {
			continue
		}
		require.NotEmpty(t, byName[g.measure].figure(g.figure), "%s of %s", g.figure, g.measure)
	}
}

func TestReplaceNeedsItsMarks(t *testing.T) {
	page, err := replace("a\n"+begins+"old\n"+ends+"z\n", begins, "new\n")
	require.NoError(t, err)
	require.Equal(t, "a\n"+begins+"\nnew\n\n"+ends+"z\n", page)
	for _, bad := range []string{"", begins, ends, ends + begins} {
		_, err := replace(bad, begins, "new\n")
		require.Error(t, err, "%q", bad)
	}
}

func TestQuantile(t *testing.T) {
	require.Zero(t, median(nil))
	require.Equal(t, 3.0, median([]float64{5, 3, 1}))
	require.Equal(t, 2.5, median([]float64{4, 1, 3, 2}))
	values := []float64{10, 0, 20, 30, 40}
	require.Equal(t, 36.0, quantile(values, 0.9))
	require.Equal(t, 40.0, quantile(values, 1))
	require.Equal(t, []float64{10, 0, 20, 30, 40}, values, "the caller's order stays")
}

func TestUnits(t *testing.T) {
	for name, want := range map[string]string{
		"tail_ms": "1.53 s", "change_percent": "1535 %", "full_12_ns_ratio": "1535×", "x_ns": "1535 ns", "most_kbits": "1535 kbit/s", "writes": "1535",
	} {
		require.Equal(t, want, withUnit(name, 1534.6), name)
	}
	require.Equal(t, "20 ms", withUnit("address_ms", 20))
	require.Equal(t, "9.46 ms", withUnit("address_ms", 9.456))
	require.Equal(t, "-3.20 %", withUnit("change_percent", -3.2))
}

func TestGoalsAreJudgedByTheMedian(t *testing.T) {
	limit := 2.0
	g := goal{limit: &limit}
	require.Equal(t, "reached", g.verdict([]float64{9, 1, 2}))
	require.Equal(t, "**missed**", g.verdict([]float64{1, 2.1, 9}))
	require.Empty(t, goal{}.verdict([]float64{1}))
}

func TestParseAssign(t *testing.T) {
	text := `goos: linux
BenchmarkAssign/empty_/28-2         	  235656	      6000 ns/op	     984 B/op	      17 allocs/op
BenchmarkAssign/empty_/28-2         	  235656	      5000.5 ns/op	     984 B/op	      17 allocs/op
BenchmarkAssign//12_full_but_one-2  	  172695	      9000 ns/op	     492 B/op	      15 allocs/op
BenchmarkAssign//12_full_but_one-2  	  172695	      8060 ns/op	     492 B/op	      15 allocs/op
BenchmarkAssign//64_with_a_million_taken-2         	  131240	      3000 ns/op	     732 B/op	      18 allocs/op
BenchmarkAssign//64_with_a_million_taken-2         	  131240	      3000 ns/op	     732 B/op	      18 allocs/op
PASS
`
	r, err := parseAssign(text)
	require.NoError(t, err)
	require.Equal(t, []float64{6000, 5000.5}, r.figure("empty_28_ns"))
	require.Equal(t, 1.5, r.figure("full_12_ns_ratio")[0])
	require.Equal(t, 0.5, r.figure("full_12_bytes_ratio")[0])
	require.Equal(t, []float64{-2, -2}, r.figure("full_12_more_allocs"))
	require.Equal(t, []float64{1, 1}, r.figure("million_64_more_allocs"))

	_, err = parseAssign(strings.Replace(text, "//12_full_but_one", "/other", 1))
	require.ErrorContains(t, err, "other")
	_, err = parseAssign("PASS\n")
	require.ErrorContains(t, err, "0 of 3")
}

func TestParseReported(t *testing.T) {
	s, err := parseReported(`cpu: any
BenchmarkBalance-2   	       1	 476232165 ns/op	         1.089 largest_after_ratio	         1.050 largest_ratio	         0 needless_moves
PASS
`, "BenchmarkBalance", balanceFigures)
	require.NoError(t, err)
	require.Equal(t, map[string]float64{"largest_ratio": 1.05, "largest_after_ratio": 1.089, "needless_moves": 0}, s.Figures)
	_, err = parseReported("PASS\n", "BenchmarkBalance", balanceFigures)
	require.ErrorContains(t, err, "0 of 3")
}

func TestParseWrites(t *testing.T) {
	before, err := parseWrites(`# TYPE apiserver_request_total counter
apiserver_request_total{code="200",component="apiserver",dry_run="",group="",resource="services",scope="resource",subresource="status",verb="PATCH",version="v1"} 10
apiserver_request_total{code="409",component="apiserver",dry_run="",group="",resource="services",scope="resource",subresource="status",verb="PATCH",version="v1"} 1
apiserver_request_total{code="200",component="apiserver",dry_run="",group="",resource="services",scope="cluster",subresource="",verb="LIST",version="v1"} 7
apiserver_request_total{code="200",component="apiserver",dry_run="",group="coordination.k8s.io",resource="leases",scope="resource",subresource="",verb="PUT",version="v1"} 90
apiserver_request_duration_seconds_count{resource="services",verb="PATCH"} 3
`)
	require.NoError(t, err)
	require.Equal(t, tally{"services/status PATCH": 11}, before)

	after := tally{"services/status PATCH": 31, "services POST": 10, "events POST": 40, "endpointslices POST": 20}
	s := newSample()
	after.since(before).figures(s, 10)
	require.Equal(t, map[string]float64{
		"writes_per_service": 9, "writes_creation": 1, "writes_status": 2, "writes_events": 4, "writes_endpoints": 2,
	}, s.Figures)

	_, err = parseWrites("apiserver_request_total{broken\n")
	require.Error(t, err)
}

func TestTicks(t *testing.T) {
	before, err := parseTicks("cpu  100 0 50 800 50 0 0 0 0 0\ncpu0 1 2 3\n")
	require.NoError(t, err)
	after, err := parseTicks("cpu  120 0 60 860 60 0 0 0 0 0\n")
	require.NoError(t, err)
	require.Equal(t, 30.0, after.busySince(before))
	require.Zero(t, after.busySince(after))
	for _, bad := range []string{"", "cpu 1 2 3", "cpu a 0 0 0 0 0 0 0", "cpu0 1 2 3 4 5 6 7 8"} {
		_, err := parseTicks(bad)
		require.Error(t, err, bad)
	}
}

func TestAddPool(t *testing.T) {
	add := func(cfg map[string]any) error { return addPool(cfg, largePool, "198.19.0.0/17", onNode("node1")) }
	text, err := edited("apiVersion: baremetal.cloud/v1alpha1\nkind: CloudConfig\npools:\n- name: default\n  addresses: [198.18.0.0/20, '2001:db8:5018::/64']\n  l2: [{interface: eth0}]\n", add)
	require.NoError(t, err)
	again, err := edited(text, add)
	require.NoError(t, err)
	require.Equal(t, text, again, "it is there")
	path := filepath.Join(t.TempDir(), "cloud-config.yaml")
	require.NoError(t, os.WriteFile(path, []byte(text), 0o600))
	cfg, _, err := config.Load(path)
	require.NoError(t, err, text)
	require.Len(t, cfg.Pools, 2)
	require.NotNil(t, cfg.Pools[1].L2[0].NodeSelector)
	_, err = edited("kind: CloudConfig\n", add)
	require.Error(t, err)
}

func TestParseFlags(t *testing.T) {
	s, err := parse([]string{"--only=one,burst", "--runs=1"})
	require.NoError(t, err)
	require.True(t, s.wants("one") && s.wants("burst") && !s.wants("takeover"))
	_, err = parse([]string{"--only=nothing"})
	require.ErrorContains(t, err, `"nothing"`)
	_, err = parse([]string{"--runs=0"})
	require.Error(t, err)
}

// shows returns a Service in a state of its life.
func shows(name, address string, conditions ...string) *corev1.Service {
	svc := &corev1.Service{ObjectMeta: metav1.ObjectMeta{Name: name}}
	if address != "" {
		svc.Status.LoadBalancer.Ingress = []corev1.LoadBalancerIngress{{IP: address}}
	}
	for _, c := range conditions {
		kind, reason, refused := strings.Cut(c, "=")
		status := metav1.ConditionTrue
		if refused {
			status = metav1.ConditionFalse
		}
		svc.Status.Conditions = append(svc.Status.Conditions, metav1.Condition{Type: "baremetal.cloud/" + kind, Status: status, Reason: reason})
	}
	return svc
}

// A Service is timed by what was seen first, whatever comes later.
func TestWatcherTimesWhatItSeesFirst(t *testing.T) {
	w := newWatcher()
	at := func(s int) time.Time { return time.Unix(int64(s), 0) }
	w.see(shows("a", ""), false, at(1))
	w.see(shows("a", "", "Allocated=PoolExhausted"), false, at(2))
	require.NoError(t, w.refused(t.Context(), []string{"a"}, "PoolExhausted"))
	w.see(shows("a", "192.0.2.1", "Allocated"), false, at(3))
	w.see(shows("a", "192.0.2.1", "Allocated", "Announced"), false, at(4))
	w.see(shows("a", "192.0.2.1", "Allocated", "Announced"), false, at(5))
	seen, err := w.addressed(t.Context(), []string{"a"})
	require.NoError(t, err)
	require.Equal(t, []time.Time{at(3), at(3), at(4)}, []time.Time{seen[0].allocated, seen[0].addressed, seen[0].announced})
	require.Empty(t, seen[0].refused)

	w.see(shows("b", "192.0.2.1", "Allocated", "Announced"), false, at(6))
	_, err = w.addressed(t.Context(), []string{"a", "b"})
	require.ErrorContains(t, err, "192.0.2.1 was given to Service a and to Service b")

	w.see(shows("a", ""), true, at(7))
	require.NoError(t, w.gone(t.Context(), []string{"a"}))
}

// Who waits is woken by what happens, by the end of the watch, and by the context.
func TestWatcherWakesWhoWaits(t *testing.T) {
	w := newWatcher()
	gone := make(chan error, 1)
	w.see(shows("a", ""), false, time.Now())
	go func() { gone <- w.gone(t.Context(), []string{"a"}) }()
	w.see(shows("a", ""), true, time.Now())
	require.NoError(t, <-gone)

	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := w.addressed(ctx, []string{"b"})
	require.ErrorIs(t, err, context.Canceled)

	go func() { gone <- w.gone(t.Context(), []string{"a"}) }()
	w.update(func() { w.ended = context.DeadlineExceeded })
	<-gone
	_, err = w.addressed(t.Context(), []string{"b"})
	require.ErrorIs(t, err, context.DeadlineExceeded)
}
