package main

import (
	"context"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"time"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"baremetal.cloud/ccm/test/e2e/testbed"
	"baremetal.cloud/ccm/test/e2e/testbed/netns"
)

// floodFrames makes ARP requests of the client host: by turns for addresses of the pool
// that nobody has, and for addresses of other networks.
func (l *lab) floodFrames(used map[netip.Addr]bool) ([][]byte, error) {
	var mac net.HardwareAddr
	err := netns.Do(l.cluster.Layout().Client.NetNS, func() error {
		port, err := net.InterfaceByName("eth0")
		if err == nil {
			mac = port.HardwareAddr
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	var frames [][]byte
	for _, address := range floodAddresses(l.cluster.PoolV4(), used) {
		frame, err := testbed.Question{Address: address}.Frame(mac, l.cluster.Layout().Client.LAN.V4)
		if err != nil {
			return nil, err
		}
		frames = append(frames, frame)
	}
	return frames, nil
}

// floodAddresses returns addresses, every second of which is in pool, none in use.
func floodAddresses(pool netip.Prefix, used map[netip.Addr]bool) []netip.Addr {
	random := rand.New(rand.NewPCG(1, 2))
	base := pool.Masked().Addr().As4()
	first := binary.BigEndian.Uint32(base[:])
	var out []netip.Addr
	for len(out) < floodTargets {
		in := fromUint32(first + random.Uint32N(1<<(32-pool.Bits())))
		outside := fromUint32(10<<24 + random.Uint32N(1<<24))
		if !used[in] {
			out = append(out, in, outside)
		}
	}
	return out
}

func fromUint32(n uint32) netip.Addr {
	return netip.AddrFrom4([4]byte(binary.BigEndian.AppendUint32(nil, n)))
}

// send sends frames from the client host over and over at the rate, for as long as a
// flood lasts, and returns how many were sent.
func (l *lab) send(ctx context.Context, frames [][]byte) (sent float64, err error) {
	var group errgroup.Group
	var each [floodSenders]float64
	for i := range each {
		group.Go(func() error {
			return netns.Do(l.cluster.Layout().Client.NetNS, func() (err error) {
				each[i], err = sendAtRate(ctx, "eth0", frames, floodRate/floodSenders, floodDuration)
				return err
			})
		})
	}
	err = group.Wait()
	for _, n := range each {
		sent += n
	}
	return sent, err
}

// sendAtRate sends by an interface of the calling thread's namespace.
func sendAtRate(ctx context.Context, by string, frames [][]byte, rate int, duration time.Duration) (sent float64, err error) {
	port, err := net.InterfaceByName(by)
	if err != nil {
		return 0, err
	}
	// Protocol 0: the socket receives nothing.
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return 0, fmt.Errorf("open packet socket: %w", err)
	}
	defer unix.Close(fd)
	to := &unix.SockaddrLinklayer{Ifindex: port.Index, Halen: 6, Addr: [8]byte{255, 255, 255, 255, 255, 255}}
	began := time.Now()
	for n := 0; ; {
		lasted := time.Since(began)
		if lasted >= duration {
			return float64(n), nil
		}
		due := int(lasted.Seconds() * float64(rate))
		if due-n < floodBatch {
			if err := pause(ctx, time.Duration(floodBatch-(due-n))*time.Second/time.Duration(rate)); err != nil {
				return float64(n), err
			}
			continue
		}
		for range floodBatch {
			if err := unix.Sendto(fd, frames[n%len(frames)], 0, to); err != nil {
				return float64(n), fmt.Errorf("send: %w", err)
			}
			n++
		}
	}
}
