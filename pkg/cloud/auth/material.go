package auth

import (
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"maps"
	"time"

	corev1 "k8s.io/api/core/v1"
)

// Keys of the Secret; keyCA is the ConfigMap's too.
const (
	keyCA          = "ca.crt"
	keyCAKey       = "ca.key"
	keyCertificate = corev1.TLSCertKey
	keyPrivateKey  = corev1.TLSPrivateKeyKey
	keyFailover    = "failover.key"
)

// failoverKeyBytes is the length of the secret under keyFailover.
const failoverKeyBytes = 32

// material is what the Secret holds, judged.
type material struct {
	// ca is the bundle that announcers trust.
	ca []byte
	// pair is what the CCM serves with.
	pair *tls.Certificate
	// authority is the one that signs.
	authority *x509.Certificate
	// refused is why the request for another authority was not followed, or nil.
	refused error
}

// validate reads the Secret's data. It returns what data holds and, where that has to
// change at now, the data that should be there instead: everything where data is empty,
// the serving certificate where a third of its life is left. Data without an authority's
// key belongs to another owner (cert-manager, say), which renews it. Data that is there
// but makes no sense is an error: it is not ours to throw away.
func validate(data map[string][]byte, now time.Time) (*material, map[string][]byte, error) {
	if isEmpty(data) {
		return reissue(withoutRotation(data), now)
	}
	pair, err := tls.X509KeyPair(data[keyCertificate], data[keyPrivateKey])
	if err != nil {
		return nil, nil, fmt.Errorf("%s and %s: %w", keyCertificate, keyPrivateKey, err)
	}
	authority, err := firstCertificate(data, keyCA)
	if err != nil {
		return nil, nil, err
	}
	found := &material{ca: trustBundle(data), pair: &pair, authority: authority}
	if !isOurs(data) || !isDue(pair.Leaf, now) || !authority.NotAfter.After(pair.Leaf.NotAfter) {
		return found, nil, nil
	}
	return reissue(data, now)
}

// isOurs reports whether the authority is one that we can sign with.
func isOurs(data map[string][]byte) bool { return len(data[keyCAKey]) > 0 }

// firstCertificate returns the first certificate under key.
func firstCertificate(data map[string][]byte, key string) (*x509.Certificate, error) {
	block, _ := pem.Decode(data[key])
	if block == nil || block.Type != "CERTIFICATE" {
		return nil, fmt.Errorf("%s: holds no certificate", key)
	}
	certificate, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", key, err)
	}
	return certificate, nil
}

// reissue returns data with a new serving certificate, of a new authority where there is
// none, and the material that it holds.
func reissue(data map[string][]byte, now time.Time) (*material, map[string][]byte, error) {
	made := maps.Clone(data)
	if made == nil {
		made = map[string][]byte{}
	}
	issuer, err := ensureAuthority(made, now)
	if err != nil {
		return nil, nil, err
	}
	if made[keyCertificate], made[keyPrivateKey], err = issuer.newLeaf(now); err != nil {
		return nil, nil, err
	}
	pair, err := tls.X509KeyPair(made[keyCertificate], made[keyPrivateKey])
	if err != nil {
		return nil, nil, fmt.Errorf("a certificate just made: %w", err)
	}
	return &material{ca: trustBundle(made), pair: &pair, authority: issuer.certificate}, made, nil
}

// validateFailoverKey returns the secret that the keys of every two nodes are made from, and, where
// data holds none, the data that should be there instead. It is made once and outlives
// every certificate: with another one nodes would not hear each other for a moment.
func validateFailoverKey(data map[string][]byte) (secret []byte, change map[string][]byte, err error) {
	if secret = data[keyFailover]; len(secret) >= failoverKeyBytes {
		return secret, nil, nil
	}
	if len(secret) > 0 {
		return nil, nil, fmt.Errorf("%s: holds %d bytes; want at least %d", keyFailover, len(secret), failoverKeyBytes)
	}
	if change = maps.Clone(data); change == nil {
		change = map[string][]byte{}
	}
	secret = make([]byte, failoverKeyBytes)
	_, _ = rand.Read(secret) // never fails
	change[keyFailover] = secret
	return secret, change, nil
}

// ensureAuthority returns the authority in data, and makes one into it if there is none.
func ensureAuthority(data map[string][]byte, now time.Time) (*authority, error) {
	if len(data[keyCA]) > 0 {
		issuer, err := parseAuthority(data[keyCA], data[keyCAKey])
		if err != nil {
			return nil, fmt.Errorf("%s and %s: %w", keyCA, keyCAKey, err)
		}
		return issuer, nil
	}
	issuer, err := newAuthority(now)
	if err != nil {
		return nil, err
	}
	data[keyCA] = encodeCertificate(issuer.certificate)
	data[keyCAKey], err = encodeKey(issuer.key)
	return issuer, err
}

// isEmpty reports whether none of the keys has a value, as the manifests ship the Secret.
func isEmpty(data map[string][]byte) bool {
	for _, key := range []string{keyCA, keyCAKey, keyCertificate, keyPrivateKey} {
		if len(data[key]) > 0 {
			return false
		}
	}
	return true
}

// isDue reports whether a third of the certificate's life, or less, is left at now.
func isDue(certificate *x509.Certificate, now time.Time) bool {
	return certificate.NotAfter.Sub(now) <= certificate.NotAfter.Sub(certificate.NotBefore)/3
}
