package cloudconfig

import (
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"gopkg.in/yaml.v3"

	"baremetal.cloud/ccm/pkg/announcer/announcement"
)

// communities are communities of both kinds.
type communities struct {
	standard []announcement.Community
	large    []announcement.LargeCommunity
}

// wellKnown are the communities that have names (IANA's registry "BGP Well-known Communities").
var wellKnown = map[string]announcement.Community{
	"graceful-shutdown":   0xffff0000, // RFC 8326
	"accept-own":          0xffff0001, // RFC 7611
	"blackhole":           0xffff029a, // RFC 7999
	"no-export":           0xffffff01, // RFC 1997
	"no-advertise":        0xffffff02, // RFC 1997
	"no-export-subconfed": 0xffffff03, // RFC 1997
	"no-peer":             0xffffff04, // RFC 3765
}

// alias is what a name of a community may be; it cannot be mistaken for a number.
var alias = regexp.MustCompile(`^[a-zA-Z]([-._a-zA-Z0-9]{0,61}[a-zA-Z0-9])?$`)

// aliases reads names for communities.
func (w *walker) aliases(n *yaml.Node, path string) map[string]communities {
	out := map[string]communities{}
	if !w.expect(n, path, yaml.MappingNode) {
		return out
	}
	w.eachKey(n, path, map[string]*yaml.Node{}, func(key, value *yaml.Node, at string) {
		if !alias.MatchString(key.Value) {
			w.fail(key, at, "begin with a letter; letters, digits, '-', '_' and '.' may follow", "%q is no name for a community", key.Value)
			return
		}
		s, ok := w.text(value, at)
		if !ok {
			return
		}
		c, ok := number(s)
		if known, is := wellKnown[s]; is {
			c, ok = communities{standard: []announcement.Community{known}}, true
		}
		if !ok {
			w.fail(value, at, communityForms, "%q is no community", s)
			return
		}
		if known, is := wellKnown[key.Value]; is && (len(c.standard) != 1 || c.standard[0] != known) {
			w.fail(key, at, "use another name", "%s is the well-known community %s", key.Value, known)
			return
		}
		out[key.Value] = c
	})
	return out
}

const communityForms = `write 16-bit:16-bit like "65000:100", or a large one like "64512:1:2"`

// communities reads a list of communities: numbers, names of well-known ones and aliases.
func (w *walker) communityList(n *yaml.Node, path string) communities {
	var out communities
	w.list(n, path, func(v *yaml.Node, at string) {
		s, ok := w.text(v, at)
		if !ok {
			return
		}
		c, ok := w.community(s)
		if !ok {
			w.fail(v, at, w.communityCure(s), "%q is no community, and no name of one", s)
			return
		}
		if slices.ContainsFunc(c.standard, func(x announcement.Community) bool { return slices.Contains(out.standard, x) }) ||
			slices.ContainsFunc(c.large, func(x announcement.LargeCommunity) bool { return slices.Contains(out.large, x) }) {
			w.fail(v, at, "remove one of the two", "%q is listed twice", s)
			return
		}
		out.standard = append(out.standard, c.standard...)
		out.large = append(out.large, c.large...)
	})
	slices.Sort(out.standard)
	slices.SortFunc(out.large, announcement.LargeCommunity.Compare)
	return out
}

func (w *walker) community(s string) (communities, bool) {
	if c, ok := w.bgp.communities[s]; ok {
		return c, true
	}
	if c, ok := wellKnown[s]; ok {
		return communities{standard: []announcement.Community{c}}, true
	}
	return number(s)
}

// communityCure suggests a name, or the form of a number.
func (w *walker) communityCure(s string) string {
	if alias.MatchString(s) {
		names := slices.Concat(slices.Collect(maps.Keys(w.bgp.communities)), slices.Collect(maps.Keys(wellKnown)))
		slices.Sort(names)
		return suggest(s, slices.Compact(names)) + ", or name it in bgp.communities"
	}
	return communityForms
}

// number reads "65000:100" or "64512:1:2".
func number(s string) (communities, bool) {
	parts := strings.Split(s, ":")
	bits := 32
	if len(parts) == 2 {
		bits = 16
	}
	var n []uint32
	for _, part := range parts {
		i, err := strconv.ParseUint(part, 10, bits)
		if err != nil || part != strconv.FormatUint(i, 10) {
			return communities{}, false
		}
		n = append(n, uint32(i))
	}
	switch len(n) {
	case 2:
		return communities{standard: []announcement.Community{announcement.Community(n[0]<<16 | n[1])}}, true
	case 3:
		return communities{large: []announcement.LargeCommunity{{n[0], n[1], n[2]}}}, true
	}
	return communities{}, false
}
