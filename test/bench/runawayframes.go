package main

import (
	"context"
	"encoding/binary"
	"net"
	"net/netip"

	"golang.org/x/net/ipv4"

	"baremetal.cloud/ccm/pkg/announcer/failover"
	"baremetal.cloud/ccm/test/e2e/testbed"
	"baremetal.cloud/ccm/test/e2e/testbed/netns"
)

// strangers is how many machines a flood seems to come from.
const strangers = 4096

// flood sends frames from a machine on the LAN at the rate of a storm.
func (r *ring) flood(ctx context.Context, make func() ([][]byte, error)) error {
	frames, err := make()
	if err != nil {
		return err
	}
	return netns.Do(r.switchSpace, func() error {
		_, err := sendAtRate(ctx, "lan0", frames, floodRate, 10*runawayTime)
		if ctx.Err() != nil {
			return nil
		}
		return err
	})
}

// stranger returns the addresses of a machine that is in no cluster.
func stranger(i int, like netip.Addr) (net.HardwareAddr, netip.Addr) {
	mac := net.HardwareAddr{2, 0, 0, 9, byte(i >> 8), byte(i)}
	if like.Is6() {
		raw := netip.MustParseAddr("2001:db8::9:0").As16()
		binary.BigEndian.PutUint16(raw[14:], uint16(i))
		return mac, netip.AddrFrom16(raw)
	}
	return mac, netip.AddrFrom4([4]byte{198, 18, byte(200 + i>>8), byte(i)})
}

// requests are questions for address.
func requests(address netip.Addr) func() ([][]byte, error) { return framed(address, testbed.Plain) }

// claims are of machines that say to have address.
func claims(address netip.Addr) func() ([][]byte, error) { return framed(address, testbed.Claim) }

func framed(address netip.Addr, form testbed.Form) func() ([][]byte, error) {
	return func() (frames [][]byte, err error) {
		for i := range strangers {
			mac, from := stranger(i, address)
			frame, err := testbed.Question{Address: address, Form: form}.Frame(mac, from)
			if err != nil {
				return nil, err
			}
			frames = append(frames, frame)
		}
		return frames, nil
	}
}

// datagrams are forged ones to where n hears its peers.
func datagrams(n *ringNode) func() ([][]byte, error) { return n.datagrams }

func (n *ringNode) datagrams() (frames [][]byte, err error) {
	payload := make([]byte, 100)
	udp := binary.BigEndian.AppendUint16(nil, 40000)
	udp = binary.BigEndian.AppendUint16(udp, failover.Port)
	udp = binary.BigEndian.AppendUint16(udp, uint16(8+len(payload)))
	udp = append(append(udp, 0, 0), payload...) // No checksum: RFC 768.
	for i := range strangers {
		mac, from := stranger(i, n.address)
		header := ipv4.Header{
			Version: 4, Len: ipv4.HeaderLen, TotalLen: ipv4.HeaderLen + len(udp), TTL: 255, Protocol: 17,
			Src: from.AsSlice(), Dst: n.address.AsSlice(),
		}
		raw, err := header.Marshal()
		if err != nil {
			return nil, err
		}
		binary.BigEndian.PutUint16(raw[10:], checksum(raw))
		frames = append(frames, append(append(append(append([]byte(n.mac), mac...), 8, 0), raw...), udp...))
	}
	return frames, nil
}

// checksum is that of an IPv4 header (RFC 1071).
func checksum(header []byte) uint16 {
	var sum uint32
	for i := 0; i < len(header); i += 2 {
		sum += uint32(binary.BigEndian.Uint16(header[i:]))
	}
	for sum > 0xffff {
		sum = sum>>16 + sum&0xffff
	}
	return ^uint16(sum)
}
