// Package testbed boots a cluster of real Kubernetes components on a LAN of network
// namespaces, injects faults into it, and removes every trace of it.
//
// A testbed belongs to a directory. One supervisor process per testbed owns all the
// others; programs talk to it through Up, Attach and the methods of Cluster, people
// through cmd/testbed.
package testbed

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"baremetal.cloud/ccm/test/e2e/testbed/lan"
)

// Options say what testbed to boot.
type Options struct {
	// Dir is where everything about the testbed is kept. It may exist if it is empty.
	Dir string
	// Nodes is the number of nodes, 3 if it is 0.
	Nodes int
	// Proxy is kube-proxy's mode, nftables (the default) or iptables.
	Proxy string
	// Mgmt is "lan" (the default) if the cluster's own traffic shares the LAN with the
	// load balancer addresses, "separate" if it has a network of its own.
	Mgmt string
	// External runs the kubelets with --cloud-provider=external: nodes take no ordinary Pod
	// until they are initialised. The testbed's cloud-config has the key nodes then, and
	// deploy/ its component.
	External bool
	// Routers runs FRR and BIRD on the hosts frr and bird, which take the nodes as BGP
	// neighbours. The testbed's cloud-config has them as peers then, and a pool for them.
	Routers bool
	// NoDeploy applies nothing but the web Pods. What it leaves out is ready to apply in
	// the directory overlay below Dir.
	NoDeploy bool
	// Overlay is a kustomize directory to apply in place of deploy/. If it has no
	// cloud-config of its own it gets the testbed's.
	Overlay string
	// Failover is the key failover of the testbed's cloud-config, in YAML; empty for the default.
	Failover string
	// OwnerPID, if not 0, is the process whose end is the end of the testbed.
	OwnerPID int
	// BinDir holds the programs, .cache/bin of this repository by default.
	BinDir string
	// Progress is told in lines for people how the boot goes; nil for nobody.
	Progress io.Writer `json:"-"`
}

// complete returns o with its defaults filled in, or says what is wrong with it.
func (o Options) complete() (Options, error) {
	if o.Dir == "" {
		return o, errors.New("a testbed needs a directory: --dir=PATH")
	}
	dir, err := realPath(o.Dir)
	if err != nil {
		return o, err
	}
	o.Dir = dir
	if o.Nodes == 0 {
		o.Nodes = 3
	}
	if o.Proxy == "" {
		o.Proxy = "nftables"
	}
	if o.Mgmt == "" {
		o.Mgmt = "lan"
	}
	if o.Progress == nil {
		o.Progress = io.Discard
	}
	switch {
	case o.Proxy != "nftables" && o.Proxy != "iptables":
		return o, fmt.Errorf("--proxy is nftables or iptables, not %q", o.Proxy)
	case o.Mgmt != "lan" && o.Mgmt != "separate":
		return o, fmt.Errorf("--mgmt is lan or separate, not %q", o.Mgmt)
	}
	if _, err := o.layout(); err != nil {
		return o, err
	}
	if o.Overlay != "" {
		if o.Overlay, err = realPath(o.Overlay); err != nil {
			return o, err
		}
	}
	if o.BinDir == "" {
		repo, err := Repository()
		if err != nil {
			return o, err
		}
		o.BinDir = filepath.Join(repo, ".cache", "bin")
	}
	o.BinDir, err = realPath(o.BinDir)
	return o, err
}

func (o Options) layout() (lan.Layout, error) {
	return lan.New(lan.ID(o.Dir), o.Nodes, o.Mgmt == "separate")
}

// realPath is absolute and free of symlinks, as far as the path exists.
func realPath(path string) (string, error) {
	path, err := filepath.Abs(path)
	if err != nil {
		return "", err
	}
	if resolved, err := filepath.EvalSymlinks(path); err == nil {
		return resolved, nil
	}
	parent, err := realPath(filepath.Dir(path))
	return filepath.Join(parent, filepath.Base(path)), err
}

// Repository returns the root of this repository, found from the working directory.
func Repository() (string, error) {
	dir, err := os.Getwd()
	if err != nil {
		return "", err
	}
	for at := dir; ; at = filepath.Dir(at) {
		data, err := os.ReadFile(filepath.Join(at, "go.mod"))
		if err == nil && strings.HasPrefix(string(data), "module baremetal.cloud/ccm\n") {
			return at, nil
		}
		if at == filepath.Dir(at) {
			return "", fmt.Errorf("%s is not inside the repository of baremetal-ccm", dir)
		}
	}
}

// The files of a testbed, below its directory.
const (
	optionsFile = "testbed.json"
	envFile     = "env"
	logsDir     = "logs"
)

// record is what optionsFile holds.
type record struct {
	Options
	// Existed says that the directory was there before the testbed.
	Existed bool
	// Port is the API server's on the host's loopback.
	Port int
	// Supervisor is the process that owns the testbed.
	Supervisor int
}

func (r record) write() error {
	data, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return err
	}
	return writeFile(filepath.Join(r.Dir, optionsFile), data)
}

func readRecord(dir string) (record, error) {
	var r record
	data, err := os.ReadFile(filepath.Join(dir, optionsFile))
	if err != nil {
		return r, err
	}
	return r, json.Unmarshal(data, &r)
}

// writeFile replaces a file in one step.
func writeFile(path string, data []byte) error {
	temporary := path + ".new"
	if err := os.WriteFile(temporary, data, 0o600); err != nil {
		return err
	}
	return os.Rename(temporary, path)
}
