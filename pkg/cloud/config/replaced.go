package config

import (
	"slices"

	"gopkg.in/yaml.v3"
)

// replaced are keys that the cloud-config once had, with those that stand in their place.
var replaced = map[string]string{
	"loadBalancerClass": "loadBalancerClasses",
	"namespaceSelector": "namespaceSelectors",
	"nodeSelector":      "nodeSelectors",
	"serviceSelector":   "serviceSelectors",
	"sight":             "failover",
}

// examples show the shape of keys whose shape or name has changed.
var examples = map[string]string{
	"failover":            "failover: {transmitInterval: 100ms, detectMultiplier: 3}",
	"l2":                  "l2: [{interface: eth0}]",
	"loadBalancerClasses": "loadBalancerClasses: [baremetal.cloud/lb]",
	"namespaceSelectors":  "namespaceSelectors: [{matchLabels: {team: a}}]",
	"nodeSelectors":       "nodeSelectors: [{matchLabels: {rack: a}}]",
	"serviceSelectors":    "serviceSelectors: [{matchLabels: {tier: gold}}]",
}

// unknownKey reports a key that is none of known.
func (d *decoder) unknownKey(key *yaml.Node, path string, known fields) {
	if now := replaced[key.Value]; now != "" {
		if _, ok := known.fieldNamed(now); ok {
			d.report.fail(key, path, "write "+examples[now], "has been replaced by %s", now)
			return
		}
	}
	if cure := otherKey(key.Value, known); cure != "" {
		d.report.fail(key, path, cure, "unknown key")
		return
	}
	var keys []string
	for _, f := range known {
		keys = append(keys, f.key)
	}
	slices.Sort(keys)
	d.report.fail(key, path, suggestKey(key.Value, keys), "unknown key")
}
