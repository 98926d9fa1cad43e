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

// selectors reads a list of label selectors. It is nil where they ask for nothing.
func (w *walker) selectors(n *yaml.Node, path string) ipam.Selector {
	var s ipam.Selector
	w.one(n, path, yaml.MappingNode, func(v *yaml.Node, at string) { s = w.selector(v, at) })
	return s
}

// selector reads a Kubernetes label selector, with matchLabels and matchExpressions. It
// builds the requirements itself, as metav1.LabelSelectorAsSelector does, because that
// names no position. An empty selector is nil: it asks for nothing.
func (w *walker) selector(n *yaml.Node, path string) ipam.Selector {
	var requirements []labels.Requirement
	add := func(v *yaml.Node, at, key string, op selection.Operator, values []string) {
		r, err := labels.NewRequirement(key, op, values)
		if err != nil {
			w.fail(v, at, "", "%s", err)
			return
		}
		requirements = append(requirements, *r)
	}
	w.object(n, path, map[string]reader{
		"matchLabels": func(v *yaml.Node, at string) {
			if !w.expect(v, at, yaml.MappingNode) {
				return
			}
			w.eachKey(v, at, map[string]*yaml.Node{}, func(key, value *yaml.Node, at string) {
				if s, ok := w.text(value, at); ok {
					add(key, at, key.Value, selection.Equals, []string{s})
				}
			})
		},
		"matchExpressions": func(v *yaml.Node, at string) {
			w.list(v, at, func(v *yaml.Node, at string) {
				if key, op, values, ok := w.expression(v, at); ok {
					add(v, at, key, op, values)
				}
			})
		},
	})
	if len(requirements) == 0 {
		return nil
	}
	return selector{labels.NewSelector().Add(requirements...)}
}

// expression reads one item of matchExpressions; ok says that it had no problem.
func (w *walker) expression(n *yaml.Node, path string) (key string, op selection.Operator, values []string, ok bool) {
	problems := len(w.problems)
	w.object(n, path, map[string]reader{
		"key": func(v *yaml.Node, at string) { key, _ = w.text(v, at) },
		"operator": func(v *yaml.Node, at string) {
			s, isText := w.text(v, at)
			if op = operators[s]; op == "" && isText {
				w.fail(v, at, "write In, NotIn, Exists or DoesNotExist", "%q is not an operator", s)
			}
		},
		"values": func(v *yaml.Node, at string) {
			w.list(v, at, func(v *yaml.Node, at string) {
				s, _ := w.text(v, at)
				values = append(values, s)
			})
		},
	}, "key", "operator")
	return key, op, values, len(w.problems) == problems
}
