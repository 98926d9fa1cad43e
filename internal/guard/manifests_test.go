package guard

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/serializer/json"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/apimachinery/pkg/util/yaml"
	"k8s.io/client-go/kubernetes/scheme"
)

// decode reads Kubernetes objects, refusing unknown and repeated fields.
func decode(t *testing.T, name, text string) []runtime.Object {
	t.Helper()
	codec := json.NewSerializerWithOptions(json.DefaultMetaFactory, scheme.Scheme, scheme.Scheme,
		json.SerializerOptions{Yaml: true, Strict: true})
	documents := yaml.NewYAMLReader(bufio.NewReader(strings.NewReader(text)))
	var objects []runtime.Object
	for {
		document, err := documents.Read()
		if errors.Is(err, io.EOF) {
			return objects
		}
		require.NoError(t, err, name)
		if len(bytes.TrimSpace(document)) == 0 {
			continue
		}
		object, _, err := codec.Decode(document, nil, nil)
		require.NoError(t, err, name)
		objects = append(objects, object)
	}
}

// manifests returns every object of deploy/base.
func manifests(t *testing.T) []runtime.Object {
	t.Helper()
	var objects []runtime.Object
	for _, path := range files(t, ".yaml") {
		if under(path, "deploy/base") && filepath.Base(path) != "kustomization.yaml" {
			objects = append(objects, decode(t, path, read(t, path))...)
		}
	}
	require.NotEmpty(t, objects)
	return objects
}

// The component for nodes gives the CCM what the stock cloud-node-controller writes, and
// nothing else to anybody.
func TestNodesComponent(t *testing.T) {
	objects := decode(t, "rbac.yaml", read(t, "deploy/components/nodes/rbac.yaml"))
	require.Len(t, objects, 2)
	role, binding := of[*rbacv1.ClusterRole](objects)[0], of[*rbacv1.ClusterRoleBinding](objects)[0]
	require.Equal(t, []rbacv1.PolicyRule{
		{APIGroups: []string{""}, Resources: []string{"nodes"}, Verbs: []string{"patch", "update"}},
		{APIGroups: []string{""}, Resources: []string{"nodes/status"}, Verbs: []string{"patch"}},
	}, role.Rules)
	require.Equal(t, rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: role.Name}, binding.RoleRef)
	require.Equal(t, []rbacv1.Subject{{Kind: "ServiceAccount", Name: "baremetal-ccm", Namespace: "baremetal-ccm"}}, binding.Subjects)
}

// K7: no Pod lands on a Windows node; one dead node of three does not stop a rollout; a replica
// that does not work is no reason to keep its node.
func TestFault_K7_Manifests(t *testing.T) {
	for name, pod := range pods(t) {
		require.Equal(t, map[string]string{corev1.LabelOSStable: "linux"}, pod.NodeSelector, name)
	}
	sets := of[*appsv1.DaemonSet](manifests(t))
	require.Len(t, sets, 1)
	require.Equal(t, 2, sets[0].Spec.UpdateStrategy.RollingUpdate.MaxUnavailable.IntValue())

	budgets := of[*policyv1.PodDisruptionBudget](decode(t, "budget.yaml", read(t, "deploy/components/disruption-budget/budget.yaml")))
	require.Len(t, budgets, 1)
	require.Equal(t, policyv1.AlwaysAllow, *budgets[0].Spec.UnhealthyPodEvictionPolicy)
	require.Equal(t, 1, budgets[0].Spec.MaxUnavailable.IntValue())
}

// K7: the CCM's HTTPS port is the one that the program has by default, the probes use its
// name, and kustomization.yaml copies it to the argument at the place where that stands.
func TestFault_K7_SecurePort(t *testing.T) {
	c := pods(t)["baremetal-ccm"].Containers[0]
	at := slices.IndexFunc(c.Args, func(a string) bool { return strings.HasPrefix(a, "--secure-port=") })
	require.GreaterOrEqual(t, at, 0)
	require.Equal(t, "https", c.Ports[0].Name)
	require.Equal(t, fmt.Sprintf("--secure-port=%d", c.Ports[0].ContainerPort), c.Args[at])
	require.Contains(t, read(t, "cmd/baremetal-ccm/flags.go"), fmt.Sprintf("securePort = %d\n", c.Ports[0].ContainerPort))
	for _, probe := range []*corev1.Probe{c.StartupProbe, c.LivenessProbe, c.ReadinessProbe} {
		require.Equal(t, intstr.FromString("https"), probe.HTTPGet.Port)
	}
	require.Contains(t, read(t, "deploy/base/kustomization.yaml"), fmt.Sprintf("containers.[name=baremetal-ccm].args.%d\n", at))
	require.Contains(t, read(t, "docs/operations.md"), fmt.Sprintf("containers/0/args/%d,", at))
}

// of returns the objects of one type.
func of[T runtime.Object](objects []runtime.Object) []T {
	var typed []T
	for _, o := range objects {
		if x, ok := o.(T); ok {
			typed = append(typed, x)
		}
	}
	return typed
}

// pods returns the Pod templates of both programs by name.
func pods(t *testing.T) map[string]corev1.PodSpec {
	t.Helper()
	objects := manifests(t)
	specs := map[string]corev1.PodSpec{}
	for _, d := range of[*appsv1.Deployment](objects) {
		specs[d.Name] = d.Spec.Template.Spec
	}
	for _, d := range of[*appsv1.DaemonSet](objects) {
		specs[d.Name] = d.Spec.Template.Spec
	}
	require.Len(t, specs, 2)
	return specs
}

// The names that others rely on.
func TestManifestNames(t *testing.T) {
	var got []string
	for _, o := range manifests(t) {
		m, err := meta.Accessor(o)
		require.NoError(t, err)
		got = append(got, o.GetObjectKind().GroupVersionKind().Kind+" "+strings.TrimPrefix(m.GetNamespace()+"/"+m.GetName(), "/"))
	}
	slices.Sort(got)
	require.Equal(t, []string{
		"ClusterRole baremetal-ccm",
		"ClusterRoleBinding baremetal-ccm",
		"ConfigMap baremetal-ccm/baremetal-ccm-ca",
		"ConfigMap baremetal-ccm/baremetal-cloud-config-last-good",
		"DaemonSet baremetal-ccm/baremetal-announcer",
		"Deployment baremetal-ccm/baremetal-ccm",
		"Lease baremetal-ccm/baremetal-ccm",
		"Namespace baremetal-ccm",
		"Role baremetal-ccm/baremetal-ccm",
		"RoleBinding baremetal-ccm/baremetal-ccm",
		"RoleBinding kube-system/baremetal-ccm-authentication-reader",
		"Secret baremetal-ccm/baremetal-ccm-tls",
		"Service baremetal-ccm/baremetal-ccm",
		"ServiceAccount baremetal-ccm/baremetal-announcer",
		"ServiceAccount baremetal-ccm/baremetal-ccm",
	}, got)
}

// Applying the manifests again must not empty what the CCM has filled.
func TestFilledObjectsShipWithoutData(t *testing.T) {
	objects := manifests(t)
	for _, s := range of[*corev1.Secret](objects) {
		require.Nil(t, s.Data, s.Name)
		require.Nil(t, s.StringData, s.Name)
	}
	for _, c := range of[*corev1.ConfigMap](objects) {
		require.Nil(t, c.Data, c.Name)
	}
}

func TestAnnouncerHasNoPermission(t *testing.T) {
	objects := manifests(t)
	var subjects []rbacv1.Subject
	for _, b := range of[*rbacv1.ClusterRoleBinding](objects) {
		subjects = append(subjects, b.Subjects...)
	}
	for _, b := range of[*rbacv1.RoleBinding](objects) {
		subjects = append(subjects, b.Subjects...)
	}
	for _, s := range subjects {
		require.Equal(t, rbacv1.Subject{Kind: "ServiceAccount", Name: "baremetal-ccm", Namespace: "baremetal-ccm"}, s)
	}
	announcer := pods(t)["baremetal-announcer"]
	require.False(t, *announcer.AutomountServiceAccountToken)
	require.Equal(t, &corev1.Capabilities{Drop: []corev1.Capability{"ALL"}, Add: []corev1.Capability{"NET_RAW", "SYS_NICE"}},
		announcer.Containers[0].SecurityContext.Capabilities)
	var audiences []string
	var paths []string
	for _, v := range announcer.Volumes {
		if v.HostPath != nil {
			paths = append(paths, v.HostPath.Path)
		}
		if v.Projected != nil {
			audiences = append(audiences, v.Projected.Sources[0].ServiceAccountToken.Audience)
		}
	}
	require.Equal(t, []string{"baremetal.cloud/announcer"}, audiences)
	require.Equal(t, []string{"/var/lib/baremetal-announcer"}, paths, "a directory of its own and nothing else of the node")
}

// No wildcard, no permission on all Secrets or ConfigMaps, and writing only where it is meant.
func TestPermissionsAreNarrow(t *testing.T) {
	objects := manifests(t)
	var rules []rbacv1.PolicyRule
	for _, r := range of[*rbacv1.ClusterRole](objects) {
		for _, rule := range r.Rules {
			assert.NotContains(t, rule.Resources, "secrets")
			assert.NotContains(t, rule.Resources, "configmaps")
			assert.NotContains(t, rule.Resources, "pods")
			if slices.ContainsFunc(rule.Verbs, func(v string) bool { return v == "update" || v == "patch" }) {
				assert.Contains(t, []string{"services/status", "events"}, strings.Join(rule.Resources, ","))
			}
		}
		rules = append(rules, r.Rules...)
	}
	for _, r := range of[*rbacv1.Role](objects) {
		for _, rule := range r.Rules {
			named := len(rule.ResourceNames) > 0
			secret := slices.Contains(rule.Resources, "secrets") || slices.Contains(rule.Resources, "configmaps")
			assert.True(t, named || !secret, "%v without names", rule.Resources)
		}
		rules = append(rules, r.Rules...)
	}
	for _, rule := range rules {
		for _, word := range slices.Concat(rule.APIGroups, rule.Resources, rule.Verbs) {
			assert.NotContains(t, word, "*")
		}
		assert.NotContains(t, rule.Verbs, "delete")
		assert.NotContains(t, rule.Resources, "serviceaccounts/token")
	}
}

func TestPodsAreConfined(t *testing.T) {
	for name, pod := range pods(t) {
		require.True(t, pod.HostNetwork, name)
		require.NotEmpty(t, pod.PriorityClassName, name)
		require.Equal(t, corev1.SeccompProfileTypeRuntimeDefault, pod.SecurityContext.SeccompProfile.Type, name)
		for _, c := range pod.Containers {
			require.True(t, *c.SecurityContext.ReadOnlyRootFilesystem, name)
			require.False(t, *c.SecurityContext.AllowPrivilegeEscalation, name)
			require.Equal(t, []corev1.Capability{"ALL"}, c.SecurityContext.Capabilities.Drop, name)
			require.NotNil(t, c.LivenessProbe, name)
			require.NotNil(t, c.ReadinessProbe, name)
			require.NotZero(t, c.Resources.Requests.Cpu().MilliValue(), name)
			require.NotZero(t, c.Resources.Requests.Memory().Value(), name)
			require.Zero(t, c.Resources.Limits.Cpu().MilliValue(), "%s: throttling delays answers", name)
		}
	}
	ccm := pods(t)["baremetal-ccm"]
	require.True(t, *ccm.SecurityContext.RunAsNonRoot)
	require.Empty(t, ccm.Containers[0].SecurityContext.Capabilities.Add)
}

// The announcer is a small process that shares nothing with its node but the network, and
// whose Go runtime knows how much memory it may use.
func TestAnnouncerIsSmallAndAlone(t *testing.T) {
	pod := pods(t)["baremetal-announcer"]
	require.False(t, pod.HostPID)
	require.False(t, pod.HostIPC)
	require.Nil(t, pod.ShareProcessNamespace)
	require.Empty(t, pod.InitContainers)
	require.Len(t, pod.Containers, 1)
	c := pod.Containers[0]
	require.Nil(t, c.SecurityContext.Privileged)
	require.Nil(t, c.SecurityContext.SeccompProfile, "the Pod's holds")
	require.Empty(t, c.Ports, "nothing is open to the network")
	require.Contains(t, c.Args, "--status-address=127.0.0.1:10271")
	require.Equal(t, "127.0.0.1", c.LivenessProbe.HTTPGet.Host)
	i := slices.IndexFunc(c.Env, func(e corev1.EnvVar) bool { return e.Name == "GOMEMLIMIT" })
	require.GreaterOrEqual(t, i, 0, "GOMEMLIMIT is set")
	// Go writes MiB what Kubernetes writes Mi.
	soft, err := resource.ParseQuantity(strings.TrimSuffix(c.Env[i].Value, "B"))
	require.NoError(t, err)
	hard := c.Resources.Limits.Memory().Value()
	require.Less(t, soft.Value(), hard, "the collector works harder before the kernel kills")
	require.LessOrEqual(t, c.Resources.Requests.Memory().Value(), soft.Value())
	require.LessOrEqual(t, hard, int64(192<<20), "the process that speaks BGP included")
}

// Every flag in the manifests is one of the program's, and the program starts.
func TestManifestFlagsExist(t *testing.T) {
	for name, pod := range pods(t) {
		t.Run(name, func(t *testing.T) {
			binary := filepath.Join(t.TempDir(), name)
			command(t, "go", "build", "-o", binary, "./cmd/"+name)
			help, err := exec.CommandContext(t.Context(), binary, "--help").CombinedOutput()
			if err != nil { // package flag ends with 2 after --help, cobra with 0
				require.NotEmpty(t, help)
			}
			for _, arg := range pod.Containers[0].Args {
				flag, _, _ := strings.Cut(strings.TrimLeft(arg, "-"), "=")
				require.Regexp(t, `(?m)^\s+(-\w, )?--?`+flag+`\b`, string(help), "%s has no flag %s", name, flag)
			}
		})
	}
}
