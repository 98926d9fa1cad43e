package control

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"os"
	"strings"
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
