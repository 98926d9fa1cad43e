package control

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"os"
	"strings"
	"sync/atomic"

	"google.golang.org/grpc/credentials"
)

// errNotFilled says that a file holds nothing yet.
var errNotFilled = errors.New("the file is empty")

// loadTLS reads the CA file and returns the TLS configuration to dial with. The file is a
// mounted ConfigMap that the cloud-controller-manager fills when it first runs, and
// refills when the CA changes.
func loadTLS(caFile, serverName string) (*tls.Config, error) {
	pem, err := readFilled(caFile)
	if err != nil {
		return nil, fmt.Errorf("CA: %w", err)
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM([]byte(pem)) {
		return nil, fmt.Errorf("CA: %s: no PEM certificate in it", caFile)
	}
	return &tls.Config{RootCAs: roots, ServerName: serverName, MinVersion: tls.VersionTLS13}, nil
}

// handshakes are TLS credentials that keep why the handshake failed: gRPC passes on the
// sentence alone.
type handshakes struct {
	credentials.TransportCredentials
	failed *atomic.Pointer[error]
}

// ClientHandshake implements credentials.TransportCredentials.
func (h handshakes) ClientHandshake(ctx context.Context, authority string, conn net.Conn) (net.Conn, credentials.AuthInfo, error) {
	secured, info, err := h.TransportCredentials.ClientHandshake(ctx, authority, conn)
	if err != nil {
		h.failed.Store(&err)
	}
	return secured, info, err
}

// Clone implements credentials.TransportCredentials.
func (h handshakes) Clone() credentials.TransportCredentials {
	return handshakes{TransportCredentials: h.TransportCredentials.Clone(), failed: h.failed}
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

// loadToken reads the projected ServiceAccount token, which kubelet replaces before it expires.
func loadToken(file string) (string, error) {
	token, err := readFilled(file)
	if err != nil {
		return "", fmt.Errorf("token: %w", err)
	}
	return token, nil
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
