package cloud

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes/fake"

	"baremetal.cloud/ccm/pkg/reason"
)

var theConfigMap = types.NamespacedName{Namespace: "baremetal-ccm", Name: ConfigMapName}

// cloudConfigMap is the ConfigMap of --cloud-config-map.
func cloudConfigMap(text string) *corev1.ConfigMap {
	return &corev1.ConfigMap{
		ObjectMeta: metav1.ObjectMeta{Namespace: theConfigMap.Namespace, Name: theConfigMap.Name, UID: "uid-config", ResourceVersion: "7"},
		Data:       map[string]string{ConfigMapKey: text},
	}
}

// keptFrom is the last good cloud-config that came from the ConfigMap.
func keptFrom(text string) *corev1.ConfigMap {
	kept := lastGood("")
	kept.Data = lastGoodData(configText{text: []byte(text), origin: configOrigin{configMap: theConfigMap.String(), uid: "uid-config", resourceVersion: "6"}})
	return kept
}

// startFrom is startWith with --cloud-config-map.
func startFrom(t *testing.T, file string, objects ...runtime.Object) *cluster {
	t.Helper()
	set := func(o *Options) { o.ConfigMap = theConfigMap }
	c, lead := standbyWith(t, file, time.Now, func(*fake.Clientset) {}, set, objects...)
	lead()
	return c
}

func (c *cluster) writeConfigMap(text string) {
	c.t.Helper()
	configMaps := c.client.CoreV1().ConfigMaps(theConfigMap.Namespace)
	_, err := configMaps.Update(c.t.Context(), cloudConfigMap(text), metav1.UpdateOptions{})
	require.NoError(c.t, err)
}

var grown = strings.ReplaceAll(pools, "10.0.0.0/30", "10.0.0.0/24")

// A leader whose file is older than the ConfigMap reverts nothing, and follows the ConfigMap.
func TestFault_K3_4_OlderFileRevertsNothing(t *testing.T) {
	c := startFrom(t, shrunk, keptFrom(pools), cloudConfigMap(grown), loadBalancer("web", withStatus("10.0.0.9")))
	c.inUse(grown)
	c.published("web", "10.0.0.9")
	kept, err := c.client.CoreV1().ConfigMaps("baremetal-ccm").Get(t.Context(), LastGoodConfigMapName, metav1.GetOptions{})
	require.NoError(t, err)
	require.Equal(t, configOrigin{configMap: theConfigMap.String(), uid: "uid-config", resourceVersion: "7"}, originOf(kept))
	require.Equal(t, hashOf(grown), kept.Data[lastGoodHash])

	other := strings.ReplaceAll(grown, "2001:db8::/64", "2001:db8:1::/64")
	c.writeConfigMap(other)
	c.inUse(other)
	c.writeConfigMap(shrunk)
	c.refused("default/web")
	c.writeConfigMap("pools: [")
	c.refused("ConfigMap baremetal-ccm/baremetal-cloud-config:1:")
	c.toldOnConfigMap("CloudConfigRefused")
	c.published("web", "10.0.0.9")
}

// K6.5: a change that is taken over gets an Event with what is in use, and a metric has its
// hash. So does one that ends a refusal, also with the text from before.
func TestFault_K6_5_AcceptedConfigIsTold(t *testing.T) {
	c := startFrom(t, pools, cloudConfigMap(pools))
	c.inUse(pools)
	c.configInfo(pools)
	c.writeConfigMap(grown)
	c.inUse(grown)
	c.configInfo(grown)
	c.toldOnConfigMap("CloudConfigAccepted", hashOf(grown))
	c.writeConfigMap("pools: [")
	c.toldOnConfigMap("CloudConfigRefused")
	c.configInfo(grown)
	c.writeConfigMap(pools)
	c.toldOnConfigMap("CloudConfigAccepted", hashOf(pools))
	c.configInfo(pools)
}

// K6.6: a new leader that goes on with what the one before it used tells nothing, and one
// that finds a bad cloud-config says which is in use, by the metric too.
func TestFault_K6_6_LeaderWithoutNewsIsSilent(t *testing.T) {
	c := startFrom(t, pools, keptFrom(pools), cloudConfigMap(pools))
	c.inUse(pools)
	c.configInfo(pools)
	c.writeConfigMap("pools: [")
	c.toldOnConfigMap("CloudConfigRefused")
	list, err := c.client.CoreV1().Events("baremetal-ccm").List(t.Context(), metav1.ListOptions{})
	require.NoError(t, err)
	for _, e := range list.Items {
		require.NotEqual(t, "CloudConfigAccepted", e.Reason, e.Message)
	}

	c = startFrom(t, pools, keptFrom(grown), cloudConfigMap("pools: ["))
	c.toldOnConfigMap("CloudConfigRefused")
	c.configInfo(grown)
}

// configInfo waits until the metric has the hash of text, and of no other.
func (c *cluster) configInfo(text string) {
	c.t.Helper()
	want := `
# HELP baremetal_ccm_cloud_config_info 1 for the cloud-config in use, by the SHA-256 of its text.
# TYPE baremetal_ccm_cloud_config_info gauge
baremetal_ccm_cloud_config_info{sha256="` + hashOf(text) + `"} 1
`
	require.EventuallyWithT(c.t, func(t *assert.CollectT) {
		require.NoError(t, testutil.CollectAndCompare(c.p.Collector(), strings.NewReader(want), "baremetal_ccm_cloud_config_info"))
	}, waitAtMost, 5*time.Millisecond)
}

// toldOnConfigMap waits for an Event with that reason and these words on the ConfigMap, with its UID.
func (c *cluster) toldOnConfigMap(why string, words ...string) {
	c.t.Helper()
	require.EventuallyWithT(c.t, func(t *assert.CollectT) {
		list, err := c.client.CoreV1().Events("baremetal-ccm").List(context.Background(), metav1.ListOptions{})
		require.NoError(t, err)
		for _, e := range list.Items {
			if e.Reason == why && e.InvolvedObject.UID == "uid-config" && e.InvolvedObject.Name == ConfigMapName &&
				!slices.ContainsFunc(words, func(w string) bool { return !strings.Contains(e.Message, w) }) {
				return
			}
		}
		require.Fail(t, "no such Event", why)
	}, waitAtMost, 5*time.Millisecond)
}

// The file counts while the ConfigMap does not exist, and not any longer.
func TestFault_K3_4_FileCountsUntilThereIsAConfigMap(t *testing.T) {
	c := startFrom(t, pools)
	c.inUse(pools)
	require.NoError(t, os.WriteFile(c.path, []byte(grown), 0o600))
	c.inUse(grown)
	_, err := c.client.CoreV1().ConfigMaps("baremetal-ccm").Create(t.Context(), cloudConfigMap(pools), metav1.CreateOptions{})
	require.NoError(t, err)
	c.inUse(pools)
	require.True(t, c.p.fromConfigMap.Load())

	require.NoError(t, c.client.CoreV1().ConfigMaps("baremetal-ccm").Delete(t.Context(), ConfigMapName, metav1.DeleteOptions{}))
	c.refused("does not exist any longer")
	require.Equal(t, "10.0.0.3", c.p.config.Load().Pools[0].Ranges[0].Last.String(), "what came from it stays")
}

// After a restart without the ConfigMap, too.
func TestFault_K3_4_FileReplacesNothingAfterARestart(t *testing.T) {
	c := startFrom(t, shrunk, keptFrom(grown), loadBalancer("web", withStatus("10.0.0.9")))
	c.refused("does not exist any longer")
	c.says("web", ConditionAllocated, reason.Allocated)
	c.published("web", "10.0.0.9")
	require.Equal(t, "10.0.0.255", c.p.config.Load().Pools[0].Ranges[0].Last.String())
}

// What a process starts with, for each combination of what there is.
func TestFault_K3_4_StartConfig(t *testing.T) {
	file := filepath.Join(t.TempDir(), "cloud-config.yaml")
	require.NoError(t, os.WriteFile(file, []byte(shrunk), 0o600))
	tampered := keptFrom(pools)
	tampered.Data[ConfigMapKey] = grown
	fromFile := lastGood("")
	fromFile.Data = lastGoodData(configText{text: []byte(pools)})
	for name, c := range map[string]struct {
		objects []runtime.Object
		path    string
		last    string
		stale   string
		err     string
	}{
		"ConfigMap":                            {[]runtime.Object{cloudConfigMap(grown), keptFrom(pools)}, file, "10.0.0.255", "", ""},
		"bad ConfigMap":                        {[]runtime.Object{cloudConfigMap("pools: ["), keptFrom(pools)}, file, "10.0.0.3", ":1:", ""},
		"bad ConfigMap alone":                  {[]runtime.Object{cloudConfigMap("pools: ["), lastGood("")}, file, "", "", ":1:"},
		"ConfigMap without the key":            {[]runtime.Object{&corev1.ConfigMap{ObjectMeta: cloudConfigMap("").ObjectMeta}, keptFrom(pools)}, file, "10.0.0.3", "has no key", ""},
		"gone ConfigMap":                       {[]runtime.Object{keptFrom(grown)}, file, "10.0.0.255", "does not exist any longer", ""},
		"never a ConfigMap":                    {[]runtime.Object{fromFile}, file, "10.0.0.3", "", ""},
		"neither":                              {[]runtime.Object{lastGood("")}, "", "", "", "--cloud-config-map"},
		"gone ConfigMap and a tampered text":   {[]runtime.Object{tampered}, file, "", "", "was changed by hand"},
		"last good of a version before hashes": {[]runtime.Object{cloudConfigMap("pools: ["), lastGood(pools)}, file, "10.0.0.3", ":1:", ""},
	} {
		t.Run(name, func(t *testing.T) {
			started, err := StartConfig(t.Context(), fake.NewClientset(c.objects...), "baremetal-ccm", ConfigSource{ConfigMap: theConfigMap, Path: c.path})
			if c.err != "" {
				require.ErrorContains(t, err, c.err)
				return
			}
			require.NoError(t, err)
			require.Equal(t, c.last, started.Config.Pools[0].Ranges[0].Last.String())
			if c.stale == "" {
				require.NoError(t, started.Stale)
			} else {
				require.ErrorContains(t, started.Stale, c.stale)
			}
		})
	}
}
