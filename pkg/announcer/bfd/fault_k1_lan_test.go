package bfd_test

import (
	"math/rand/v2"
	"net/netip"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"baremetal.cloud/ccm/pkg/announcer/bfd"
	"baremetal.cloud/ccm/pkg/announcer/bfd/protocol"
)

// TestFault_K1_4_ForgedBFDPackets: packets that a machine on the link forges take no room from those
// of peers, and few of them are read: from strangers, under discriminators of no session, and without
// one under a peer's address. The session goes on.
func TestFault_K1_4_ForgedBFDPackets(t *testing.T) {
	const flood = 20000
	for name, c := range map[string]struct {
		network, peer, from, to string
		discriminator           bool
		level, ttl              int
	}{
		"a stranger's":                    {"udp4", "192.0.2.2", "192.0.2.3:0", "192.0.2.1:3784", false, unix.IPPROTO_IP, unix.IP_TTL},
		"a peer's, of no session":         {"udp4", "192.0.2.2", "192.0.2.2:0", "192.0.2.1:3784", true, unix.IPPROTO_IP, unix.IP_TTL},
		"a peer's, without discriminator": {"udp4", "192.0.2.2", "192.0.2.2:0", "192.0.2.1:3784", false, unix.IPPROTO_IP, unix.IP_TTL},
		"the same by IPv6":                {"udp6", "2001:db8::2", "[2001:db8::2]:0", "[2001:db8::1]:3784", false, unix.IPPROTO_IPV6, unix.IPV6_UNICAST_HOPS},
	} {
		t.Run(name, func(t *testing.T) {
			l := newLAN(t)
			l.node.AwaitUp(t, "eth0")
			l.host.AwaitUp(t, "host0")
			node := run(t, l.node, bfd.Options{}, session(c.peer))
			run(t, l.host, bfd.Options{}, session(netip.MustParseAddrPort(c.to).Addr().String(), func(s *bfd.SessionConfig) { s.Local = netip.MustParseAddr(c.peer) }))
			await(t, node, bfd.Up)
			forger := plainSocket(t, l.host, c.network, c.from, [3]int{c.level, c.ttl, 255})
			began, before := time.Now(), read(node)
			for range flood {
				p := protocol.Packet{State: bfd.Init, DetectMultiplier: 3, MyDiscriminator: 9, DesiredMinTx: time.Second, RequiredMinRx: time.Second}
				if c.discriminator {
					p.YourDiscriminator = rand.Uint32() | 1
				}
				_, err := forger.WriteToUDPAddrPort(p.Encode(""), netip.MustParseAddrPort(c.to))
				require.NoError(t, err)
			}
			heard := node.Sessions()[0].Received
			require.Eventually(t, func() bool { return node.Sessions()[0].Received > heard+3 }, patience, 5*time.Millisecond, "the peer is heard")
			// The peer itself sends ten to fourteen a second.
			require.LessOrEqual(t, read(node)-before, uint64(600+600*time.Since(began).Seconds()))
			require.Less(t, read(node)-before, uint64(flood/2))
			require.Equal(t, uint64(1), node.Sessions()[0].Ups)
			require.Equal(t, bfd.Up, node.Sessions()[0].State)
		})
	}
}

// read returns how many packets were read so far.
func read(r *bfd.Runner) (n uint64) {
	for _, count := range r.Dropped() {
		n += count
	}
	for _, s := range r.Sessions() {
		n += s.Received
		for _, count := range s.Dropped {
			n += count
		}
	}
	return n
}
