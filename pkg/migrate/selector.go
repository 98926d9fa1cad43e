package migrate

import (
	"maps"
	"reflect"
	"slices"
)

// selectorKeys are the keys of a selector: products spell them in two ways.
type selectorKeys struct{ labels, expressions string }

var (
	camelKeys  = selectorKeys{"matchLabels", "matchExpressions"}
	dashedKeys = selectorKeys{"match-labels", "match-expressions"}
)

// selector reads a label selector.
func (m mapping) selector(keys selectorKeys) outSelector {
	s := outSelector{MatchLabels: m.textMap(keys.labels)}
	if len(s.MatchLabels) == 0 {
		s.MatchLabels = nil
	}
	for _, e := range m.children(keys.expressions) {
		out := outExpression{Key: e.required("key"), Operator: e.required("operator"), Values: plain(e.texts("values"))}
		exists := out.Operator == "Exists" || out.Operator == "DoesNotExist"
		switch {
		case e.isTroubled("operator"):
		case !exists && out.Operator != "In" && out.Operator != "NotIn":
			e.fail("operator", "write In, NotIn, Exists or DoesNotExist", "%q is not an operator", out.Operator)
		case exists != (len(out.Values) == 0):
			e.fail("values", "", "do not go with the operator %s", out.Operator)
		}
		e.finish()
		s.MatchExpressions = append(s.MatchExpressions, out)
	}
	m.finish()
	return s
}

// selectors reads a list of label selectors, of which one has to match.
func (m mapping) selectors(key string, keys selectorKeys) []outSelector {
	var out []outSelector
	for _, child := range m.children(key) {
		out = append(out, child.selector(keys))
	}
	return out
}

// isEmpty reports whether s picks everything.
func (s outSelector) isEmpty() bool { return len(s.MatchLabels) == 0 && len(s.MatchExpressions) == 0 }

// matches reports whether s picks an object with the labels, as Kubernetes does.
func (s outSelector) matches(labels map[string]string) bool {
	for key, value := range s.MatchLabels {
		if got, ok := labels[key]; !ok || got != value {
			return false
		}
	}
	for _, e := range s.MatchExpressions {
		value, ok := labels[e.Key]
		var holds bool
		switch e.Operator {
		case "In":
			holds = ok && slices.Contains(e.Values, value)
		case "NotIn":
			holds = !ok || !slices.Contains(e.Values, value)
		case "Exists":
			holds = ok
		default:
			holds = !ok
		}
		if !holds {
			return false
		}
	}
	return true
}

// implies reports whether all that s picks is surely picked by o: each of o's requirements is one
// of s.
func (s outSelector) implies(o outSelector) bool {
	for key, value := range o.MatchLabels {
		if got, ok := s.MatchLabels[key]; !ok || got != value {
			return false
		}
	}
	for _, e := range o.MatchExpressions {
		if !slices.ContainsFunc(s.MatchExpressions, func(x outExpression) bool { return reflect.DeepEqual(e, x) }) {
			return false
		}
	}
	return true
}

// both returns the selector of what s and o pick.
func (s outSelector) both(o outSelector) (outSelector, bool) {
	out := outSelector{MatchLabels: maps.Clone(s.MatchLabels), MatchExpressions: slices.Concat(s.MatchExpressions, o.MatchExpressions)}
	for key, value := range o.MatchLabels {
		if before, ok := out.MatchLabels[key]; ok && before != value {
			return outSelector{}, false
		}
		if out.MatchLabels == nil {
			out.MatchLabels = map[string]string{}
		}
		out.MatchLabels[key] = value
	}
	return out, true
}

// single returns the key and the values if s asks for one of some values of one key.
func (s outSelector) single() (key string, values []string, ok bool) {
	switch {
	case len(s.MatchLabels) == 1 && len(s.MatchExpressions) == 0:
		for key, value := range s.MatchLabels {
			return key, []string{value}, true
		}
	case len(s.MatchLabels) == 0 && len(s.MatchExpressions) == 1 && s.MatchExpressions[0].Operator == "In":
		return s.MatchExpressions[0].Key, s.MatchExpressions[0].Values, true
	}
	return "", nil, false
}

// fold writes selectors, of which one has to match, with as few as possible. An empty result
// picks everything.
func fold(selectors []outSelector) []outSelector {
	var out []outSelector
	for _, s := range selectors {
		if s.isEmpty() {
			return nil
		}
		key, values, isSingle := s.single()
		i := slices.IndexFunc(out, func(o outSelector) bool {
			if reflect.DeepEqual(o, s) {
				return true
			}
			other, _, otherSingle := o.single()
			return isSingle && otherSingle && key == other
		})
		if i < 0 {
			out = append(out, s)
			continue
		}
		if reflect.DeepEqual(out[i], s) {
			continue
		}
		_, before, _ := out[i].single()
		merged := slices.Clone(before)
		for _, v := range values {
			if !slices.Contains(merged, v) {
				merged = append(merged, v)
			}
		}
		out[i] = outSelector{MatchExpressions: []outExpression{{Key: key, Operator: "In", Values: merged}}}
	}
	return out
}
