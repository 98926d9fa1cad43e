package observer

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"time"
)

// Rules are what a history is judged by.
type Rules struct {
	// Bound is for how long an address that could be answered may be unanswered, and how
	// long two may answer for it.
	Bound time.Duration
	// Delay is how long a new connection may take where nothing excuses it.
	Delay time.Duration
	// Nodes are, for each address, those that may answer for it and are able to while no
	// fault puts them out. Where there are none nobody is to answer.
	Nodes map[netip.Addr][]string
	// Routed are addresses that routers send to nodes: nobody answers for them on the LAN, and
	// only requests to them are judged. A router's move of a connection that is open is not seen.
	Routed []netip.Addr
}

// Complaint is a promise that was broken.
type Complaint struct {
	From, Until time.Time
	Address     netip.Addr
	What        string
}

// String prints the complaint on one line.
func (c Complaint) String() string {
	return fmt.Sprintf("%s: %s, from %s on", c.Address, c.What, c.From.UTC().Format("15:04:05.000"))
}

// Worst is the longest of each kind that nothing excused, whether or not it was too long.
type Worst struct {
	// Silence is without an answer, Together with answers of two, Request how long a
	// request took.
	Silence, Together, Request time.Duration
	// Broken is how many open connections a move has broken.
	Broken int
}

// And returns the worse of both, kind by kind, and the sum of what is counted.
func (w Worst) And(o Worst) Worst {
	return Worst{max(w.Silence, o.Silence), max(w.Together, o.Together), max(w.Request, o.Request), w.Broken + o.Broken}
}

// judge judges one address.
type judge struct {
	Rules
	address netip.Addr
	faults  []Fault
	// events are when faults began and ended, in order: each one grants the bound anew.
	events []time.Time
	stalls []span
	end    time.Time
	worst  Worst
	out    []Complaint
}

// Judge returns where the history breaks promise 3 (one owner) or 5 (an address is
// answered), or where a connection was turned away with nothing to excuse it, by time.
func (h History) Judge(rules Rules) ([]Complaint, Worst) {
	if len(h.Asked) == 0 {
		return []Complaint{{What: "nobody asked for anything"}}, Worst{}
	}
	stalls := h.stalled()
	answers, requests := map[netip.Addr][]Answer{}, map[netip.Addr][]Request{}
	for _, a := range h.Answers {
		if a.Delivered {
			answers[a.Address] = append(answers[a.Address], a)
		}
	}
	for _, r := range h.Requests {
		requests[r.Address] = append(requests[r.Address], r)
	}
	var out []Complaint
	var worst Worst
	for address := range rules.Nodes {
		j := h.judgeOf(address, rules, stalls)
		j.strangers(answers[address])
		j.barred(answers[address])
		if len(rules.Nodes[address]) > 0 {
			j.together(answers[address])
			j.moved(answers[address])
			j.silences(h.Asked, answers[address])
			j.turnedAway(requests[address], movesOf(answers[address]))
		}
		out, worst = append(out, j.out...), worst.And(j.worst)
	}
	for _, address := range rules.Routed {
		j := h.judgeOf(address, rules, stalls)
		j.turnedAway(requests[address], openedAt(requests[address]))
		out, worst = append(out, j.out...), worst.And(j.worst)
	}
	slices.SortFunc(out, func(a, b Complaint) int {
		return cmp.Or(a.From.Compare(b.From), a.Address.Compare(b.Address), cmp.Compare(a.What, b.What))
	})
	return out, worst
}

func (h History) judgeOf(address netip.Addr, rules Rules, stalls []span) judge {
	j := judge{Rules: rules, address: address, stalls: stalls, end: h.Asked[len(h.Asked)-1]}
	for _, f := range h.Faults {
		var about bool
		if f.Effect, about = f.on(address); about {
			j.faults = append(j.faults, f)
		}
	}
	j.events = eventsOf(j.faults)
	return j
}

// openedAt returns when requests were made whose connection stood before they failed.
func openedAt(requests []Request) (out []time.Time) {
	for _, r := range requests {
		if r.Opened && r.Failure != "" {
			out = append(out, r.At)
		}
	}
	return out
}

// eventsOf returns when faults began and ended.
func eventsOf(faults []Fault) (out []time.Time) {
	for _, f := range faults {
		for _, at := range []time.Time{f.Since, f.Begun, f.Until} {
			if !at.IsZero() {
				out = append(out, at)
			}
		}
	}
	slices.SortFunc(out, time.Time.Compare)
	return out
}

// pieces returns what of s nothing excuses, divided by events.
func (j *judge) pieces(s span, excused []span) (out []span) {
	for _, left := range s.without(excused) {
		out = append(out, left.cutAt(j.events)...)
	}
	return out
}

// stalled returns when the machine stood still.
func (h History) stalled() []span {
	var out []span
	for _, s := range h.Stalls {
		out = append(out, span{s.From, s.Until})
	}
	return union(out)
}

func (j *judge) complain(s span, format string, args ...any) {
	j.out = append(j.out, Complaint{s.from, s.until, j.address, fmt.Sprintf(format, args...)})
}

// stalledIn returns how long the machine stood still in s, and shortly before: what was late
// then is late in s.
func (j *judge) stalledIn(s span) time.Duration {
	s.from = s.from.Add(-j.Bound)
	var sum time.Duration
	for _, stall := range j.stalls {
		sum += max(0, s.meet(stall).length())
	}
	return sum
}

// lasts returns how long a fault lasts, with its recovery or without.
func (j *judge) lasts(f Fault, recovering bool) span {
	switch {
	case f.Until.IsZero():
		return span{f.Since, later(j.end, f.Since)}
	case !recovering:
		return span{f.Since, f.Until}
	case !f.Recovered.IsZero():
		return span{f.Since, earlier(f.Recovered, f.Until.Add(f.Recovery))}
	}
	return span{f.Since, f.Until.Add(f.Recovery)}
}

// during returns when faults with some effect last.
func (j *judge) during(has func(Fault) bool, recovering bool) []span {
	var out []span
	for _, f := range j.faults {
		if has(f) {
			out = append(out, j.lasts(f, recovering))
		}
	}
	return out
}

func blind(f Fault) bool { return f.Blind }

// strangers complains of answers of those that are not to answer.
func (j *judge) strangers(answers []Answer) {
	told := map[string]bool{}
	for _, a := range answers {
		if !slices.Contains(j.Nodes[j.address], a.Node) && !told[a.Node] {
			told[a.Node] = true
			j.complain(span{a.At, a.At}, "%s answers and is not to", a.Node)
		}
	}
}

// barred complains of answers of nodes after the time in which they had to end.
func (j *judge) barred(answers []Answer) {
	for _, f := range j.faults {
		if f.Barred == "" || f.Begun.IsZero() {
			continue
		}
		s := span{f.Begun.Add(f.Within), j.lasts(f, false).until}
		s.from = s.from.Add(j.stalledIn(span{f.Begun, s.from}))
		for _, a := range answers {
			if a.Node == f.Barred && a.At.After(s.from) && a.At.Before(s.until) {
				j.complain(span{a.At, a.At}, "%s answers, and had %s to end", a.Node, f.Within)
				break
			}
		}
	}
}

// bound returns how long s may last.
func (j *judge) bound(s span) time.Duration {
	slower := time.Duration(0)
	for _, f := range j.faults {
		if j.lasts(f, true).meet(s).length() >= 0 {
			slower = max(slower, f.Slower)
		}
	}
	return j.Bound + slower + j.stalledIn(s)
}

// together complains of two nodes that answer at the same time for too long.
func (j *judge) together(answers []Answer) {
	runs := runsOf(answers, j.Bound)
	for i, x := range runs {
		for _, y := range runs[i+1:] {
			both := x.span.meet(y.span)
			if x.node == y.node || both.length() <= 0 {
				continue
			}
			for _, s := range j.pieces(both, j.during(blind, false)) {
				j.worst.Together = max(j.worst.Together, s.length())
				if s.length() > j.bound(s) {
					j.complain(s, "%s and %s both answered for %s", x.node, y.node, ms(s.length()))
				}
			}
		}
	}
}

// run is a time in which a node answered, without a pause worth mentioning.
type run struct {
	span
	node string
}

// runsOf returns the runs of all nodes by their beginning; a longer pause divides them.
func runsOf(answers []Answer, pause time.Duration) []run {
	var out []run
	last := map[string]int{} // where in out the node's last run is
	for _, a := range answers {
		i, ok := last[a.Node]
		if !ok || a.At.Sub(out[i].until) > pause {
			last[a.Node] = len(out)
			out = append(out, run{span{a.At, a.At}, a.Node})
			continue
		}
		out[i].until = later(out[i].until, a.At)
	}
	return out
}

// moved complains of a move where all is to stay, unless the machine stood still before it,
// when nodes may well have taken others for dead.
func (j *judge) moved(answers []Answer) {
	moving := j.during(func(f Fault) bool { return !f.Stays }, true)
	for _, stays := range j.during(func(f Fault) bool { return f.Stays }, true) {
		for _, s := range stays.without(moving) {
			for i, a := range answers {
				if i == 0 || answers[i-1].Node == a.Node || a.At.Before(s.from) || a.At.After(s.until) {
					continue
				}
				took := span{answers[i-1].At, a.At}
				if j.stalledIn(took) > j.Bound/4 {
					continue
				}
				j.complain(took, "it moved from %s to %s, and nothing made it", answers[i-1].Node, a.Node)
				break
			}
		}
	}
}

// silences complains of times in which nobody answered though somebody could.
func (j *judge) silences(asked []time.Time, answers []Answer) {
	excused := append(j.nobodyAble(), j.during(blind, false)...)
	judged := func(silence span) {
		for _, s := range j.pieces(silence, excused) {
			j.worst.Silence = max(j.worst.Silence, s.length())
			if s.length() > j.bound(s) {
				j.complain(s, "nobody answered for %s", ms(s.length()))
			}
		}
	}
	next := 0 // of answers
	var since time.Time
	for _, question := range asked {
		for next < len(answers) && answers[next].At.Before(question) {
			if !since.IsZero() {
				judged(span{since, answers[next].At})
				since = time.Time{}
			}
			next++
		}
		if since.IsZero() {
			since = question
		}
	}
	if next < len(answers) {
		judged(span{since, answers[next].At})
	} else {
		judged(span{since, j.end})
	}
}

// nobodyAble returns when no node was able to answer.
func (j *judge) nobodyAble() []span {
	var out []span
	for i, node := range j.Nodes[j.address] {
		unable := j.during(func(f Fault) bool { return slices.Contains(f.Out, node) }, true)
		if i == 0 {
			out = unable
		} else {
			out = common(out, unable)
		}
	}
	return out
}

// movesOf returns when another node began to answer, or to announce.
func movesOf(answers []Answer) (out []time.Time) {
	for i, a := range answers {
		if i > 0 && answers[i-1].Node != a.Node {
			out = append(out, a.At)
		}
	}
	return out
}

// breaks says whether one of moves explains that r failed: the state of a connection that
// is open then stays on the node that had it.
func (j *judge) breaks(moves []time.Time, r Request) bool {
	at := span{r.At.Add(-j.Delay), r.At.Add(r.Took + j.Delay)}
	return r.Opened && r.Failure != "" && slices.ContainsFunc(moves, func(move time.Time) bool {
		return at.meet(span{move, move}).length() >= 0
	})
}

// turnedAway complains of requests that failed or took too long, of those in one row at
// once. A connection that was open when its address moved is only counted.
func (j *judge) turnedAway(requests []Request, moves []time.Time) {
	excused := j.during(func(f Fault) bool { return f.TurnsAway }, true)
	var row []Request
	for _, r := range requests {
		took := span{r.At, r.At.Add(r.Took)}
		if slices.ContainsFunc(excused, func(s span) bool { return s.meet(took).length() >= 0 }) {
			continue
		}
		if j.breaks(moves, r) {
			j.worst.Broken++
			continue
		}
		j.worst.Request = max(j.worst.Request, r.Took)
		if (r.Failure == "" || r.Failure == NoAnswer) && r.Took <= j.Delay+j.stalledIn(took) {
			continue
		}
		if len(row) > 0 && r.At.Sub(row[len(row)-1].At) > time.Second {
			j.complainOf(row)
			row = nil
		}
		row = append(row, r)
	}
	j.complainOf(row)
}

func (j *judge) complainOf(row []Request) {
	if len(row) == 0 {
		return
	}
	last := row[len(row)-1]
	all, more := span{row[0].At, last.At.Add(last.Took)}, ""
	if len(row) > 1 {
		more = fmt.Sprintf(", and %d more of the kind followed", len(row)-1)
	}
	if row[0].Failure != "" {
		j.complain(all, "a request failed after %s: %s%s", ms(row[0].Took), row[0].Failure, more)
	} else {
		j.complain(all, "a request took %s%s", ms(row[0].Took), more)
	}
}

func ms(d time.Duration) time.Duration { return d.Round(time.Millisecond) }
