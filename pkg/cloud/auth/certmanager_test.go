package auth

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/kubernetes/fake"
	clienttesting "k8s.io/client-go/testing"

	"baremetal.cloud/ccm/internal/memnet"
)

// cluster is a fake API server that checks resourceVersions, as the real one does.
type cluster struct {
	*fake.Clientset
	mu   sync.Mutex
	down bool
}

func newCluster(objects ...runtime.Object) *cluster {
	c := &cluster{Clientset: fake.NewClientset(objects...)}
	c.PrependReactor("*", "*", func(clienttesting.Action) (bool, runtime.Object, error) {
		c.mu.Lock()
		defer c.mu.Unlock()
		if c.down {
			return true, nil, errors.New("connection refused")
		}
		return false, nil, nil
	})
	c.PrependReactor("update", "*", func(action clienttesting.Action) (bool, runtime.Object, error) {
		c.mu.Lock()
		defer c.mu.Unlock()
		changed := action.(clienttesting.UpdateAction).GetObject().DeepCopyObject()
		m, err := meta.Accessor(changed)
		if err != nil {
			return true, nil, err
		}
		was, err := c.Tracker().Get(action.GetResource(), action.GetNamespace(), m.GetName())
		if err != nil {
			return true, nil, err
		}
		old, err := meta.Accessor(was)
		if err != nil {
			return true, nil, err
		}
		if old.GetResourceVersion() != m.GetResourceVersion() {
			return true, nil, apierrors.NewConflict(action.GetResource().GroupResource(), m.GetName(), errors.New("modified"))
		}
		version, _ := strconv.Atoi(old.GetResourceVersion())
		m.SetResourceVersion(strconv.Itoa(version + 1))
		return true, changed, c.Tracker().Update(action.GetResource(), changed, action.GetNamespace())
	})
	return c
}

// shipped returns what the manifests ship.
func shipped() []runtime.Object {
	return []runtime.Object{
		&corev1.Secret{ObjectMeta: metav1.ObjectMeta{Name: "baremetal-ccm-tls", Namespace: "baremetal-ccm"}},
		&corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: "baremetal-ccm-ca", Namespace: "baremetal-ccm"}},
	}
}

// withoutCAKey returns the objects of an authority that somebody else made, who keeps its key,
// and what is in the Secret.
func withoutCAKey(t *testing.T) (objects []runtime.Object, data map[string][]byte) {
	t.Helper()
	objects = shipped()
	_, data, err := validate(nil, testNow)
	require.NoError(t, err)
	delete(data, keyCAKey)
	objects[0].(*corev1.Secret).Data = data
	return objects, data
}

func (c *cluster) secret(t *testing.T) *corev1.Secret {
	secret, err := c.CoreV1().Secrets("baremetal-ccm").Get(context.Background(), "baremetal-ccm-tls", metav1.GetOptions{})
	require.NoError(t, err)
	return secret
}

func (c *cluster) ca(t *testing.T) string {
	configMap, err := c.CoreV1().ConfigMaps("baremetal-ccm").Get(context.Background(), "baremetal-ccm-ca", metav1.GetOptions{})
	require.NoError(t, err)
	return configMap.Data[keyCA]
}

func (c *cluster) setDown(down bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.down = down
}

func newTestKeeper(t *testing.T, c *cluster, change ...func(*CertManagerOptions)) *CertManager {
	options := CertManagerOptions{
		Client: c, Namespace: "baremetal-ccm", Secret: "baremetal-ccm-tls", ConfigMap: "baremetal-ccm-ca",
		Logger: slog.New(slog.NewTextHandler(t.Output(), nil)),
	}
	for _, f := range change {
		f(&options)
	}
	k, err := NewCertManager(options)
	require.NoError(t, err)
	return k
}

func run(t *testing.T, k *CertManager) {
	ctx, cancel := context.WithCancel(t.Context())
	var group sync.WaitGroup
	group.Go(func() {
		if err := k.Run(ctx); err != nil {
			t.Errorf("Run: %v", err)
		}
	})
	t.Cleanup(func() { cancel(); group.Wait() })
}

func wait(d time.Duration) {
	time.Sleep(d) // a synctest bubble's clock, not the machine's
	synctest.Wait()
}

// handshake connects to a server that uses config, trusting ca and expecting ServerName.
func handshake(t *testing.T, config *tls.Config, ca string, now time.Time) error {
	t.Helper()
	pool := x509.NewCertPool()
	require.True(t, pool.AppendCertsFromPEM([]byte(ca)))
	near, far := memnet.Pipe() // where one that refuses is not kept by one that still writes
	done := make(chan struct{})
	go func() {
		defer close(done)
		defer far.Close()
		_ = tls.Server(far, config).Handshake()
	}()
	client := tls.Client(near, &tls.Config{
		RootCAs: pool, ServerName: ServerName, MinVersion: tls.VersionTLS13, Time: func() time.Time { return now },
	})
	err := client.Handshake()
	near.Close()
	<-done
	return err
}

func TestFirstReplicaMakesTheIdentityAndAllServeIt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(shipped()...)
		a, b := newTestKeeper(t, c), newTestKeeper(t, c)
		run(t, a)
		run(t, b)
		<-a.Ready()
		<-b.Ready()
		require.NoError(t, handshake(t, a.TLSConfig(), c.ca(t), time.Now()))
		require.NoError(t, handshake(t, b.TLSConfig(), c.ca(t), time.Now()))
		require.Equal(t, a.pair.Load().Leaf.Raw, b.pair.Load().Leaf.Raw, "one won, the other took what it wrote")
		require.NotContains(t, c.ca(t), "PRIVATE")

		late := newTestKeeper(t, c)
		run(t, late)
		<-late.Ready()
		require.Equal(t, a.pair.Load().Leaf.Raw, late.pair.Load().Leaf.Raw)
	})
}

func TestLeafIsRenewedOnceByTheSameAuthority(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(shipped()...)
		a, b := newTestKeeper(t, c), newTestKeeper(t, c)
		require.NoError(t, a.refreshAll(t.Context())) // by hand: a year of polling every minute would take long
		require.NoError(t, b.refreshAll(t.Context()))
		first, ca, version := a.pair.Load().Leaf, c.ca(t), c.secret(t).ResourceVersion

		at(a, 200*24*time.Hour)
		require.NoError(t, a.refreshAll(t.Context()))
		require.Equal(t, version, c.secret(t).ResourceVersion, "more than a third is left")

		at(a, 300*24*time.Hour)
		at(b, 300*24*time.Hour)
		require.NoError(t, a.refreshAll(t.Context()))
		require.NoError(t, b.refreshAll(t.Context()))
		require.NotEqual(t, first.Raw, a.pair.Load().Leaf.Raw)
		require.Equal(t, a.pair.Load().Leaf.Raw, b.pair.Load().Leaf.Raw)
		require.Equal(t, ca, c.ca(t), "announcers keep what they trust")
		require.NoError(t, handshake(t, b.TLSConfig(), ca, time.Now().Add(600*24*time.Hour)))
	})
}

func TestTroubleKeepsTheCertificateAndIsLoggedOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(shipped()...)
		c.setDown(true)
		log := &countingHandler{}
		k := newTestKeeper(t, c, func(o *CertManagerOptions) { o.Logger = slog.New(log) })
		run(t, k)
		wait(10 * time.Minute)
		require.Error(t, handshakeUnready(k))
		require.Equal(t, 1, log.errors())
		c.setDown(false)
		wait(retryMost)
		<-k.Ready()
		served := k.pair.Load()

		secret := c.secret(t)
		secret.Data[keyCertificate] = []byte("spoilt")
		_, err := c.CoreV1().Secrets("baremetal-ccm").Update(t.Context(), secret, metav1.UpdateOptions{})
		require.NoError(t, err)
		wait(10 * time.Minute)
		require.Same(t, served, k.pair.Load())
		require.Equal(t, 2, log.errors())
		require.Equal(t, "spoilt", string(c.secret(t).Data[keyCertificate]), "not ours to throw away")

		secret = c.secret(t)
		secret.Data = nil // the cure that the message names
		_, err = c.CoreV1().Secrets("baremetal-ccm").Update(t.Context(), secret, metav1.UpdateOptions{})
		require.NoError(t, err)
		wait(time.Minute)
		require.NotSame(t, served, k.pair.Load())
		require.NoError(t, handshake(t, k.TLSConfig(), c.ca(t), time.Now()))
	})
}

func handshakeUnready(k *CertManager) error {
	_, err := k.TLSConfig().GetCertificate(nil)
	return err
}

func TestMissingObjectsAreNamed(t *testing.T) {
	objects := shipped()
	require.ErrorContains(t, newTestKeeper(t, newCluster(objects[1])).refreshAll(t.Context()), "no Secret baremetal-ccm/baremetal-ccm-tls: apply the manifests")
	require.ErrorContains(t, newTestKeeper(t, newCluster(objects[0])).refreshAll(t.Context()), "no ConfigMap baremetal-ccm/baremetal-ccm-ca: apply the manifests")
}

func TestSecretOfSomebodyElseIsServedAndNeverRenewed(t *testing.T) {
	made, data, err := validate(nil, testNow)
	require.NoError(t, err)
	delete(data, keyCAKey)
	found, change, err := validate(data, testNow.Add(350*24*time.Hour))
	require.NoError(t, err)
	require.Nil(t, change)
	require.Equal(t, made.pair.Leaf.Raw, found.pair.Leaf.Raw)
}

// The nodes' secret is made once: every replica has the same, and it outlives certificates.
func TestFailoverKeyIsMadeOnce(t *testing.T) {
	c := newCluster(shipped()...)
	first, second := newTestKeeper(t, c), newTestKeeper(t, c)
	secret, known := first.Secret()
	require.Nil(t, secret)
	require.NoError(t, first.refreshAll(t.Context()))
	<-known
	require.NoError(t, second.refreshAll(t.Context()))
	secret, _ = first.Secret()
	other, _ := second.Secret()
	require.Len(t, secret, failoverKeyBytes)
	require.Equal(t, secret, other)
	require.Equal(t, secret, c.secret(t).Data[keyFailover])

	_, renewed, err := validate(c.secret(t).Data, time.Now().Add(350*24*time.Hour))
	require.NoError(t, err)
	require.NotNil(t, renewed)
	require.Equal(t, secret, renewed[keyFailover])
}

// A Secret whose certificate somebody else renews gets the nodes' secret beside it. One that
// is too short is not replaced: somebody has put it there.
func TestFailoverKeyBesideOtherThings(t *testing.T) {
	objects, data := withoutCAKey(t)
	c := newCluster(objects...)
	require.NoError(t, newTestKeeper(t, c).refreshAll(t.Context()))
	got := c.secret(t).Data
	require.Len(t, got[keyFailover], failoverKeyBytes)
	delete(got, keyFailover)
	require.Equal(t, data, got)

	_, _, err := validateFailoverKey(map[string][]byte{keyFailover: []byte("short")})
	require.EqualError(t, err, "failover.key: holds 5 bytes; want at least 32")
}

func TestSpoiltSecrets(t *testing.T) {
	_, data, err := validate(nil, testNow)
	require.NoError(t, err)
	_, other, err := validate(nil, testNow)
	require.NoError(t, err)
	late := testNow.Add(350 * 24 * time.Hour)
	for key, want := range map[string]string{keyCA: "ca.crt", keyCertificate: "tls.crt and tls.key", keyPrivateKey: "tls.crt and tls.key", keyCAKey: "ca.crt and ca.key"} {
		for name, value := range map[string][]byte{"garbage": []byte("garbage"), "another key": other[key]} {
			spoilt := map[string][]byte{}
			for k, v := range data {
				spoilt[k] = v
			}
			spoilt[key] = value
			_, _, err := validate(spoilt, late)
			want := want
			if key == keyCA && name == "another key" {
				want = "ca.crt and ca.key"
			}
			require.ErrorContains(t, err, want, "%s: %s", key, name)
		}
	}
}

func TestAuthoritySignsForOneName(t *testing.T) {
	issuer, err := newAuthority(testNow)
	require.NoError(t, err)
	_, _, err = issuer.newLeaf(testNow)
	require.NoError(t, err)
	require.Equal(t, []string{ServerName}, issuer.certificate.PermittedDNSDomains)

	nearEnd := issuer.certificate.NotAfter.Add(-time.Hour)
	certPEM, keyPEM, err := issuer.newLeaf(nearEnd)
	require.NoError(t, err)
	pair, err := tls.X509KeyPair(certPEM, keyPEM)
	require.NoError(t, err)
	require.Equal(t, issuer.certificate.NotAfter, pair.Leaf.NotAfter, "a leaf never outlives its authority")
}

func TestFiles(t *testing.T) {
	_, data, err := validate(nil, time.Now())
	require.NoError(t, err)
	dir := t.TempDir()
	files := func(o *CertManagerOptions) {
		o.CertFile, o.KeyFile = filepath.Join(dir, "tls.crt"), filepath.Join(dir, "tls.key")
	}
	c := newCluster(shipped()[0]) // the ConfigMap is not needed
	k := newTestKeeper(t, c, files)
	require.ErrorContains(t, k.refreshAll(t.Context()), files0(dir))
	require.NoError(t, os.WriteFile(filepath.Join(dir, "tls.crt"), data[keyCertificate], 0o600))
	require.NoError(t, os.WriteFile(filepath.Join(dir, "tls.key"), data[keyPrivateKey], 0o600))
	require.NoError(t, k.refreshAll(t.Context()))
	require.NoError(t, handshake(t, k.TLSConfig(), string(data[keyCA]), time.Now()))
	secret, _ := k.Secret()
	require.Equal(t, map[string][]byte{keyFailover: secret}, c.secret(t).Data, "the nodes' secret and nothing else")

	// Without the Secret the certificate is served all the same.
	k = newTestKeeper(t, newCluster(), files)
	require.ErrorContains(t, k.refreshAll(t.Context()), "no Secret baremetal-ccm/baremetal-ccm-tls: apply the manifests")
	require.NoError(t, handshake(t, k.TLSConfig(), string(data[keyCA]), time.Now()))

	_, err = NewCertManager(CertManagerOptions{CertFile: "only"})
	require.Error(t, err)
}

func files0(dir string) string { return filepath.Join(dir, "tls.crt") }

// countingHandler counts what is logged as an error.
type countingHandler struct {
	mu sync.Mutex
	n  int
}

func (h *countingHandler) Enabled(context.Context, slog.Level) bool { return true }
func (h *countingHandler) WithAttrs([]slog.Attr) slog.Handler       { return h }
func (h *countingHandler) WithGroup(string) slog.Handler            { return h }

func (h *countingHandler) Handle(_ context.Context, r slog.Record) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if r.Level >= slog.LevelError {
		h.n++
	}
	return nil
}

func (h *countingHandler) errors() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.n
}
