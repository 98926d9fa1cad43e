package config

import (
	"errors"
	"fmt"
	"math/bits"
	"net/netip"
	"regexp"
	"strconv"
	"strings"

	"baremetal.cloud/ccm/pkg/ipam"
)

// rangeCure returns what to write in place of a text that ParseRange returned err of.
func rangeCure(text string, err error) string {
	if !errors.Is(err, ipam.ErrNotAddress) {
		return "" // the message has it
	}
	if meant := meantRange(strings.TrimSpace(text)); meant != "" {
		return meant
	}
	return "write it like 192.0.2.7, 192.0.2.0/24 or 192.0.2.10-192.0.2.20"
}

// meantRange returns what was probably meant by a text that is no range of addresses, or "".
func meantRange(text string) string {
	for _, repair := range []func(string) []string{commaList, bracketed, netmask, wordRange, shortRange, leadingZeros} {
		meant := repair(text)
		if len(meant) == 0 {
			continue
		}
		for _, m := range meant {
			if _, err := ipam.ParseRange(m); err != nil {
				return ""
			}
		}
		if len(meant) > 1 {
			return "write each as an entry of its own: [" + strings.Join(meant, ", ") + "]"
		}
		return "write " + meant[0]
	}
	return ""
}

// commaList splits a list that was written as one text.
func commaList(text string) []string {
	if !strings.ContainsAny(text, ",;") {
		return nil
	}
	var all []string
	for _, part := range strings.FieldsFunc(text, func(r rune) bool { return r == ',' || r == ';' }) {
		if part = strings.TrimSpace(part); part != "" {
			all = append(all, part)
		}
	}
	return all
}

// bracketed removes the brackets of an IPv6 address in a URL.
func bracketed(text string) []string {
	if !strings.HasPrefix(text, "[") || strings.Contains(text, "]:") {
		return nil
	}
	return []string{strings.NewReplacer("[", "", "]", "").Replace(text)}
}

// netmask turns a network with a mask into one with a prefix length.
func netmask(text string) []string {
	network, mask, ok := strings.Cut(text, "/")
	if !ok {
		words := strings.Fields(text)
		if len(words) != 2 {
			return nil
		}
		network, mask = words[0], words[1]
	}
	m, err := netip.ParseAddr(strings.TrimSpace(mask))
	a, errA := netip.ParseAddr(strings.TrimSpace(network))
	if err != nil || errA != nil || !m.Is4() || !a.Is4() {
		return nil
	}
	b := m.As4()
	value := uint32(b[0])<<24 | uint32(b[1])<<16 | uint32(b[2])<<8 | uint32(b[3])
	if value>>31 == 0 && value != 0 {
		value = ^value // a wildcard mask
	}
	ones := bits.LeadingZeros32(^value)
	if value<<ones != 0 {
		return nil
	}
	p, err := a.Prefix(ones)
	if err != nil {
		return nil
	}
	return []string{p.String()}
}

// rangeWords are the ways to write "to" other than "-".
var rangeWords = regexp.MustCompile(`\s*(?:\.\.\.?|–|—|\bto\b|\s)\s*`)

// wordRange reads "A to B", "A..B" and the like.
func wordRange(text string) []string {
	parts := rangeWords.Split(text, -1)
	if len(parts) != 2 {
		return nil
	}
	return []string{parts[0] + "-" + parts[1]}
}

// shortRange completes a last address of which only the end was written.
func shortRange(text string) []string {
	first, last, ok := strings.Cut(text, "-")
	first, last = strings.TrimSpace(first), strings.TrimSpace(last)
	a, err := netip.ParseAddr(first)
	if !ok || err != nil || a.Zone() != "" {
		return nil
	}
	separator := "."
	if a.Is6() {
		separator = ":"
	}
	if strings.Count(last, separator) >= 3 {
		return nil
	}
	parts := strings.Split(a.StringExpanded(), separator)
	ends := strings.Split(last, separator)
	copy(parts[len(parts)-len(ends):], ends)
	b, err := netip.ParseAddr(strings.Join(parts, separator))
	if err != nil {
		return nil
	}
	return []string{a.String() + "-" + b.String()}
}

// leadingZeros removes zeros that some programs read as octal.
func leadingZeros(text string) []string {
	parts := strings.FieldsFunc(text, func(r rune) bool { return r == '.' || r == '-' || r == '/' })
	if strings.Contains(text, ":") || len(parts) < 4 {
		return nil
	}
	changed := false
	out := digits.ReplaceAllStringFunc(text, func(number string) string {
		i, err := strconv.ParseUint(number, 10, 16)
		changed = changed || err == nil && number != strconv.FormatUint(i, 10)
		return strconv.FormatUint(i, 10)
	})
	if !changed {
		return nil
	}
	return []string{out}
}

var digits = regexp.MustCompile(`\d+`)

// addressCure returns what to write in place of a text that is no address.
func addressCure(text string) string {
	if cure := meantRange(text); cure != "" && !strings.ContainsAny(text, "-,/ ") {
		return cure
	}
	if interfaceLike.MatchString(text) {
		return unnumbered
	}
	return "write one address, without a prefix length"
}

// interfaceLike is what names of interfaces look like.
var interfaceLike = regexp.MustCompile(`^(eth|en[opsx]|bond|br|swp|vlan|lo)[a-z0-9.@-]*$`)

// asnCure returns what to write in place of a text that is no AS number, or "".
func asnCure(text string) string {
	switch strings.ToLower(text) {
	case "external", "internal", "auto":
		return fmt.Sprintf("%s is not supported by this version; write the number of the router's AS", text)
	}
	text = strings.TrimPrefix(strings.ToUpper(text), "AS")
	high, low, dotted := strings.Cut(text, ".")
	h, err := strconv.ParseUint(high, 10, 32)
	if err != nil {
		return ""
	}
	if dotted {
		l, err := strconv.ParseUint(low, 10, 16)
		if err != nil || h > 0xffff {
			return ""
		}
		h = h<<16 | l
	}
	return fmt.Sprintf("write %d", h)
}
