package cloudconfig

import (
	"gopkg.in/yaml.v3"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/selection"

	"baremetal.cloud/ccm/pkg/ipam"
)

// selector is a Kubernetes label selector as package ipam wants it.
type selector struct{ labels.Selector }

// Matches implements ipam.Selector.
func (s selector) Matches(set map[string]string) bool { return s.Selector.Matches(labels.Set(set)) }

var _ ipam.Selector = selector{}

// operators are those of metav1.LabelSelectorRequirement.
var operators = map[string]selection.Operator{
	"In":           selection.In,
	"NotIn":        selection.NotIn,
	"Exists":       selection.Exists,
	"DoesNotExist": selection.DoesNotExist,
}

// selectorOf checks a list of label selectors. It is nil where they ask for nothing.
func selectorOf(s spot, shapes []labelSelector) (out ipam.Selector) {
	single(s, len(shapes))
	for i, shape := range shapes {
		out = shape.selector(s.item(i))
	}
	return out
}

// selector builds the requirements as metav1.LabelSelectorAsSelector does, which names no
// position. An empty selector is nil: it asks for nothing.
func (l labelSelector) selector(s spot) ipam.Selector {
	var requirements []labels.Requirement
	add := func(at spot, n *yaml.Node, key string, op selection.Operator, values []string) {
		r, err := labels.NewRequirement(key, op, values)
		if err != nil {
			at.report.fail(n, at.path, "", "%s", err)
			return
		}
		requirements = append(requirements, *r)
	}
	for key, value := range l.MatchLabels {
		at := s.key("matchLabels").key(key)
		add(at, at.keyNode(), key, selection.Equals, []string{value})
	}
	for i, e := range l.MatchExpressions {
		at := s.key("matchExpressions").item(i)
		operator := at.key("operator")
		if operators[e.Operator] == "" && operator.given() {
			operator.fail("write In, NotIn, Exists or DoesNotExist", "%q is not an operator", e.Operator)
		}
		if at.given() && !at.troubled(at.path) {
			add(at, at.node(), e.Key, operators[e.Operator], e.Values)
		}
	}
	if len(requirements) == 0 {
		return nil
	}
	return selector{labels.NewSelector().Add(requirements...)}
}
