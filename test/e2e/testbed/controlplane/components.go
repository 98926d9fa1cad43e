package controlplane

import (
	"fmt"
	"os"
	"path/filepath"

	"baremetal.cloud/ccm/test/e2e/testbed/lan"
	"baremetal.cloud/ccm/test/e2e/testbed/proc"
)

// EtcdAddress is where etcd serves on the control plane host.
const EtcdAddress = "127.0.0.1:2379"

// Etcd is the database. It does not wait for the disk: a testbed's data may go with
// the machine, and the disk is not what is measured here.
func (c Config) Etcd() proc.Command {
	return c.command("etcd",
		"--name=testbed",
		"--data-dir="+filepath.Join(c.Dir, "etcd"),
		"--unsafe-no-fsync",
		"--log-level=warn",
		"--listen-client-urls=http://"+EtcdAddress,
		"--advertise-client-urls=http://"+EtcdAddress,
		"--listen-peer-urls=http://127.0.0.1:2380",
		"--initial-advertise-peer-urls=http://127.0.0.1:2380",
		"--initial-cluster=testbed=http://127.0.0.1:2380",
	)
}

// APIServer is kube-apiserver with the authorization of a usual cluster.
func (c Config) APIServer() proc.Command {
	return c.command("kube-apiserver",
		"--etcd-servers=http://"+EtcdAddress,
		"--bind-address=::",
		"--advertise-address="+c.Layout.ControlPlane.Primary().V4.String(),
		fmt.Sprintf("--secure-port=%d", Port),
		"--tls-cert-file="+c.pki("apiserver.crt"),
		"--tls-private-key-file="+c.pki("apiserver.key"),
		"--client-ca-file="+c.CA(),
		"--requestheader-client-ca-file="+c.pki("front-proxy-ca.crt"),
		"--requestheader-allowed-names=front-proxy",
		"--requestheader-username-headers=X-Remote-User",
		"--requestheader-group-headers=X-Remote-Group",
		"--requestheader-extra-headers-prefix=X-Remote-Extra-",
		"--proxy-client-cert-file="+c.pki("front-proxy.crt"),
		"--proxy-client-key-file="+c.pki("front-proxy.key"),
		"--authorization-mode=Node,RBAC",
		"--enable-admission-plugins=NodeRestriction",
		"--allow-privileged=true",
		"--service-account-issuer=https://kubernetes.default.svc",
		"--service-account-key-file="+c.pki("sa.pub"),
		"--service-account-signing-key-file="+c.pki("sa.key"),
		fmt.Sprintf("--service-cluster-ip-range=%s,%s", c.Layout.ServiceV4, c.Layout.ServiceV6),
		"--profiling=false",
		"--v=1",
	)
}

// ControllerManager is kube-controller-manager. Its client is allowed more than its
// default of 20 requests a second, which would otherwise be what a test measures.
// Controllers for what a testbed cannot have are off, to keep it quiet.
func (c Config) ControllerManager() proc.Command {
	kubeconfig := c.Kubeconfig("kcm")
	return c.command("kube-controller-manager",
		"--kubeconfig="+kubeconfig,
		"--authentication-kubeconfig="+kubeconfig,
		"--authorization-kubeconfig="+kubeconfig,
		"--bind-address=127.0.0.1",
		"--leader-elect=false",
		"--use-service-account-credentials=true",
		"--root-ca-file="+c.CA(),
		"--service-account-private-key-file="+c.pki("sa.key"),
		fmt.Sprintf("--cluster-cidr=%s,%s", c.Layout.ClusterV4, c.Layout.ClusterV6),
		"--allocate-node-cidrs=false",
		"--kube-api-qps=1000",
		"--kube-api-burst=2000",
		"--concurrent-service-endpoint-syncs=10",
		"--controllers=*,"+
			"-persistentvolume-attach-detach-controller,-persistentvolume-binder-controller,"+
			"-persistentvolume-expander-controller,-persistentvolume-protection-controller,"+
			"-persistentvolumeclaim-protection-controller,-volumeattributesclass-protection-controller,"+
			"-ephemeral-volume-controller,-horizontal-pod-autoscaler-controller,-resourceclaim-controller,"+
			"-storage-version-migrator-controller,-device-taint-eviction-controller",
		"--profiling=false",
		"--v=1",
	)
}

// Proxy is the kube-proxy of one node. It reads its configuration from file, which
// WriteProxyConfig makes. It has a private /run for its lock files.
func (c Config) Proxy(node lan.Node, file string) proc.Command {
	return proc.Command{
		Path:  filepath.Join(c.Bin, "kube-proxy"),
		Args:  []string{"--config=" + file, "--v=1"},
		Env:   []string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin", "HOME=/"},
		NetNS: node.NetNS,
		Tmpfs: []string{"/run"},
	}
}

// WriteProxyConfig writes the configuration of a node's kube-proxy. Limits that the
// kernel keeps for all namespaces together are left alone, and so is what needs rights
// that a container host need not have. Rules follow a change after 100 ms at the
// latest, where upstream's default is 1 s.
func (c Config) WriteProxyConfig(node lan.Node, file string) error {
	text := fmt.Sprintf(`apiVersion: kubeproxy.config.k8s.io/v1alpha1
kind: KubeProxyConfiguration
mode: %s
hostnameOverride: %s
clientConnection: {kubeconfig: %q}
detectLocalMode: ClusterCIDR
clusterCIDR: "%s,%s"
healthzBindAddress: 127.0.0.1:10256
metricsBindAddress: 127.0.0.1:10249
oomScoreAdj: 0
conntrack: {maxPerCore: 0, min: 0, tcpEstablishedTimeout: 0s, tcpCloseWaitTimeout: 0s}
iptables: {minSyncPeriod: 100ms}
nftables: {minSyncPeriod: 100ms}
`, c.ProxyMode, node.Name, c.Kubeconfig("proxy"), c.Layout.ClusterV4, c.Layout.ClusterV6)
	return os.WriteFile(file, []byte(text), 0o600)
}
