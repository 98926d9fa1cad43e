package control

import (
	"context"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"net"
	"os"
	"strings"
	"sync/atomic"
	"time"

	"google.golang.org/grpc/credentials"

	"baremetal.cloud/ccm/pkg/announcer/plan"
)

// errNotFilled means that a file holds nothing yet.
var errNotFilled = errors.New("the file is empty")

// errNoCertificate means that a CA file holds something else.
var errNoCertificate = errors.New("no PEM certificate in it")

// newTLS returns the TLS configuration to dial with. ca is in a mounted ConfigMap that the
// cloud-controller-manager fills when it first runs, and refills when the CA changes.
func newTLS(ca, serverName string) (*tls.Config, error) {
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM([]byte(ca)) {
		return nil, errNoCertificate
	}
	return &tls.Config{RootCAs: roots, ServerName: serverName, MinVersion: tls.VersionTLS13}, nil
}

// credentialFiles are the contents of the files by which the two sides know each other.
type credentialFiles struct{ ca, token string }

// readCredentials reads both files.
func readCredentials(o ClientOptions) (credentialFiles, error) {
	ca, err := readFilled(o.CAFile)
	if err != nil {
		return credentialFiles{}, fmt.Errorf("CA: %w", err)
	}
	if _, err := newTLS(ca, o.ServerName); err != nil {
		return credentialFiles{}, fmt.Errorf("CA: %s: %w", o.CAFile, err)
	}
	token, err := readFilled(o.TokenFile)
	if err != nil {
		return credentialFiles{}, fmt.Errorf("token: %w", err)
	}
	return credentialFiles{ca, token}, nil
}

// vouchesFor reports whether the CA still vouches for the replica at the other end of a
// connection with that TLS state.
//
// That a certificate has expired since is no matter: the stream stands.
func (c credentialFiles) vouchesFor(state *tls.ConnectionState, serverName string) bool {
	config, err := newTLS(c.ca, serverName)
	if err != nil || state == nil || len(state.PeerCertificates) == 0 {
		return false
	}
	leaf, between := state.PeerCertificates[0], x509.NewCertPool()
	for _, certificate := range state.PeerCertificates[1:] {
		between.AddCert(certificate)
	}
	now := time.Now()
	if now.After(leaf.NotAfter) {
		now = leaf.NotAfter
	}
	_, err = leaf.Verify(x509.VerifyOptions{
		DNSName: serverName, Roots: config.RootCAs, Intermediates: between, CurrentTime: now,
	})
	return err == nil
}

// handshakes are TLS credentials that keep why the handshake failed, of which gRPC passes on
// the sentence alone, and the state of one that did not.
type handshakes struct {
	credentials.TransportCredentials
	failed *atomic.Pointer[error]
	state  *atomic.Pointer[tls.ConnectionState]
}

// ClientHandshake implements credentials.TransportCredentials.
func (h handshakes) ClientHandshake(ctx context.Context, authority string, conn net.Conn) (net.Conn, credentials.AuthInfo, error) {
	secured, info, err := h.TransportCredentials.ClientHandshake(ctx, authority, conn)
	if err != nil {
		h.failed.Store(&err)
	}
	if info, ok := info.(credentials.TLSInfo); ok {
		h.state.Store(&info.State)
	}
	return secured, info, err
}

// Clone implements credentials.TransportCredentials.
func (h handshakes) Clone() credentials.TransportCredentials {
	return handshakes{TransportCredentials: h.TransportCredentials.Clone(), failed: h.failed, state: h.state}
}

// certificateHint says what to do about a replica's certificate that was not accepted, or "".
func certificateHint(err error) string {
	if invalid, ok := errors.AsType[x509.CertificateInvalidError](err); ok && invalid.Reason == x509.Expired {
		return "compare this node's clock with those of the nodes that run baremetal-ccm; if they agree, see the log of baremetal-ccm for why it does not renew the certificate"
	}
	if _, ok := errors.AsType[x509.UnknownAuthorityError](err); ok {
		return "the ConfigMap baremetal-ccm-ca must hold the CA in the Secret baremetal-ccm-tls; kubelet brings a change to the Pod within about two minutes"
	}
	return ""
}

// vouchersFor returns which of the authorities in the file ca vouched for a replica, and all
// of them. Each is named by the hash of its key, so that a renewed certificate is the same.
func vouchersFor(ca string, state *tls.ConnectionState) (v plan.Voucher) {
	for rest := []byte(ca); ; {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			break
		}
		if certificate, err := x509.ParseCertificate(block.Bytes); err == nil {
			v.Trusted = append(v.Trusted, authorityName(certificate))
		}
	}
	if state != nil && len(state.VerifiedChains) > 0 {
		chain := state.VerifiedChains[0]
		v.Authority = authorityName(chain[len(chain)-1])
	}
	return v
}

func authorityName(certificate *x509.Certificate) string {
	sum := sha256.Sum256(certificate.RawSubjectPublicKeyInfo)
	return hex.EncodeToString(sum[:16])
}

func readFilled(file string) (string, error) {
	content, err := os.ReadFile(file)
	if err != nil {
		return "", err
	}
	text := strings.TrimSpace(string(content))
	if text == "" {
		return "", fmt.Errorf("%s: %w", file, errNotFilled)
	}
	return text, nil
}
