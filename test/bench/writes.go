package main

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"
)

// tally counts write requests, by resource, subresource and verb, as the API server does
// (its metric apiserver_request_total). Those that failed count too.
type tally map[string]float64

// counted are the resources that a Service of type LoadBalancer causes writes of. Leases
// and Nodes are written all the time.
var counted = []string{"services", "endpointslices", "endpoints", "events"}

// writes reads the API server's counters.
func (l *lab) writes(ctx context.Context) (tally, error) {
	text, err := l.client.CoreV1().RESTClient().Get().AbsPath("/metrics").DoRaw(ctx)
	if err != nil {
		return nil, fmt.Errorf("metrics of the API server: %w", err)
	}
	return parseWrites(string(text))
}

// quiet waits until the API server has had no such writes for a second.
func (l *lab) quiet(ctx context.Context) error {
	last, err := l.writes(ctx)
	for since := time.Now(); err == nil && time.Since(since) < time.Second; {
		if err = pause(ctx, 250*time.Millisecond); err != nil {
			return err
		}
		var now tally
		now, err = l.writes(ctx)
		if !maps.Equal(now, last) {
			last, since = now, time.Now()
		}
	}
	return err
}

// parseWrites reads Prometheus' text format.
func parseWrites(text string) (tally, error) {
	t := tally{}
	for line := range strings.Lines(text) {
		rest, ok := strings.CutPrefix(line, "apiserver_request_total{")
		if !ok {
			continue
		}
		labels, value, ok := strings.Cut(rest, "} ")
		if !ok {
			return nil, fmt.Errorf("unexpected line %q", line)
		}
		l := parseLabels(labels)
		if !slices.Contains(counted, l["resource"]) || !isWrite(l["verb"]) {
			continue
		}
		n, err := strconv.ParseFloat(strings.TrimSpace(value), 64)
		if err != nil {
			return nil, fmt.Errorf("line %q: %w", line, err)
		}
		key := l["resource"]
		if l["subresource"] != "" {
			key += "/" + l["subresource"]
		}
		t[key+" "+l["verb"]] += n
	}
	return t, nil
}

// parseLabels reads `name="value",…`; the values here contain no commas or quotes.
func parseLabels(text string) map[string]string {
	labels := map[string]string{}
	for pair := range strings.SplitSeq(text, ",") {
		name, value, _ := strings.Cut(pair, "=")
		labels[name] = strings.Trim(value, `"`)
	}
	return labels
}

func isWrite(verb string) bool {
	return slices.Contains([]string{"POST", "PUT", "PATCH", "APPLY", "DELETE"}, verb)
}

// since returns what was written after earlier.
func (t tally) since(earlier tally) tally {
	out := tally{}
	for key, n := range t {
		if n > earlier[key] {
			out[key] = n - earlier[key]
		}
	}
	return out
}

// figures puts the writes per Service into s: those of the Service itself without its
// creation, all of which are ours; Events, which are the stock service controller's and
// ours; and the rest, which is Kubernetes' own.
func (t tally) figures(s sample, services float64) {
	for key, n := range t {
		each := n / services
		s.Figures["writes_per_service"] += each
		switch resource, _, _ := strings.Cut(key, " "); {
		case key == "services POST":
			s.Figures["writes_creation"] += each
		case resource == "services" || strings.HasPrefix(resource, "services/"):
			s.Figures["writes_status"] += each
		case resource == "events":
			s.Figures["writes_events"] += each
		default:
			s.Figures["writes_endpoints"] += each
		}
		s.Raw["writes "+key] = []float64{n}
	}
}
