package main

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"baremetal.cloud/ccm/pkg/announcer/control"
	"baremetal.cloud/ccm/pkg/announcer/plan"
	"baremetal.cloud/ccm/pkg/announcer/planfile"
	"baremetal.cloud/ccm/test/e2e/testbed/netns"
)

const (
	// ringNodes share all addresses of a ring.
	ringNodes = 3
	// ringIPv6 is the number of the one address that is not IPv4; node1 answers for it.
	ringIPv6 = ringNodes
	// ringPatience is how long a ring may take until each address is answered for.
	ringPatience = time.Minute
)

// ring is a LAN of announcers without Kubernetes: each has its plan from its disk. It costs little
// beside what is measured.
type ring struct {
	dir, program string
	switchSpace  string
	nodes        []*ringNode
	group        *errgroup.Group
	stop         context.CancelFunc
}

type ringNode struct {
	name, space string
	mac         net.HardwareAddr
	address     netip.Addr
	process     *os.Process
}

// ringAddress is the i-th address that is answered for.
func ringAddress(i int) netip.Addr {
	if i == ringIPv6 {
		return netip.MustParseAddr("2001:db8::1:1")
	}
	return netip.AddrFrom4([4]byte{198, 18, byte(100 + i/250), byte(1 + i%250)})
}

// startRing starts one with so many addresses, whose announcers are built with tags. Those run in
// the CPU group where that is not nil.
func startRing(ctx context.Context, addresses int, tags string, group *cpuGroup) (*ring, error) {
	r, err := newRing(ctx, tags)
	if err == nil {
		err = r.start(ctx, addresses, group)
	}
	if err == nil {
		err = r.settle(ctx, addresses)
	}
	if err != nil {
		return nil, errors.Join(err, r.end())
	}
	return r, nil
}

// newRing makes a ring on which nothing runs yet.
func newRing(ctx context.Context, tags string) (r *ring, err error) {
	r = &ring{}
	if r.dir, err = os.MkdirTemp("", "baremetal-ring-"); err != nil {
		return r, err
	}
	r.program = filepath.Join(r.dir, "baremetal-announcer")
	build := exec.CommandContext(ctx, "go", "build", "-tags="+tags, "-o", r.program, "./cmd/baremetal-announcer")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		return r, fmt.Errorf("%s: %w: %s", build, err, out)
	}
	return r, r.wire(ctx)
}

// start starts the announcers.
func (r *ring) start(ctx context.Context, addresses int, group *cpuGroup) error {
	running, stop := context.WithCancel(context.WithoutCancel(ctx))
	r.stop = stop
	r.group, running = errgroup.WithContext(running)
	for _, n := range r.nodes {
		if err := r.startNode(running, n, addresses, group); err != nil {
			return err
		}
	}
	return nil
}

// wire makes the namespaces: a bridge to which all nodes are connected.
func (r *ring) wire(ctx context.Context) error {
	prefix := fmt.Sprintf("ring-bench-%d-", os.Getpid())
	r.switchSpace = prefix + "switch"
	if err := netns.Add(ctx, r.switchSpace); err != nil {
		return err
	}
	script := "link add lan0 type bridge mcast_snooping 0\nlink set lan0 up\n"
	for i := range ringNodes {
		n := &ringNode{name: fmt.Sprint("node", 1+i), space: fmt.Sprint(prefix, "node", 1+i)}
		n.mac, n.address = net.HardwareAddr{2, 0, 0, 0, 1, byte(1 + i)}, netip.AddrFrom4([4]byte{198, 18, 0, byte(1 + i)})
		if err := netns.Add(ctx, n.space); err != nil {
			return err
		}
		r.nodes = append(r.nodes, n)
		script += fmt.Sprintf("link add %s type veth peer name eth0 netns %s\nlink set %s master lan0 up\n", n.name, n.space, n.name)
	}
	script += "addr add 198.18.0.250/16 dev lan0\naddr add 2001:db8::fa/64 dev lan0 nodad\n"
	if err := netns.Batch(ctx, r.switchSpace, script); err != nil {
		return err
	}
	for _, n := range r.nodes {
		if err := netns.Batch(ctx, n.space, fmt.Sprintf("link set eth0 address %s\naddr add %s/16 dev eth0\naddr add 2001:db8::%d/64 dev eth0 nodad\nlink set eth0 up\n", n.mac, n.address, n.address.As4()[3])); err != nil {
			return err
		}
	}
	return nil
}

// plan is the plan of n: addresses in turn are first those of each node, the others are backups.
func (r *ring) plan(n *ringNode, addresses int) plan.NodePlan {
	set := plan.NodePlan{
		Cluster: "ring", Version: plan.Version{Term: 1, Revision: 1},
		Failover: plan.Failover{TransmitInterval: 100 * time.Millisecond, DetectMultiplier: 3},
	}
	for i, other := range r.nodes {
		if other == n {
			continue
		}
		p := plan.Peer{Node: other.name, Interfaces: []plan.Interface{{
			Name: "eth0", MAC: other.mac.String(), Prefixes: []netip.Prefix{netip.PrefixFrom(other.address, 16)},
		}}}
		self := int(n.address.As4()[3]) - 1
		p.Key[0], p.Key[1] = byte(1+min(i, self)), byte(1+max(i, self))
		set.Failover.Peers = append(set.Failover.Peers, p)
	}
	var all []plan.Assignment
	for i := range addresses {
		var candidates []string
		for j := range r.nodes {
			candidates = append(candidates, r.nodes[(i+j)%len(r.nodes)].name)
		}
		all = append(all, plan.Assignment{Address: ringAddress(i), Version: set.Version, Candidates: candidates})
	}
	set.Assignments = plan.NewIndex(all...)
	return set
}

// startNode starts the announcer of n with its plan on its disk.
func (r *ring) startNode(ctx context.Context, n *ringNode, addresses int, group *cpuGroup) error {
	part := func(text string) string { return base64.RawURLEncoding.EncodeToString([]byte(text)) }
	token := part("{}") + "." + part(`{"kubernetes.io":{"serviceaccount":{"uid":"ring"}}}`) + "." + part("-")
	nodePlan, err := planfile.Encode(control.PersistedPlan{Node: n.name, Account: "ring", Plan: r.plan(n, addresses)})
	if err != nil {
		return err
	}
	file := func(name string) string { return filepath.Join(r.dir, n.name+"."+name) }
	if err := errors.Join(os.WriteFile(file("token"), []byte(token), 0o600), os.WriteFile(file("plan"), nodePlan, 0o600)); err != nil {
		return err
	}
	log, err := os.Create(file("log"))
	if err != nil {
		return err
	}
	defer log.Close()
	cmd := exec.Command("ip", "netns", "exec", n.space, r.program, "--node="+n.name, "--controllers=127.0.0.1:1",
		"--token-file="+file("token"), "--plan-file="+file("plan"), "--ca-file="+file("none"))
	cmd.Stderr, cmd.Env = log, append(os.Environ(), "GOMEMLIMIT=96MiB")
	group.enter(cmd)
	if err := cmd.Start(); err != nil {
		return err
	}
	n.process = cmd.Process
	r.group.Go(func() error {
		stop := context.AfterFunc(ctx, func() { _ = n.process.Kill() })
		defer stop()
		if err := cmd.Wait(); ctx.Err() == nil {
			return fmt.Errorf("announcer of %s ended: %w", n.name, err)
		}
		return nil
	})
	return nil
}

// settle waits until each address is answered for.
func (r *ring) settle(ctx context.Context, addresses int) error {
	for deadline := time.Now().Add(ringPatience); ; {
		all, err := r.sum(ctx, `baremetal_announcer_addresses{state="claimed"}`)
		if err == nil && all == float64(addresses) {
			return pause(ctx, 2*time.Second)
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("%v of %d addresses are answered for: %w", all, addresses, err)
		}
		if err := pause(ctx, 200*time.Millisecond); err != nil {
			return err
		}
	}
}

// sum adds up a metric of all announcers.
func (r *ring) sum(ctx context.Context, metric string) (sum float64, err error) {
	for _, n := range r.nodes {
		text, err := n.metrics(ctx)
		if err != nil {
			return 0, err
		}
		value, err := metricIn(text, metric)
		if err != nil {
			return 0, fmt.Errorf("%s: %w", n.name, err)
		}
		sum += value
	}
	return sum, nil
}

// metrics returns those of n's announcer.
func (n *ringNode) metrics(ctx context.Context) (string, error) {
	client := http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{DialContext: netns.Dialer(n.space), DisableKeepAlives: true}}
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://127.0.0.1:10271/metrics", nil)
	if err != nil {
		return "", err
	}
	answer, err := client.Do(request)
	if err != nil {
		return "", err
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(answer.Body)
	return string(text), err
}

// seconds returns the processor time of n's announcer.
func (n *ringNode) seconds() (float64, error) {
	return processorSeconds(fmt.Sprintf("/proc/%d", n.process.Pid))
}

// end removes all of it.
func (r *ring) end() error {
	var failed []error
	if r.stop != nil {
		r.stop()
		failed = append(failed, r.group.Wait())
	}
	for _, n := range r.nodes {
		failed = append(failed, netns.Delete(context.Background(), n.space))
	}
	if r.switchSpace != "" {
		failed = append(failed, netns.Delete(context.Background(), r.switchSpace))
	}
	if os.Getenv("KEEP_RING") == "" {
		failed = append(failed, os.RemoveAll(r.dir))
	}
	return errors.Join(failed...)
}

// mishaps are what must not happen while nothing is wrong: an announcer that was kept from the
// processor, and an address that moves.
var mishaps = map[string]string{
	"takeovers": `baremetal_announcer_claims_started_total{cause="takeover"}`,
	"overslept": `baremetal_announcer_claims_ended_total{cause="overslept"}`,
}

// mishaps returns how many of them there were so far.
func (r *ring) mishaps(ctx context.Context) (map[string]float64, error) {
	out := map[string]float64{}
	for name, metric := range mishaps {
		value, err := r.sum(ctx, metric)
		if err != nil {
			return nil, err
		}
		out[strings.TrimSpace(name)] = value
	}
	return out, nil
}
