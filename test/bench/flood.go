package main

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/mdlayher/arp"
	"github.com/mdlayher/ethernet"
	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"baremetal.cloud/ccm/test/e2e/testbed/netns"
)

const (
	// floodGoal is how many requests in a second must have reached every node for a run to
	// count, floodRate how many are sent.
	floodGoal     = 50_000
	floodRate     = 51_000
	floodDuration = 20 * time.Second
	// floodSenders send at the same time: one alone, whose frames are copied to every
	// port of the switch while it waits, is too slow.
	floodSenders = 2
	// floodBatch requests go out together, then their sender waits for its time to come.
	floodBatch = 50
	// floodTargets is how many different addresses are asked for.
	floodTargets = 4096
)

// flood measures the processor time of announcers with 1000 addresses while somebody asks
// the segment for addresses that nobody has.
func flood(ctx context.Context, bed *lab, runs int) (result, error) {
	names := series("flood", crowd)
	if _, err := bed.createAll(ctx, names, nil); err != nil {
		return result{}, err
	}
	seen, err := bed.watch.addressed(ctx, names)
	if err != nil {
		return result{}, err
	}
	if err := bed.quiet(ctx); err != nil {
		return result{}, err
	}
	used := map[netip.Addr]bool{}
	for _, s := range seen {
		used[s.address] = true
	}
	frames, err := bed.floodFrames(used)
	if err != nil {
		return result{}, err
	}
	r, err := repeat(ctx, runs, func(ctx context.Context, _ int) (sample, error) { return bed.flooded(ctx, frames) })
	return r, errors.Join(err, bed.deleteAll(ctx, names))
}

// flooded measures without and then with the flood.
func (l *lab) flooded(ctx context.Context, frames [][]byte) (sample, error) {
	s := newSample()
	idle, err := l.announcersDuring(ctx, func(ctx context.Context) error { return pause(ctx, floodDuration) })
	if err != nil {
		return s, err
	}
	var sent float64
	busy, err := l.announcersDuring(ctx, func(ctx context.Context) (err error) {
		sent, err = l.send(ctx, frames)
		return err
	})
	if err != nil {
		return s, err
	}
	s.Figures["idle_cpu_percent"], s.Figures["flood_cpu_percent"] = slices.Max(idle.cpu), slices.Max(busy.cpu)
	s.Figures["sent_per_second"] = sent / floodDuration.Seconds()
	s.Figures["least_received_per_second"] = slices.Min(busy.received)
	s.Raw["flood_cpu_percent"], s.Raw["received_per_second"] = busy.cpu, busy.received
	if least := slices.Min(busy.received); least < floodGoal {
		return s, fmt.Errorf("only %.0f frames a second reached a node", least)
	}
	return s, nil
}

// load is what announcers used and what their nodes received, node by node.
type load struct{ cpu, received []float64 }

// announcersDuring returns the load while f lasts.
func (l *lab) announcersDuring(ctx context.Context, f func(context.Context) error) (load, error) {
	began := time.Now()
	before, err := l.usage()
	if err != nil {
		return load{}, err
	}
	if err := f(ctx); err != nil {
		return load{}, err
	}
	lasted := time.Since(began).Seconds()
	after, err := l.usage()
	if err != nil {
		return load{}, err
	}
	var out load
	for i := range after.cpu {
		out.cpu = append(out.cpu, 100*(after.cpu[i]-before.cpu[i])/lasted)
		out.received = append(out.received, (after.received[i]-before.received[i])/lasted)
	}
	return out, nil
}

// usage reads the announcers' processor seconds and their nodes' received frames.
func (l *lab) usage() (load, error) {
	var out load
	for _, node := range l.cluster.Layout().Nodes {
		pid, err := l.announcer(node.Name)
		if err != nil {
			return out, err
		}
		cpu, err := processorSeconds(filepath.Join("/proc", strconv.Itoa(pid)))
		if err != nil {
			return out, err
		}
		received, err := receivedFrames(node.NetNS)
		if err != nil {
			return out, err
		}
		out.cpu, out.received = append(out.cpu, cpu), append(out.received, received)
	}
	return out, nil
}

// processorSeconds adds up the time that the scheduler gave to a process's threads, which
// is to the nanosecond where /proc/PID/stat counts in hundredths of a second. The Go
// runtime keeps its threads.
func processorSeconds(process string) (float64, error) {
	files, err := filepath.Glob(filepath.Join(process, "task", "*", "schedstat"))
	if err != nil || len(files) == 0 {
		return 0, errors.Join(err, fmt.Errorf("%s has no threads", process))
	}
	var sum float64
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			return 0, err
		}
		onProcessor, _, _ := strings.Cut(string(data), " ")
		ns, err := strconv.ParseFloat(onProcessor, 64)
		if err != nil {
			return 0, fmt.Errorf("%s: %w", file, err)
		}
		sum += ns / 1e9
	}
	return sum, nil
}

// receivedFrames reads how many frames reached eth0 of a namespace.
func receivedFrames(namespace string) (received float64, err error) {
	err = netns.Do(namespace, func() error {
		data, err := os.ReadFile("/proc/thread-self/net/dev")
		if err != nil {
			return err
		}
		received, err = parseReceived(string(data), "eth0")
		return err
	})
	return received, err
}

// parseReceived reads /proc/net/dev: after the name, bytes and packets received.
func parseReceived(text, name string) (float64, error) {
	for line := range strings.Lines(text) {
		key, values, ok := strings.Cut(strings.TrimSpace(line), ":")
		if fields := strings.Fields(values); ok && key == name && len(fields) > 1 {
			return strconv.ParseFloat(fields[1], 64)
		}
	}
	return 0, fmt.Errorf("no interface %s", name)
}

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
		p, err := arp.NewPacket(arp.OperationRequest, mac, l.cluster.Layout().Client.LAN.V4, make(net.HardwareAddr, 6), address)
		if err != nil {
			return nil, err
		}
		body, err := p.MarshalBinary()
		if err != nil {
			return nil, err
		}
		f := ethernet.Frame{Destination: ethernet.Broadcast, Source: mac, EtherType: ethernet.EtherTypeARP, Payload: body}
		frame, err := f.MarshalBinary()
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
				each[i], err = sendAtRate(ctx, frames, floodRate/floodSenders)
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

// sendAtRate sends in the calling thread's namespace.
func sendAtRate(ctx context.Context, frames [][]byte, rate int) (sent float64, err error) {
	port, err := net.InterfaceByName("eth0")
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
		if lasted >= floodDuration || ctx.Err() != nil {
			return float64(n), ctx.Err()
		}
		due := int(lasted.Seconds() * float64(rate))
		if due-n < floodBatch {
			time.Sleep(time.Duration(floodBatch-(due-n)) * time.Second / time.Duration(rate))
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
