package identity

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
)

const (
	// followEvery is how often a replica looks for a certificate that another renewed.
	followEvery = time.Minute
	// retryFirst and retryMost bound the time between attempts while there is none.
	retryFirst = time.Second
	retryMost  = 15 * time.Second
)

// KeeperOptions are what a Keeper needs.
type KeeperOptions struct {
	// Client reaches the Secret and the ConfigMap; it must not be behind the leader's fence.
	Client kubernetes.Interface
	// Namespace is where both are; Secret and ConfigMap are their names.
	Namespace, Secret, ConfigMap string
	// CertFile and KeyFile, if given, are served instead. The ConfigMap and what the Secret
	// holds of certificates are left alone then: who gives files also tells the announcers
	// whom to trust. The nodes' secret is kept in the Secret all the same.
	CertFile, KeyFile string
	// Now is the wall clock; nil means time.Now.
	Now    func() time.Time
	Logger *slog.Logger
}

// Keeper has the CCM's serving certificate and keeps it fresh while Run runs.
type Keeper struct {
	options KeeperOptions
	log     *slog.Logger
	pair    atomic.Pointer[tls.Certificate]
	ready   chan struct{}
	first   sync.Once // guards ready
	secret  atomic.Pointer[[]byte]
	known   chan struct{}
	second  sync.Once // guards known
}

// NewKeeper returns a Keeper without a certificate; Run gets one.
func NewKeeper(options KeeperOptions) (*Keeper, error) {
	if (options.CertFile == "") != (options.KeyFile == "") {
		return nil, errors.New("a certificate file and a key file belong together: give both or none")
	}
	if options.Now == nil {
		options.Now = time.Now
	}
	return &Keeper{options: options, log: options.Logger, ready: make(chan struct{}), known: make(chan struct{})}, nil
}

// Ready is closed when there is a certificate to serve with.
func (k *Keeper) Ready() <-chan struct{} { return k.ready }

// Secret returns what the keys of every two nodes are made from, or nil, and a channel that
// is closed once there is something. It is the same for all replicas and for good.
func (k *Keeper) Secret() ([]byte, <-chan struct{}) {
	if secret := k.secret.Load(); secret != nil {
		return *secret, k.known
	}
	return nil, k.known
}

// TLSConfig returns a server's configuration that always serves the newest certificate.
// Handshakes fail until Ready.
func (k *Keeper) TLSConfig() *tls.Config {
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
func (k *Keeper) Run(ctx context.Context) error {
	delay, cause := retryFirst, ""
	for {
		err := k.refresh(ctx)
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

// refresh brings the certificate, the Secret and the ConfigMap up to date once. Without the
// nodes' secret there is a certificate all the same: nodes are told their addresses then,
// though not whom to watch.
func (k *Keeper) refresh(ctx context.Context) error {
	if err := k.refreshCertificate(ctx); err != nil {
		return err
	}
	return k.refreshSecret(ctx)
}

func (k *Keeper) refreshCertificate(ctx context.Context) error {
	if k.options.CertFile != "" {
		pair, err := tls.LoadX509KeyPair(k.options.CertFile, k.options.KeyFile)
		if err != nil {
			return fmt.Errorf("serving certificate %s with key %s: %w", k.options.CertFile, k.options.KeyFile, err)
		}
		k.serve(&pair)
		return nil
	}
	for {
		found, err := k.material(ctx)
		if err == nil {
			err = k.publish(ctx, found.ca)
		}
		if apierrors.IsConflict(err) {
			continue // another replica was first: take what it wrote
		}
		if err != nil {
			return err
		}
		k.serve(found.pair)
		return nil
	}
}

// refreshSecret reads the nodes' secret, having made it where there was none.
func (k *Keeper) refreshSecret(ctx context.Context) error {
	var found []byte
	made, err := k.revise(ctx, func(data map[string][]byte) (change map[string][]byte, err error) {
		found, change, err = judgeSight(data)
		return change, err
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

// material returns what the Secret holds of certificates, having made it where it was
// empty or old. A conflict means that another replica wrote it meanwhile.
func (k *Keeper) material(ctx context.Context) (*material, error) {
	var found *material
	made, err := k.revise(ctx, func(data map[string][]byte) (change map[string][]byte, err error) {
		found, change, err = judge(data, k.options.Now())
		return change, err
	})
	if err != nil {
		return nil, err
	}
	if made {
		k.log.Info("made a serving certificate for announcers", "secret", k.options.Namespace+"/"+k.options.Secret, "notAfter", found.pair.Leaf.NotAfter)
	}
	return found, nil
}

// revise reads the Secret's data, and writes what judge returns instead of it, if anything.
func (k *Keeper) revise(ctx context.Context, judge func(map[string][]byte) (map[string][]byte, error)) (changed bool, err error) {
	secrets, name := k.options.Client.CoreV1().Secrets(k.options.Namespace), k.options.Namespace+"/"+k.options.Secret
	secret, err := secrets.Get(ctx, k.options.Secret, metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		return false, fmt.Errorf("no Secret %s: apply the manifests, which ship it empty: %w", name, err)
	}
	if err != nil {
		return false, fmt.Errorf("read Secret %s: %w", name, err)
	}
	change, err := judge(secret.Data)
	if err != nil {
		return false, fmt.Errorf("read Secret %s: %w; correct it, or empty its data to have all of it made anew", name, err)
	}
	if change == nil {
		return false, nil
	}
	secret = secret.DeepCopy()
	secret.Data = change
	if _, err := secrets.Update(ctx, secret, metav1.UpdateOptions{}); err != nil {
		return false, fmt.Errorf("write Secret %s: %w", name, err)
	}
	return true, nil
}

// publish writes the authority's certificate to where announcers read it. Announcers
// trust the new authority before anybody serves with its certificate.
func (k *Keeper) publish(ctx context.Context, ca []byte) error {
	configMaps, name := k.options.Client.CoreV1().ConfigMaps(k.options.Namespace), k.options.Namespace+"/"+k.options.ConfigMap
	configMap, err := configMaps.Get(ctx, k.options.ConfigMap, metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		return fmt.Errorf("no ConfigMap %s: apply the manifests, which ship it empty: %w", name, err)
	}
	if err != nil {
		return fmt.Errorf("read ConfigMap %s: %w", name, err)
	}
	if bytes.Equal([]byte(configMap.Data[keyCA]), ca) {
		return nil
	}
	configMap = configMap.DeepCopy()
	if configMap.Data == nil {
		configMap.Data = map[string]string{}
	}
	configMap.Data[keyCA] = string(ca)
	if _, err := configMaps.Update(ctx, configMap, metav1.UpdateOptions{}); err != nil {
		return fmt.Errorf("write ConfigMap %s: %w", name, err)
	}
	k.log.Info("published the authority that announcers trust", "configMap", name)
	return nil
}

// serve makes pair the one that new connections see.
func (k *Keeper) serve(pair *tls.Certificate) {
	if old := k.pair.Swap(pair); old != nil && bytes.Equal(old.Leaf.Raw, pair.Leaf.Raw) {
		return
	}
	k.log.Info("serving announcers with a new certificate", "serial", pair.Leaf.SerialNumber, "notAfter", pair.Leaf.NotAfter)
	k.first.Do(func() { close(k.ready) })
}
