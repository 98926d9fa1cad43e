package auth

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/kubernetes/fake"
	clienttesting "k8s.io/client-go/testing"
)

// ask is what an administrator does to have the authority rotated.
func (c *cluster) ask(t *testing.T) {
	t.Helper()
	secret := c.secret(t)
	metav1.SetMetaDataAnnotation(&secret.ObjectMeta, rotateAnnotation, "now")
	_, err := c.CoreV1().Secrets("baremetal-ccm").Update(context.Background(), secret, metav1.UpdateOptions{})
	require.NoError(t, err)
}

// tell replaces the ConfigMap's data, as somebody might who should not.
func (c *cluster) tell(t *testing.T, data map[string]string) {
	configMaps := c.CoreV1().ConfigMaps("baremetal-ccm")
	configMap, err := configMaps.Get(context.Background(), "baremetal-ccm-ca", metav1.GetOptions{})
	require.NoError(t, err)
	configMap.Data = data
	_, err = configMaps.Update(context.Background(), configMap, metav1.UpdateOptions{})
	require.NoError(t, err)
}

// steady wants the Secret to hold what it holds between rotations, the nodes' secret
// unchanged, announcers to trust its authority alone, and nobody's request to be open.
func steady(t *testing.T, c *cluster, key []byte) {
	t.Helper()
	secret := c.secret(t)
	require.Equal(t, key, secret.Data[keyFailover], "the nodes' secret is not the authority's")
	require.NotContains(t, secret.Annotations, rotateAnnotation)
	require.Len(t, secret.Data, 5)
	require.Equal(t, string(secret.Data[keyCA]), c.ca(t))
}

// at makes k see the time d later than now.
func at(k *CertManager, d time.Duration) {
	k.options.Now = func() time.Time { return time.Now().Add(d) }
}

// TestRotationAtEveryStep: a client that read the ConfigMap at this step or at the one
// before connects to a replica that has just come to know of the step, to one that does not
// know of it yet, and to one that was started anew.
func TestRotationAtEveryStep(t *testing.T) {
	c := newCluster(shipped()...)
	late, prompt := newTestKeeper(t, c), newTestKeeper(t, c)
	require.NoError(t, prompt.refreshAll(t.Context()))
	require.NoError(t, late.refreshAll(t.Context()))
	key, first, before := c.secret(t).Data[keyFailover], c.ca(t), c.ca(t)
	c.ask(t)
	var seen []string
	for clock := time.Duration(0); clock <= 3*settle; clock += settle / 2 {
		at(prompt, clock)
		at(late, clock)
		require.NoError(t, prompt.refreshAll(t.Context()))
		anew := newTestKeeper(t, c)
		at(anew, clock)
		require.NoError(t, anew.refreshAll(t.Context()))
		now := c.ca(t)
		for _, trusted := range []string{before, now} {
			for _, k := range []*CertManager{late, prompt, anew} {
				require.NoError(t, handshake(t, k.TLSConfig(), trusted, time.Now()), "at %s", clock)
			}
		}
		data := c.secret(t).Data
		seen = append(seen, fmt.Sprint(bytes.Count([]byte(now), []byte("BEGIN")), len(data[keyNextCA]) > 0, len(data[keyOldCA]) > 0))
		require.NoError(t, late.refreshAll(t.Context()))
		before = now
	}
	require.Equal(t, []string{
		"2 true false", "2 true false", // both trusted, the old one signs
		"2 false true", "2 false true", // both trusted, the new one signs
		"1 false false", "1 false false", "1 false false",
	}, seen)
	require.NotEqual(t, first, c.ca(t))
	require.Error(t, handshake(t, prompt.TLSConfig(), first, time.Now()), "the old authority has no say any more")
	steady(t, c, key)
}

// announcer trusts what it last read of the ConfigMap, which kubelet brings it late.
type announcer struct {
	mu      sync.Mutex
	trusted string
}

// read follows the ConfigMap as late as a slow kubelet does.
func (a *announcer) read(ctx context.Context, t *testing.T, c *cluster) {
	for ctx.Err() == nil {
		next := c.ca(t)
		time.Sleep(2 * time.Minute)
		a.mu.Lock()
		a.trusted = next
		a.mu.Unlock()
	}
}

// TestRotationWithRestarts: replicas come and go all the time, at every point of a rotation
// one of them; no connection that an announcer opens meanwhile fails, however late its
// kubelet brings it what it should trust.
func TestRotationWithRestarts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(shipped()...)
		stable := newTestKeeper(t, c)
		run(t, stable)
		<-stable.Ready()
		wait(time.Second)
		key, first := c.secret(t).Data[keyFailover], c.ca(t)
		a := &announcer{trusted: first}
		ctx, cancel := context.WithCancel(t.Context())
		var reading sync.WaitGroup
		reading.Go(func() { a.read(ctx, t, c) })
		c.ask(t)
		began := time.Now()
		for life := 17 * time.Second; time.Since(began) < 2*settle+5*time.Minute; life += 11 * time.Second {
			brief, end := context.WithCancel(t.Context())
			k := newTestKeeper(t, c)
			var running sync.WaitGroup
			running.Go(func() { _ = k.Run(brief) })
			<-k.Ready()
			for range 3 {
				wait(life / 3)
				a.mu.Lock()
				trusted := a.trusted
				a.mu.Unlock()
				require.NoError(t, handshake(t, k.TLSConfig(), trusted, time.Now()), "after %s", time.Since(began))
				require.NoError(t, handshake(t, stable.TLSConfig(), trusted, time.Now()), "after %s", time.Since(began))
			}
			end()
			running.Wait()
		}
		cancel()
		reading.Wait()
		require.NotEqual(t, first, c.ca(t))
		steady(t, c, key)
	})
}

// TestRotationWhereEveryWriteMayBeTheLast: a replica ends right before or right after a
// write; the next one goes on from there, to the same end.
func TestRotationWhereEveryWriteMayBeTheLast(t *testing.T) {
	for crash := range 10 { // begin, publish, switch, finish, publish
		lost, victim := crash%2 == 0, int32(crash/2)
		t.Run(fmt.Sprintf("write %d, lost %t", victim, lost), func(t *testing.T) {
			c := newCluster(shipped()...)
			k := newTestKeeper(t, c)
			require.NoError(t, k.refreshAll(t.Context()))
			key, first := c.secret(t).Data[keyFailover], c.ca(t)
			c.ask(t)
			var writes atomic.Int32
			c.PrependReactor("update", "*", func(action clienttesting.Action) (bool, runtime.Object, error) {
				if writes.Add(1)-1 != victim {
					return false, nil, nil
				}
				if !lost {
					changed := action.(clienttesting.UpdateAction).GetObject()
					require.NoError(t, c.Tracker().Update(action.GetResource(), changed, action.GetNamespace()))
				}
				return true, nil, errors.New("the process ended")
			})
			ended := false
			for clock := time.Duration(0); clock <= 6*settle; clock += settle / 2 {
				at(k, clock)
				before := c.ca(t)
				if err := k.refreshAll(t.Context()); err != nil {
					require.ErrorContains(t, err, "the process ended")
					ended = true
					k = newTestKeeper(t, c)
					at(k, clock)
					require.NoError(t, k.refreshAll(t.Context()))
				}
				for _, trusted := range []string{before, c.ca(t)} {
					require.NoError(t, handshake(t, k.TLSConfig(), trusted, time.Now()), "at %s", clock)
				}
			}
			require.True(t, ended)
			require.NotEqual(t, first, c.ca(t))
			steady(t, c, key)
		})
	}
}

// TestRotationBesideAnother: between any two requests of a replica another one may have
// done all that there is to do. What announcers are told never goes back.
func TestRotationBesideAnother(t *testing.T) {
	for call := range int32(8) {
		t.Run(fmt.Sprint("before call ", call), func(t *testing.T) {
			c := newCluster(shipped()...)
			quick, calls, both := newTestKeeper(t, c), int32(0), ""
			require.NoError(t, quick.refreshAll(t.Context()))
			c.tell(t, nil) // so that there is something to write
			view := &fake.Clientset{}
			view.AddReactor("*", "*", func(action clienttesting.Action) (bool, runtime.Object, error) {
				if calls++; calls-1 == call {
					c.ask(t)
					require.NoError(t, quick.refreshAll(t.Context()))
					both = c.ca(t)
				}
				object, err := c.Invokes(action, nil)
				return true, object, err
			})
			slow := newTestKeeper(t, c, func(o *CertManagerOptions) { o.Client = view })
			for both == "" {
				require.NoError(t, slow.refreshAll(t.Context()))
			}
			require.Equal(t, 2, bytes.Count([]byte(both), []byte("BEGIN")))
			require.Equal(t, both, c.ca(t))
		})
	}
}

// TestRotationOfItsOwnAccord begins when a third of the authority's life is left, and the
// leaf lasts meanwhile.
func TestRotationOfItsOwnAccord(t *testing.T) {
	c := newCluster(shipped()...)
	k := newTestKeeper(t, c)
	require.NoError(t, k.refreshAll(t.Context()))
	key, first := c.secret(t).Data[keyFailover], c.ca(t)
	early, third := authorityLife*6/10, authorityLife*2/3
	at(k, early)
	require.NoError(t, k.refreshAll(t.Context()))
	require.Equal(t, first, c.ca(t))
	_, authority := k.Expiry()
	require.WithinDuration(t, time.Now().Add(authorityLife), authority, time.Minute)
	for clock := third; clock <= third+2*settle; clock += settle {
		at(k, clock)
		require.NoError(t, k.refreshAll(t.Context()))
		require.NoError(t, handshake(t, k.TLSConfig(), c.ca(t), time.Now().Add(clock)))
	}
	require.NotEqual(t, first, c.ca(t))
	steady(t, c, key)
	leaf, authority := k.Expiry()
	require.WithinDuration(t, time.Now().Add(third+settle+leafLife), leaf, time.Minute)
	require.WithinDuration(t, time.Now().Add(third+authorityLife), authority, time.Minute)
}

// TestRotationAfterTheEnd: nothing is waited for where the authority has ended while nobody
// was there, because no announcer trusts it; and the leaf is not signed anew in vain.
func TestRotationAfterTheEnd(t *testing.T) {
	c := newCluster(shipped()...)
	k := newTestKeeper(t, c)
	require.NoError(t, k.refreshAll(t.Context()))
	at(k, authorityLife+time.Hour)
	require.NoError(t, k.refreshAll(t.Context())) // signs a leaf, begins
	require.NoError(t, k.refreshAll(t.Context())) // switches
	require.NoError(t, handshake(t, k.TLSConfig(), c.ca(t), time.Now().Add(authorityLife+time.Hour)))
}

// TestRotationWaitsAnew when the ConfigMap was emptied, or says a time that cannot be: what
// counts is how long announcers could read both authorities.
func TestRotationWaitsAnew(t *testing.T) {
	for name, spoil := range map[string]func(*testing.T, *cluster){
		"emptied": func(t *testing.T, c *cluster) { c.tell(t, nil) },
		"no time": func(t *testing.T, c *cluster) { c.annotate(t, "yesterday") },
		"a time to come": func(t *testing.T, c *cluster) {
			c.annotate(t, time.Now().Add(time.Hour*24*365).UTC().Format(time.RFC3339))
		},
	} {
		t.Run(name, func(t *testing.T) {
			c := newCluster(shipped()...)
			k := newTestKeeper(t, c)
			require.NoError(t, k.refreshAll(t.Context()))
			c.ask(t)
			require.NoError(t, k.refreshAll(t.Context()))
			both := c.ca(t)
			spoil(t, c)
			at(k, settle-time.Minute)
			require.NoError(t, k.refreshAll(t.Context()))
			require.Equal(t, both, c.ca(t))
			at(k, 2*settle-2*time.Minute)
			require.NoError(t, k.refreshAll(t.Context()))
			require.Contains(t, c.secret(t).Data, keyNextCA, "it still waits")
			at(k, 2*settle)
			require.NoError(t, k.refreshAll(t.Context()))
			require.Contains(t, c.secret(t).Data, keyOldCA)
		})
	}
}

func (c *cluster) annotate(t *testing.T, since string) {
	configMaps := c.CoreV1().ConfigMaps("baremetal-ccm")
	configMap, err := configMaps.Get(context.Background(), "baremetal-ccm-ca", metav1.GetOptions{})
	require.NoError(t, err)
	configMap.Annotations[sinceAnnotation] = since
	_, err = configMaps.Update(context.Background(), configMap, metav1.UpdateOptions{})
	require.NoError(t, err)
}

// TestRotationAskedForTwice: who asks while one is under way gets another one after it.
func TestRotationAskedForTwice(t *testing.T) {
	c := newCluster(shipped()...)
	k := newTestKeeper(t, c)
	require.NoError(t, k.refreshAll(t.Context()))
	c.ask(t)
	require.NoError(t, k.refreshAll(t.Context()))
	c.ask(t)
	for clock := settle; clock <= 2*settle; clock += settle {
		at(k, clock)
		require.NoError(t, k.refreshAll(t.Context()))
	}
	require.Contains(t, c.secret(t).Data, keyNextCA, "the second has begun")
	require.NotContains(t, c.secret(t).Annotations, rotateAnnotation)
}

// TestRotationOfAnothersAuthority: we have no key to sign with, and say so once.
func TestRotationOfAnothersAuthority(t *testing.T) {
	objects, _ := withoutCAKey(t)
	c := newCluster(objects...)
	c.ask(t)
	var log bytes.Buffer
	k := newTestKeeper(t, c, func(o *CertManagerOptions) { o.Logger = slog.New(slog.NewTextHandler(&log, nil)) })
	for range 3 {
		require.NoError(t, k.refreshAll(t.Context()))
	}
	require.Equal(t, 1, bytes.Count(log.Bytes(), []byte("whoever made this authority has to replace it")))
	require.NoError(t, handshake(t, k.TLSConfig(), c.ca(t), testNow))
	secret, _ := k.Secret()
	require.Len(t, secret, failoverKeyBytes)
}

// TestRotationThatMakesNoSense is named, and cured by removing what was named.
func TestRotationThatMakesNoSense(t *testing.T) {
	_, data, err := validate(nil, testNow)
	require.NoError(t, err)
	for key, want := range map[string]string{
		keyNextCA: "next-ca.crt and next-ca.key", keyNextCAKey: "next-ca.crt and next-ca.key", keyOldCA: "old-ca.crt: holds no certificate",
	} {
		objects := shipped()
		objects[0].(*corev1.Secret).Data = withoutRotation(data)
		objects[0].(*corev1.Secret).Data[key] = []byte("garbage")
		c := newCluster(objects...)
		k := newTestKeeper(t, c, func(o *CertManagerOptions) { o.Now = func() time.Time { return testNow } })
		require.ErrorContains(t, k.refreshAll(t.Context()), want)
		secret := c.secret(t)
		require.Equal(t, "garbage", string(secret.Data[key]), "not ours to throw away")
		delete(secret.Data, key)
		_, err := c.CoreV1().Secrets("baremetal-ccm").Update(t.Context(), secret, metav1.UpdateOptions{})
		require.NoError(t, err)
		require.NoError(t, k.refreshAll(t.Context()))
	}
}

// TestStartingOverDuringARotation makes everything anew except for the nodes' secret.
func TestStartingOverDuringARotation(t *testing.T) {
	c := newCluster(shipped()...)
	k := newTestKeeper(t, c)
	require.NoError(t, k.refreshAll(t.Context()))
	key := c.secret(t).Data[keyFailover]
	c.ask(t)
	require.NoError(t, k.refreshAll(t.Context()))
	secret := c.secret(t)
	for _, key := range []string{keyCA, keyCAKey, keyCertificate, keyPrivateKey} {
		delete(secret.Data, key)
	}
	_, err := c.CoreV1().Secrets("baremetal-ccm").Update(t.Context(), secret, metav1.UpdateOptions{})
	require.NoError(t, err)
	require.NoError(t, k.refreshAll(t.Context()))
	steady(t, c, key)
	require.NoError(t, handshake(t, k.TLSConfig(), c.ca(t), time.Now()))
}
