package observer

import (
	"net"
	"net/netip"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"baremetal.cloud/ccm/pkg/announcer/l2/arp"
	"baremetal.cloud/ccm/pkg/announcer/l2/ndp"
	"baremetal.cloud/ccm/pkg/announcer/l2/responder"
)

// What the prober asks is what announcers answer, and what they say is what is read.
func TestQuestionsAndAnswers(t *testing.T) {
	for address, protocol := range map[string]responder.Protocol{"198.18.0.1": arp.Protocol{}, "2001:db8:5018::1": ndp.Protocol{}} {
		a := netip.MustParseAddr(address)
		port := &responder.Port{Index: 1, Name: "eth0", MAC: net.HardwareAddr{2, 0, 0, 0, 0, 7}, Addresses: responder.NewAddresses(a)}
		asked, err := question(a)
		require.NoError(t, err)
		_, isAnswer := parse(asked)
		assert.Equal(t, a.Is4(), isAnswer, "a question names its sender by ARP only; the filter drops it")

		reply, outcome := protocol.Decide(asked, port)
		require.Equal(t, responder.Answered, outcome, address)
		said, ok := parse(reply)
		require.True(t, ok)
		assert.Equal(t, claim{a, port.MAC, false}, said)
		for _, frame := range protocol.Announcement(port, a) {
			said, ok = parse(frame)
			require.True(t, ok)
			assert.Equal(t, claim{a, port.MAC, true}, said)
		}
	}
	for _, frame := range [][]byte{nil, make([]byte, 10), make([]byte, 60), append(append(make([]byte, 12), 0x86, 0xdd), make([]byte, 30)...)} {
		_, ok := parse(frame)
		assert.False(t, ok)
	}
}
