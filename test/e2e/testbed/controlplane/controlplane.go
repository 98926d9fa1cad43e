// Package controlplane configures the real Kubernetes components of a testbed: their
// keys, their kubeconfigs and their command lines.
package controlplane

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"

	"baremetal.cloud/ccm/test/e2e/testbed/lan"
	"baremetal.cloud/ccm/test/e2e/testbed/proc"
)

// Port is where the API server listens on the control plane host.
const Port = 6443

// Config says where a control plane keeps its files and which network it serves.
type Config struct {
	// Dir holds keys, kubeconfigs and the database. It is made if it is missing.
	Dir string
	// Bin holds the components' programs.
	Bin    string
	Layout lan.Layout
	// ProxyMode is kube-proxy's: nftables or iptables.
	ProxyMode string
}

func (c Config) pki(name string) string { return filepath.Join(c.Dir, "pki", name) }

// CA is the file with the certificate that signed the API server's.
func (c Config) CA() string { return c.pki("ca.crt") }

// Kubeconfig is the file with the credentials of one user: admin, scheduler, kcm,
// proxy, or a node's name.
func (c Config) Kubeconfig(user string) string {
	return filepath.Join(c.Dir, user+".kubeconfig")
}

// Server is the API server's URL inside the testbed.
func (c Config) Server() string {
	return "https://" + c.Address()
}

// Address is the API server's host and port inside the testbed.
func (c Config) Address() string {
	return netip.AddrPortFrom(c.Layout.ControlPlane.Primary().V4, Port).String()
}

// WriteKeys makes all keys and certificates, and the kubeconfigs of everybody inside
// the testbed.
func (c Config) WriteKeys() error {
	if err := os.MkdirAll(c.pki(""), 0o700); err != nil {
		return err
	}
	ca, err := newAuthority("testbed")
	if err != nil {
		return err
	}
	front, err := newAuthority("testbed-front-proxy")
	if err != nil {
		return err
	}
	f := &files{dir: c.pki("")}
	f.write("ca.crt", ca.pem())
	f.write("front-proxy-ca.crt", front.pem())
	f.pair(front, "front-proxy", subject{name: "front-proxy"})
	f.pair(ca, "apiserver", c.serverSubject())
	f.serviceAccountKeys()
	users := c.users()
	for name, s := range users {
		f.pair(ca, name, s)
	}
	if f.err != nil {
		return f.err
	}
	for name := range users {
		if err := c.writeKubeconfig(name, c.Kubeconfig(name), c.Server()); err != nil {
			return err
		}
	}
	return nil
}

// users are the identities that exist, as a real cluster's.
func (c Config) users() map[string]subject {
	users := map[string]subject{
		"admin":     {name: "testbed-admin", groups: []string{"system:masters"}},
		"scheduler": {name: "system:kube-scheduler"},
		"kcm":       {name: "system:kube-controller-manager"},
		"proxy":     {name: "system:kube-proxy"},
	}
	for _, n := range c.Layout.Nodes {
		users[n.Name] = subject{name: "system:node:" + n.Name, groups: []string{"system:nodes"}}
	}
	return users
}

func (c Config) serverSubject() subject {
	cp := c.Layout.ControlPlane.Primary()
	return subject{
		name: "kube-apiserver",
		dnsNames: []string{"localhost", "kubernetes", "kubernetes.default", "kubernetes.default.svc",
			"kubernetes.default.svc.cluster.local"},
		addresses: []netip.Addr{
			netip.MustParseAddr("127.0.0.1"), netip.IPv6Loopback(), cp.V4, cp.V6,
			c.Layout.ServiceV4.Addr().Next(), c.Layout.ServiceV6.Addr().Next(),
		},
	}
}

func (f *files) serviceAccountKeys() {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		f.err = err
		return
	}
	public, err := x509.MarshalPKIXPublicKey(key.Public())
	if err != nil {
		f.err = err
		return
	}
	private, err := keyPEM(key)
	if err != nil {
		f.err = err
		return
	}
	f.write("sa.key", private)
	f.write("sa.pub", pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: public}))
}

// WriteHostKubeconfig writes the administrator's kubeconfig for programs outside the
// testbed, which reach the API server at a port of the host's loopback.
func (c Config) WriteHostKubeconfig(path string, port int) error {
	return c.writeKubeconfig("admin", path, "https://"+net.JoinHostPort("127.0.0.1", fmt.Sprint(port)))
}

func (c Config) writeKubeconfig(user, path, server string) error {
	text := fmt.Sprintf(`apiVersion: v1
kind: Config
clusters:
- name: testbed
  cluster: {server: %q, certificate-authority: %q}
users:
- name: %s
  user: {client-certificate: %q, client-key: %q}
contexts:
- name: testbed
  context: {cluster: testbed, user: %[3]s}
current-context: testbed
`, server, c.CA(), user, c.pki(user+".crt"), c.pki(user+".key"))
	return os.WriteFile(path, []byte(text), 0o600)
}

// command runs one of the components on the control plane host.
func (c Config) command(program string, args ...string) proc.Command {
	return proc.Command{
		Path:  filepath.Join(c.Bin, program),
		Args:  args,
		Env:   []string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin", "HOME=/"},
		NetNS: c.Layout.ControlPlane.NetNS,
	}
}
