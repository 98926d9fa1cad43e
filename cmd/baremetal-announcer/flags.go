package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"net/netip"
	"strings"
)

// options are what the command line says.
type options struct {
	node          string
	nodeIPs       []netip.Addr
	controllers   []string
	caFile        string
	tokenFile     string
	planFile      string
	statusAddress string
	passwordDir   string
	realtime      bool
	logLevel      slog.Level
	version       bool
}

// parseFlags reads the command line. It prints usage and what is wrong with a flag to stderr.
func parseFlags(args []string, getenv func(string) string, stderr io.Writer) (options, error) {
	var o options
	set := flag.NewFlagSet(programName, flag.ContinueOnError)
	set.SetOutput(stderr)
	nodeIPs := set.String("node-ips", getenv("NODE_IPS"), "`addresses` of the Node, comma-separated: the BGP Identifier where the cloud-config gives none, and next hops; the environment variable NODE_IPS is the default")
	set.StringVar(&o.node, "node", getenv("NODE_NAME"), "`name` of the Node that this runs on; the environment variable NODE_NAME is the default")
	controllers := set.String("controllers", "baremetal-ccm.baremetal-ccm.svc:10270", "where baremetal-ccm listens, as `HOST:PORT`, comma-separated; every address of every host is a replica")
	set.StringVar(&o.caFile, "ca-file", "/etc/baremetal/ca/ca.crt", "`file` with the certificates, in PEM, that replicas of baremetal-ccm are verified by")
	set.StringVar(&o.tokenFile, "token-file", "/var/run/secrets/baremetal.cloud/token", "`file` with the token that shows which node this is")
	set.StringVar(&o.planFile, "plan-file", "", "`file` to keep the last plan in, for a restart while no baremetal-ccm is there; its directory must be there. Nothing is kept if empty")
	set.StringVar(&o.statusAddress, "status-address", "127.0.0.1:10271", "`address` to serve /healthz, /readyz and /metrics on")
	set.StringVar(&o.passwordDir, "bgp-password-dir", "/etc/baremetal/bgp-passwords", "`directory` with the files that peers of the cloud-config name as passwordFile")
	set.BoolVar(&o.realtime, "realtime", true, "go before processes of normal priority when the node is busy, so that peers do not take this one for dead; needs the capability SYS_NICE")
	set.TextVar(&o.logLevel, "log-level", slog.LevelInfo, "least `level` to log: debug, info, warn or error")
	set.BoolVar(&o.version, "version", false, "print the version and end")
	if err := set.Parse(args); err != nil {
		return options{}, err
	}
	for c := range strings.SplitSeq(*controllers, ",") {
		if c = strings.TrimSpace(c); c != "" {
			o.controllers = append(o.controllers, c)
		}
	}
	for text := range strings.SplitSeq(*nodeIPs, ",") {
		if text == "" {
			continue
		}
		address, err := netip.ParseAddr(text)
		if err != nil {
			return o, fmt.Errorf("--node-ips: %q is not an address", text)
		}
		o.nodeIPs = append(o.nodeIPs, address)
	}
	return o, o.checkOptions(set.Args())
}

// checkOptions says what cannot work.
func (o options) checkOptions(rest []string) error {
	switch {
	case len(rest) > 0:
		return fmt.Errorf("unexpected argument %q", rest[0])
	case o.version:
		return nil
	case o.node == "":
		return errors.New("--node is empty and NODE_NAME is not set; set it from spec.nodeName")
	case len(o.controllers) == 0:
		return errors.New("--controllers names nobody")
	}
	return nil
}
