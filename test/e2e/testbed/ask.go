package testbed

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"time"

	"github.com/mdlayher/ethernet"
	"github.com/mdlayher/packet"

	"baremetal.cloud/ccm/test/e2e/testbed/lan"
	"baremetal.cloud/ccm/test/e2e/testbed/netns"
)

const (
	// askPause is the time between two questions.
	askPause = 5 * time.Millisecond
	// askPatience is how long answers to the last question are waited for, and
	// silencePatience how long where there was none at all: on a busy machine whoever
	// should answer may not have run yet.
	askPatience     = 250 * time.Millisecond
	silencePatience = 3 * time.Second
)

// Form is how a Question is put.
type Form int

const (
	// Plain is an ARP request, or a neighbour solicitation with the asker's link-layer address.
	Plain Form = iota
	// Probe asks as one that is about to use the address itself (RFC 5227, RFC 4862 section 5.4).
	Probe
	// Bare is a solicitation without the asker's link-layer address; by ARP there is none.
	Bare
	// Reply is no question: an ARP reply or a neighbour advertisement that tells of the address.
	Reply
	// Claim is none either: the host announces the address as its own.
	Claim
)

// Question is what one host asks its LAN for: who has an address.
type Question struct {
	// Address is asked for by ARP or NDP, as its family has it.
	Address netip.Addr
	// Host asks, client if it is "", on Interface, eth0 if it is "".
	Host, Interface string
	// To is the hardware address that is asked; nil is everybody.
	To   net.HardwareAddr
	Form Form
}

// ARPAnswers broadcasts requests for address from the client host and returns how many
// answers came from each hardware address.
func (c *Cluster) ARPAnswers(ctx context.Context, address netip.Addr, requests int) (map[string]int, error) {
	return c.Ask(ctx, Question{Address: address}, requests)
}

// Ask puts a question several times and returns how many answers came from each hardware
// address.
func (c *Cluster) Ask(ctx context.Context, q Question, times int) (map[string]int, error) {
	asking, err := c.asking(q)
	if err != nil {
		return nil, err
	}
	defer asking.conn.Close()
	sent := make(chan error, 1)
	go func() { sent <- asking.send(ctx, times) }()
	answers := map[string]int{}
	end := time.Now().Add(time.Duration(times)*askPause + askPatience)
	err = asking.collect(end, answers)
	if err == nil && len(answers) == 0 {
		err = asking.collect(end.Add(silencePatience), answers)
	}
	return answers, errors.Join(<-sent, err)
}

// Frame returns q as an Ethernet frame of the host with the hardware address mac and the
// address from, which is of the family of q.Address; Host and Interface play no part.
func (q Question) Frame(mac net.HardwareAddr, from netip.Addr) ([]byte, error) {
	if q.Address.Is6() {
		return q.solicit(mac, from)
	}
	return q.request(mac, from)
}

// holder returns who answers q by a frame.
func (q Question) holder(frame []byte) (net.HardwareAddr, bool) {
	if q.Address.Is6() {
		return ndpHolder(frame, q.Address, q.Form != Probe)
	}
	return arpHolder(frame, q.Address)
}

// Listen opens an Ethernet socket on a port of host for frames of a protocol, as EtherType; of
// 0 it gets none, and only sends. It is to be closed. The port's hardware address is returned too.
func Listen(host lan.Host, port string, protocol ethernet.EtherType) (*packet.Conn, net.HardwareAddr, error) {
	var conn *packet.Conn
	var ifi *net.Interface
	err := netns.Do(host.NetNS, func() (err error) {
		if ifi, err = net.InterfaceByName(port); err != nil {
			return err
		}
		conn, err = packet.Listen(ifi, packet.Raw, int(protocol), nil)
		return err
	})
	if err != nil {
		return nil, nil, fmt.Errorf("listen on %s of %s: %w", port, host.Name, err)
	}
	return conn, ifi.HardwareAddr, nil
}

// Send sends an Ethernet frame to whom it says.
func Send(conn *packet.Conn, frame []byte) error {
	_, err := conn.WriteTo(frame, &packet.Addr{HardwareAddr: frame[:6]})
	return err
}

// Claim has the client host announce an address as its own, once.
func (c *Cluster) Claim(ctx context.Context, address netip.Addr) error {
	asking, err := c.asking(Question{Address: address, Form: Claim})
	if err != nil {
		return err
	}
	defer asking.conn.Close()
	return asking.send(ctx, 1)
}

// asking is a question under way.
type asking struct {
	Question
	conn  *packet.Conn
	frame []byte
}

func (c *Cluster) asking(q Question) (*asking, error) {
	host, ok := c.host(cmp.Or(q.Host, c.layout.Client.Name))
	if !ok {
		return nil, fmt.Errorf("no host is called %q", q.Host)
	}
	protocol, from := etherTypeARP, host.Primary().V4
	if q.Address.Is6() {
		protocol, from = etherTypeIPv6, host.Primary().V6
	}
	conn, mac, err := Listen(host, cmp.Or(q.Interface, "eth0"), protocol)
	if err != nil {
		return nil, err
	}
	frame, err := q.Frame(mac, from)
	if err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	return &asking{q, conn, frame}, nil
}

// host returns the host called name.
func (c *Cluster) host(name string) (h lan.Host, ok bool) {
	for _, h := range c.layout.Hosts() {
		if h.Name == name {
			return h, true
		}
	}
	return h, false
}

func (a *asking) send(ctx context.Context, times int) error {
	for range times {
		if err := Send(a.conn, a.frame); err != nil {
			return fmt.Errorf("ask for an address: %w", err)
		}
		select {
		case <-time.After(askPause):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}

// collect adds the answers that come until the deadline to answers.
func (a *asking) collect(deadline time.Time, answers map[string]int) error {
	if err := a.conn.SetReadDeadline(deadline); err != nil {
		return err
	}
	buffer := make([]byte, 1<<12)
	for {
		n, _, err := a.conn.ReadFrom(buffer)
		if errors.Is(err, os.ErrDeadlineExceeded) {
			return nil
		}
		if err != nil {
			return err
		}
		if mac, ok := a.holder(buffer[:n]); ok {
			answers[mac.String()]++
		}
	}
}
