package controlplane

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"time"
)

// validity of everything signed here; a testbed lives for minutes.
const validity = 30 * 24 * time.Hour

// authority signs the testbed's certificates.
type authority struct {
	cert *x509.Certificate
	key  crypto.Signer
}

// subject is what a certificate says about its holder.
type subject struct {
	name      string
	groups    []string
	dnsNames  []string
	addresses []netip.Addr
}

func newAuthority(name string) (*authority, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	template, err := template(name)
	if err != nil {
		return nil, err
	}
	template.IsCA = true
	template.KeyUsage = x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return nil, err
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, err
	}
	return &authority{cert: cert, key: key}, nil
}

// sign returns a certificate and its key in PEM.
func (a *authority) sign(s subject) (cert, key []byte, err error) {
	signer, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, nil, err
	}
	template, err := template(s.name)
	if err != nil {
		return nil, nil, err
	}
	template.Subject.Organization = s.groups
	template.KeyUsage = x509.KeyUsageDigitalSignature
	template.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}
	if len(s.dnsNames)+len(s.addresses) > 0 {
		template.ExtKeyUsage = append(template.ExtKeyUsage, x509.ExtKeyUsageServerAuth)
	}
	template.DNSNames = s.dnsNames
	for _, address := range s.addresses {
		template.IPAddresses = append(template.IPAddresses, net.IP(address.AsSlice()))
	}
	der, err := x509.CreateCertificate(rand.Reader, template, a.cert, signer.Public(), a.key)
	if err != nil {
		return nil, nil, err
	}
	key, err = keyPEM(signer)
	return certPEM(der), key, err
}

func (a *authority) pem() []byte { return certPEM(a.cert.Raw) }

func template(name string) (*x509.Certificate, error) {
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 120))
	if err != nil {
		return nil, err
	}
	return &x509.Certificate{
		SerialNumber:          serial,
		Subject:               pkix.Name{CommonName: name},
		NotBefore:             time.Now().Add(-time.Hour),
		NotAfter:              time.Now().Add(validity),
		BasicConstraintsValid: true,
	}, nil
}

func certPEM(der []byte) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
}

func keyPEM(key crypto.Signer) ([]byte, error) {
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, err
	}
	return pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), nil
}

// files collects what is to be written below a directory; the first error sticks.
type files struct {
	dir string
	err error
}

func (f *files) write(name string, data []byte) {
	if f.err == nil {
		f.err = os.WriteFile(filepath.Join(f.dir, name), data, 0o600)
	}
}

func (f *files) pair(a *authority, file string, s subject) {
	cert, key, err := a.sign(s)
	if err != nil && f.err == nil {
		f.err = fmt.Errorf("certificate of %s: %w", s.name, err)
	}
	f.write(file+".crt", cert)
	f.write(file+".key", key)
}
