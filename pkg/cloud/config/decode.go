package config

import (
	"fmt"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"

	"gopkg.in/yaml.v3"
)

// decoder fills the types of shape.go from the nodes of a file, and notes where each value stands.
// The decoder of yaml.v3 reports lines without columns and paths, and does not suggest keys.
type decoder struct {
	report *report
	index  index
}

// nodeDecoder is a type with a form of its own.
type nodeDecoder interface {
	// decodeNode reports whether the value could be read.
	decodeNode(d *decoder, n *yaml.Node, path string) bool
}

// defaulter is a type with defaults that are not zero. They are set before decoding.
type defaulter interface{ setDefaults() }

func setDefaults(v any) {
	if with, ok := v.(defaulter); ok {
		with.setDefaults()
	}
}

// refuseAliases reports anchors and aliases anywhere below n. They would let a short file
// stand for a huge one, and an error in an anchored value would have two positions.
func (d *decoder) refuseAliases(n *yaml.Node) {
	if n.Kind == yaml.AliasNode || n.Anchor != "" {
		d.report.fail(n, "", "write the value out", "anchors and aliases are not allowed")
	}
	for _, child := range n.Content {
		d.refuseAliases(child)
	}
}

// decodeNode reads n into v, which can be set, and puts it into the index if that is possible.
func (d *decoder) decodeNode(at place, path string, v reflect.Value) {
	setDefaults(v.Addr().Interface())
	if d.decodeValue(at.value, path, v) {
		d.index[path] = at
	}
}

// decodeValue reads n into v. It reports whether n is of v's kind, whatever is wrong deeper inside.
func (d *decoder) decodeValue(n *yaml.Node, path string, v reflect.Value) bool {
	if own, ok := v.Addr().Interface().(nodeDecoder); ok {
		return own.decodeNode(d, n, path)
	}
	if duration, ok := v.Addr().Interface().(*time.Duration); ok {
		return d.decodeDuration(n, path, duration)
	}
	switch v.Kind() {
	case reflect.Pointer:
		inner := reflect.New(v.Type().Elem())
		setDefaults(inner.Interface())
		if !d.decodeValue(n, path, inner.Elem()) {
			return false
		}
		v.Set(inner)
		return true
	case reflect.Struct:
		return d.decodeMapping(n, path, v)
	case reflect.Map:
		return d.decodeTexts(n, path, v)
	case reflect.Slice:
		return d.decodeList(n, path, v)
	case reflect.Bool:
		return d.decodeScalar(n, path, "!!bool", "true or false", v)
	case reflect.Int:
		return d.decodeScalar(n, path, "!!int", "a whole number", v)
	default:
		return d.decodeText(n, path, v)
	}
}

// decodeMapping reads a mapping into a struct. It refuses unknown keys, repeated keys, and missing ones
// that are needed. A key without a value counts as not given.
func (d *decoder) decodeMapping(n *yaml.Node, path string, v reflect.Value) bool {
	if !d.expectKind(n, path, yaml.MappingNode) {
		return false
	}
	fields := fieldsOf(v.Type())
	seen := map[string]*yaml.Node{}
	d.eachKey(n, path, seen, func(key, value *yaml.Node, at string) {
		field, ok := fields.fieldNamed(key.Value)
		switch {
		case !ok:
			d.unknownKey(key, at, fields)
		case isNull(value):
			delete(seen, key.Value)
		default:
			d.decodeNode(place{value, key}, at, v.Field(field.number))
		}
	})
	for _, f := range fields {
		if f.needed && seen[f.key] == nil {
			d.report.fail(n, joinPath(path, f.key), missing(f.key, seen), "is required")
		}
	}
	return true
}

// missing returns what to write for a key that is required, where that is not plain.
func missing(key string, seen map[string]*yaml.Node) string {
	switch {
	case key == "apiVersion":
		return "write apiVersion: " + APIVersion
	case key == "kind":
		return "write kind: " + Kind
	case key == "address" && seen["interface"] != nil:
		return unnumbered
	}
	return ""
}

// eachKey calls do for every key of the mapping n that is text and comes for the first
// time, and records them in seen.
func (d *decoder) eachKey(n *yaml.Node, path string, seen map[string]*yaml.Node, do func(key, value *yaml.Node, at string)) {
	for i := 0; i+1 < len(n.Content); i += 2 {
		key, value := n.Content[i], n.Content[i+1]
		if key.Kind != yaml.ScalarNode {
			d.report.fail(key, path, "", "a key must be a word")
			continue
		}
		at := joinPath(path, key.Value)
		if first := seen[key.Value]; first != nil {
			d.report.fail(key, at, "remove one of the two", "given twice, first at %d:%d", first.Line, first.Column)
			continue
		}
		seen[key.Value] = key
		do(key, value, at)
	}
}

// decodeList reads a sequence into a slice. An entry without a list around it is read too, so that its
// other problems are reported.
func (d *decoder) decodeList(n *yaml.Node, path string, v reflect.Value) bool {
	element := v.Type().Elem()
	add := func(n *yaml.Node, i int) {
		item := reflect.New(element).Elem()
		d.decodeNode(place{value: n}, path+"["+strconv.Itoa(i)+"]", item)
		v.Set(reflect.Append(v, item))
	}
	if example := examples[path[strings.LastIndexByte(path, '.')+1:]]; n.Kind != yaml.SequenceNode && example != "" {
		d.report.fail(n, path, "write "+example, "want a list, got %s", describeNode(n))
		if n.Kind == kindOf(element) {
			add(n, 0)
		}
		return false
	}
	if !d.expectKind(n, path, yaml.SequenceNode) {
		return false
	}
	for i, item := range n.Content {
		add(item, i)
	}
	return true
}

// kindOf returns how values of a type are written.
func kindOf(t reflect.Type) yaml.Kind {
	if t.Kind() == reflect.Struct {
		return yaml.MappingNode
	}
	return yaml.ScalarNode
}

// decodeTexts reads a mapping of texts.
func (d *decoder) decodeTexts(n *yaml.Node, path string, v reflect.Value) bool {
	if !d.expectKind(n, path, yaml.MappingNode) {
		return false
	}
	read := map[string]string{}
	d.eachKey(n, path, map[string]*yaml.Node{}, func(key, value *yaml.Node, at string) {
		var text string
		if d.decodeText(value, at, reflect.ValueOf(&text).Elem()) {
			read[key.Value] = text
			d.index[at] = place{value, key}
		}
	})
	v.Set(reflect.ValueOf(read))
	return true
}

// decodeText reads a string. Numbers and booleans are refused, not converted: "1e3" and "no"
// mean different things to different readers of YAML.
func (d *decoder) decodeText(n *yaml.Node, path string, v reflect.Value) bool {
	if !d.expectKind(n, path, yaml.ScalarNode) {
		return false
	}
	if n.ShortTag() != "!!str" {
		d.report.fail(n, path, fmt.Sprintf("write %q", n.Value), "want a string, got %s", describeNode(n))
		return false
	}
	v.SetString(n.Value)
	return true
}

func (d *decoder) decodeScalar(n *yaml.Node, path, tag, want string, v reflect.Value) bool {
	if !d.expectKind(n, path, yaml.ScalarNode) {
		return false
	}
	if n.ShortTag() != tag || n.Decode(v.Addr().Interface()) != nil {
		cure := ""
		if strings.HasSuffix(path, "ASN") {
			cure = asnCure(n.Value)
		}
		d.report.fail(n, path, cure, "want %s, got %s", want, describeNode(n))
		return false
	}
	return true
}

func (d *decoder) decodeDuration(n *yaml.Node, path string, v *time.Duration) bool {
	if !d.expectKind(n, path, yaml.ScalarNode) {
		return false
	}
	read, err := time.ParseDuration(n.Value)
	switch {
	case err != nil:
		d.report.fail(n, path, `write a number with a unit, like "10m" or "1h30m"`, "%q is not a duration", n.Value)
	case read < 0:
		d.report.fail(n, path, "", "%s is negative", read)
	default:
		*v = read
		return true
	}
	return false
}

// expectKind reports a node of another kind than want.
func (d *decoder) expectKind(n *yaml.Node, path string, want yaml.Kind) bool {
	if n.Kind == want {
		return true
	}
	names := map[yaml.Kind]string{yaml.MappingNode: "a mapping (key: value)", yaml.SequenceNode: "a list", yaml.ScalarNode: "a single value"}
	cure := ""
	switch {
	case want == yaml.SequenceNode && n.Kind == yaml.ScalarNode && n.ShortTag() == "!!str":
		cure = "write [" + strings.Join(append(commaList(n.Value), n.Value)[:max(1, len(commaList(n.Value)))], ", ") + "]"
	case want == yaml.ScalarNode && n.Kind == yaml.SequenceNode:
		cure = "write it without brackets"
	}
	d.report.fail(n, path, cure, "want %s, got %s", names[want], describeNode(n))
	return false
}

// field is a field of a struct as the file has it.
type field struct {
	key    string
	number int
	needed bool
}

type fields []field

func fieldsOf(t reflect.Type) fields {
	var all fields
	for i := range t.NumField() {
		tag := t.Field(i).Tag
		all = append(all, field{tag.Get("yaml"), i, tag.Get("needed") != ""})
	}
	return all
}

func (f fields) fieldNamed(key string) (field, bool) {
	i := slices.IndexFunc(f, func(x field) bool { return x.key == key })
	if i < 0 {
		return field{}, false
	}
	return f[i], true
}

// describeNode names what n is, for errors.
func describeNode(n *yaml.Node) string {
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
