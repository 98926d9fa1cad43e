package bgp

import (
	"context"
	"net/netip"

	api "github.com/osrg/gobgp/v3/api"
	"github.com/osrg/gobgp/v3/pkg/server"
)

// gobgp is a server of that library. One that is started never ends before the process does,
// so that it is used again.
type gobgp struct {
	*server.BgpServer
	log *logger
}

// newGobgp returns a server that does nothing yet.
func newGobgp(lines func(string)) *gobgp {
	g := &gobgp{log: &logger{lines: lines}}
	g.BgpServer = server.NewBgpServer(server.LoggerOption(g.log))
	go g.Serve() // Never returns, whatever is called.
	return g
}

// reset takes the peer and all paths from the server, and stops it.
func (g *gobgp) reset(peer netip.Addr) error {
	ctx := context.Background()
	if err := g.DeletePeer(ctx, &api.DeletePeerRequest{Address: peer.String()}); err != nil {
		return err
	}
	if err := g.DeletePath(ctx, &api.DeletePathRequest{}); err != nil {
		return err
	}
	return g.StopBgp(ctx, &api.StopBgpRequest{})
}
