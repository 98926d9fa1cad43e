// Package chart makes values.schema.json of the Helm chart in deploy/helm/baremetal-ccm: the form of
// the chart's own values, which values.json holds, with that of the cloud-config from its decoder.
package chart

import (
	"bytes"
	_ "embed"
	"encoding/json"
	"errors"
	"fmt"

	"baremetal.cloud/ccm/pkg/cloud/config"
)

//go:embed values.json
var values []byte

// Schema returns the text of values.schema.json.
func Schema() ([]byte, error) {
	var s map[string]any
	if err := json.Unmarshal(values, &s); err != nil {
		return nil, fmt.Errorf("internal/chart/values.json: %w", err)
	}
	keys, ok := s["properties"].(map[string]any)
	if !ok {
		return nil, errors.New("internal/chart/values.json has no properties")
	}
	keys["config"] = config.Schema()
	var out bytes.Buffer
	encoder := json.NewEncoder(&out)
	encoder.SetEscapeHTML(false)
	encoder.SetIndent("", "  ")
	err := encoder.Encode(s)
	return out.Bytes(), err
}
