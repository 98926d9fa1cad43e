package migrate

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"gopkg.in/yaml.v3"
)

// MaxSize is the largest source that is read, in bytes.
const MaxSize = 16 << 20

// object is one object of the Kubernetes API.
type object struct {
	apiVersion, kind, namespace, name string
	labels, annotations               map[string]string
	root                              mapping
}

// group returns the API group, "" for the core.
func (o *object) group() string {
	group, _, isGroup := strings.Cut(o.apiVersion, "/")
	if !isGroup {
		return ""
	}
	return group
}

// version returns the API version without the group.
func (o *object) version() string { return o.apiVersion[strings.LastIndexByte(o.apiVersion, '/')+1:] }

// spec returns the object's spec.
func (o *object) spec() mapping { return o.root.child("spec") }

// readObjects returns the objects of all documents. Lists are taken apart.
func readObjects(r *report, source Source) []*object {
	if len(source.Data) > MaxSize {
		r.fail(Place{}, "is this the right file?", "is larger than %d bytes", MaxSize)
		return nil
	}
	if line, what := findBinary(source.Data); what != "" {
		r.fail(Place{Line: line}, "is this the right file?", "%s", what)
		return nil
	}
	var objects []*object
	decoder := yaml.NewDecoder(bytes.NewReader(source.Data))
	for document := 1; ; document++ {
		var node yaml.Node
		if err := decoder.Decode(&node); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			failSyntax(r, err, document)
			return nil
		}
		place := Place{Document: document, Line: node.Line}
		if r.generated {
			place = Place{}
		}
		if refuseAliases(r, &node, place) {
			return nil
		}
		if root := node.Content[0]; !isNull(root) {
			objects = append(objects, objectsOf(r, newMapping(r, root, place, 0))...)
		}
	}
	if len(objects) == 0 && len(r.problems) == 0 {
		r.fail(Place{}, "give the objects of the configuration", "is empty")
	}
	return objects
}

// maxDepth bounds the nesting of Lists.
const maxDepth = 8

// objectsOf returns the object m, or those of the List m.
func objectsOf(r *report, m mapping) []*object { return objectsWithin(r, m, 0) }

func objectsWithin(r *report, m mapping, depth int) []*object {
	o := &object{apiVersion: m.text("apiVersion"), kind: m.text("kind"), root: m}
	if items, isList := m.keys["items"]; isList && strings.HasSuffix(o.kind, "List") && depth < maxDepth {
		var all []*object
		if items.Kind != yaml.SequenceNode {
			m.fail("items", "", "want a list")
			return nil
		}
		for i, n := range items.Content {
			all = append(all, objectsWithin(r, m.open(n, item("items", i)), depth+1)...)
		}
		return all
	}
	if o.kind != "" {
		metadata := m.child("metadata")
		o.name, o.namespace = metadata.text("name"), metadata.text("namespace")
		o.labels, o.annotations = metadata.textMap("labels"), metadata.textMap("annotations")
	}
	o.root.place.Object = o.title()
	o.root.place.Path = ""
	return []*object{o}
}

// title names the object in messages.
func (o *object) title() string {
	switch {
	case o.kind == "":
		return ""
	case o.namespace != "":
		return o.kind + " " + o.namespace + "/" + o.name
	default:
		return o.kind + " " + o.name
	}
}

// refuseAliases reports an anchor or an alias: with them a short text can stand for a huge one.
func refuseAliases(r *report, n *yaml.Node, place Place) bool {
	if n.Kind == yaml.AliasNode || n.Anchor != "" {
		place.Line = n.Line
		r.fail(place, "write the value out", "anchors and aliases are not read")
		return true
	}
	return slices.ContainsFunc(n.Content, func(child *yaml.Node) bool { return refuseAliases(r, child, place) })
}

// findBinary returns the first thing in data that no text has, and its line.
func findBinary(data []byte) (line int, what string) {
	line = 1
	for i := 0; i < len(data); {
		char, size := utf8.DecodeRune(data[i:])
		switch {
		case char == utf8.RuneError && size == 1:
			return line, fmt.Sprintf("byte %#02x is not UTF-8", data[i])
		case char == '\n':
			line++
		case (char < ' ' && char != '\t' && char != '\r') || char == 0x7f:
			return line, fmt.Sprintf("control character %#02x", char)
		}
		i += size
	}
	return 0, ""
}

// yamlLine finds the line in the library's message, which has it only as text.
var yamlLine = regexp.MustCompile(`^line (\d+): `)

func failSyntax(r *report, err error, document int) {
	message := strings.TrimPrefix(err.Error(), "yaml: ")
	place := Place{Document: document}
	if m := yamlLine.FindStringSubmatch(message); m != nil {
		place.Line, _ = strconv.Atoi(m[1]) // digits by the expression
		message = strings.TrimPrefix(message, m[0])
	}
	r.fail(place, "", "not YAML: %s", message)
}

func isNull(n *yaml.Node) bool { return n.Kind == yaml.ScalarNode && n.ShortTag() == "!!null" }

// parseText reads a YAML text that stands in the value n of an object, like a ConfigMap's. Its
// lines count as lines of the source if the text is written as a block.
func parseText(r *report, n *yaml.Node, place Place) (mapping, bool) {
	var inner yaml.Node
	offset := 0
	if n.Style&(yaml.LiteralStyle|yaml.FoldedStyle) != 0 {
		offset = n.Line
	}
	decoder := yaml.NewDecoder(strings.NewReader(n.Value))
	if err := decoder.Decode(&inner); err != nil {
		r.fail(place, "", "not YAML: %s", strings.TrimPrefix(err.Error(), "yaml: "))
		return mapping{}, false
	}
	if err := decoder.Decode(&yaml.Node{}); !errors.Is(err, io.EOF) {
		r.fail(place, "write everything into one", "has a second document")
		return mapping{}, false
	}
	if refuseAliases(r, &inner, place) {
		return mapping{}, false
	}
	base := mapping{r: r, place: place, offset: offset}
	if offset == 0 {
		base.fixedLine = place.Line
	}
	return base.open(inner.Content[0], ""), true
}
