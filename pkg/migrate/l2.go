package migrate

import (
	"reflect"
	"regexp"
	"regexp/syntax"
	"slices"
	"strings"
)

// announceL2 adds a way in which a pool is announced on layer 2. selectors are ORed.
func (p *pool) announceL2(iface string, selectors []outSelector, place Place) {
	p.ways = append(p.ways, placedL2{outL2{iface, selectors}, place})
}

// fitL2 returns the ways in which a pool is announced on layer 2 in the form that the cloud-config
// takes. Each node may answer as any of them says.
func (c *converter) fitL2(p *pool) []outL2 {
	var ways []placedL2
	for _, way := range p.ways {
		way.NodeSelectors = fold(way.NodeSelectors)
		if way.Interface == "" && len(way.NodeSelectors) == 0 {
			return []outL2{{}} // says all that others could
		}
		ways = joinWay(ways, way)
	}
	var out []outL2
	for i, way := range ways {
		if i > 0 {
			c.lose(way.place, "the pool %q is announced on layer 2 in %d ways that differ in nodes and interfaces; here there is one, and the first is kept: "+
				"give all the nodes one label, and the interfaces one name or expression", p.Name, len(ways))
			continue
		}
		out = append(out, outL2{way.Interface, way.NodeSelectors})
	}
	return out
}

// joinWay adds a way of announcement to others, and joins it with one that has the same interfaces
// or the same nodes.
func joinWay(ways []placedL2, way placedL2) []placedL2 {
	for i := range ways {
		with := &ways[i]
		switch {
		case with.Interface == way.Interface && (len(with.NodeSelectors) == 0 || len(way.NodeSelectors) == 0):
			with.NodeSelectors = nil
			return ways
		case with.Interface == way.Interface:
			with.NodeSelectors = fold(slices.Concat(with.NodeSelectors, way.NodeSelectors))
			return ways
		case reflect.DeepEqual(with.NodeSelectors, way.NodeSelectors):
			with.Interface = anyInterface(with.Interface, way.Interface)
			return ways
		}
	}
	return append(ways, way)
}

// anyInterface returns the expression for the interfaces of a or b.
func anyInterface(a, b string) string {
	switch {
	case a == b:
		return a
	case a == "" || b == "":
		return ""
	case strings.HasPrefix(a, "can_reach:") || strings.HasPrefix(b, "can_reach:"):
		return a
	}
	return "/" + interfaceExpression(a) + "|" + interfaceExpression(b) + "/"
}

// interfaceExpression returns the expression within slashes, or one for a name.
func interfaceExpression(iface string) string {
	if strings.HasPrefix(iface, "/") && strings.HasSuffix(iface, "/") && len(iface) > 2 {
		return iface[1 : len(iface)-1]
	}
	return regexp.QuoteMeta(iface)
}

// anyOf returns what selects the interfaces of any of some names; "" if there are none.
func anyOf(names []string) string {
	iface := ""
	for i, name := range names {
		if i == 0 {
			iface = name
			continue
		}
		iface = anyInterface(iface, name)
	}
	return iface
}

// wholeName turns an expression that is searched for in the name of an interface into one that has
// to match the whole name.
func wholeName(expression string) (string, error) {
	parsed, err := syntax.Parse(expression, syntax.Perl)
	if err != nil {
		return "", err
	}
	if parsed.Op == syntax.OpAlternate {
		return ".*(" + expression + ").*", nil
	}
	begins, ends := strings.HasPrefix(expression, "^"), strings.HasSuffix(expression, "$") && !strings.HasSuffix(expression, `\$`)
	inner := strings.TrimPrefix(expression, "^")
	if ends {
		inner = strings.TrimSuffix(inner, "$")
	}
	if strings.ContainsAny(inner, "^$") || strings.Contains(topLevel(inner), "|") {
		return ".*(" + expression + ").*", nil
	}
	if !begins && !strings.HasPrefix(inner, ".*") {
		inner = ".*" + inner
	}
	if !ends && !strings.HasSuffix(inner, ".*") {
		inner += ".*"
	}
	return inner, nil
}

// topLevel returns the expression without what stands in brackets.
func topLevel(expression string) string {
	var out strings.Builder
	depth, escaped := 0, false
	for _, r := range expression {
		switch {
		case escaped:
			escaped = false
			continue
		case r == '\\':
			escaped = true
			continue
		case r == '(' || r == '[':
			depth++
		case r == ')' || r == ']':
			depth--
		}
		if depth == 0 {
			out.WriteRune(r)
		}
	}
	return out.String()
}

// searchedInterfaces returns what selects the interfaces with a name in which one of the
// expressions is found.
func (c *converter) searchedInterfaces(expressions []placedText) string {
	var names []string
	for _, e := range expressions {
		whole, err := wholeName(e.text)
		if err != nil {
			c.fail(e.place, "", "%q is not a regular expression: %s", e.text, err)
			continue
		}
		compiled, err := regexp.Compile(whole)
		if err != nil { // what was cut off was part of something else
			whole = ".*(" + e.text + ").*"
		} else if text, complete := compiled.LiteralPrefix(); complete && text != "" {
			names = append(names, text)
			continue
		}
		names = append(names, "/"+whole+"/")
	}
	return anyOf(names)
}
