package proxyhealth

import (
	"cmp"
	"maps"
	"net/netip"
	"slices"
	"time"
)

const (
	// steady is how often a proxy is asked that works, and eager how often one that does
	// not, and ports that have not answered 200 yet.
	steady = 5 * time.Second
	eager  = time.Second
	// soon is how often ports are asked for fresh after the targets have changed: rules for
	// new Pods are being written. It is the least time between two rounds, too.
	soon  = 250 * time.Millisecond
	fresh = 10 * time.Second
)

// Port is where a service proxy says whether it serves a Service with local endpoints. It
// serves each address family by itself, and may listen on some of the node's addresses only.
type Port struct {
	Number uint16
	IPv6   bool
}

// Compare orders ports by number, IPv4 first.
func (p Port) Compare(q Port) int {
	if p.IPv6 == q.IPv6 {
		return cmp.Compare(p.Number, q.Number)
	}
	if q.IPv6 {
		return cmp.Or(cmp.Compare(p.Number, q.Number), -1)
	}
	return cmp.Or(cmp.Compare(p.Number, q.Number), 1)
}

// Targets are what to ask.
type Targets struct {
	// Proxy is the URL that says whether the service proxy works; "" asks nothing.
	Proxy string
	// Ports are those that bear on an address which the node may come to answer for.
	Ports map[Port]bool
	// Own are the node's addresses.
	Own []netip.Addr
	// After is a time of the Checker's clock: an answer to a question from before it is too old, and
	// the next one is reported whether or not it is news.
	After time.Duration
}

// equalTargets says whether t and u ask the same.
func (t Targets) equalTargets(u Targets) bool {
	return t.Proxy == u.Proxy && maps.Equal(t.Ports, u.Ports) && slices.Equal(t.Own, u.Own)
}

// Result is what was learned. It is shared and never written to.
type Result struct {
	// Works reports whether the proxy answered 200 when it was asked last, or that nothing is
	// asked.
	Works bool
	// Since is when Works became what it is, and Asked when the question was asked that was
	// answered last. Both are of the Checker's clock.
	Since, Asked time.Duration
	// Serving are the ports that have answered 200 since they were first asked. They count
	// only while the proxy works.
	Serving map[Port]bool
}

// equalResult says whether r and s say the same, whenever they came.
func (r Result) equalResult(s Result) bool {
	return r.Works == s.Works && r.Since == s.Since && maps.Equal(r.Serving, s.Serving)
}

// UnhealthyAt returns when a node that goes on like that is unhealthy; false if never.
func (r Result) UnhealthyAt(after time.Duration) (time.Duration, bool) {
	return r.Since + after, !r.Works
}

// Ready says whether traffic is served here for an address whose port is given; the zero
// Port is none.
func (r Result) Ready(port Port) bool {
	return r.Works && (port.Number == 0 || r.Serving[port])
}

// state is what is known and when to ask again. It is pure.
type state struct {
	targets Targets
	result  Result
	// known reports whether the result came of asking the proxy.
	known bool
	// next is when to ask again; last and changed are when was asked last, and when the
	// targets changed. begun is when the question was asked that has no answer yet.
	next, last, changed, begun time.Duration
}

// newState returns the state of a Checker that has nothing to ask.
func newState() state { return state{result: Result{Works: true}, last: -soon} }

// setTargets takes new targets. What is known of those that stay stays.
func (s *state) setTargets(now time.Duration, t Targets) {
	if t.After > s.targets.After && t.After > s.result.Asked {
		s.next = min(s.next, max(now, s.last+soon))
	}
	s.targets.After = t.After
	if s.targets.equalTargets(t) {
		return
	}
	if t.Proxy != s.targets.Proxy {
		// Until it has answered nothing is known, which is no illness yet.
		s.result, s.known = Result{Works: t.Proxy == "", Since: now}, false
	}
	serving := map[Port]bool{}
	for p := range t.Ports {
		if s.result.Serving[p] {
			serving[p] = true
		}
	}
	s.result.Serving = serving
	s.targets, s.changed = t, now
	s.next = max(now, s.last+soon)
}

// nextDue returns whether to ask the proxy now, and which ports: those that have not answered 200
// yet, sorted.
func (s *state) nextDue(now time.Duration) (proxy bool, ports []Port) {
	if s.targets.Proxy == "" || now < s.next {
		return false, nil
	}
	for p := range s.targets.Ports {
		if !s.result.Serving[p] {
			ports = append(ports, p)
		}
	}
	slices.SortFunc(ports, Port.Compare)
	s.begun = now
	return true, ports
}

// isLate reports whether what is known is older than it may be.
func (s *state) isLate() bool { return s.result.Asked < s.targets.After }

// takeAnswers takes what came of asking at now: whether the proxy works, and which ports
// answered 200.
func (s *state) takeAnswers(now time.Duration, works bool, serving []Port) {
	if s.targets.Proxy == "" {
		return
	}
	next := s.result
	if works != next.Works {
		next.Works, next.Since = works, now
	}
	next.Asked, next.Serving = s.begun, maps.Clone(s.result.Serving)
	for _, p := range serving {
		if s.targets.Ports[p] {
			next.Serving[p] = true
		}
	}
	s.result, s.known = next, true
	pending := len(next.Serving) < len(s.targets.Ports)
	switch {
	case works && pending && now < s.changed+fresh:
		s.next = now + soon
	case !works || pending:
		s.next = now + eager
	default:
		s.next = now + steady
	}
	s.last = now
}
