package cloudconfig

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"gopkg.in/yaml.v3"
)

// walker goes through the nodes of a file, turns them into values and collects what is
// wrong. Its readers return the zero value after a problem, so that the walk goes on.
type walker struct {
	problems []Problem
	warnings []Problem
	// entries are the valid address ranges of all pools, for the checks across pools.
	entries []entry
	// badAddress says that an address of a pool could not be read, which leaves it open
	// what the pools contain.
	badAddress bool
	// bgp is read before the pools, which refer to it.
	bgp BGP
}

// reader reads the value of a key; path leads to it.
type reader func(value *yaml.Node, path string)

func (w *walker) fail(n *yaml.Node, path, cure, format string, args ...any) {
	w.problems = append(w.problems, Problem{n.Line, n.Column, path, fmt.Sprintf(format, args...), cure})
}

func (w *walker) warn(n *yaml.Node, path, cure, format string, args ...any) {
	w.warnings = append(w.warnings, Problem{n.Line, n.Column, path, fmt.Sprintf(format, args...), cure})
}

// refuseAliases reports anchors and aliases anywhere below n. They would let a short file
// stand for a huge one, and an error in an anchored value would have two positions.
func (w *walker) refuseAliases(n *yaml.Node) {
	if n.Kind == yaml.AliasNode || n.Anchor != "" {
		w.fail(n, "", "write the value out", "anchors and aliases are not allowed")
	}
	for _, child := range n.Content {
		w.refuseAliases(child)
	}
}

// object reads a mapping with the given keys, reporting those it does not know, those
// that come twice, and the required ones that are not there. A key without a value is a
// key not given.
func (w *walker) object(n *yaml.Node, path string, keys map[string]reader, required ...string) {
	if !w.expect(n, path, yaml.MappingNode) {
		return
	}
	seen := map[string]*yaml.Node{}
	w.eachKey(n, path, seen, func(key, value *yaml.Node, at string) {
		read, ok := keys[key.Value]
		switch {
		case !ok:
			w.unknown(key, at, keys)
		case isNull(value):
			delete(seen, key.Value)
		default:
			read(value, at)
		}
	})
	for _, key := range required {
		if seen[key] == nil {
			w.fail(n, join(path, key), "", "is required")
		}
	}
}

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

// unknown reports a key that is none of keys.
func (w *walker) unknown(key *yaml.Node, path string, keys map[string]reader) {
	if now, ok := replaced[key.Value]; ok && keys[now] != nil {
		w.fail(key, path, "write "+examples[now], "has been replaced by %s", now)
		return
	}
	w.fail(key, path, suggest(key.Value, slices.Sorted(maps.Keys(keys))), "unknown key")
}

// eachKey calls do for every key of the mapping n that is text and comes for the first
// time, and records them in seen.
func (w *walker) eachKey(n *yaml.Node, path string, seen map[string]*yaml.Node, do func(key, value *yaml.Node, at string)) {
	for i := 0; i+1 < len(n.Content); i += 2 {
		key, value := n.Content[i], n.Content[i+1]
		if key.Kind != yaml.ScalarNode {
			w.fail(key, path, "", "a key must be a word")
			continue
		}
		at := join(path, key.Value)
		if first := seen[key.Value]; first != nil {
			w.fail(key, at, "remove one of the two", "given twice, first at %d:%d", first.Line, first.Column)
			continue
		}
		seen[key.Value] = key
		do(key, value, at)
	}
}

// list calls read for every item of a sequence.
func (w *walker) list(n *yaml.Node, path string, read reader) {
	if !w.expect(n, path, yaml.SequenceNode) {
		return
	}
	for i, item := range n.Content {
		read(item, path+"["+strconv.Itoa(i)+"]")
	}
}

// one reads a list of entries of that kind, of which this version takes no more than one.
// An entry without a list around it is read too, so that its other problems are reported.
func (w *walker) one(n *yaml.Node, path string, kind yaml.Kind, read reader) {
	if n.Kind != yaml.SequenceNode {
		w.fail(n, path, "write "+examples[path[strings.LastIndexByte(path, '.')+1:]], "want a list, got %s", describe(n))
		if n.Kind == kind {
			read(n, path)
		}
		return
	}
	w.list(n, path, read)
	if len(n.Content) > 1 {
		w.fail(n.Content[1], path+"[1]", "leave only one", "a second entry is not supported by this version yet")
	}
}

// text reads a string. Numbers and booleans are refused, not converted: "1e3" and "no"
// mean different things to different readers of YAML.
func (w *walker) text(n *yaml.Node, path string) (string, bool) {
	if !w.expect(n, path, yaml.ScalarNode) {
		return "", false
	}
	if tag := n.ShortTag(); tag != "!!str" {
		w.fail(n, path, fmt.Sprintf("write %q", n.Value), "want a string, got %s", describe(n))
		return "", false
	}
	return n.Value, true
}

func (w *walker) boolean(n *yaml.Node, path string) bool {
	if !w.expect(n, path, yaml.ScalarNode) {
		return false
	}
	var b bool
	if n.ShortTag() != "!!bool" || n.Decode(&b) != nil {
		w.fail(n, path, "", "want true or false, got %s", describe(n))
	}
	return b
}

func (w *walker) integer(n *yaml.Node, path string, least, most int) int {
	if !w.expect(n, path, yaml.ScalarNode) {
		return 0
	}
	var i int
	if n.ShortTag() != "!!int" || n.Decode(&i) != nil {
		w.fail(n, path, "", "want a whole number, got %s", describe(n))
		return 0
	}
	if i < least || i > most {
		w.fail(n, path, "", "%d is not between %d and %d", i, least, most)
		return 0
	}
	return i
}

func (w *walker) duration(n *yaml.Node, path string) time.Duration {
	if !w.expect(n, path, yaml.ScalarNode) {
		return 0
	}
	d, err := time.ParseDuration(n.Value)
	switch {
	case err != nil:
		w.fail(n, path, `write a number with a unit, like "10m" or "1h30m"`, "%q is not a duration", n.Value)
	case d < 0:
		w.fail(n, path, "", "%s is negative", d)
	default:
		return d
	}
	return 0
}

// durationBetween reads a duration that has bounds.
func (w *walker) durationBetween(n *yaml.Node, path string, least, most time.Duration) time.Duration {
	before := len(w.problems)
	d := w.duration(n, path)
	if len(w.problems) == before && (d < least || d > most) {
		w.fail(n, path, "", "%s is not between %s and %s", d, least, most)
	}
	return d
}

// expect reports a node of another kind than want.
func (w *walker) expect(n *yaml.Node, path string, want yaml.Kind) bool {
	if n.Kind == want {
		return true
	}
	names := map[yaml.Kind]string{yaml.MappingNode: "a mapping (key: value)", yaml.SequenceNode: "a list", yaml.ScalarNode: "a single value"}
	w.fail(n, path, "", "want %s, got %s", names[want], describe(n))
	return false
}

// describe names what n is, for errors.
func describe(n *yaml.Node) string {
	switch n.Kind {
	case yaml.MappingNode:
		return "a mapping"
	case yaml.SequenceNode:
		return "a list"
	}
	switch tag := n.ShortTag(); tag {
	case "!!null":
		return "nothing"
	case "!!str":
		return fmt.Sprintf("the string %q", n.Value)
	case "!!int", "!!float":
		return "the number " + n.Value
	case "!!bool":
		return "the boolean " + n.Value
	default:
		return fmt.Sprintf("%q of type %s", n.Value, strings.TrimPrefix(tag, "!!"))
	}
}

func isNull(n *yaml.Node) bool { return n.Kind == yaml.ScalarNode && n.ShortTag() == "!!null" }

func join(path, key string) string {
	if path == "" {
		return key
	}
	return path + "." + key
}
