package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"baremetal.cloud/ccm/pkg/announcer/bfd"
	"baremetal.cloud/ccm/pkg/announcer/realtime"
	"baremetal.cloud/ccm/test/e2e/testbed/netns"
)

const (
	// bfdEndCommand is the argument that makes this program one end of all sessions.
	bfdEndCommand = "bfd-end"
	// bfdSessions are half over IPv4 and half over IPv6.
	bfdSessions   = 100
	bfdInterval   = 50 * time.Millisecond
	bfdMultiplier = 3
	// bfdPatience is how long they may take to come up.
	bfdPatience = time.Minute
	busyThreads = 4
)

// bfdLinks joins two namespaces. Behind addresses of the second stand all peers of the first.
const bfdLinks = `link add eth0 type veth peer name eth0 netns PEERS
addr add 198.18.0.1/16 dev eth0
addr add 2001:db8::1/64 dev eth0 nodad
link set eth0 up
`

// watchBFD counts which of many fast sessions go down though nothing is wrong but that there
// is more to do than processors can do.
func watchBFD(ctx context.Context, _ *lab, duration time.Duration) (r result, err error) {
	node, peers := fmt.Sprintf("bfd-bench-%d-node", os.Getpid()), fmt.Sprintf("bfd-bench-%d-peers", os.Getpid())
	for _, name := range []string{node, peers} {
		if err := netns.Add(ctx, name); err != nil {
			return r, err
		}
		defer func() { err = errors.Join(err, netns.Delete(context.WithoutCancel(ctx), name)) }()
	}
	ours, theirs, addresses := bfdConfigs()
	if err := errors.Join(
		netns.Batch(ctx, node, strings.ReplaceAll(bfdLinks, "PEERS", peers)),
		netns.Batch(ctx, peers, addresses+"link set eth0 up\n"),
	); err != nil {
		return r, err
	}
	group, ctx := errgroup.WithContext(ctx)
	ctx, cancel := context.WithCancel(ctx)
	defer func() {
		cancel()
		_ = group.Wait() // Everything was killed.
	}()
	var ends []*bfdEnd
	for _, e := range []struct {
		space   string
		configs []bfd.SessionConfig
	}{{node, ours}, {peers, theirs}} {
		end, err := startBFDEnd(ctx, group, e.space, e.configs)
		if err != nil {
			return r, err
		}
		ends = append(ends, end)
	}
	busy, err := machineCalm(ctx)
	if err != nil {
		return r, err
	}
	if err := bfdUp(ctx, ends); err != nil {
		return r, err
	}
	var s sample
	err = amid(ctx, busyThreads, func(ctx context.Context) (err error) {
		s, err = soakBFD(ctx, ends, duration)
		return err
	})
	if err != nil {
		return r, err
	}
	s.Figures["machine_busy_before_percent"] = busy
	say("%s", s)
	return result{Runs: []sample{s}}, nil
}

// bfdConfigs returns the sessions of both ends, and the commands that give the peers' end
// their addresses.
func bfdConfigs() (ours, theirs []bfd.SessionConfig, addresses string) {
	session := func(peer, local netip.Addr) bfd.SessionConfig {
		return bfd.SessionConfig{
			Key:              bfd.Key{Peer: peer, Local: local},
			TransmitInterval: bfdInterval, ReceiveInterval: bfdInterval, DetectMultiplier: bfdMultiplier,
		}
	}
	for i := range bfdSessions {
		node, peer := netip.MustParseAddr("198.18.0.1"), netip.AddrFrom4([4]byte{198, 18, 1, byte(1 + i)})
		prefix := "/16"
		if i%2 == 1 {
			node, peer = netip.MustParseAddr("2001:db8::1"), netip.MustParseAddr(fmt.Sprintf("2001:db8::1:%x", 1+i))
			prefix = "/64 nodad"
		}
		addresses += "addr add " + peer.String() + prefix + " dev eth0\n"
		ours, theirs = append(ours, session(peer, node)), append(theirs, session(node, peer))
	}
	return ours, theirs, addresses
}

// bfdUp waits until all sessions are Up at the interval that was asked for.
func bfdUp(ctx context.Context, ends []*bfdEnd) error {
	for deadline := time.Now().Add(bfdPatience); ; {
		ready := true
		for _, e := range ends {
			state, err := e.ask()
			if err != nil {
				return err
			}
			ready = ready && state.Fast == bfdSessions
		}
		switch {
		case ready:
			return nil
		case time.Now().After(deadline):
			return errors.New("not all sessions come up")
		}
		if err := pause(ctx, time.Second); err != nil {
			return err
		}
	}
}

// soakBFD watches the sessions for a time.
func soakBFD(ctx context.Context, ends []*bfdEnd, duration time.Duration) (sample, error) {
	s := newSample()
	var before, after []bfdState
	var cpu []float64
	for _, e := range ends {
		state, err := e.ask()
		if err != nil {
			return s, err
		}
		before = append(before, state)
		seconds, err := processorSeconds(e.process)
		if err != nil {
			return s, err
		}
		cpu = append(cpu, seconds)
	}
	if err := pause(ctx, duration); err != nil {
		return s, err
	}
	for i, e := range ends {
		seconds, err := processorSeconds(e.process)
		if err != nil {
			return s, err
		}
		cpu[i] = 100 * (seconds - cpu[i]) / duration.Seconds()
		state, err := e.ask()
		if err != nil {
			return s, err
		}
		after = append(after, state)
		s.Figures["false_downs"] += float64(state.Downs - before[i].Downs)
	}
	if after[0].Received == before[0].Received {
		return s, errors.New("no packets were received")
	}
	s.Figures["cpu_percent"] = cpu[0]
	s.Figures["duration_s"] = duration.Seconds()
	s.Figures["received_per_second"] = float64(after[0].Received-before[0].Received) / duration.Seconds()
	s.Figures["longest_gap_ms"] = ms(max(after[0].LongestGap, after[1].LongestGap))
	return s, nil
}

// bfdState is what an end says of its sessions when it is asked, a line of JSON.
type bfdState struct {
	// Fast are sessions that are Up at the interval that was asked for.
	Fast int `json:"fast"`
	// Downs is how often one ceased to be Up, Received what all received.
	Downs    uint64 `json:"downs"`
	Received uint64 `json:"received"`
	// LongestGap is that of the session with the longest.
	LongestGap time.Duration `json:"longestGap"`
}

// bfdEnd is a process with one end of all sessions.
type bfdEnd struct {
	process string // its directory in /proc
	in      *json.Encoder
	out     *json.Decoder
}

// startBFDEnd starts one in a namespace, until ctx ends.
func startBFDEnd(ctx context.Context, group *errgroup.Group, space string, configs []bfd.SessionConfig) (*bfdEnd, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	cmd := exec.CommandContext(ctx, "ip", "netns", "exec", space, self, bfdEndCommand)
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	group.Go(cmd.Wait)
	e := &bfdEnd{process: fmt.Sprintf("/proc/%d", cmd.Process.Pid), in: json.NewEncoder(in), out: json.NewDecoder(out)}
	return e, e.in.Encode(configs)
}

// ask asks the process for the state of its sessions.
func (e *bfdEnd) ask() (s bfdState, err error) {
	if err := e.in.Encode(struct{}{}); err != nil {
		return s, err
	}
	return s, e.out.Decode(&s)
}

// runBFDEnd is such a process, which keeps its sessions as the announcer does: a line with the
// sessions, and one for each question.
func runBFDEnd(ctx context.Context, in io.Reader, out io.Writer) error {
	runtime.GOMAXPROCS(realtime.Processors(runtime.NumCPU()))
	if err := realtime.Share(); err != nil {
		return err
	}
	thread := realtime.NewThread(true, func(class realtime.Class, err error) {
		if err != nil {
			fmt.Fprintln(os.Stderr, class, err)
		}
	})
	loop, err := realtime.NewLoop(thread)
	if err != nil {
		return err
	}
	lines := bufio.NewScanner(in)
	lines.Buffer(nil, 1<<20)
	var configs []bfd.SessionConfig
	if !lines.Scan() {
		return errors.Join(errors.New("no sessions"), lines.Err())
	}
	if err := json.Unmarshal(lines.Bytes(), &configs); err != nil {
		return err
	}
	runner := bfd.New(bfd.Options{Loop: loop})
	if err := runner.Set(configs); err != nil {
		return err
	}
	group, ctx := errgroup.WithContext(ctx)
	ctx, cancel := context.WithCancel(ctx)
	group.Go(func() error { return runner.Run(ctx) })
	group.Go(func() error {
		defer cancel()
		answers := json.NewEncoder(out)
		for lines.Scan() {
			if err := answers.Encode(stateOf(runner.Sessions())); err != nil {
				return err
			}
		}
		return lines.Err()
	})
	return group.Wait()
}

func stateOf(all []bfd.Status) bfdState {
	var state bfdState
	for _, s := range all {
		if s.State == bfd.Up && s.Interval == bfdInterval && s.DetectionTime == bfdMultiplier*bfdInterval {
			state.Fast++
		}
		state.Downs += s.Downs
		state.Received += s.Received
		state.LongestGap = max(state.LongestGap, s.LongestGap)
	}
	return state
}
