package migrate

import (
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// alias is what the cloud-config takes as the name of a community.
var alias = regexp.MustCompile(`^[a-zA-Z]([-._a-zA-Z0-9]{0,61}[a-zA-Z0-9])?$`)

// wellKnown are the names of communities that the cloud-config knows.
var wellKnown = []string{"graceful-shutdown", "accept-own", "blackhole", "no-export", "no-advertise", "no-export-subconfed", "no-peer"}

// community returns a community in the form of the cloud-config; "" if it is none.
func community(text string) string {
	text = strings.TrimPrefix(text, "large:")
	parts := strings.Split(text, ":")
	bits := 32
	if len(parts) == 2 {
		bits = 16
	}
	var numbers []string
	for _, part := range parts {
		n, err := strconv.ParseUint(part, 10, bits)
		if err != nil {
			return ""
		}
		numbers = append(numbers, strconv.FormatUint(n, 10))
	}
	switch len(numbers) {
	case 1: // RFC 1997 as one number
		n, _ := strconv.ParseUint(numbers[0], 10, 32)
		return fmt.Sprintf("%d:%d", n>>16, n&0xffff)
	case 2, 3:
		return strings.Join(numbers, ":")
	}
	return ""
}

// nameCommunity records a name for a community.
func (c *converter) nameCommunity(name string, value placedText) {
	form := community(value.text)
	switch before, taken := c.communities[name]; {
	case form == "":
		c.fail(value.place, `write 16-bit:16-bit like "65000:100", or a large one like "large:64512:1:2"`, "%q is no community", value.text)
	case taken && before != form:
		c.fail(value.place, "remove one of the two", "the name %q stands for %s, too", name, before)
	default:
		c.communities[name] = form
	}
}

// communityList returns communities as the cloud-config lists them: by name if the name can be one.
func (c *converter) communityList(texts []placedText) []string {
	var out, values []string
	for _, t := range texts {
		value, named := c.communities[t.text]
		word := t.text
		if !named {
			value = community(t.text)
			word = value
		}
		if named && (!alias.MatchString(word) || slices.Contains(wellKnown, word)) {
			word = value
		}
		if !named && slices.Contains(wellKnown, t.text) {
			value, word = t.text, t.text
		}
		switch {
		case value == "":
			c.fail(t.place, "give its number, or the object that names it", "%q is no community, and no name of one", t.text)
		case !slices.Contains(values, value):
			values, out = append(values, value), append(out, word)
		}
	}
	return out
}

// usedCommunities returns the names of communities that pools use.
func (c *converter) usedCommunities() map[string]string {
	used := map[string]string{}
	for _, p := range c.pools {
		for _, a := range p.BGP {
			for _, word := range a.Communities {
				if value, ok := c.communities[word]; ok && value != word {
					used[word] = value
				}
			}
		}
	}
	return used
}
