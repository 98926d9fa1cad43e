package testbed

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"time"

	"github.com/mdlayher/arp"
	"github.com/mdlayher/ethernet"
	"github.com/mdlayher/packet"

	"baremetal.cloud/ccm/test/e2e/testbed/netns"
)

const (
	// arpPause is the time between two requests.
	arpPause = 5 * time.Millisecond
	// arpPatience is how long answers to the last request are waited for, and
	// silencePatience how long where there was none at all: on a busy machine whoever
	// should answer may not have run yet.
	arpPatience     = 250 * time.Millisecond
	silencePatience = 3 * time.Second
)

// ARPAnswers broadcasts requests for address from the client host and returns how many
// answers came from each hardware address.
func (c *Cluster) ARPAnswers(ctx context.Context, address netip.Addr, requests int) (map[string]int, error) {
	port, conn, err := c.openARP()
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	frame, err := ARPRequest(port.HardwareAddr, c.layout.Client.LAN.V4, address)
	if err != nil {
		return nil, err
	}
	sent := make(chan error, 1)
	go func() { sent <- broadcast(ctx, conn, frame, requests) }()
	answers := map[string]int{}
	end := time.Now().Add(time.Duration(requests)*arpPause + arpPatience)
	err = collect(conn, address, end, answers)
	if err == nil && len(answers) == 0 {
		err = collect(conn, address, end.Add(silencePatience), answers)
	}
	return answers, errors.Join(<-sent, err)
}

// openARP opens a socket for ARP frames on the client host.
func (c *Cluster) openARP() (port *net.Interface, conn *packet.Conn, err error) {
	err = netns.Do(c.layout.Client.NetNS, func() error {
		if port, err = net.InterfaceByName("eth0"); err != nil {
			return err
		}
		conn, err = packet.Listen(port, packet.Raw, int(ethernet.EtherTypeARP), nil)
		return err
	})
	return port, conn, err
}

// ARPRequest returns a broadcast frame that asks who has address.
func ARPRequest(mac net.HardwareAddr, from, address netip.Addr) ([]byte, error) {
	p, err := arp.NewPacket(arp.OperationRequest, mac, from, make(net.HardwareAddr, 6), address)
	if err != nil {
		return nil, err
	}
	payload, err := p.MarshalBinary()
	if err != nil {
		return nil, err
	}
	frame := ethernet.Frame{Destination: ethernet.Broadcast, Source: mac, EtherType: ethernet.EtherTypeARP, Payload: payload}
	return frame.MarshalBinary()
}

func broadcast(ctx context.Context, conn *packet.Conn, frame []byte, times int) error {
	for range times {
		if _, err := conn.WriteTo(frame, &packet.Addr{HardwareAddr: ethernet.Broadcast}); err != nil {
			return fmt.Errorf("send an ARP request: %w", err)
		}
		select {
		case <-time.After(arpPause):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}

// collect adds the answers for address until the deadline to answers.
func collect(conn *packet.Conn, address netip.Addr, deadline time.Time, answers map[string]int) error {
	if err := conn.SetReadDeadline(deadline); err != nil {
		return err
	}
	buffer := make([]byte, 1<<12)
	for {
		n, _, err := conn.ReadFrom(buffer)
		if errors.Is(err, os.ErrDeadlineExceeded) {
			return nil
		}
		if err != nil {
			return err
		}
		var frame ethernet.Frame
		var p arp.Packet
		if frame.UnmarshalBinary(buffer[:n]) != nil || p.UnmarshalBinary(frame.Payload) != nil {
			continue
		}
		// Gratuitous announcements are no answers: they ask for themselves.
		if p.Operation == arp.OperationReply && p.SenderIP == address && p.TargetIP != address {
			answers[p.SenderHardwareAddr.String()]++
		}
	}
}
