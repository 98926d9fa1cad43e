package observer

import (
	"context"
	"errors"
	"fmt"
	"net"
	"time"

	"github.com/mdlayher/socket"
	"golang.org/x/sys/unix"

	"baremetal.cloud/ccm/test/e2e/testbed"
	"baremetal.cloud/ccm/test/e2e/testbed/netns"
)

// captureBuffer is room for what comes while nobody reads, in bytes.
const captureBuffer = 16 << 20

// capture is a packet socket that sees what enters the switch, and what leaves it for the
// client. A socket for one protocol would not see what the switch forwards, one for all
// protocols does, before the bridge and its filters get it.
type capture struct {
	*socket.Conn
	exit int
	// entries are the indices of the switch ports that frames of others than the bridge
	// itself come in by.
	entries map[int]bool
}

func openCapture(cluster *testbed.Cluster) (*capture, error) {
	c := &capture{entries: map[int]bool{}}
	err := netns.Do(cluster.Layout().LAN, func() error {
		ports, err := net.Interfaces()
		if err != nil {
			return err
		}
		for _, p := range ports {
			switch p.Name {
			case "br0", "lo":
			case cluster.Layout().Client.Name:
				c.exit = p.Index
				c.entries[p.Index] = true
			default:
				c.entries[p.Index] = true
			}
		}
		// Protocol 0 receives nothing: the filter is there before the first frame.
		c.Conn, err = socket.Socket(unix.AF_PACKET, unix.SOCK_RAW, 0, "packet", nil)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("open a socket on the switch: %w", err)
	}
	if err := c.start(cluster); err != nil {
		return nil, errors.Join(fmt.Errorf("capture on the switch: %w", err), c.Close())
	}
	return c, nil
}

// start makes the socket receive.
func (c *capture) start(cluster *testbed.Cluster) error {
	program, err := filter(c.exit, cluster.PoolV4(), cluster.PoolV6())
	if err != nil {
		return err
	}
	if err := c.SetBPF(program); err != nil {
		return err
	}
	for _, option := range []struct{ name, value int }{{unix.SO_RCVBUFFORCE, captureBuffer}, {unix.SO_TIMESTAMPNS, 1}} {
		if err := c.SetsockoptInt(unix.SOL_SOCKET, option.name, option.value); err != nil {
			return err
		}
	}
	return c.Bind(&unix.SockaddrLinklayer{Protocol: networkOrder(unix.ETH_P_ALL)})
}

// run reads until ctx ends.
func (c *capture) run(ctx context.Context, heard func(at time.Time, c claim, delivered bool)) error {
	frame, control := make([]byte, 2048), make([]byte, 128)
	for {
		n, controls, _, from, err := c.Recvmsg(ctx, frame, control, 0)
		switch {
		case ctx.Err() != nil:
			return nil
		case errors.Is(err, unix.ENETDOWN): // a port went down
			continue
		case err != nil:
			return fmt.Errorf("read frames: %w", err)
		}
		link, ok := from.(*unix.SockaddrLinklayer)
		if !ok || !c.entries[link.Ifindex] {
			continue
		}
		if said, ok := parse(frame[:n]); ok {
			heard(timestamp(control[:controls]), said, link.Pkttype == unix.PACKET_OUTGOING)
		}
	}
}

// timestamp returns when the kernel received a frame.
func timestamp(control []byte) time.Time {
	messages, err := unix.ParseSocketControlMessage(control)
	if err == nil {
		for _, m := range messages {
			if m.Header.Level == unix.SOL_SOCKET && m.Header.Type == unix.SCM_TIMESTAMPNS && len(m.Data) >= 16 {
				return time.Unix(int64(native(m.Data)), int64(native(m.Data[8:])))
			}
		}
	}
	return time.Now()
}

// lost returns how many frames the kernel had no room for.
func (c *capture) lost() (uint32, error) {
	stats, err := c.GetsockoptTpacketStats(unix.SOL_PACKET, unix.PACKET_STATISTICS)
	if err != nil {
		return 0, fmt.Errorf("count lost frames: %w", err)
	}
	return stats.Drops, nil
}
