package main

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"time"

	"golang.org/x/sync/errgroup"

	"baremetal.cloud/ccm/internal/logqueue"
	"baremetal.cloud/ccm/pkg/announcer"
	"baremetal.cloud/ccm/pkg/announcer/bfd"
	"baremetal.cloud/ccm/pkg/announcer/bgp"
	"baremetal.cloud/ccm/pkg/announcer/control"
	"baremetal.cloud/ccm/pkg/announcer/failover"
	"baremetal.cloud/ccm/pkg/announcer/l2/arp"
	"baremetal.cloud/ccm/pkg/announcer/l2/ndp"
	"baremetal.cloud/ccm/pkg/announcer/l2/responder"
	"baremetal.cloud/ccm/pkg/announcer/netstate"
	"baremetal.cloud/ccm/pkg/announcer/plan"
	"baremetal.cloud/ccm/pkg/announcer/planfile"
	"baremetal.cloud/ccm/pkg/announcer/proxyhealth"
	"baremetal.cloud/ccm/pkg/announcer/status"
)

// serverName is the DNS name that every replica's certificate has.
const serverName = "baremetal-ccm"

// lastLines is how long the program waits at its end for the reader of its log.
const lastLines = time.Second

// serveAll builds everything and runs it until ctx is done. The control client ends last, so
// that replicas hear that the node no longer claims anything; and BFD after BGP, so that routers
// have taken the end of sessions for a restart before they hear that the node no longer watches.
func serveAll(ctx context.Context, o options, logs io.Writer) error {
	queue := logqueue.New(logs)
	defer queue.Close(lastLines)
	log := slog.New(slog.NewTextHandler(queue, &slog.HandlerOptions{Level: o.logLevel}))
	fast, err := newThreads(o.realtime, log)
	if err != nil {
		return err
	}
	fast.runaway()
	process := status.Process{Version: versionText(), Threads: fast.threadClasses(), LogLinesLost: queue.Lost}
	var client *control.Client
	var node *announcer.Announcer
	var speaker *bgp.Speaker
	paths := bfd.New(bfd.Options{Logger: log, AdminDown: true, Loop: fast.bfd.loop, OnEvent: func(e bfd.Event) { speaker.OnBFD(e) }})
	speaker = bgp.NewSpeaker(bgp.Options{
		Command: speakerProcess, PasswordDir: o.passwordDir, BFD: paths, Logger: log,
		OnState: func(s bgp.State) { node.OnBGP(s) },
	})
	settings := announcer.Options{
		Node: o.node, NodeIPs: o.nodeIPs, Logger: log, Speaker: speaker,
		Loop:       fast.announcer.loop,
		IPv4:       newResponder(arp.Protocol{}, fast.announcer.loop),
		IPv6:       newResponder(ndp.Protocol{}, fast.announcer.loop),
		ListenIPv4: newListener(arp.Claims{}), ListenIPv6: newListener(ndp.Claims{}),
		Report: func(r plan.Report) { client.SetReport(r) },
	}
	checker := proxyhealth.NewChecker(proxyhealth.Options{Now: failover.Now, Logger: log, OnResult: func(r proxyhealth.Result) { node.OnHealth(r) }})
	settings.Ask = checker.Set
	keeper := newKeeper(o, log)
	if o.planFile != "" {
		settings.PersistedPlan, settings.Keeper = keeper.Load(), keeper
	}
	node = announcer.New(settings)
	client = control.NewClient(control.ClientOptions{
		Node: o.node, Software: programName + "/" + versionText(), Controllers: o.controllers,
		ServerName: serverName, CAFile: o.caFile, TokenFile: o.tokenFile, Logger: log,
		OnPlan: node.OnPlan, OnStream: node.OnStream,
	})
	watcher := netstate.NewWatcher(netstate.Options{Logger: log, OnSnapshot: node.OnLinks, OnNotifyPeers: node.OnNotifyPeers})
	handler, err := status.NewHandler(node.Status, process)
	if err != nil {
		return err
	}
	listener, err := net.Listen("tcp", o.statusAddress)
	if err != nil {
		return fmt.Errorf("--status-address: %w", err)
	}

	log.Info("starting", "version", process.Version, "node", o.node, "controllers", o.controllers)
	running, ctx := errgroup.WithContext(ctx)
	clientCtx, endClient := context.WithCancel(context.WithoutCancel(ctx))
	defer endClient()
	running.Go(func() error {
		defer endClient()
		return node.Run(ctx)
	})
	running.Go(func() error { return watcher.Run(ctx) })
	running.Go(func() error { return keeper.Run(ctx) })
	running.Go(func() error { return checker.Run(ctx) })
	pathsCtx, endPaths := context.WithCancel(context.WithoutCancel(ctx))
	defer endPaths()
	running.Go(func() error {
		defer endPaths()
		return speaker.Run(ctx)
	})
	running.Go(func() error { return paths.Run(pathsCtx) })
	running.Go(func() error { return fast.guardThreads(ctx, log) })
	running.Go(func() error { return status.Serve(ctx, listener, handler) })
	running.Go(func() error { return client.Run(clientCtx) })
	if err := running.Wait(); err != nil {
		return err
	}
	log.Info("ended")
	return nil
}

// newKeeper returns what keeps the plan for the next start.
func newKeeper(o options, log *slog.Logger) *planfile.Keeper {
	return planfile.NewKeeper(planfile.Options{
		Path: o.planFile, Node: o.node, Logger: log,
		Account: func() (string, error) { return accountUID(o.tokenFile) },
	})
}

// newResponder returns what makes a responder of protocol that reads when poller says so.
func newResponder(protocol responder.Protocol, poller responder.Poller) func(func(), func() bool) announcer.Responder {
	return func(socketFailed func(), allowed func() bool) announcer.Responder {
		return responder.New(responder.Options{Protocol: protocol, OnFailure: socketFailed, Allowed: allowed, Poller: poller})
	}
}

// newListener returns what makes a listener of protocol.
func newListener(protocol responder.Protocol) func(func(), func(*responder.Port, []byte)) announcer.Listener {
	return func(socketFailed func(), heard func(*responder.Port, []byte)) announcer.Listener {
		return responder.New(responder.Options{Protocol: protocol, OnFailure: socketFailed, OnConflict: heard})
	}
}
