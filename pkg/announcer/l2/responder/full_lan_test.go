package responder_test

import (
	"net/netip"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"baremetal.cloud/ccm/pkg/announcer/l2/arp"
	"baremetal.cloud/ccm/pkg/announcer/l2/ndp"
	"baremetal.cloud/ccm/pkg/announcer/l2/responder"
)

// hold has the node's interface keep what is sent, but for a frame a second.
func (l *realLAN) hold(t testing.TB) {
	t.Helper()
	const second = uint32(time.Second / 64) // As the kernel counts it.
	l.node.Change(t, "eth0", func(i netlink.Link) error {
		return netlink.QdiscReplace(&netlink.Tbf{
			QdiscAttrs: netlink.QdiscAttrs{LinkIndex: i.Attrs().Index, Handle: netlink.MakeHandle(1, 0), Parent: netlink.HANDLE_ROOT},
			Rate:       100, Limit: 1 << 24, Buffer: second, // All in bytes and by the second.
		})
	})
}

// TestFault_K1_4_AFullQueueHoldsNothingUp: where the network takes no frame any longer, replies and
// announcements are dropped and counted. The thread that sends heartbeats goes on at once, also one
// that a goroutine reads for.
func TestFault_K1_4_AFullQueueHoldsNothingUp(t *testing.T) {
	for name, tt := range map[string]struct {
		protocol responder.Protocol
		address  string
		polled   bool
	}{
		"ARP": {arp.Protocol{}, "192.0.2.0", true}, "ARP, by a goroutine": {arp.Protocol{}, "192.0.2.0", false},
		"NDP": {ndp.Protocol{}, "2001:db8::", true}, "NDP, by a goroutine": {ndp.Protocol{}, "2001:db8::", false},
	} {
		t.Run(name, func(t *testing.T) {
			l := vethLAN(t)
			r := l.answering(t, tt.protocol, tt.address, tt.polled)
			l.hold(t)
			address := netip.MustParseAddr(tt.address)
			var unsent []netip.Addr
			for len(unsent) == 0 { // Until what the socket may hold is full.
				var err error
				if unsent, err = r.Announce([]netip.Addr{address}); len(unsent) > 0 {
					require.ErrorIs(t, err, unix.EAGAIN)
				}
			}
			failed := r.Counts().Failed
			sender := l.host.Sender(t, "host0")
			ask := crowd(t, address)
			for i := range 100 {
				sender.Send(ask(i))
			}
			require.Eventually(t, func() bool { return r.Counts().Failed >= failed+50 }, patience, time.Millisecond, "replies are dropped")
		})
	}
}
