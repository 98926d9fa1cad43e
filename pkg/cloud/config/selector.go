package config

import (
	"slices"
	"strings"

	"gopkg.in/yaml.v3"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/selection"

	"baremetal.cloud/ccm/pkg/ipam"
)

// selector is a list of Kubernetes label selectors, of which one has to match.
type selector []labels.Selector

// Matches implements ipam.Selector.
func (s selector) Matches(set map[string]string) bool {
	return slices.ContainsFunc(s, func(one labels.Selector) bool { return one.Matches(labels.Set(set)) })
}

// String implements ipam.Selector.
func (s selector) String() string { return strings.Join(s.texts(), " or ") }

func (s selector) texts() []string {
	texts := make([]string, 0, len(s))
	for _, one := range s {
		texts = append(texts, one.String())
	}
	return texts
}

// mayMeet reports whether two lists of selectors surely have nodes in common: one is nil and
// picks all, or they have a selector in common. Whether others do depends on the nodes.
func mayMeet(a, b ipam.Selector) bool {
	x, limited := a.(selector)
	y, alsoLimited := b.(selector)
	return !limited || !alsoLimited ||
		slices.ContainsFunc(x.texts(), func(text string) bool { return slices.Contains(y.texts(), text) })
}

var _ ipam.Selector = selector{}

// operators are those of metav1.LabelSelectorRequirement.
var operators = map[string]selection.Operator{
	"In":           selection.In,
	"NotIn":        selection.NotIn,
	"Exists":       selection.Exists,
	"DoesNotExist": selection.DoesNotExist,
}

// selectorOf checks a list of label selectors. It is nil where they ask for nothing.
func selectorOf(s spot, shapes []labelSelector) ipam.Selector {
	var out selector
	for i, shape := range shapes {
		item := s.item(i)
		switch one := shape.readSelector(item); {
		case one != nil:
			out = append(out, one)
		case len(shapes) > 1 && item.given() && !item.hasProblems(item.path):
			item.fail("remove it, or remove the others", "an empty selector matches everything, so the others have no effect")
		}
	}
	if len(out) == 0 {
		return nil
	}
	return out
}

// readSelector builds the requirements as metav1.LabelSelectorAsSelector does, which names no
// position. An empty selector is nil: it asks for nothing.
func (l labelSelector) readSelector(s spot) labels.Selector {
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
		if at.given() && !at.hasProblems(at.path) {
			add(at, at.node(), e.Key, operators[e.Operator], e.Values)
		}
	}
	if len(requirements) == 0 {
		return nil
	}
	return labels.NewSelector().Add(requirements...)
}
