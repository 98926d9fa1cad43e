package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"os/exec"
	"strings"
	"sync"
	"time"

	"github.com/mdlayher/ethernet"
	"github.com/mdlayher/packet"

	"baremetal.cloud/ccm/test/e2e/testbed"
)

// firstRoutes creates Services one by one: how long until the routers have put the route into
// the kernels of their hosts, and until the first UPDATE with it was on FRR's.
func (l *lab) firstRoutes(ctx context.Context, s sample, run int) error {
	layout := l.cluster.Layout()
	conn, _, err := testbed.Listen(layout.FRR, "eth0", ethernet.EtherTypeIPv4)
	if err != nil {
		return err
	}
	updates, frr, bird := newArrivals(), newArrivals(), newArrivals()
	watching, stop := context.WithCancel(ctx)
	ended := make(chan error, 3)
	go func() { ended <- updates.read(watching, conn) }()
	go func() { ended <- frr.monitor(watching, layout.FRR.NetNS) }()
	go func() { ended <- bird.monitor(watching, layout.BIRD.NetNS) }()
	names := series(fmt.Sprintf("route-%d", run), singles)
	took := map[string][]float64{}
	failed := func() error {
		for _, name := range names {
			if err := pause(ctx, breath); err != nil {
				return err
			}
			created, err := l.create(ctx, name, fromPool("routed"))
			if err != nil {
				return err
			}
			seen, err := l.watch.addressed(ctx, []string{name})
			if err != nil {
				return err
			}
			at := map[string]time.Time{}
			for what, a := range map[string]*arrivals{"route": frr, "route_bird": bird, "route_update": updates} {
				if at[what], err = a.wait(ctx, seen[0].address); err != nil {
					return fmt.Errorf("%s: %w", what, err)
				}
				took[what] = append(took[what], ms(at[what].Sub(created)))
			}
			took["route_within_frr"] = append(took["route_within_frr"], ms(at["route"].Sub(at["route_update"])))
		}
		return nil
	}()
	stop()
	failed = errors.Join(failed, conn.Close())
	for range cap(ended) {
		failed = errors.Join(failed, <-ended)
	}
	if err := errors.Join(failed, l.deleteAll(context.WithoutCancel(ctx), names)); err != nil {
		return err
	}
	for what, all := range took {
		s.Figures[what+"_ms"], s.Figures[what+"_p90_ms"] = median(all), quantile(all, 0.9)
		s.Raw[what+"_ms"] = all
	}
	return nil
}

// arrivals is when something came of each address first.
type arrivals struct {
	// heard has something when there was another one.
	heard chan struct{}
	mu    sync.Mutex
	at    map[netip.Addr]time.Time
}

func newArrivals() *arrivals {
	return &arrivals{heard: make(chan struct{}, 1), at: map[netip.Addr]time.Time{}}
}

func (a *arrivals) came(address netip.Addr, now time.Time) {
	a.mu.Lock()
	if _, known := a.at[address]; !known {
		a.at[address] = now
	}
	a.mu.Unlock()
	select {
	case a.heard <- struct{}{}:
	default:
	}
}

// wait waits until address came, and returns when that was.
func (a *arrivals) wait(ctx context.Context, address netip.Addr) (time.Time, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, gapPatience, errWaitedTooLong)
	defer cancel()
	for {
		a.mu.Lock()
		at, known := a.at[address]
		a.mu.Unlock()
		if known {
			return at, nil
		}
		select {
		case <-a.heard:
		case <-ctx.Done():
			return time.Time{}, fmt.Errorf("no route to %s: %w", address, context.Cause(ctx))
		}
	}
}

// monitor takes the routes that the kernel in a namespace gets, until ctx ends.
func (a *arrivals) monitor(ctx context.Context, namespace string) error {
	monitor := exec.CommandContext(ctx, "ip", "-n", namespace, "-oneline", "monitor", "route")
	out, err := monitor.StdoutPipe()
	if err != nil {
		return err
	}
	if err := monitor.Start(); err != nil {
		return err
	}
	lines := bufio.NewScanner(out)
	for lines.Scan() {
		now := time.Now()
		first, _, _ := strings.Cut(lines.Text(), " ")
		if address, err := netip.ParseAddr(first); err == nil { // else one that was deleted, or a network
			a.came(address, now)
		}
	}
	err = monitor.Wait()
	if ctx.Err() != nil {
		return nil // it was killed
	}
	return errors.Join(lines.Err(), err)
}

// read takes the addresses that BGP speakers announce, until ctx ends and conn is closed.
func (a *arrivals) read(ctx context.Context, conn *packet.Conn) error {
	buffer := make([]byte, 1<<16)
	for {
		n, _, err := conn.ReadFrom(buffer)
		if ctx.Err() != nil {
			return nil // that is why it was closed
		}
		if err != nil {
			return err
		}
		if address, ok := updated(buffer[:n]); ok {
			a.came(address, time.Now())
		}
	}
}

const (
	bgpPort = 179
	// An UPDATE of RFC 4271 section 4.3 with one host route of IPv4 ends with its length and
	// the address.
	bgpHeader = 19
	bgpUpdate = 2
)

// updated returns the address in an Ethernet frame of IPv4 that begins with an UPDATE, if the
// last that it announces is one.
func updated(frame []byte) (netip.Addr, bool) {
	const ethernetHeader, minimum = 14, 20
	if len(frame) < ethernetHeader+minimum {
		return netip.Addr{}, false
	}
	ip := frame[ethernetHeader:]
	length, header := int(binary.BigEndian.Uint16(ip[2:])), 4*int(ip[0]&15)
	const tcpProtocol = 6
	if ip[9] != tcpProtocol || length > len(ip) || length < header+minimum {
		return netip.Addr{}, false
	}
	tcp := ip[header:length]
	if binary.BigEndian.Uint16(tcp) != bgpPort && binary.BigEndian.Uint16(tcp[2:]) != bgpPort {
		return netip.Addr{}, false
	}
	message := tcp[min(4*int(tcp[12]>>4), len(tcp)):]
	if len(message) < bgpHeader || !bytes.Equal(message[:16], bytes.Repeat([]byte{0xff}, 16)) || message[18] != bgpUpdate {
		return netip.Addr{}, false
	}
	last := message[len(message)-5:]
	if last[0] != 32 {
		return netip.Addr{}, false
	}
	return netip.AddrFromSlice(last[1:])
}
