package probe_test

import (
	"net"
	"net/netip"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/net/bpf"

	"baremetal.cloud/ccm/pkg/announcer/l2/arp"
	"baremetal.cloud/ccm/pkg/announcer/l2/ndp"
	"baremetal.cloud/ccm/pkg/announcer/l2/responder"
)

// TestClaims: whoever else announces one of our addresses is heard, in each form and of either
// family, and the filter lets it through; nothing is answered.
func TestClaims(t *testing.T) {
	for name, test := range map[string]struct {
		protocol interface {
			Announcement(port *responder.Port, address netip.Addr) [][]byte
			Probe(from net.HardwareAddr, address netip.Addr) []byte
		}
		claims             responder.Protocol
		vip, vip2, foreign netip.Addr
	}{
		"ARP": {arp.Protocol{}, arp.Claims{}, held, mine, free},
		"NDP": {ndp.Protocol{}, ndp.Claims{}, netip.MustParseAddr("2001:db8::200"), netip.MustParseAddr("2001:db8:9::200"), netip.MustParseAddr("2001:db8::201")},
	} {
		t.Run(name, func(t *testing.T) {
			us := &responder.Port{Index: 7, Name: "eth0", MAC: ours, Addresses: responder.NewAddresses(test.vip, test.vip2)}
			others := &responder.Port{MAC: theirs, Addresses: responder.NewAddresses(test.vip, test.foreign)}
			vm, err := bpf.NewVM(responder.Filter(test.claims, us.Addresses, 100))
			require.NoError(t, err)
			for _, c := range []struct {
				from, address string
				frames        [][]byte
				want          responder.Outcome
				passes        bool
			}{
				{"another machine", "ours", test.protocol.Announcement(others, test.vip), responder.Conflict, true},
				{"another machine", "its own", test.protocol.Announcement(others, test.foreign), responder.NotOurs, false},
				{"ourselves", "ours", test.protocol.Announcement(us, test.vip), responder.OwnFrame, true},
				{"another machine", "a question", [][]byte{test.protocol.Probe(theirs, test.vip)}, responder.Malformed, false},
			} {
				require.NotEmpty(t, c.frames)
				for _, frame := range c.frames {
					reply, outcome := test.claims.Decide(frame, us)
					require.Nil(t, reply)
					n, err := vm.Run(frame)
					require.NoError(t, err)
					require.Equal(t, c.want.String(), outcome.String(), "%s: %s", c.from, c.address)
					require.Equal(t, c.passes, n > 0, "%s: %s", c.from, c.address)
				}
			}
			_, ok := test.claims.Group(test.vip)
			require.False(t, ok, "nobody has to be asked")
		})
	}
}
