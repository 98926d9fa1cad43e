package config

import (
	"cmp"
	"slices"
	"time"

	"k8s.io/apimachinery/pkg/util/validation"
)

// checkBetween checks that a number or a duration has its bounds. It returns it.
func checkBetween[T cmp.Ordered](s spot, value, least, most T) T {
	if s.given() && (value < least || value > most) {
		s.fail("", "%v is not between %v and %v", value, least, most)
	}
	return value
}

// wholeMilliseconds checks a duration of so many.
func wholeMilliseconds(s spot, d, least, most time.Duration) time.Duration {
	return checkWhole(s, d, least, most, time.Millisecond, "milliseconds, which is what routers are configured in")
}

// wholeSeconds checks a duration of so many.
func wholeSeconds(s spot, d, least, most time.Duration) time.Duration {
	return checkWhole(s, d, least, most, time.Second, "seconds, which is what BGP can say")
}

func checkWhole(s spot, d, least, most, unit time.Duration, units string) time.Duration {
	switch {
	case !s.given():
	case d < least || d > most:
		s.fail("", "%s is not between %s and %s", d, least, most)
	case d%unit != 0:
		s.fail("write "+d.Round(unit).String(), "%s is no whole number of %s", d, units)
	}
	return d
}

// checkOnce checks that no text comes twice in a list. do makes the other checks of a text, and reports
// whether it passed them.
func checkOnce(s spot, texts []string, do func(item spot, text string) bool) {
	for i, text := range texts {
		item := s.item(i)
		if item.given() && do(item, text) && slices.Contains(texts[:i], text) {
			item.fail("remove one of the two", "%q is listed twice", text)
		}
	}
}

// checkNamespaces checks a list of namespaces' names.
func checkNamespaces(s spot, names []string) []string {
	checkOnce(s, names, func(item spot, name string) bool { return isName(item, name, validation.IsDNS1123Label) })
	return names
}

// objectName checks the name of a pool or a peer: a DNS subdomain (RFC 1123) that may have
// underscores, like the names of other load balancers' objects. It returns "" for any other text.
func objectName(s spot, name string) string {
	if s.given() && isName(s, name, validation.IsDNS1123SubdomainWithUnderscore) {
		return name
	}
	return ""
}

// isName reports whether check finds nothing wrong with a name, and reports it otherwise.
func isName(s spot, name string, check func(string) []string) bool {
	for _, why := range check(name) {
		s.fail("", "%q is not a name: %s", name, why)
		return false
	}
	return true
}
