package history

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

// Timeline prints the history, one line per change: seconds since the first, revision,
// what changed. Versions of a Service that differ in nothing that is judged are left out.
// With keys ("namespace/name") it prints the changes of these Services only.
func (h History) Timeline(keys ...string) string {
	var b strings.Builder
	before := map[string]string{}
	for _, c := range h {
		line := c.describe()
		if c.Service != nil {
			if len(keys) > 0 && !slices.Contains(keys, c.Service.String()) || before[c.Service.UID] == line {
				continue
			}
			before[c.Service.UID] = line
		}
		since := c.At.Sub(h[0].At).Round(time.Millisecond).Seconds()
		if c.Revision == 0 {
			fmt.Fprintf(&b, "%9.3f          %s\n", since, line)
			continue
		}
		fmt.Fprintf(&b, "%9.3f %8d %s\n", since, c.Revision, line)
	}
	return b.String()
}

func (c Change) describe() string {
	switch {
	case c.Note != "":
		return "==> " + c.Note
	case c.Leader != nil && *c.Leader == "":
		return "nobody leads"
	case c.Leader != nil:
		return *c.Leader + " leads"
	case c.Config != nil:
		return "cloud-config in use:\n" + Indent(c.Config.Text)
	}
	return c.Service.describe(c.Gone)
}

func (s *Service) describe(gone bool) string {
	if gone {
		return s.String() + " is gone"
	}
	var b strings.Builder
	fmt.Fprintf(&b, "%s (%.8s)", s, s.UID)
	if !s.Balanced {
		b.WriteString(" no load balancer")
	}
	if s.Deleting {
		b.WriteString(" deleting")
	}
	fmt.Fprintf(&b, " wants %v", s.Families)
	if s.Both {
		b.WriteString(" both")
	}
	if s.Local {
		fmt.Fprintf(&b, " Local to %s", s.Selector)
	}
	if s.Garbage != "" {
		fmt.Fprintf(&b, " garbage")
	}
	for _, a := range s.Asked {
		fmt.Fprintf(&b, " address %s", a)
	}
	if s.Pool != "" {
		fmt.Fprintf(&b, " pool %s", s.Pool)
	}
	if s.Key != "" {
		fmt.Fprintf(&b, " key %s %v", s.Key, s.Ports)
	}
	fmt.Fprintf(&b, "; has %v; %s", s.Addresses, s.Allocated)
	return b.String()
}

// Indent sets a text of several lines off from the lines of a timeline.
func Indent(text string) string {
	return "                       | " + strings.ReplaceAll(strings.TrimSpace(text), "\n", "\n                       | ")
}
