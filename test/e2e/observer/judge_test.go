package observer

import (
	"net/netip"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
)

var (
	epoch   = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	address = netip.MustParseAddr("198.18.0.1")
	rules   = Rules{
		Bound: 400 * time.Millisecond, Delay: 200 * time.Millisecond,
		Nodes: map[netip.Addr][]string{address: {"a", "b"}},
	}
)

// at returns a moment, in milliseconds since the beginning.
func at(ms int) time.Time { return epoch.Add(time.Duration(ms) * time.Millisecond) }

// asked returns ten seconds of questions.
func asked() (h History) {
	for ms := 0; ms <= 10_000; ms += 25 {
		h.Asked = append(h.Asked, at(ms))
	}
	return h
}

// by has a node answer each question from one until another, delivered to the client.
func (h History) by(node string, from, until int) History {
	for ms := from; ms < until; ms += 25 {
		h.Answers = append(h.Answers, Answer{At: at(ms + 1), Address: address, Node: node, Delivered: true})
	}
	return h.sorted()
}

// during has a fault last.
func (h History) during(from, until int, e Effect) History {
	f := Fault{Name: "fault", Since: at(from), Begun: at(from), Effect: e}
	if until > 0 {
		f.Until = at(until)
	}
	h.Faults = append(h.Faults, f)
	return h
}

// recovered says when all was as before.
func (h History) recovered(ms int) History {
	for i := range h.Faults {
		h.Faults[i].Recovered = at(ms)
	}
	return h
}

func (h History) request(from, took int, failure string) History {
	h.Requests = append(h.Requests, Request{At: at(from), Address: address, Took: time.Duration(took) * time.Millisecond, Failure: failure})
	return h
}

// opened says that the connection of the last request stood.
func (h History) opened() History {
	h.Requests[len(h.Requests)-1].Opened = true
	return h
}

func (h History) stall(from, until int) History {
	h.Stalls = append(h.Stalls, Stall{at(from), at(until)})
	return h
}

func TestJudge(t *testing.T) {
	a := Effect{Out: []string{"a"}, Recovery: time.Second}
	other := a
	stays := Effect{Stays: true}
	other.Addresses = []netip.Addr{netip.MustParseAddr("198.18.0.9")}
	elsewhere := other
	elsewhere.Elsewhere = &stays
	barred := Effect{Barred: "a", Within: time.Second}
	for name, c := range map[string]struct {
		history History
		want    []string
	}{
		"one answers all the time":       {asked().by("a", 0, 10_025), nil},
		"nobody asked":                   {History{}, []string{"nobody asked for anything"}},
		"another one takes over in time": {asked().by("a", 0, 5000).by("b", 5375, 10_025), nil},
		"another one takes over late":    {asked().by("a", 0, 5000).by("b", 5450, 10_025), []string{"nobody answered for 451ms"}},
		"nobody answers at the end":      {asked().by("a", 0, 9000), []string{"nobody answered for 1s"}},
		"nobody answers at the beginning": {asked().by("a", 500, 10_025), []string{
			"nobody answered for 501ms"}},
		"nobody ever answers":               {asked(), []string{"nobody answered for 10s"}},
		"the prober pauses":                 {pausing(3000, 5000).by("a", 0, 3000).by("a", 5000, 10_025), nil},
		"a machine that stands still":       {asked().by("a", 0, 5000).by("b", 5450, 10_025).stall(4700, 4800), nil},
		"one that stood still long ago":     {asked().by("a", 0, 5000).by("b", 5450, 10_025).stall(4000, 4500), []string{"nobody answered for 451ms"}},
		"one node is out, the other could":  {asked().by("a", 0, 5000).by("b", 5450, 10_025).during(5000, 0, a), []string{"nobody answered for 451ms"}},
		"both are out":                      {asked().by("a", 0, 3000).by("b", 6000, 10_025).during(2900, 5000, Effect{Out: []string{"a", "b"}, Recovery: time.Second}), nil},
		"both are out, and silent after":    {asked().by("a", 0, 3000).by("b", 6500, 10_025).during(2900, 5000, Effect{Out: []string{"a", "b"}, Recovery: time.Second}), []string{"nobody answered for 501ms"}},
		"both are out, and recover early":   {asked().by("a", 0, 3000).by("b", 6000, 10_025).during(2900, 5000, Effect{Out: []string{"a", "b"}, Recovery: time.Second}).recovered(5400), []string{"nobody answered for 601ms"}},
		"one after the other, at last both": {asked().by("a", 0, 3000).by("b", 6000, 10_025).during(2000, 5900, a).during(2700, 5700, Effect{Out: []string{"b"}}), nil},
		"one after the other, soon":         {asked().by("a", 0, 5000).by("b", 5650, 10_025).during(5000, 8000, a).during(5300, 8000, other).during(5300, 5400, Effect{}), nil},
		"two, while a fault begins":         {asked().by("a", 0, 5300).by("b", 4800, 10_025).during(5000, 8000, a), nil},
		"both are out for another address":  {asked().by("a", 0, 3000).by("b", 6000, 10_025).during(2900, 5000, other).during(2900, 5000, other), []string{"nobody answered for 3.001s"}},
		"loss at random":                    {asked().by("a", 0, 3000).by("a", 3900, 10_025).by("b", 3900, 4800).during(3000, 4500, Effect{Blind: true}), nil},
		"two for as long as it may be":      {asked().by("a", 0, 5000).by("b", 4600, 10_025), nil},
		"two for longer":                    {asked().by("a", 0, 5000).by("b", 4500, 10_025), []string{"a and b both answered for 475ms"}},
		"two, one answers now and then":     {asked().by("a", 0, 10_025).by("b", 4500, 4501).by("b", 4850, 4851).by("b", 5200, 5201), []string{"a and b both answered for 700ms"}},
		"a stranger":                        {asked().by("a", 0, 10_025).by("c", 4000, 4075), []string{"c answers and is not to"}},
		"not delivered":                     {asked().by("a", 0, 10_025).lost("b", 2000, 5000), nil},
		"a move where all is to stay":       {asked().by("a", 0, 5000).by("b", 5000, 10_025).during(4000, 6000, stays), []string{"it moved from a to b, and nothing made it"}},
		"a move when all was to stay":       {asked().by("a", 0, 5000).by("b", 5000, 10_025).during(3000, 4000, stays), nil},
		"a move that something else made":   {asked().by("a", 0, 5000).by("b", 5000, 10_025).during(3000, 6000, stays).during(4900, 5500, Effect{}), nil},
		"a move after the other fault":      {asked().by("a", 0, 5700).by("b", 5700, 10_025).during(3000, 6000, stays).during(4900, 5500, Effect{}), []string{"it moved from a to b, and nothing made it"}},
		"a move, the fault is elsewhere":    {asked().by("a", 0, 5000).by("b", 5000, 10_025).during(4000, 6000, elsewhere), []string{"it moved from a to b, and nothing made it"}},
		"slower, as may be":                 {asked().by("a", 0, 5000).by("b", 5650, 10_025).during(4000, 8000, Effect{Slower: 300 * time.Millisecond}), nil},
		"slower, for too long":              {asked().by("a", 0, 5000).by("b", 5750, 10_025).during(4000, 8000, Effect{Slower: 300 * time.Millisecond}), []string{"nobody answered for 751ms"}},
		"slower, when it is over":           {asked().by("a", 0, 5000).by("b", 5450, 10_025).during(3000, 4000, Effect{Slower: 300 * time.Millisecond}), []string{"nobody answered for 451ms"}},
		"two for longer, where it may be":   {asked().by("a", 0, 5000).by("b", 4500, 10_025).during(4000, 8000, Effect{Slower: 300 * time.Millisecond}), nil},
		"barred, and ends":                  {asked().by("a", 0, 5000).by("b", 5000, 10_025).during(4200, 8000, barred), nil},
		"barred, and ends too late":         {asked().by("a", 0, 5300).by("b", 5300, 10_025).during(4200, 8000, barred), []string{"a answers, and had 1s to end"}},
		"barred, and answers afterwards":    {asked().by("a", 0, 5000).by("b", 5000, 8000).by("a", 8000, 10_025).during(4200, 8000, barred), nil},
		"a move while it stood still":       {asked().by("a", 0, 5000).by("b", 5000, 10_025).during(4000, 6000, stays).stall(4700, 4950), nil},
		"requests":                          {asked().by("a", 0, 10_025).request(1000, 199, "").request(1000, 300, "").request(1500, 1, "refused").request(5000, 1, "refused"), []string{"a request took 300ms, and 1 more of the kind followed", "a request failed after 1ms: refused"}},
		"requests that may be turned away":  {asked().by("a", 0, 10_025).request(1000, 300, "").request(2900, 1, "refused").during(1250, 2000, Effect{TurnsAway: true, Recovery: time.Second}), nil},
		"requests while it stood still":     {asked().by("a", 0, 10_025).request(1000, 300, "").stall(1100, 1250), nil},
		"given up while it stood still":     {asked().by("a", 0, 10_025).request(1000, 1001, NoAnswer).stall(1100, 1950), nil},
		"refused while it stood still":      {asked().by("a", 0, 10_025).request(1000, 1001, "refused").stall(1100, 1950), []string{"a request failed after 1.001s: refused"}},
		"open while it moves":               {asked().by("a", 0, 5000).by("b", 5000, 10_025).request(4990, 20, "read: reset").opened(), nil},
		"open while nothing moves":          {asked().by("a", 0, 5000).by("b", 5000, 10_025).request(5500, 20, "read: reset").opened(), []string{"a request failed after 20ms: read: reset"}},
		"refused while it moves":            {asked().by("a", 0, 5000).by("b", 5000, 10_025).request(4990, 20, "connect: refused"), []string{"a request failed after 20ms: connect: refused"}},
		"given up":                          {asked().by("a", 0, 10_025).request(1000, 1001, NoAnswer).stall(1100, 1750), []string{"a request failed after 1.001s: no answer"}},
	} {
		t.Run(name, func(t *testing.T) {
			complaints, _ := c.history.Judge(rules)
			var got []string
			for _, complaint := range complaints {
				got = append(got, complaint.What)
			}
			assert.Equal(t, c.want, got)
		})
	}
}

// TestNobodyIsToAnswer judges an address that is nobody's.
func TestNobodyIsToAnswer(t *testing.T) {
	nobody := rules
	nobody.Nodes = map[netip.Addr][]string{address: nil}
	complaints, _ := asked().Judge(nobody)
	assert.Empty(t, complaints)
	complaints, _ = asked().by("a", 4000, 4025).Judge(nobody)
	if assert.Len(t, complaints, 1) {
		assert.Equal(t, "a answers and is not to", complaints[0].What)
	}
}

// pausing is asked with a pause.
func pausing(from, until int) (h History) {
	for _, question := range asked().Asked {
		if question.Before(at(from)) || !question.Before(at(until)) {
			h.Asked = append(h.Asked, question)
		}
	}
	return h
}

// lost has a node send answers that do not reach the client.
func (h History) lost(node string, from, until int) History {
	h = h.by(node, from, until)
	for i := range h.Answers {
		if h.Answers[i].Node == node {
			h.Answers[i].Delivered = false
		}
	}
	return h
}

func TestWorst(t *testing.T) {
	_, worst := asked().by("a", 0, 5000).by("b", 4900, 6000).by("a", 6300, 10_025).request(1000, 150, "").request(6290, 10, "read: reset").opened().Judge(rules)
	assert.Equal(t, Worst{301 * time.Millisecond, 75 * time.Millisecond, 150 * time.Millisecond, 1}, worst)
}

func TestTimeline(t *testing.T) {
	h := asked().by("a", 0, 5000).by("b", 5450, 10_025).during(5000, 6000, Effect{}).request(5100, 300, "no answer").stall(5200, 5240)
	h.Notes = []Note{{at(5010), "log of b: it is said"}, {at(9000), "long after"}}
	h.Answers = append(h.Answers, Answer{At: at(5452), Address: address, Node: "b", Unasked: true})
	complaints, _ := h.Judge(rules)
	assert.Equal(t, `   -1.999  a answers, first
   -0.024  a answers, last for a while
    0.000  ==> fault
    0.000      has begun: fault
    0.010  log of b: it is said
    0.100  a request takes 300ms no answer
    0.200  this machine stood still for 40ms
    0.451  b answers, first
    0.452  b announces 198.18.0.1
    0.452  b sent, first
    0.452  b sent, last for a while
    1.000  ==> the end of: fault
    2.451  b answers, last for a while
`, h.Timeline(address, complaints[0].From, complaints[0].Until, rules.Delay))
}

// TestRouted: of an address that nobody answers for on the LAN, requests are judged.
func TestRouted(t *testing.T) {
	routed := Rules{Bound: rules.Bound, Delay: rules.Delay, Routed: []netip.Addr{address}}
	complaints, worst := asked().request(1000, 50, "").Judge(routed)
	assert.Empty(t, complaints)
	assert.Equal(t, 50*time.Millisecond, worst.Request)
	for _, h := range []History{asked().request(1000, 1000, NoAnswer), asked().request(1000, 3, "connect: refused"), asked().request(1000, 300, "")} {
		complaints, _ := h.Judge(routed)
		assert.Len(t, complaints, 1)
	}
	open := asked().request(1000, 3, "read: reset")
	open.Requests[0].Opened = true
	complaints, worst = open.Judge(routed)
	assert.Empty(t, complaints)
	assert.Equal(t, 1, worst.Broken)
}
