//go:build e2e

package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	node "baremetal.cloud/ccm/pkg/announcer/bgp"
	"baremetal.cloud/ccm/pkg/announcer/plan"
)

// Addresses of the node and of the router on their network, and the routes of the node.
const (
	nodeV4, routerV4       = "192.0.2.11", "192.0.2.1"
	nodeV6, routerV6       = "2001:db8::11", "2001:db8::1"
	nodeLocal, routerLocal = "fe80::11", "fe80::1"
	routeV4, routeV6       = "203.0.113.7/32", "2001:db8:60::7/128"
)

// pair is a node that speaks BGP and one router, each in a namespace, without a cluster.
type pair struct {
	*testing.T
	node, router string
	// vtysh and birdc are what to ask the router by.
	vtysh, birdc []string
	speaker      *node.Speaker
	// stop ends the BGP process as an announcer does that is asked to end.
	stop func()

	mu    sync.Mutex
	state node.State
}

func newPair(t *testing.T, name string) *pair {
	t.Helper()
	id := fmt.Sprintf("bcd-%d-%s", os.Getpid(), strings.ToLower(name))
	p := &pair{T: t, node: id + "-n", router: id + "-r"}
	for _, ns := range []string{p.node, p.router} {
		p.ip("netns", "add", ns)
		t.Cleanup(func() { _ = exec.Command("ip", "netns", "del", ns).Run() })
		p.ip("-n", ns, "link", "set", "lo", "up")
		p.in(ns, "sh", "-c", "cd /proc/sys/net/ipv6/conf && echo 0 >default/accept_dad && echo 0 >all/accept_dad && echo 1 >default/addr_gen_mode")
	}
	p.ip("link", "add", "eth0", "netns", p.node, "type", "veth", "peer", "name", "eth0", "netns", p.router)
	for ns, addresses := range map[string][]string{p.node: {nodeV4 + "/24", nodeV6 + "/64", nodeLocal + "/64"}, p.router: {routerV4 + "/24", routerV6 + "/64", routerLocal + "/64"}} {
		p.ip("-n", ns, "link", "set", "eth0", "up")
		for _, a := range addresses {
			p.ip("-n", ns, "address", "add", a, "dev", "eth0")
		}
	}
	return p
}

func (p *pair) ip(args ...string) { p.run(append([]string{"ip"}, args...)...) }

func (p *pair) in(ns string, args ...string) string {
	return p.run(append([]string{"ip", "netns", "exec", ns}, args...)...)
}

func (p *pair) run(args ...string) string {
	p.Helper()
	out, err := exec.Command(args[0], args[1:]...).CombinedOutput()
	require.NoError(p, err, "%v: %s", args, out)
	return string(out)
}

// start runs a program of the router until the test ends.
func (p *pair) start(args ...string) {
	p.Helper()
	cmd := exec.Command("ip", append([]string{"netns", "exec", p.router}, args...)...)
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	require.NoError(p, cmd.Start())
	p.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		if p.Failed() {
			p.Logf("%v:\n%s", args, out.String())
		}
	})
}

// frr runs FRR's bgpd with those lines about the neighbour, for which %s stands.
func (p *pair) frr(neighbour, general string, lines ...string) {
	p.Helper()
	dir, err := os.MkdirTemp("", "bcd-frr")
	require.NoError(p, err)
	p.Cleanup(func() { _ = os.RemoveAll(dir) })
	var b strings.Builder
	fmt.Fprintf(&b, "router bgp 64513\n bgp router-id %s\n no bgp ebgp-requires-policy\n no bgp default ipv4-unicast\n%s neighbor %s remote-as 64512\n neighbor %[3]s timers connect 1\n", routerV4, general, neighbour)
	for _, line := range lines {
		fmt.Fprintf(&b, " neighbor %s %s\n", neighbour, line)
	}
	for _, family := range []string{"ipv4", "ipv6"} {
		fmt.Fprintf(&b, " address-family %s unicast\n  neighbor %s activate\n exit-address-family\n", family, neighbour)
	}
	b.WriteString("exit\n")
	require.NoError(p, os.WriteFile(filepath.Join(dir, "bgpd.conf"), []byte(b.String()), 0o644))
	require.NoError(p, os.WriteFile(filepath.Join(dir, "zebra.conf"), []byte("hostname frr\n"), 0o644))
	p.run("chown", "-R", "frr:frr", dir)
	for _, daemon := range []string{"zebra", "bgpd"} {
		p.start("/usr/lib/frr/"+daemon, "-f", filepath.Join(dir, daemon+".conf"), "-i", filepath.Join(dir, daemon+".pid"), "-z", filepath.Join(dir, "zserv.api"), "--vty_socket", dir, "-P", "0", "--log", "stdout")
		require.Eventually(p, func() bool {
			_, err := os.Stat(filepath.Join(dir, "zserv.api"))
			return err == nil
		}, time.Minute, 10*time.Millisecond, "zebra does not listen")
	}
	p.vtysh = []string{"vtysh", "--vty_socket", dir}
}

// bird runs BIRD with those lines about the neighbour.
func (p *pair) bird(neighbour string, lines ...string) {
	p.Helper()
	dir := p.TempDir()
	config := fmt.Sprintf("router id %s;\nprotocol device {}\nprotocol direct { ipv4; ipv6; }\nprotocol bgp node {\n local as 64513;\n neighbor %s as 64512;\n error wait time 1, 2;\n %s\n ipv4 { import all; export none; };\n ipv6 { import all; export none; };\n}\n", routerV4, neighbour, strings.Join(lines, "\n "))
	require.NoError(p, os.WriteFile(filepath.Join(dir, "bird.conf"), []byte(config), 0o644))
	p.start("/usr/sbin/bird", "-f", "-c", filepath.Join(dir, "bird.conf"), "-s", filepath.Join(dir, "ctl"), "-P", filepath.Join(dir, "pid"))
	p.birdc = []string{"birdc", "-s", filepath.Join(dir, "ctl")}
}

// speak runs the node's BGP process with one peer and the two routes.
func (p *pair) speak(peer node.Peer) {
	p.Helper()
	program, err := filepath.Abs("../../.cache/bin/baremetal-announcer")
	require.NoError(p, err)
	p.begin(func() *exec.Cmd { return exec.Command("ip", "netns", "exec", p.node, program, "bgp-speaker") })
	p.set(1, peer, routeV4, routeV6)
}

// begin runs the BGP process.
func (p *pair) begin(command func() *exec.Cmd) {
	p.speaker = node.NewSpeaker(node.Options{Command: command, OnState: func(s node.State) {
		p.mu.Lock()
		defer p.mu.Unlock()
		p.state = s
	}})
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = p.speaker.Run(ctx)
	}()
	p.stop = func() {
		cancel()
		<-done
		p.mu.Lock()
		defer p.mu.Unlock()
		p.state = node.State{}
	}
	p.Cleanup(p.stop)
}

// set makes peer the only one, and announces routes, which are sorted, to it.
func (p *pair) set(revision uint64, peer node.Peer, routes ...string) {
	d := node.Desired{
		Plan: plan.Version{Term: 1, Revision: revision}, Peers: []node.Peer{peer},
		Advertisements: []plan.Advertisement{{Name: "all", Peers: []string{peer.Name}}},
	}
	for _, r := range routes {
		d.Routes = append(d.Routes, plan.Route{Prefix: netip.MustParsePrefix(r), Advertisements: []string{"all"}})
	}
	p.speaker.Set(d)
}

// session returns the state of the session.
func (p *pair) session() node.Session {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.state.Sessions) == 0 {
		return node.Session{}
	}
	return p.state.Sessions[0]
}

func (p *pair) until(what string, ok func(node.Session) bool) {
	p.Helper()
	require.Eventually(p, func() bool { return ok(p.session()) }, time.Minute, 20*time.Millisecond, what)
}

func established(s node.Session) bool {
	return s.State == plan.BGPEstablished && s.IPv4 && s.IPv6 && s.Routes == 2
}

// has reports whether the router has both routes with these next hops.
func (p *pair) has(hopV4, hopV6 string) error {
	for prefix, hop := range map[string]string{routeV4: hopV4, routeV6: hopV6} {
		var out []byte
		var err error
		if p.vtysh != nil {
			family := "ipv4"
			if strings.Contains(prefix, ":") {
				family = "ipv6"
			}
			out, err = exec.Command("ip", append([]string{"netns", "exec", p.router}, append(p.vtysh, "-c", "show bgp "+family+" unicast "+prefix+" json")...)...).CombinedOutput()
			if err == nil && !json.Valid(out) {
				err = fmt.Errorf("%s", out)
			}
		} else {
			out, err = exec.Command("ip", append([]string{"netns", "exec", p.router}, append(p.birdc, "show", "route", "for", prefix, "all")...)...).CombinedOutput()
		}
		if err != nil || !bytes.Contains(out, []byte(hop)) {
			return fmt.Errorf("%s is not by %s: %s (%v)", prefix, hop, out, err)
		}
	}
	return nil
}

func (p *pair) routed(hopV4, hopV6 string) {
	p.Helper()
	var last error
	require.Eventually(p, func() bool { last = p.has(hopV4, hopV6); return last == nil }, time.Minute, 50*time.Millisecond, "%v", last)
}

// routerPeer is the router as a peer of the node.
func routerPeer(address string) node.Peer {
	return node.Peer{
		BGPPeer: plan.BGPPeer{
			Name: "router", Address: netip.MustParseAddr(address), Port: 179, LocalASN: 64512, PeerASN: 64513,
			HoldTime: 9 * time.Second, KeepaliveTime: 3 * time.Second, ConnectRetryTime: time.Second, IPv4: true, IPv6: true,
		},
		RouterID: netip.MustParseAddr(nodeV4), NextHopV4: netip.MustParseAddr(nodeV4), NextHopV6: netip.MustParseAddr(nodeV6),
	}
}

// TestFault_K5_6_Sessions: sessions to FRR and to BIRD come about with all that a peer may ask for, and
// not with another password or from farther away.
func TestFault_K5_6_Sessions(t *testing.T) {
	for name, tt := range map[string]struct {
		router, neighbour string
		change            func(*node.Peer)
		frr, bird         []string
	}{
		"IPv4": {routerV4, nodeV4, func(*node.Peer) {}, nil, nil},
		"IPv6": {routerV6, nodeV6, func(*node.Peer) {}, nil, nil},
		"password": {routerV4, nodeV4, func(p *node.Peer) { p.Password = "secret" },
			[]string{"password secret"}, []string{`password "secret";`}},
		"passwordV6": {routerV6, nodeV6, func(p *node.Peer) { p.Password = "secret" },
			[]string{"password secret"}, []string{`password "secret";`}},
		"ttl": {routerV4, nodeV4, func(p *node.Peer) { p.TTLSecurity = 1 },
			[]string{"ttl-security hops 1"}, []string{"ttl security on;"}},
		"ttlV6": {routerV6, nodeV6, func(p *node.Peer) { p.TTLSecurity = 1 },
			[]string{"ttl-security hops 1"}, []string{"ttl security on;"}},
		"multihop": {routerV4, nodeV4, func(p *node.Peer) { p.EBGPMultihop = 3 },
			[]string{"ebgp-multihop 3"}, []string{"multihop 3;"}},
		"source": {routerV4, nodeV4, func(p *node.Peer) {
			p.SourceAddress, p.Interface = netip.MustParseAddr(nodeV4), "eth0"
		}, nil, nil},
		"local": {routerLocal + "%eth0", nodeLocal, func(p *node.Peer) { p.SourceAddress = netip.MustParseAddr(nodeLocal + "%eth0") },
			[]string{"interface eth0"}, []string{`interface "eth0";`}},
	} {
		for _, program := range []string{"frr", "bird"} {
			t.Run(name+" "+program, func(t *testing.T) {
				t.Parallel()
				p := newPair(t, name+program)
				if program == "frr" {
					p.frr(tt.neighbour, "", tt.frr...)
				} else {
					p.bird(tt.neighbour, tt.bird...)
				}
				peer := routerPeer(tt.router)
				tt.change(&peer)
				p.speak(peer)
				p.until("established", established)
				p.routed(nodeV4, nodeV6)
				require.Zero(t, p.session().Losses)
			})
		}
	}
}

// TestFault_K5_4_LossOnPort179: with graceful restart FRR keeps the routes while the packets of
// BGP are lost for longer than the hold time, and after it; a planned end takes them away at once.
func TestFault_K5_4_LossOnPort179(t *testing.T) {
	t.Parallel()
	p := newPair(t, "loss")
	p.frr(nodeV4, " bgp graceful-restart\n bgp graceful-restart stalepath-time 120\n bgp graceful-restart notification\n")
	peer := routerPeer(routerV4)
	peer.GracefulRestart = time.Minute
	p.speak(peer)
	p.until("established", established)
	p.routed(nodeV4, nodeV6)
	p.in(p.node, "nft", "add table inet loss; add chain inet loss in { type filter hook input priority 0; }; add rule inet loss in tcp sport 179 drop; add chain inet loss out { type filter hook output priority 0; }; add rule inet loss out tcp dport 179 drop")
	var lost error
	held := func(done func() bool) {
		for deadline := time.Now().Add(time.Minute); !done() && time.Now().Before(deadline); time.Sleep(50 * time.Millisecond) {
			if err := p.has(nodeV4, nodeV6); err != nil && lost == nil {
				lost = err
			}
		}
	}
	held(func() bool { return !established(p.session()) })
	began := time.Now()
	held(func() bool { return time.Since(began) > 5*time.Second })
	p.in(p.node, "nft", "delete table inet loss")
	held(func() bool { return established(p.session()) })
	require.NoError(t, lost, "FRR dropped a route")
	p.until("established again", established)
	require.EqualValues(t, 1, p.session().Losses)

	// Another hold time is negotiated: the session is another one, and no route goes meanwhile.
	peer.HoldTime = 12 * time.Second
	p.set(2, peer, routeV4, routeV6)
	p.until("begun anew", func(s node.Session) bool { return !established(s) })
	held(func() bool { return established(p.session()) })
	require.NoError(t, lost, "FRR dropped a route")
	require.EqualValues(t, 1, p.session().Losses)

	// Another router: FRR has to drop the routes, although it would keep them over a restart.
	peer.Address = netip.MustParseAddr("192.0.2.99")
	p.set(3, peer, routeV4, routeV6)
	require.Eventually(t, func() bool { return p.has(nodeV4, nodeV6) != nil }, 5*time.Second, 20*time.Millisecond, "FRR keeps the routes of a node that has left")
}

// TestFault_K5_3_GracefulRestartTakenAway: a peer that has other families, then no longer asks for graceful
// restart, and whose BGP process ends after that, has its session and routes again with either router.
func TestFault_K5_3_GracefulRestartTakenAway(t *testing.T) {
	for _, program := range []string{"frr", "bird"} {
		t.Run(program, func(t *testing.T) {
			t.Parallel()
			p := newPair(t, "away"+program)
			if program == "frr" {
				p.frr(nodeV4, " bgp graceful-restart\n")
			} else {
				p.bird("range 192.0.2.0/24", "graceful restart on;", `dynamic name "node";`)
			}
			peer := routerPeer(routerV4)
			peer.GracefulRestart = time.Minute
			p.speak(peer)
			p.until("established", established)
			p.routed(nodeV4, nodeV6)
			for i, ipv4 := range []bool{false, true} {
				peer.IPv4 = ipv4
				p.set(uint64(2+i), peer, routeV4, routeV6)
				p.until("established with other families", func(s node.Session) bool { return s.IPv4 == ipv4 && s.IPv6 })
			}
			p.routed(nodeV4, nodeV6)
			peer.IPv4 = false
			p.set(4, peer, routeV4, routeV6)
			p.until("established with IPv6 alone", func(s node.Session) bool { return !s.IPv4 && s.IPv6 })
			peer.IPv4, peer.GracefulRestart = true, 0
			p.set(5, peer, routeV4, routeV6)
			p.until("established without it", established)
			p.routed(nodeV4, nodeV6)
			p.stop()
			require.Eventually(t, func() bool { return p.has(nodeV4, nodeV6) != nil }, time.Minute, 20*time.Millisecond, "the routes stay")
			p.speak(peer)
			p.until("established after a restart", established)
			p.routed(nodeV4, nodeV6)
		})
	}
}
