package migrate

import (
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"gopkg.in/yaml.v3"
)

// mapping reads one mapping of the source. It knows the keys that were asked for: finish reports
// all others. A mapping that is not there reads as empty.
type mapping struct {
	r     *report
	place Place
	node  *yaml.Node
	// offset is added to the lines of the nodes; fixedLine replaces them if it is not 0.
	offset, fixedLine int
	keys              map[string]*yaml.Node
	asked             map[string]bool
}

// newMapping returns the mapping n, and reports a value of another kind. offset is added to its lines.
func newMapping(r *report, n *yaml.Node, place Place, offset int) mapping {
	m := mapping{r: r, place: place, offset: offset}
	return m.open(n, "")
}

// open returns the value n at path below m. It reports a value that is no mapping.
func (m mapping) open(n *yaml.Node, path string) mapping {
	below := m
	below.node, below.place = n, m.placeOf(path, n)
	below.keys, below.asked = map[string]*yaml.Node{}, map[string]bool{}
	if n.Kind != yaml.MappingNode {
		m.r.fail(below.place, "", "want a mapping (key: value), got %s", describe(n))
		return below
	}
	for i := 0; i+1 < len(n.Content); i += 2 {
		key, value := n.Content[i], n.Content[i+1]
		switch {
		case key.Kind != yaml.ScalarNode:
			m.r.fail(below.placeOf("", key), "", "a key must be a word")
		case below.keys[key.Value] != nil:
			m.r.fail(below.placeOf(key.Value, key), "remove one of the two", "is given twice")
		default:
			below.keys[key.Value] = value
		}
	}
	return below
}

func (m mapping) line(n *yaml.Node) int {
	switch {
	case m.r.generated:
		return 0
	case m.fixedLine > 0:
		return m.fixedLine
	default:
		return n.Line + m.offset
	}
}

// placeOf returns the place of the value n below m at path.
func (m mapping) placeOf(path string, n *yaml.Node) Place {
	place := m.place
	place.Path = joinPath(place.Path, path)
	place.Line = m.line(n)
	return place
}

func joinPath(path, key string) string {
	if path == "" || key == "" {
		return path + key
	}
	return path + "." + key
}

// value returns the value of a key; nil if there is none. An empty value counts as none.
func (m mapping) value(key string) *yaml.Node {
	if m.asked == nil {
		return nil
	}
	m.asked[key] = true
	if n := m.keys[key]; n != nil && !isNull(n) {
		return n
	}
	return nil
}

// has reports whether the key has a value.
func (m mapping) has(key string) bool { return m.value(key) != nil }

// key returns the place of the value of a key, or of m if there is none.
func (m mapping) key(key string) Place {
	place := m.place
	place.Path = joinPath(place.Path, key)
	if n := m.keys[key]; n != nil {
		place.Line = m.line(n)
	}
	return place
}

func (m mapping) fail(key, cure, format string, args ...any) {
	m.r.fail(m.key(key), cure, format, args...)
}

// lose records that a key is not carried over.
func (m mapping) lose(key, format string, args ...any) { m.r.lose(m.key(key), format, args...) }

// loseIf records that the key is not carried over, if it is there and says more than false, 0 or "".
func (m mapping) loseIf(key, format string, args ...any) {
	n := m.value(key)
	if n == nil || n.Kind == yaml.ScalarNode && slices.Contains([]string{"", "0", "false", "False", "no"}, n.Value) || n.Kind != yaml.ScalarNode && len(n.Content) == 0 {
		return
	}
	m.lose(key, format, args...)
}

// ignore marks keys as known that say nothing about a configuration.
func (m mapping) ignore(keys ...string) {
	for _, key := range keys {
		m.value(key)
	}
}

// finish reports the keys that were not asked for.
func (m mapping) finish() {
	if m.node == nil || m.node.Kind != yaml.MappingNode {
		return
	}
	var known []string
	for key := range m.asked {
		known = append(known, key)
	}
	slices.Sort(known)
	for i := 0; i+1 < len(m.node.Content); i += 2 {
		if key := m.node.Content[i]; !m.asked[key.Value] {
			m.r.fail(m.placeOf(key.Value, key), "known are "+strings.Join(known, ", "), "unknown key")
		}
	}
}

// text returns a text. Numbers and booleans count as what is written.
func (m mapping) text(key string) string {
	n := m.value(key)
	switch {
	case n == nil:
		return ""
	case n.Kind != yaml.ScalarNode:
		m.fail(key, "", "want a text, got %s", describe(n))
		return ""
	}
	return n.Value
}

// required returns a text that has to be there.
func (m mapping) required(key string) string {
	text := m.text(key)
	if text == "" && m.node != nil && !m.isTroubled(key) {
		m.fail(key, "", "is required")
	}
	return text
}

// isTroubled reports whether a problem of the key's value was reported.
func (m mapping) isTroubled(key string) bool {
	place := m.key(key)
	return slices.ContainsFunc(m.r.problems, func(p Problem) bool { return p.Place == place })
}

// flag returns a boolean, and whether it is there.
func (m mapping) flag(key string) (value, given bool) {
	n := m.value(key)
	if n == nil {
		return false, false
	}
	switch strings.ToLower(n.Value) {
	case "true", "yes", "on", "y":
		return true, true
	case "false", "no", "off", "n":
		return false, true
	}
	m.fail(key, "", "want true or false, got %s", describe(n))
	return false, true
}

// number returns a whole number between 0 and most, and whether it is there.
func (m mapping) number(key string, most int64) (value int64, given bool) {
	n := m.value(key)
	if n == nil {
		return 0, false
	}
	value, err := strconv.ParseInt(n.Value, 10, 64)
	if n.Kind != yaml.ScalarNode || err != nil {
		m.fail(key, "", "want a whole number, got %s", describe(n))
		return 0, true
	}
	if value < 0 || value > most {
		m.fail(key, "", "%d is not between 0 and %d", value, most)
		return 0, true
	}
	return value, true
}

// asn returns the number of an autonomous system; 0 if there is none.
func (m mapping) asn(key string) int64 {
	value, _ := m.number(key, math.MaxUint32)
	return value
}

// duration returns a duration like 90s, and whether it is there.
func (m mapping) duration(key string) (value time.Duration, given bool) {
	n := m.value(key)
	if n == nil {
		return 0, false
	}
	value, err := time.ParseDuration(n.Value)
	if err != nil || value < 0 {
		m.fail(key, `write a number with a unit, like "90s"`, "want a duration, got %s", describe(n))
	}
	return value, true
}

// seconds returns a duration that is written as a number of seconds.
func (m mapping) seconds(key string) (value time.Duration, given bool) {
	number, given := m.number(key, math.MaxInt32)
	return time.Duration(number) * time.Second, given
}

// list returns the entries of a list.
func (m mapping) list(key string) []*yaml.Node {
	n := m.value(key)
	if n == nil {
		return nil
	}
	if n.Kind != yaml.SequenceNode {
		m.fail(key, "", "want a list, got %s", describe(n))
		return nil
	}
	return n.Content
}

// item returns the path of an entry of a list.
func item(key string, i int) string { return key + "[" + strconv.Itoa(i) + "]" }

// texts returns a list of texts, each with its place.
func (m mapping) texts(key string) []placedText {
	var out []placedText
	for i, n := range m.list(key) {
		place := m.placeOf(item(key, i), n)
		if n.Kind != yaml.ScalarNode || isNull(n) {
			m.r.fail(place, "", "want a text, got %s", describe(n))
			continue
		}
		out = append(out, placedText{n.Value, place})
	}
	return out
}

// placedText is a text with its place.
type placedText struct {
	text  string
	place Place
}

func plain(texts []placedText) []string {
	var out []string
	for _, t := range texts {
		out = append(out, t.text)
	}
	return out
}

// child returns the mapping below a key, empty if there is none.
func (m mapping) child(key string) mapping {
	n := m.value(key)
	if n == nil {
		return mapping{r: m.r, place: m.key(key)}
	}
	return m.open(n, key)
}

// children returns the mappings of a list.
func (m mapping) children(key string) []mapping {
	var out []mapping
	for i, n := range m.list(key) {
		out = append(out, m.open(n, item(key, i)))
	}
	return out
}

// textMap returns a mapping of texts.
func (m mapping) textMap(key string) map[string]string {
	child := m.child(key)
	out := map[string]string{}
	for _, name := range sortedKeys(child.keys) {
		n := child.keys[name]
		if n.Kind != yaml.ScalarNode {
			child.fail(name, "", "want a text, got %s", describe(n))
			continue
		}
		if isNull(n) {
			out[name] = ""
			continue
		}
		out[name] = n.Value
	}
	return out
}

// describe names what n is, for errors. It does not quote texts, which may be passwords.
func describe(n *yaml.Node) string {
	switch n.Kind {
	case yaml.MappingNode:
		return "a mapping"
	case yaml.SequenceNode:
		return "a list"
	case yaml.ScalarNode:
		if isNull(n) {
			return "nothing"
		}
		if n.ShortTag() == "!!int" || n.ShortTag() == "!!float" {
			return "the number " + n.Value
		}
		return "another text"
	}
	return "nothing"
}
