package control

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strconv"
)

// lookupFunc resolves a host name into its addresses.
type lookupFunc func(ctx context.Context, host string) ([]netip.Addr, error)

func lookupIP(ctx context.Context, host string) ([]netip.Addr, error) {
	return net.DefaultResolver.LookupNetIP(ctx, "ip", host)
}

// controller is one entry of ClientOptions.Controllers.
type controller struct {
	host string
	port uint16
}

func parseControllers(list []string) ([]controller, error) {
	if len(list) == 0 {
		return nil, fmt.Errorf("no controller is given; name at least one as HOST:PORT")
	}
	var controllers []controller
	for _, text := range list {
		host, port, err := net.SplitHostPort(text)
		if err != nil {
			return nil, fmt.Errorf("controller %q: %w; write HOST:PORT", text, err)
		}
		number, err := strconv.ParseUint(port, 10, 16)
		if err != nil || number == 0 || host == "" {
			return nil, fmt.Errorf("controller %q: a host and a port between 1 and 65535 are needed; write HOST:PORT", text)
		}
		controllers = append(controllers, controller{host: host, port: uint16(number)})
	}
	return controllers, nil
}

// resolveAll returns the addresses of all replicas, sorted, each once. With an error it
// returns those that could be found.
func resolveAll(ctx context.Context, controllers []controller, lookup lookupFunc) (replicas []netip.AddrPort, err error) {
	for _, c := range controllers {
		addrs, failed := c.resolveHost(ctx, lookup)
		if failed != nil {
			err = fmt.Errorf("resolve controller %s: %w", c.host, failed)
		}
		for _, addr := range addrs {
			replicas = append(replicas, netip.AddrPortFrom(addr.Unmap(), c.port))
		}
	}
	slices.SortFunc(replicas, netip.AddrPort.Compare)
	return slices.Compact(replicas), err
}

func (c controller) resolveHost(ctx context.Context, lookup lookupFunc) ([]netip.Addr, error) {
	if addr, err := netip.ParseAddr(c.host); err == nil {
		return []netip.Addr{addr}, nil
	}
	return lookup(ctx, c.host)
}
