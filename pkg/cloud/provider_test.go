package cloud

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/kubernetes/fake"
	"k8s.io/client-go/rest"
	clienttesting "k8s.io/client-go/testing"
	cloudprovider "k8s.io/cloud-provider"

	"baremetal.cloud/ccm/internal/testlog"
	"baremetal.cloud/ccm/pkg/announcer/plan"
	"baremetal.cloud/ccm/pkg/cloud/auth"
	"baremetal.cloud/ccm/pkg/cloud/config"
	"baremetal.cloud/ccm/pkg/cloud/leader"
	"baremetal.cloud/ccm/pkg/cloud/livewatch"
	"baremetal.cloud/ccm/pkg/ipam"
	"baremetal.cloud/ccm/pkg/reason"
)

// These tests run the provider and its controller against a fake API server, and play
// the stock service controller and the announcers by hand. What a real API server does
// is proved in test/e2e.

// waitAtMost is how long a test waits for what comes within moments where all is well: a
// busy machine is not what fails it.
const waitAtMost = 2 * time.Minute

const pools = `apiVersion: baremetal.cloud/v1alpha1
kind: CloudConfig
loadBalancerClasses: [baremetal.cloud/lb]
onShrink: Refuse
pools:
- name: default
  addresses: [10.0.0.0/30, 2001:db8::/64]
`

type cluster struct {
	t      *testing.T
	client *fake.Clientset
	p      *Provider
	path   string
	log    testlog.Log
}

// react has the fake API server, which others may be asking just now, react to something.
func (c *cluster) react(verb, resource string, reaction clienttesting.ReactionFunc) {
	c.client.Lock() // which it holds while it looks for a reaction
	defer c.client.Unlock()
	c.client.PrependReactor(verb, resource, reaction)
}

// builder hands out the fake client.
type builder struct{ client kubernetes.Interface }

func (b builder) Config(string) (*rest.Config, error)         { return &rest.Config{}, nil }
func (b builder) ConfigOrDie(string) *rest.Config             { return &rest.Config{} }
func (b builder) Client(string) (kubernetes.Interface, error) { return b.client, nil }
func (b builder) ClientOrDie(string) kubernetes.Interface     { return b.client }

var _ cloudprovider.ControllerClientBuilder = builder{}

// testSecret is what the keys of nodes are made from.
func testSecret() ([]byte, <-chan struct{}) {
	known := make(chan struct{})
	close(known)
	return []byte("0123456789abcdef0123456789abcdef"), known
}

// start runs a leader on a cluster with those objects, until the test ends.
func start(t *testing.T, objects ...runtime.Object) *cluster {
	t.Helper()
	return startWith(t, pools, time.Now, objects...)
}

// startWith is start with that cloud-config, and decisions are made by that clock.
func startWith(t *testing.T, cfg string, now func() time.Time, objects ...runtime.Object) *cluster {
	t.Helper()
	c, lead := standby(t, cfg, now, func(*fake.Clientset) {}, objects...)
	lead()
	return c
}

// standby is startWith with a replica that does not lead before lead is called. The fake
// API server is changed before anything asks it.
func standby(t *testing.T, cfg string, now func() time.Time, change func(*fake.Clientset), objects ...runtime.Object) (c *cluster, lead func()) {
	t.Helper()
	return standbyWith(t, cfg, now, change, func(*Options) {}, objects...)
}

// standbyWith is standby with other options.
func standbyWith(t *testing.T, cfg string, now func() time.Time, change func(*fake.Clientset), set func(*Options), objects ...runtime.Object) (c *cluster, lead func()) {
	t.Helper()
	objects = append(objects,
		&corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: metav1.NamespaceSystem, UID: "cluster"}},
		&corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "default"}},
		&corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "node1"}},
	)
	if !slices.ContainsFunc(objects, func(o runtime.Object) bool {
		m, ok := o.(*corev1.ConfigMap)
		return ok && m.Name == LastGoodConfigMapName
	}) {
		objects = append(objects, lastGood(""))
	}
	c = &cluster{t: t, client: fake.NewClientset(objects...), path: filepath.Join(t.TempDir(), "cloud-config.yaml")}
	change(c.client)
	require.NoError(t, os.WriteFile(c.path, []byte(cfg), 0o600))
	loaded, _, err := config.Load(c.path)
	require.NoError(t, err)
	logger := c.log.Logger()
	elector, err := leader.New(leader.Options{
		Leases: c.client.CoordinationV1(), Namespace: "baremetal-ccm", Name: LeaseName, Identity: "me",
		LeaseDuration: 15 * time.Second, RenewDeadline: 10 * time.Second, RetryPeriod: 2 * time.Second, Logger: logger,
	})
	require.NoError(t, err)
	options := Options{ConfigPath: c.path, Config: loaded, Elector: elector, Namespace: "baremetal-ccm", Client: c.client, Logger: logger, Secret: testSecret, Nodes: auth.NewNodes(),
		Informers: informers.NewSharedInformerFactory(c.client, 0), Watches: livewatch.NewSet(logger)}
	set(&options)
	c.p, err = New(options)
	require.NoError(t, err)
	c.p.core.now = now
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 3)
	var running sync.WaitGroup
	run := func(part func(context.Context) error) { running.Go(func() { done <- part(ctx) }) }
	run(c.p.Watch)
	c.announce()
	t.Cleanup(func() {
		cancel()
		running.Wait()
		close(done)
		for err := range done {
			require.NoError(t, err)
		}
	})
	return c, func() {
		run(elector.Run)
		c.p.Initialize(builder{c.client}, ctx.Done())
		run(c.p.RunController)
	}
}

// knows reports whether the core knows the Service with that UID.
func (c *cluster) knows(uid string) bool {
	_, known := c.p.core.statusOf(uid)
	return known
}

// lastGood is the ConfigMap in which the leader before kept its cloud-config.
func lastGood(text string) *corev1.ConfigMap {
	return &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: "baremetal-ccm", Name: LastGoodConfigMapName}, Data: map[string]string{ConfigMapKey: text}}
}

func loadBalancer(name string, change ...func(*corev1.Service)) *corev1.Service {
	svc := &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name, UID: types.UID("uid-" + name), Annotations: map[string]string{}},
		Spec: corev1.ServiceSpec{
			Type:       corev1.ServiceTypeLoadBalancer,
			Ports:      []corev1.ServicePort{{Port: 80}},
			IPFamilies: []corev1.IPFamily{corev1.IPv4Protocol},
		},
	}
	for _, f := range change {
		f(svc)
	}
	return svc
}

func withStatus(addresses ...string) func(*corev1.Service) {
	return func(svc *corev1.Service) {
		var parsed []netip.Addr
		for _, a := range addresses {
			parsed = append(parsed, netip.MustParseAddr(a))
		}
		svc.Status.LoadBalancer = *statusOf(parsed, nil)
	}
}

func endpointsFor(name string) *discoveryv1.EndpointSlice {
	node := "node1"
	return &discoveryv1.EndpointSlice{
		ObjectMeta:  metav1.ObjectMeta{Namespace: "default", Name: name + "-slice", Labels: map[string]string{discoveryv1.LabelServiceName: name}},
		AddressType: discoveryv1.AddressTypeIPv4,
		Endpoints:   []discoveryv1.Endpoint{{NodeName: &node}},
	}
}

// create does what a user and then the stock service controller do. It returns why svc has
// no address.
func (c *cluster) create(svc *corev1.Service) error {
	c.t.Helper()
	_, err := c.client.CoreV1().Services(svc.Namespace).Create(c.t.Context(), svc, metav1.CreateOptions{})
	require.NoError(c.t, err)
	require.Eventually(c.t, func() bool {
		_, err := c.p.listers.services.Services(svc.Namespace).Get(svc.Name)
		return err == nil
	}, waitAtMost, time.Millisecond)
	_, err = c.p.EnsureLoadBalancer(c.t.Context(), "", svc, nil)
	require.Equal(c.t, cloudprovider.ImplementedElsewhere, err, "the stock controller compares by ==")
	require.NoError(c.t, c.p.waitRestored(c.t.Context()))
	return refusalError(c.p.core.ensureService(c.p.translateService(svc)))
}

// refusalError adds its Reason to a refusal.
func refusalError(err error) error {
	if refusal, ok := errors.AsType[*ipam.Refusal](err); ok {
		return fmt.Errorf("%s: %w", refusal.Reason, refusal)
	}
	return err
}

func (c *cluster) service(name string) *corev1.Service {
	c.t.Helper()
	svc, err := c.client.CoreV1().Services("default").Get(c.t.Context(), name, metav1.GetOptions{})
	require.NoError(c.t, err)
	return svc
}

// published waits until the Service's status holds exactly those addresses.
func (c *cluster) published(name string, want ...string) {
	c.t.Helper()
	require.EventuallyWithT(c.t, func(t *assert.CollectT) {
		require.Equal(t, "["+strings.Join(want, " ")+"]", text(publishedAddresses(c.service(name))))
	}, waitAtMost, 5*time.Millisecond)
}

// says waits until a condition of the Service has that reason.
func (c *cluster) says(name, kind string, want reason.Reason) {
	c.t.Helper()
	require.EventuallyWithT(c.t, func(t *assert.CollectT) {
		got := conditionOf(c.service(name), kind)
		require.NotNil(t, got)
		require.Equal(t, string(want), got.Reason, got.Message)
	}, waitAtMost, 5*time.Millisecond)
}

// announce plays node1's announcer: it claims everything that it owns.
func (c *cluster) announce() {
	c.p.NodeConnected("node1", plan.Report{Interfaces: []plan.Interface{{Name: "eth0"}}})
}

// plan returns what node1 is told.
func (c *cluster) plan() plan.NodePlan {
	secret, _ := testSecret()
	plans, _ := c.p.core.planNodes("cluster", c.p.options.Elector.Term(), secret)
	return plans["node1"]
}

// acknowledge waits for a plan with those addresses, in their order, and carries it out.
func (c *cluster) acknowledge(addresses ...string) {
	c.t.Helper()
	require.EventuallyWithT(c.t, func(t *assert.CollectT) {
		set := c.plan()
		report := plan.Report{Plan: set.Version, Highest: set.Version, Interfaces: []plan.Interface{{Name: "eth0"}}}
		for _, address := range addresses {
			want := netip.MustParseAddr(address)
			list, ok := set.Assignments.Find(want)
			require.True(t, ok, "node1 is not told to announce %s", want)
			report.Claims = report.Claims.With(plan.Claim{Address: want, Version: list.Version})
		}
		require.True(t, c.p.maySpeakFor(set.Version), "it is told so later")
		c.p.NodeReported("node1", report)
	}, waitAtMost, 5*time.Millisecond)
}

func TestAddressIsPublishedOnceANodeAnswers(t *testing.T) {
	c := start(t, endpointsFor("web"))
	require.NoError(t, c.create(loadBalancer("web")))
	c.says("web", ConditionAnnounced, reason.WaitingForAnnouncer)
	require.Empty(t, publishedAddresses(c.service("web")))
	c.acknowledge("10.0.0.0")
	c.published("web", "10.0.0.0")
	c.says("web", ConditionAllocated, reason.Allocated)
	c.says("web", ConditionAnnounced, reason.Announced)
	require.EventuallyWithT(t, func(t *assert.CollectT) {
		require.Contains(t, c.events(), "Allocated: 10.0.0.0 from pool default")
		require.Contains(t, c.events(), "Announced: node node1 answers for 10.0.0.0")
	}, waitAtMost, 5*time.Millisecond)
}

// Row L3, and promise 5: where nobody may answer, the address is published with the Reason.
func TestAddressWithoutEndpointsIsPublishedWithTheReason(t *testing.T) {
	c := start(t)
	require.NoError(t, c.create(loadBalancer("web")))
	c.published("web", "10.0.0.0")
	c.says("web", ConditionAnnounced, reason.NoEndpoints)
}

// Row IP12: a Service that waits gets the address of one that goes, without being touched.
func TestWaitingServiceIsServedWhenAnAddressIsFreed(t *testing.T) {
	c := start(t)
	for i := range 4 {
		require.NoError(t, c.create(loadBalancer(fmt.Sprint("web", i))))
	}
	require.ErrorContains(t, c.create(loadBalancer("late")), string(reason.PoolExhausted))
	c.says("late", ConditionAllocated, reason.PoolExhausted)
	c.deleting("web2")
	require.NoError(t, c.p.EnsureLoadBalancerDeleted(t.Context(), "", c.service("web2")))
	c.published("late", "10.0.0.2")
}

// Row IP12: so it does when a pool grows.
func TestWaitingServiceIsServedWhenAPoolGrows(t *testing.T) {
	c := startWith(t, strings.ReplaceAll(pools, "10.0.0.0/30", "10.0.0.0/32"), time.Now)
	require.NoError(t, c.create(loadBalancer("web")))
	require.ErrorContains(t, c.create(loadBalancer("late")), string(reason.PoolExhausted))
	c.says("late", ConditionAllocated, reason.PoolExhausted)
	require.NoError(t, os.WriteFile(c.path, []byte(pools), 0o600))
	c.published("late", "10.0.0.1")
}

// Row IP18: a pool that is renamed, grown or split moves nobody.
func TestReloadMovesNobody(t *testing.T) {
	c := start(t)
	require.NoError(t, c.create(loadBalancer("web", func(svc *corev1.Service) { svc.Annotations[AnnotationAddresses] = "10.0.0.3" })))
	for pool, text := range map[string]string{
		"renamed": strings.ReplaceAll(pools, "name: default", "name: renamed"),
		"default": strings.ReplaceAll(pools, "10.0.0.0/30", "10.0.0.0/24"),
		"second":  strings.ReplaceAll(pools, "10.0.0.0/30", "10.0.0.0/31") + "- {name: second, addresses: [10.0.0.2/31]}\n",
	} {
		require.NoError(t, os.WriteFile(c.path, []byte(text), 0o600))
		c.inUse(text)
		c.published("web", "10.0.0.3")
		require.Eventually(t, func() bool {
			return conditionOf(c.service("web"), ConditionAllocated).Message == "10.0.0.3 from pool "+pool
		}, waitAtMost, 5*time.Millisecond)
	}
}

func TestStatusIsRestoredAndRepaired(t *testing.T) {
	c := start(t, loadBalancer("web", withStatus("10.0.0.2")))
	require.NoError(t, c.create(loadBalancer("new")))
	c.published("new", "10.0.0.0")
	status, exists, err := c.p.GetLoadBalancer(t.Context(), "", c.service("web"))
	require.NoError(t, err)
	require.True(t, exists)
	require.Equal(t, "10.0.0.2", status.Ingress[0].IP)

	for _, wrong := range [][]string{{}, {"192.0.2.9"}} {
		svc := c.service("web")
		withStatus(wrong...)(svc)
		_, err = c.client.CoreV1().Services("default").UpdateStatus(t.Context(), svc, metav1.UpdateOptions{})
		require.NoError(t, err)
		c.published("web", "10.0.0.2")
	}
}

// Row IP20: the older Service keeps the address, the other gets a new one and an Event.
func TestTwoServicesWithOneAddressAtStart(t *testing.T) {
	at := func(hour int) func(*corev1.Service) {
		return func(svc *corev1.Service) {
			svc.CreationTimestamp = metav1.NewTime(time.Date(2026, 1, 1, hour, 0, 0, 0, time.UTC))
		}
	}
	c := start(t, loadBalancer("older", withStatus("10.0.0.1"), at(1)), loadBalancer("younger", withStatus("10.0.0.1"), at(2)))
	c.published("younger", "10.0.0.0")
	c.published("older", "10.0.0.1")
	c.told("AddressInUse: 10.0.0.1 is taken out of the status: address 10.0.0.1 is held by Service default/older: both must name the same sharing key")
	c.told("Allocated: 10.0.0.0 from pool default; no longer 10.0.0.1")
}

// The stock controller does not see Services with a class; ours serves them whole.
func TestServiceWithOurClass(t *testing.T) {
	ours, foreign := "baremetal.cloud/lb", "example.org/lb"
	c := start(t)
	for name, class := range map[string]*string{"ours": &ours, "foreign": &foreign} {
		_, err := c.client.CoreV1().Services("default").Create(t.Context(), loadBalancer(name, func(svc *corev1.Service) { svc.Spec.LoadBalancerClass = class }), metav1.CreateOptions{})
		require.NoError(t, err)
	}
	c.published("ours", "10.0.0.0")
	require.Equal(t, []string{Finalizer}, c.service("ours").Finalizers)

	svc := c.service("ours")
	now := metav1.Now()
	svc.DeletionTimestamp = &now
	_, err := c.client.CoreV1().Services("default").Update(t.Context(), svc, metav1.UpdateOptions{})
	require.NoError(t, err)
	require.EventuallyWithT(t, func(t *assert.CollectT) {
		require.False(t, c.knows("uid-ours"))
		svc, err := c.client.CoreV1().Services("default").Get(context.Background(), "ours", metav1.GetOptions{})
		require.True(t, err != nil || len(svc.Finalizers) == 0)
	}, waitAtMost, 5*time.Millisecond)
	require.Empty(t, c.service("foreign").Status.LoadBalancer.Ingress)
	require.Empty(t, c.service("foreign").Finalizers)
}

// Labels decide which pools serve a Service, and ipFamilyPolicy whether one family is enough.
// The stock controller sees neither change.
func TestLabelsAndPolicyChange(t *testing.T) {
	gold := "- {name: gold, addresses: [10.0.1.0/30], serviceSelectors: [{matchLabels: {tier: gold}}]}\n"
	c := startWith(t, pools[:strings.Index(pools, "- name: default")]+gold, time.Now)
	require.ErrorContains(t, c.create(loadBalancer("web")), string(reason.NoPool))
	c.says("web", ConditionAllocated, reason.NoPool)
	c.edit("web", func(svc *corev1.Service) { svc.Labels = map[string]string{"tier": "gold"} })
	c.published("web", "10.0.1.0")

	prefer, both := corev1.IPFamilyPolicyPreferDualStack, corev1.IPFamilyPolicyRequireDualStack
	c.edit("web", func(svc *corev1.Service) {
		svc.Spec.IPFamilies, svc.Spec.IPFamilyPolicy = []corev1.IPFamily{corev1.IPv4Protocol, corev1.IPv6Protocol}, &prefer
	})
	c.says("web", ConditionAllocated, reason.PartiallyAllocated)
	c.edit("web", func(svc *corev1.Service) { svc.Spec.IPFamilyPolicy = &both })
	c.says("web", ConditionAllocated, reason.FamilyUnavailable)
	c.published("web", "10.0.1.0")
}

// A change of families, and one of the type while nobody looked, which frees the address.
func TestChangesThatTheStockControllerDoesNotSee(t *testing.T) {
	c := start(t)
	require.NoError(t, c.create(loadBalancer("web")))
	c.published("web", "10.0.0.0")
	svc := c.service("web")
	svc.Spec.IPFamilies = []corev1.IPFamily{corev1.IPv4Protocol, corev1.IPv6Protocol}
	_, err := c.client.CoreV1().Services("default").Update(t.Context(), svc, metav1.UpdateOptions{})
	require.NoError(t, err)
	c.published("web", "10.0.0.0", "2001:db8::")

	svc = c.service("web")
	svc.Spec.Type = corev1.ServiceTypeClusterIP
	svc.Status.LoadBalancer = corev1.LoadBalancerStatus{}
	_, err = c.client.CoreV1().Services("default").Update(t.Context(), svc, metav1.UpdateOptions{})
	require.NoError(t, err)
	require.EventuallyWithT(t, func(t *assert.CollectT) {
		require.False(t, c.knows("uid-web"))
		require.Empty(t, c.service("web").Status.Conditions)
	}, waitAtMost, 5*time.Millisecond)
}

// Promise 8: a bad cloud-config changes nothing; a good one is used and kept.
func TestReload(t *testing.T) {
	c := start(t)
	require.NoError(t, c.create(loadBalancer("web")))
	c.published("web", "10.0.0.0")
	for bad, want := range map[string]string{
		"":         "is empty",
		"pools: [": ":1:",
		strings.Repeat("- name: garbage\n", 10<<20/16): "is larger than 1048576 bytes",
		// The holder that would lose its address is named.
		strings.ReplaceAll(pools, "10.0.0.0/30", "10.0.0.1/32"): "default/web",
	} {
		require.NoError(t, os.WriteFile(c.path, []byte(bad), 0o600))
		require.EventuallyWithT(t, func(t *assert.CollectT) {
			require.NotNil(t, c.p.configError.Load())
			require.Contains(t, *c.p.configError.Load(), want)
		}, waitAtMost, 10*time.Millisecond)
		require.Equal(t, "default", c.p.config.Load().Pools[0].Name)
	}
	grown := strings.ReplaceAll(pools, "10.0.0.0/30", "10.0.0.0/24")
	require.NoError(t, os.WriteFile(c.path, []byte(grown), 0o600))
	require.EventuallyWithT(t, func(t *assert.CollectT) {
		require.Nil(t, c.p.configError.Load())
		kept, err := c.client.CoreV1().ConfigMaps("baremetal-ccm").Get(context.Background(), LastGoodConfigMapName, metav1.GetOptions{})
		require.NoError(t, err)
		require.Equal(t, grown, kept.Data[ConfigMapKey])
	}, waitAtMost, 10*time.Millisecond)
	c.published("web", "10.0.0.0")
}

func TestStartConfigFallsBackToTheLastGoodOne(t *testing.T) {
	path := filepath.Join(t.TempDir(), "cloud-config.yaml")
	kept := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: LastGoodConfigMapName}}
	client := fake.NewClientset(kept)
	_, err := StartConfig(t.Context(), client, "ns", ConfigSource{Path: path})
	require.ErrorContains(t, err, path)

	kept.Data = map[string]string{ConfigMapKey: pools}
	started, err := StartConfig(t.Context(), fake.NewClientset(kept), "ns", ConfigSource{Path: path})
	require.NoError(t, err)
	require.ErrorContains(t, started.Stale, path)
	require.Len(t, started.Config.Pools, 1)

	require.NoError(t, os.WriteFile(path, []byte(pools), 0o600))
	started, err = StartConfig(t.Context(), client, "ns", ConfigSource{Path: path})
	require.NoError(t, err)
	require.NoError(t, started.Stale)
}

func (c *cluster) events() []string {
	c.t.Helper()
	return c.eventsIn("default")
}

func (c *cluster) eventsIn(namespace string) []string {
	c.t.Helper()
	list, err := c.client.CoreV1().Events(namespace).List(c.t.Context(), metav1.ListOptions{})
	require.NoError(c.t, err)
	var out []string
	for _, e := range list.Items {
		out = append(out, e.Reason+": "+e.Message)
	}
	slices.Sort(out)
	return out
}

func text(addresses []netip.Addr) string { return fmt.Sprint(addresses) }
