package auth

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/client-go/kubernetes"
)

const (
	// followEvery is how often a replica looks for a certificate that another renewed.
	followEvery = time.Minute
	// retryFirst and retryMost bound the time between attempts while there is none.
	retryFirst = time.Second
	retryMost  = 15 * time.Second
)

// CertManagerOptions are what a CertManager needs.
type CertManagerOptions struct {
	// Client reaches the Secret and the ConfigMap; it must not be behind the leader's fence.
	Client kubernetes.Interface
	// Namespace is where both are; Secret and ConfigMap are their names.
	Namespace, Secret, ConfigMap string
	// CertFile and KeyFile, if given, are served instead. The ConfigMap and what the Secret
	// holds of certificates are left alone then: the administrator that gives files also tells
	// the announcers which authority to trust. The nodes' secret is kept in the Secret all the same.
	CertFile, KeyFile string
	// Now is the wall clock; nil means time.Now.
	Now    func() time.Time
	Logger *slog.Logger
}

// CertManager has the CCM's serving certificate and keeps it fresh while Run runs.
type CertManager struct {
	options CertManagerOptions
	log     *slog.Logger
	pair    atomic.Pointer[tls.Certificate]
	ready   chan struct{}
	first   sync.Once // guards ready

	authority atomic.Pointer[x509.Certificate]
	refused   error // what was logged last of requests; Run's own

	secret atomic.Pointer[[]byte]
	known  chan struct{}
	second sync.Once // guards known
}

// NewCertManager returns a CertManager without a certificate; Run gets one.
func NewCertManager(options CertManagerOptions) (*CertManager, error) {
	if (options.CertFile == "") != (options.KeyFile == "") {
		return nil, errors.New("a certificate file and a key file belong together: give both or none")
	}
	if options.Now == nil {
		options.Now = time.Now
	}
	return &CertManager{options: options, log: options.Logger, ready: make(chan struct{}), known: make(chan struct{})}, nil
}

// Ready is closed when there is a certificate to serve with.
func (k *CertManager) Ready() <-chan struct{} { return k.ready }

// Secret returns what the keys of every two nodes are made from, or nil, and a channel that
// is closed once there is something. It is the same for all replicas and for good.
func (k *CertManager) Secret() ([]byte, <-chan struct{}) {
	if secret := k.secret.Load(); secret != nil {
		return *secret, k.known
	}
	return nil, k.known
}

// Expiry returns until when the serving certificate and the authority that signed it last.
// A time is zero where there is none, and for the authority of a certificate from a file.
func (k *CertManager) Expiry() (serving, authority time.Time) {
	if pair := k.pair.Load(); pair != nil {
		serving = pair.Leaf.NotAfter
	}
	if certificate := k.authority.Load(); certificate != nil {
		authority = certificate.NotAfter
	}
	return serving, authority
}

// TLSConfig returns a server's configuration that always serves the newest certificate.
// Handshakes fail until Ready.
func (k *CertManager) TLSConfig() *tls.Config {
	return &tls.Config{
		MinVersion: tls.VersionTLS13,
		GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) {
			if pair := k.pair.Load(); pair != nil {
				return pair, nil
			}
			return nil, errors.New("there is no serving certificate yet")
		},
	}
}

// Run gets a certificate, makes or renews it where that is needed, and follows it until
// ctx is done. Whatever fails is logged, once per cause, and tried again; the certificate
// that is there stays in use.
func (k *CertManager) Run(ctx context.Context) error {
	delay, cause := retryFirst, ""
	for {
		err := k.refreshAll(ctx)
		switch {
		case ctx.Err() != nil:
			return nil
		case err == nil:
			delay, cause = followEvery, ""
		default:
			if cause != err.Error() {
				cause = err.Error()
				k.log.Error("the serving certificate for announcers could not be refreshed; trying on", "err", err)
			}
			if delay == followEvery {
				delay = retryFirst
			}
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(delay):
		}
		if err != nil {
			delay = min(2*delay, retryMost)
		}
	}
}

// refreshAll brings the certificate, the Secret and the ConfigMap up to date once. Without the
// nodes' secret there is a certificate all the same: nodes hear their addresses then, though
// not which peers to watch.
func (k *CertManager) refreshAll(ctx context.Context) error {
	if err := k.refreshCertificate(ctx); err != nil {
		return err
	}
	return k.refreshSecret(ctx)
}

func (k *CertManager) refreshCertificate(ctx context.Context) error {
	if k.options.CertFile != "" {
		pair, err := tls.LoadX509KeyPair(k.options.CertFile, k.options.KeyFile)
		if err != nil {
			return fmt.Errorf("serving certificate %s with key %s: %w", k.options.CertFile, k.options.KeyFile, err)
		}
		k.setServing(&pair)
		return nil
	}
	for {
		again, err := k.step(ctx)
		if apierrors.IsConflict(err) {
			continue // another replica was first: take what it wrote
		}
		if err != nil || !again {
			return err
		}
	}
}

// step takes at most one step: it changes the Secret and asks to be called again, or, where
// that has nothing to do, publishes what the Secret holds and serves with it. The ConfigMap
// is read before the Secret: what is written to it then never comes from a Secret older
// than what another replica has published meanwhile.
func (k *CertManager) step(ctx context.Context) (again bool, err error) {
	configMap, err := k.configMap(ctx)
	if err != nil {
		return false, err
	}
	found, changed, err := k.readMaterial(ctx, toldBy(configMap))
	if err != nil || changed {
		return changed, err
	}
	if err := k.publishCA(ctx, configMap, found.ca); err != nil {
		return false, err
	}
	k.setServing(found.pair)
	k.authority.Store(found.authority)
	if found.refused != nil && k.refused == nil {
		k.log.Warn("the authority is not rotated", "secret", k.options.Namespace+"/"+k.options.Secret, "err", found.refused)
	}
	k.refused = found.refused
	return false, nil
}

// refreshSecret reads the nodes' secret, having made it where there was none.
func (k *CertManager) refreshSecret(ctx context.Context) error {
	var found []byte
	made, err := k.updateSecret(ctx, func(secret *corev1.Secret) error {
		secretFound, change, err := validateFailoverKey(secret.Data)
		if change != nil {
			secret.Data = change
		}
		found = secretFound
		return err
	})
	if apierrors.IsConflict(err) {
		return k.refreshSecret(ctx) // another replica was first: take what it wrote
	}
	if err != nil {
		return err
	}
	if made {
		k.log.Info("made the secret by which nodes know each other", "secret", k.options.Namespace+"/"+k.options.Secret)
	}
	k.secret.Store(&found)
	k.second.Do(func() { close(k.known) })
	return nil
}

// readMaterial returns what the Secret holds of certificates, and whether it took a step: made
// what was missing, renewed what was old, or went on with a rotation. A conflict means that
// another replica wrote the Secret meanwhile.
func (k *CertManager) readMaterial(ctx context.Context, told published) (found *material, changed bool, err error) {
	var did string
	changed, err = k.updateSecret(ctx, func(secret *corev1.Secret) (err error) {
		found, did, err = stepSecret(secret, told, k.options.Now())
		return err
	})
	if changed && err == nil {
		k.log.Info(did, "secret", k.options.Namespace+"/"+k.options.Secret)
	}
	return found, changed, err
}

// setServing makes pair the one that new connections see.
func (k *CertManager) setServing(pair *tls.Certificate) {
	if old := k.pair.Swap(pair); old != nil && bytes.Equal(old.Leaf.Raw, pair.Leaf.Raw) {
		return
	}
	k.log.Info("serving announcers with a new certificate", "serial", pair.Leaf.SerialNumber, "notAfter", pair.Leaf.NotAfter)
	k.first.Do(func() { close(k.ready) })
}
