package guard

import (
	"encoding/json"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"gopkg.in/yaml.v3"

	"baremetal.cloud/ccm/internal/chart"
)

const schemaFile = "deploy/helm/baremetal-ccm/values.schema.json"

func TestChartSchemaIsCurrent(t *testing.T) {
	want, err := chart.Schema()
	require.NoError(t, err)
	require.Equal(t, string(want), read(t, schemaFile), "run make generate")
}

// schema is the part of a JSON schema that is read here.
type schema struct {
	Type                 any
	Properties           map[string]schema
	AdditionalProperties any
	Items                *schema
	Definitions          map[string]schema
	Const                any
}

func chartSchema(t *testing.T) schema {
	var s schema
	require.NoError(t, json.Unmarshal([]byte(read(t, schemaFile)), &s))
	return s
}

// visit calls do with s and every schema inside.
func (s schema) visit(path string, do func(path string, s schema)) {
	do(path, s)
	for key, inner := range s.Properties {
		inner.visit(path+"."+key, do)
	}
	for key, inner := range s.Definitions {
		inner.visit(path+"#"+key, do)
	}
	if s.Items != nil {
		s.Items.visit(path+"[]", do)
	}
}

// TestChartSchemaRefusesUnknownKeys: no mapping takes a key that it does not list, or lists none and says of what
// form the values are.
func TestChartSchemaRefusesUnknownKeys(t *testing.T) {
	mappings := 0
	chartSchema(t).visit("", func(path string, s schema) {
		switch {
		case path == ".global": // Helm's
		case len(s.Properties) > 0:
			mappings++
			assert.Equal(t, false, s.AdditionalProperties, "%s takes unknown keys", path)
		case s.AdditionalProperties != nil:
			assert.IsType(t, map[string]any{}, s.AdditionalProperties, path)
		default:
			assert.NotEqual(t, "object", s.Type, "%s is any mapping", path)
		}
	})
	require.Greater(t, mappings, 20)
}

// TestChartSchemaHasEveryKey holds the schema beside the reference, key by key at its place, and beside the
// tables and the text of docs/configuration.md.
func TestChartSchemaHasEveryKey(t *testing.T) {
	config := chartSchema(t).Properties["config"]
	var reference any
	require.NoError(t, yaml.Unmarshal([]byte(read(t, "docs/reference.yaml")), &reference))
	require.Greater(t, hasKeys(t, config, "config", reference), 100)

	known := map[string]bool{}
	config.visit("", func(_ string, s schema) {
		for key := range s.Properties {
			known[key] = true
		}
	})
	page, _, _ := strings.Cut(read(t, "docs/configuration.md"), "## On a Service")
	rows := regexp.MustCompile("(?m)^\\| `([a-z]\\w+)` \\| [^|]+ \\| [^|]+ \\|$").FindAllStringSubmatch(page, -1)
	words := regexp.MustCompile("`([a-z]+[A-Z]\\w+)(?:\\.(\\w+))?(?:: [^`]*)?`").FindAllStringSubmatch(page, -1)
	require.Greater(t, len(rows), 10)
	require.Greater(t, len(words), 10)
	for _, m := range append(rows, words...) {
		for _, key := range m[1:] {
			assert.True(t, key == "" || known[key] || kubernetesOwn[key], "docs/configuration.md has %s, the schema does not", key)
		}
	}
}

// kubernetesOwn are words of docs/configuration.md that are Kubernetes' and no keys of the cloud-config.
var kubernetesOwn = map[string]bool{"externalTrafficPolicy": true, "healthCheckNodePort": true}

// hasKeys checks that s has each key of value, and returns how many there are.
func hasKeys(t *testing.T, s schema, path string, value any) (n int) {
	switch value := value.(type) {
	case map[string]any:
		for key, inner := range value {
			if s.Properties == nil {
				require.IsType(t, map[string]any{}, s.AdditionalProperties, path)
				continue
			}
			at, ok := s.Properties[key]
			assert.True(t, ok, "%s has no %s", path, key)
			n += 1 + hasKeys(t, at, path+"."+key, inner)
		}
	case []any:
		require.NotNil(t, s.Items, "%s is no list", path)
		for _, inner := range value {
			n += hasKeys(t, *s.Items, path+"[]", inner)
		}
	}
	return n
}
