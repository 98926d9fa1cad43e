package config

import (
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"baremetal.cloud/ccm/pkg/announcer/plan"
)

// communities are communities of both kinds.
type communities struct {
	standard []plan.Community
	large    []plan.LargeCommunity
}

// wellKnown are the communities that have names (IANA's registry "BGP Well-known Communities").
var wellKnown = map[string]plan.Community{
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

// readAliases reads names for communities.
func readAliases(s spot, texts map[string]string) map[string]communities {
	if len(texts) == 0 {
		return nil
	}
	out := map[string]communities{}
	for name, text := range texts {
		at := s.key(name)
		if !alias.MatchString(name) {
			at.report.fail(at.keyNode(), at.path, "begin with a letter; letters, digits, '-', '_' and '.' may follow", "%q is no name for a community", name)
			continue
		}
		c, ok := readNumber(text)
		if known, is := wellKnown[text]; is {
			c, ok = communities{standard: []plan.Community{known}}, true
		}
		if !ok {
			at.fail(communityForms, "%q is no community", text)
			continue
		}
		if known, is := wellKnown[name]; is && (len(c.standard) != 1 || c.standard[0] != known) {
			at.report.fail(at.keyNode(), at.path, "use another name", "%s is the well-known community %s", name, known)
			continue
		}
		out[name] = c
	}
	return out
}

const communityForms = `write 16-bit:16-bit like "65000:100", or a large one like "64512:1:2"`

// readCommunities reads a list of communities: numbers, names of well-known ones and aliases.
func (b BGP) readCommunities(s spot, texts []string) communities {
	var out communities
	for i, text := range texts {
		item := s.item(i)
		if !item.given() {
			continue
		}
		c, ok := b.readCommunity(text)
		if !ok {
			item.fail(b.communityCure(text), "%q is no community, and no name of one", text)
			continue
		}
		if slices.ContainsFunc(c.standard, func(x plan.Community) bool { return slices.Contains(out.standard, x) }) ||
			slices.ContainsFunc(c.large, func(x plan.LargeCommunity) bool { return slices.Contains(out.large, x) }) {
			item.fail("remove one of the two", "%q is listed twice", text)
			continue
		}
		out.standard = append(out.standard, c.standard...)
		out.large = append(out.large, c.large...)
	}
	slices.Sort(out.standard)
	slices.SortFunc(out.large, plan.LargeCommunity.Compare)
	return out
}

func (b BGP) readCommunity(text string) (communities, bool) {
	if c, ok := b.communities[text]; ok {
		return c, true
	}
	if c, ok := wellKnown[text]; ok {
		return communities{standard: []plan.Community{c}}, true
	}
	return readNumber(text)
}

// communityCure suggests a name, or the form of a number.
func (b BGP) communityCure(text string) string {
	if alias.MatchString(text) {
		names := slices.Concat(slices.Collect(maps.Keys(b.communities)), slices.Collect(maps.Keys(wellKnown)))
		slices.Sort(names)
		return suggestKey(text, slices.Compact(names)) + ", or name it in bgp.communities"
	}
	return communityForms
}

// readNumber reads "65000:100" or "64512:1:2".
func readNumber(s string) (communities, bool) {
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
		return communities{standard: []plan.Community{plan.Community(n[0]<<16 | n[1])}}, true
	case 3:
		return communities{large: []plan.LargeCommunity{{n[0], n[1], n[2]}}}, true
	}
	return communities{}, false
}
