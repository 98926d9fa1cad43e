//go:build e2e

package e2e

import (
	"context"
	"math/rand/v2"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/net/ipv4"

	"baremetal.cloud/ccm/pkg/announcer/control"
	heartbeat "baremetal.cloud/ccm/pkg/announcer/failover"
	"baremetal.cloud/ccm/pkg/announcer/plan"
	"baremetal.cloud/ccm/test/e2e/testbed/lan"
	"baremetal.cloud/ccm/test/e2e/testbed/netns"
)

// liar is a hostile announcer: one with a node's token and keys. In reports it lies to the
// replicas (chaos_hostile_test.go), in heartbeats to its peers.
type liar struct {
	node      lan.Node
	mac       string
	addresses []netip.Addr
	others    []string
	boot, seq uint64
	client    *control.Client
	plan      atomic.Pointer[plan.NodePlan]

	sent, opened, plans atomic.Int64

	mu     sync.Mutex // guards random
	random *rand.Rand
}

// heartbeats lies to the peers until ctx ends: it answers whatever they send, and speaks first
// to those that are silent.
func (l *liar) heartbeats(ctx context.Context) error {
	conn, err := l.listen(ctx)
	if err != nil {
		return err
	}
	defer conn.Close()
	stop := context.AfterFunc(ctx, func() { _ = conn.SetReadDeadline(time.Unix(1, 0)) })
	defer stop()
	heard := map[string]heartbeat.Echo{}
	datagram := make([]byte, 2048)
	for next := time.Now(); ctx.Err() == nil; {
		watch := l.plan.Load().Failover
		if !time.Now().Before(next) {
			next = next.Add(watch.TransmitInterval)
			for _, p := range watch.Peers {
				l.send(conn, p, heard[p.Node])
			}
		}
		_ = conn.SetReadDeadline(next)
		if ctx.Err() != nil {
			return nil
		}
		n, _, err := conn.ReadFromUDPAddrPort(datagram)
		if err != nil {
			continue // It is time to send.
		}
		if p, err := heartbeat.NewKeyring(l.node.Name, watch.Peers).Open(datagram[:n]); err == nil {
			l.opened.Add(1)
			heard[p.From] = heartbeat.Echo{Incarnation: p.Incarnation, Seq: p.Seq}
		}
	}
	return nil
}

// listen opens the port for heartbeats on the node.
func (l *liar) listen(ctx context.Context) (conn *net.UDPConn, err error) {
	err = netns.Do(l.node.NetNS, func() error {
		c, err := (&net.ListenConfig{}).ListenPacket(ctx, "udp4", netip.AddrPortFrom(l.node.LAN.V4, heartbeatPort).String())
		if err != nil {
			return err
		}
		conn = c.(*net.UDPConn)
		return ipv4.NewConn(conn).SetTTL(255) // With less none is looked at.
	})
	return conn, err
}

// send tells a peer something.
func (l *liar) send(conn *net.UDPConn, to plan.Peer, heard heartbeat.Echo) {
	for _, a := range to.Addresses {
		if !a.Is4() {
			continue
		}
		packet := l.packet(heard)
		// It is refused where the peer is not there.
		_, _ = conn.WriteToUDPAddrPort(heartbeat.NewSealer(to.Key, l.node.Name, to.Node).Seal(packet), netip.AddrPortFrom(a, heartbeatPort))
		l.sent.Add(1)
		return
	}
}

// packet makes up what it says: that it claims everything under lists that there are not, with
// proofs that are none.
func (l *liar) packet(heard heartbeat.Echo) heartbeat.Packet {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.seq++
	part := &heartbeat.Part{Range: true}
	digest := heartbeat.Digest(0)
	for _, a := range l.addresses {
		claim := plan.Claim{Address: a, Version: l.far()}
		digest.Toggle(claim)
		part.Claims = append(part.Claims, claim)
		part.Proofs = append(part.Proofs, plan.Proof{byte(1 + l.random.IntN(255))})
	}
	if l.chance() {
		digest = heartbeat.Digest(l.random.Uint64())
	}
	return heartbeat.Packet{
		From: l.node.Name, Incarnation: l.boot, Seq: l.seq, Heard: heard,
		Hears: l.chance(), Unhealthy: l.chance(), Want: l.chance(), Apart: l.random.Uint32(),
		Detect: time.Duration(1+l.random.IntN(299)) * time.Second, Digest: digest, Part: part,
	}
}
