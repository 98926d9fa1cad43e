package migrate

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"baremetal.cloud/ccm/pkg/cloud"
)

// TestOurAnnotations: the names are those that the CCM reads.
func TestOurAnnotations(t *testing.T) {
	require.Equal(t, []string{cloud.AnnotationPool, cloud.AnnotationAddresses, cloud.AnnotationSharingKey}, []string{annotationPool, annotationAddresses, annotationSharing})
}

// TestPlans compares the steps for a source on layer 2, and for one with BGP and a password, with
// files. `go test -update` writes them anew.
func TestPlans(t *testing.T) {
	for _, name := range []string{"07-metallb-crs-dual-stack", "30-metallb-configmap-everything", "37-cilium-bgp-cluster-config"} {
		data, err := os.ReadFile(filepath.Join("testdata", name, "source.yaml"))
		require.NoError(t, err)
		result, err := Convert(productOf(t, name), Source{Data: data, Name: "source.yaml"})
		require.NoError(t, err)
		var b strings.Builder
		for _, step := range result.Plan {
			b.WriteString("- " + step.Title + "\n")
			for _, command := range step.Commands {
				b.WriteString("  $ " + command + "\n")
			}
		}
		golden := filepath.Join("testdata", name, "plan.txt")
		if *update {
			require.NoError(t, os.WriteFile(golden, []byte(b.String()), 0o600))
		}
		want, err := os.ReadFile(golden)
		require.NoError(t, err)
		require.Equal(t, string(want), b.String())
	}
}

// TestNames: every name becomes one that the cloud-config takes, or none.
func TestNames(t *testing.T) {
	for name, want := range map[string]string{
		"default": "default", "ingress_internal": "ingress_internal", "team.a": "team.a", "_x": "_x",
		"Team.A": "team.a", "my pool": "my-pool", "-a-": "a", "a..b": "a.b", "Ä": "", "...": "", "": "",
		strings.Repeat("a", 300): strings.Repeat("a", 253),
	} {
		require.Equal(t, want, ourName(name), name)
	}
}

// TestWholeNames: an expression that is searched for becomes one that matches the whole name.
func TestWholeNames(t *testing.T) {
	for expression, want := range map[string]string{
		"^eth[0-9]+": "eth[0-9]+.*", "^(enp|eno).*": "(enp|eno).*", "eth0": ".*eth0.*", "^eth0$": "eth0", "^a|b$": ".*(^a|b$).*", "a|b": ".*(a|b).*", ".*": ".*",
	} {
		got, err := wholeName(expression)
		require.NoError(t, err)
		require.Equal(t, want, got, expression)
	}
	_, err := wholeName("a(")
	require.Error(t, err)
}

// TestFold: selectors of which one has to match become as few as possible.
func TestFold(t *testing.T) {
	in := func(key string, values ...string) outSelector {
		return outSelector{MatchExpressions: []outExpression{{Key: key, Operator: "In", Values: values}}}
	}
	label := func(key, value string) outSelector { return outSelector{MatchLabels: map[string]string{key: value}} }
	require.Equal(t, []outSelector{in("a", "1", "2", "3")}, fold([]outSelector{label("a", "1"), in("a", "2", "1"), label("a", "3"), label("a", "3")}))
	require.Equal(t, []outSelector{label("a", "1"), label("b", "1")}, fold([]outSelector{label("a", "1"), label("b", "1")}))
	require.Empty(t, fold([]outSelector{label("a", "1"), {}}))
}

// TestSelectorsMatch as those of Kubernetes do.
func TestSelectorsMatch(t *testing.T) {
	labels := map[string]string{"a": "1"}
	for _, test := range []struct {
		expression outExpression
		matches    bool
	}{
		{outExpression{"a", "In", []string{"1", "2"}}, true}, {outExpression{"a", "In", []string{"2"}}, false}, {outExpression{"b", "In", []string{"1"}}, false},
		{outExpression{"a", "NotIn", []string{"1"}}, false}, {outExpression{"b", "NotIn", []string{"1"}}, true},
		{outExpression{"a", "Exists", nil}, true}, {outExpression{"b", "Exists", nil}, false},
		{outExpression{"a", "DoesNotExist", nil}, false}, {outExpression{"b", "DoesNotExist", nil}, true},
	} {
		require.Equal(t, test.matches, outSelector{MatchExpressions: []outExpression{test.expression}}.matches(labels), "%v", test.expression)
	}
	require.True(t, outSelector{}.matches(nil))
	require.False(t, outSelector{MatchLabels: map[string]string{"a": "2"}}.matches(labels))
}

// TestOneWayOnLayer2: as long as the cloud-config takes one entry in l2, one of several ways is
// kept, and the others are lost. Once it takes several they are to be carried over.
func TestOneWayOnLayer2(t *testing.T) {
	source := "apiVersion: metallb.io/v1beta1\nkind: IPAddressPool\nmetadata: {name: a}\nspec: {addresses: [192.0.2.0/28]}\n---\n" +
		"apiVersion: metallb.io/v1beta1\nkind: L2Advertisement\nmetadata: {name: a}\nspec: {interfaces: [eth0], nodeSelectors: [{matchLabels: {a: b}}]}\n---\n" +
		"apiVersion: metallb.io/v1beta1\nkind: L2Advertisement\nmetadata: {name: b}\nspec: {interfaces: [eth1], nodeSelectors: [{matchLabels: {c: d}}]}\n"
	result, err := Convert(MetalLB, Source{Data: []byte(source), Name: "s"})
	require.NoError(t, err)
	require.Len(t, result.Losses, 1)
	twice := strings.Replace(result.CloudConfig, "    l2:\n", "    l2:\n      - interface: eth1\n", 1)
	require.NotEqual(t, result.CloudConfig, twice)
	require.False(t, acceptedByDecoder(twice), "the decoder takes several entries")
}
