package responder_test

import (
	"net"
	"net/netip"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"

	"baremetal.cloud/ccm/pkg/announcer/l2/arp"
	"baremetal.cloud/ccm/pkg/announcer/l2/ndp"
	"baremetal.cloud/ccm/pkg/announcer/l2/responder"
)

// hesitant is a connection that cannot send the first of its frames.
type hesitant struct {
	tried atomic.Int64
	ended chan struct{}
}

func (c *hesitant) ReadFrom([]byte) (int, net.Addr, error) { <-c.ended; return 0, nil, net.ErrClosed }
func (c *hesitant) Send([]byte) error {
	if c.tried.Add(1) == 1 {
		return unix.ENOBUFS
	}
	return nil
}
func (c *hesitant) WriteTo([]byte, net.Addr) (int, error) { return 0, net.ErrClosed }
func (c *hesitant) SetBPF([]bpf.RawInstruction) error     { return nil }
func (c *hesitant) SetWriteDeadline(time.Time) error      { return nil }
func (c *hesitant) Close() error                          { return nil }
func (c *hesitant) SetDeadline(time.Time) error {
	close(c.ended)
	return nil
}

// TestFault_K2_10_SendErrorEndsNoBatch: of a thousand addresses all are announced but the one
// whose frame could not be sent, which is counted and said.
func TestFault_K2_10_SendErrorEndsNoBatch(t *testing.T) {
	for _, tt := range []struct {
		protocol responder.Protocol
		first    string
	}{{arp.Protocol{}, "192.0.2.0"}, {ndp.Protocol{}, "2001:db8::"}} {
		c := &hesitant{ended: make(chan struct{})}
		r := responder.New(responder.Options{Protocol: tt.protocol, Listen: func(*responder.Port, int, []bpf.RawInstruction) (responder.Conn, error) {
			return c, nil
		}})
		var addresses []netip.Addr
		for a := netip.MustParseAddr(tt.first); len(addresses) < 1000; a = a.Next() {
			addresses = append(addresses, a)
		}
		require.Empty(t, r.Apply([]*responder.Port{{Index: 1, Name: "lo", MAC: net.HardwareAddr{2, 0, 0, 0, 0, 1}, Addresses: responder.NewAddresses(addresses...)}}))
		unsent, err := r.Announce(addresses)
		require.ErrorIs(t, err, unix.ENOBUFS)
		require.Equal(t, addresses[:1], unsent, "it is announced soon")
		require.Equal(t, uint64(999), r.Counts().Announced)
		require.Equal(t, uint64(1), r.Counts().Failed)
		r.Close()
	}
}

// TestFault_K2_10_PortsOfABond: what comes from a port of a bond is the node's own, of both
// families, and what is sent to one is for the node.
func TestFault_K2_10_PortsOfABond(t *testing.T) {
	bond, slave, other := net.HardwareAddr{2, 0, 0, 0, 0, 1}, net.HardwareAddr{2, 0, 0, 0, 0, 2}, net.HardwareAddr{2, 0, 0, 0, 0, 9}
	for _, tt := range []struct {
		protocol interface {
			responder.Protocol
			Probe(net.HardwareAddr, netip.Addr) []byte
		}
		address string
	}{{arp.Protocol{}, "192.0.2.200"}, {ndp.Protocol{}, "2001:db8::200"}} {
		address := netip.MustParseAddr(tt.address)
		port := &responder.Port{Index: 1, Name: "bond0", MAC: bond, Ports: []net.HardwareAddr{slave}, Addresses: responder.NewAddresses(address)}
		reply, outcome := tt.protocol.Decide(tt.protocol.Probe(slave, address), port)
		require.Nil(t, reply)
		require.Equal(t, responder.OwnFrame, outcome)
		question := tt.protocol.Probe(other, address)
		copy(question, slave)
		reply, outcome = tt.protocol.Decide(question, port)
		require.Equal(t, responder.Answered, outcome)
		require.Equal(t, bond, net.HardwareAddr(reply[6:12]))
	}
}
