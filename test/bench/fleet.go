package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"baremetal.cloud/ccm/pkg/announcer/control"
	"baremetal.cloud/ccm/pkg/announcer/plan"
)

const (
	// fleetChanges is how many endpoint changes are made, one after the other.
	fleetChanges = 40
	// fleetQuiet is how long no plan has come when a change is over.
	fleetQuiet = 500 * time.Millisecond
	// fleetPatience is how long the fleet may take to get ready, or a change to be over.
	fleetPatience = 5 * time.Minute
	// fleetEvery is how often it is looked whether it is.
	fleetEvery = 50 * time.Millisecond
)

// fleet measures the CCM with a thousand announcers. It needs no testbed.
func fleet(ctx context.Context, _ *lab, runs int) (result, error) {
	return repeat(ctx, runs, func(ctx context.Context, _ int) (sample, error) {
		dir, err := os.MkdirTemp("", "bench-fleet-")
		if err != nil {
			return sample{}, err
		}
		s, err := fleetOnce(ctx, dir)
		return s, errors.Join(err, os.RemoveAll(dir))
	})
}

func fleetOnce(ctx context.Context, dir string) (sample, error) {
	s := newSample()
	ccm, err := startFleetCCM(ctx, dir)
	if err != nil {
		return s, err
	}
	f := &fleetRun{ccm: ccm, lan: newFleetLAN(), received: map[string]*received{}}
	ctx, cancel := context.WithCancel(ctx)
	err = f.startAnnouncers(ctx, dir)
	if err == nil {
		err = f.measure(ctx, s)
	}
	cancel()
	f.clients.Wait()
	return s, errors.Join(err, ccm.end())
}

// fleetRun is one run of the measure.
type fleetRun struct {
	ccm      *fleetCCM
	lan      *fleetLAN
	received map[string]*received // by node
	clients  sync.WaitGroup
}

// startAnnouncers starts one client of the control channel per node, each with a token and
// a loopback address of its own.
func (f *fleetRun) startAnnouncers(ctx context.Context, dir string) error {
	for i := range fleetNodes {
		token, err := fleetToken(i)
		if err != nil {
			return err
		}
		file := filepath.Join(dir, fmt.Sprintf("token-%d", i))
		if err := os.WriteFile(file, []byte(token), 0o600); err != nil {
			return err
		}
		into := &received{}
		f.received[fleetNode(i)] = into
		f.startAnnouncer(ctx, i, dir, file, into)
	}
	return nil
}

func (f *fleetRun) startAnnouncer(ctx context.Context, i int, dir, token string, into *received) {
	var s *station
	dialer := net.Dialer{Timeout: 5 * time.Second, LocalAddr: net.TCPAddrFromAddrPort(netip.AddrPortFrom(fleetSource(i), 0))}
	client := control.NewClient(control.ClientOptions{
		Node: fleetNode(i), Software: "bench", Controllers: []string{f.ccm.address}, ServerName: fleetServer,
		CAFile: filepath.Join(dir, "ca.crt"), TokenFile: token,
		Dial: func(ctx context.Context, address string) (net.Conn, error) {
			conn, err := dialer.DialContext(ctx, "tcp", address)
			if err != nil {
				return nil, err
			}
			return &metered{Conn: conn, into: into}, nil
		},
		OnPlan: func(_ string, set plan.NodePlan) {
			at, err := sinceBoot()
			if err != nil {
				panic(err) // the clock was read before
			}
			f.lan.carryOut(s, set, at)
		},
	})
	s = f.lan.add(fleetNode(i), fleetInterfaces(i), client.SetReport)
	f.clients.Go(func() {
		if err := client.Run(ctx); err != nil {
			panic(err) // the options are constants
		}
	})
}

// fleetInterfaces are what a node reports: one interface on the addresses' segment.
func fleetInterfaces(i int) []plan.Interface {
	at := netip.AddrFrom4([4]byte{10, 65, byte(i >> 8), byte(i)})
	return []plan.Interface{{
		Name: "eth0", MAC: fmt.Sprintf("02:00:00:00:%02x:%02x", i>>8, i&255),
		Prefixes: []netip.Prefix{netip.PrefixFrom(at, 10)},
	}}
}

// measure waits until every announcer answers for what it is to, reads the memory a minute
// later, and then changes endpoints.
func (f *fleetRun) measure(ctx context.Context, s sample) error {
	if err := f.ready(ctx); err != nil {
		return err
	}
	if err := pause(ctx, settle); err != nil {
		return err
	}
	if err := memoryOfProcess(f.ccm.process.Process.Pid, s); err != nil {
		return err
	}
	left, err := f.ccm.ask(fleetRequest{Collect: true})
	if err != nil {
		return err
	}
	s.Figures["live_mb"] = left.Live / 1e6
	s.Figures["standin_mb"] = f.ccm.standIn / 1e6
	before := f.all()
	for i := range fleetChanges {
		if err := f.change(ctx, i, s); err != nil {
			return fmt.Errorf("change %d: %w", i+1, err)
		}
	}
	f.figures(before, s)
	return nil
}

// all adds up what all nodes received.
func (f *fleetRun) all() (sum traffic) {
	for _, r := range f.received {
		sum.said += r.said()
		sum.pings += r.pings.Load()
	}
	return sum
}

// traffic is bytes on the wire.
type traffic struct{ said, pings int64 }

// ready waits until every node has its plan, every address is answered for, and the CCM has
// written what there is to say about it.
func (f *fleetRun) ready(ctx context.Context) error {
	var written int64
	for {
		err := f.until(ctx, 2*time.Second, func(planned, answered int) bool {
			return planned == fleetNodes && answered == fleetServices
		})
		if err != nil {
			return err
		}
		answer, err := f.ccm.ask(fleetRequest{})
		if err != nil || answer.Writes == written {
			return err
		}
		written = answer.Writes
	}
}

// until waits until that is so and no plan has come for a time.
func (f *fleetRun) until(ctx context.Context, quiet time.Duration, so func(planned, answered int) bool) error {
	began, err := sinceBoot()
	if err != nil {
		return err
	}
	for {
		now, err := sinceBoot()
		if err != nil {
			return err
		}
		planned, answered, last := f.lan.state()
		if so(planned, answered) && now-max(last, began) >= quiet {
			return nil
		}
		if now-began > fleetPatience {
			return fmt.Errorf("after %s %d of %d nodes have a plan and %d of %d addresses are answered for", fleetPatience, planned, fleetNodes, answered, fleetServices)
		}
		if err := pause(ctx, fleetEvery); err != nil {
			return err
		}
	}
}

// change moves a Pod of the node that answers for a Service's address to a node that has
// none, and takes note of what comes of it.
func (f *fleetRun) change(ctx context.Context, i int, s sample) error {
	service := fleetChanged(i)
	address := fleetAddress(service)
	before := f.lan.candidates(address)
	f.lan.take()
	received := f.snapshot()
	move := fleetMove{Service: service, Nodes: moved(fleetEndpoints(service), before[0], rand.IntN)}
	answer, err := f.ccm.ask(fleetRequest{Move: &move})
	if err != nil {
		return err
	}
	err = f.until(ctx, fleetQuiet, func(_, answered int) bool {
		after := f.lan.candidates(address)
		return answered == fleetServices && after[0] != before[0] && !slices.Contains(after, before[0])
	})
	if err != nil {
		return err
	}
	after := f.lan.candidates(address)
	c := judge(address, answer.At, before, after, f.lan.take())
	now := f.snapshot()
	bytes := 0.0
	for _, name := range f.lan.besides(before, after) {
		bytes += float64(now[name] - received[name])
	}
	kind := "one_pod"
	if len(move.Nodes) > 1 {
		kind = "three_pods"
	}
	for name, value := range map[string]float64{
		kind + "_ms": c.last, "last_ms": c.last, "owner_ms": c.owner,
		"told": float64(c.told), "others_told": float64(c.others), "others_bytes": bytes,
	} {
		s.Raw[name] = append(s.Raw[name], value)
	}
	return nil
}

// fleetChanged is the Service of the i-th change: of one Pod and of three by turns, far
// from each other.
func fleetChanged(i int) int { return i * 333 % fleetServices }

// moved returns nodes with another one that is not among them in the place of from.
func moved(nodes []string, from string, random func(int) int) []string {
	for {
		to := fleetNode(random(fleetNodes))
		if slices.Contains(nodes, to) {
			continue
		}
		out := slices.Clone(nodes)
		out[max(slices.Index(out, from), 0)] = to
		return out
	}
}

// snapshot is what each node received, keepalives aside.
func (f *fleetRun) snapshot() map[string]int64 {
	out := map[string]int64{}
	for name, r := range f.received {
		out[name] = r.said()
	}
	return out
}

// figures makes the figures from what was taken down of the changes.
func (f *fleetRun) figures(before traffic, s sample) {
	for _, name := range []string{"last_ms", "owner_ms", "one_pod_ms", "three_pods_ms", "told"} {
		s.Figures[name] = median(s.Raw[name])
	}
	s.Figures["worst_ms"] = slices.Max(s.Raw["last_ms"])
	for _, name := range []string{"others_told", "others_bytes"} {
		for _, value := range s.Raw[name] {
			s.Figures[name] += value
		}
	}
	after := f.all()
	s.Figures["all_bytes"] = float64(after.said - before.said)
	s.Figures["keepalive_bytes"] = float64(after.pings - before.pings)
}

// fleetCCM is the measured process.
type fleetCCM struct {
	process *exec.Cmd
	in      io.WriteCloser
	out     *bufio.Scanner
	address string
	standIn float64
}

// startFleetCCM starts this program anew as the measured process, and waits until it serves.
func startFleetCCM(ctx context.Context, dir string) (*fleetCCM, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	c := &fleetCCM{process: exec.CommandContext(ctx, self, fleetCoreCommand, dir)}
	c.process.Stderr = os.Stderr
	if c.in, err = c.process.StdinPipe(); err != nil {
		return nil, err
	}
	out, err := c.process.StdoutPipe()
	if err != nil {
		return nil, err
	}
	c.out = bufio.NewScanner(out)
	if err := c.process.Start(); err != nil {
		return nil, err
	}
	hello, err := c.hear()
	if err != nil {
		return nil, errors.Join(err, c.end())
	}
	c.address, c.standIn = hello.Address, hello.StandIn
	return c, nil
}

func (c *fleetCCM) ask(request fleetRequest) (fleetAnswer, error) {
	if err := json.NewEncoder(c.in).Encode(request); err != nil {
		return fleetAnswer{}, err
	}
	return c.hear()
}

func (c *fleetCCM) hear() (answer fleetAnswer, err error) {
	if !c.out.Scan() {
		return answer, errors.Join(errors.New("the measured process has ended"), c.out.Err())
	}
	return answer, json.Unmarshal(c.out.Bytes(), &answer)
}

// end has the process end by itself.
func (c *fleetCCM) end() error { return errors.Join(c.in.Close(), c.process.Wait()) }
