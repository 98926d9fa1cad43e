package kubelet

import (
	"testing"

	"github.com/stretchr/testify/require"
)

func TestExpand(t *testing.T) {
	values := map[string]string{"A": "1", "EMPTY": ""}
	for text, want := range map[string]string{
		"":             "",
		"plain":        "plain",
		"$(A)":         "1",
		"x$(A)$(A)y":   "x11y",
		"$(EMPTY)":     "",
		"$(UNKNOWN)":   "$(UNKNOWN)",
		"$$(A)":        "$(A)",
		"$$$(A)":       "$1",
		"$(A":          "$(A",
		"$A ${A} cost": "$A ${A} cost",
		"end$":         "end$",
	} {
		require.Equal(t, want, expand(text, values), "%q", text)
	}
}

func TestSubscript(t *testing.T) {
	key, ok := subscript("metadata.labels['app.kubernetes.io/name']", "metadata.labels")
	require.True(t, ok)
	require.Equal(t, "app.kubernetes.io/name", key)
	_, ok = subscript("metadata.name", "metadata.labels")
	require.False(t, ok)
}

func TestImageName(t *testing.T) {
	for image, want := range map[string]string{
		"baremetal-ccm":                          "baremetal-ccm",
		"baremetal-ccm:dev":                      "baremetal-ccm",
		"testbed/web":                            "testbed/web",
		"registry.example:5000/a/b:v1":           "registry.example:5000/a/b",
		"registry.example:5000/a/b":              "registry.example:5000/a/b",
		"registry.example/a/b@sha256:0123456789": "registry.example/a/b",
	} {
		require.Equal(t, want, imageName(image), image)
	}
}
