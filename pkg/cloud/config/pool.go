package config

import (
	"math"
	"slices"
	"time"

	"baremetal.cloud/ccm/pkg/ipam"
)

func (p *poolShape) setDefaults() {
	p.AutoAssign, p.ReuseAfter = true, 10*time.Minute
}

func (c *checker) checkPools(s spot, shapes []poolShape) []Pool {
	var pools []Pool
	named := map[string]spot{}
	for i, shape := range shapes {
		item := s.item(i)
		p := c.checkPool(item, shape)
		pools = append(pools, p)
		name := item.key("name")
		if first, taken := named[p.Name]; taken && p.Name != "" {
			name.fail("", "another pool has the name %q, at %s", p.Name, first.position())
			continue
		}
		named[p.Name] = name
	}
	return pools
}

func (c *checker) checkPool(s spot, shape poolShape) Pool {
	p := Pool{
		Pool: ipam.Pool{
			Name:              objectName(s.key("name"), shape.Name),
			Ranges:            c.readRanges(s.key("addresses"), shape.Addresses),
			AutoAssign:        shape.AutoAssign,
			AvoidBuggyIPs:     shape.AvoidBuggyIPs,
			Disabled:          shape.Disabled,
			Priority:          checkBetween(s.key("priority"), shape.Priority, math.MinInt32, math.MaxInt32),
			Namespaces:        checkNamespaces(s.key("namespaces"), shape.Namespaces),
			NamespaceSelector: selectorOf(s.key("namespaceSelectors"), shape.NamespaceSelectors),
			ServiceSelector:   selectorOf(s.key("serviceSelectors"), shape.ServiceSelectors),
			SharedNamespaces:  checkNamespaces(s.key("sharedNamespaces"), shape.SharedNamespaces),
			MaxPerNamespace:   checkBetween(s.key("maxPerNamespace"), shape.MaxPerNamespace, 0, math.MaxInt32),
			ReuseAfter:        shape.ReuseAfter,
		},
		L2: readL2(s.key("l2"), shape.L2),
	}
	p.BGP = c.checkAdvertisements(s, shape.BGP, p)
	if len(p.L2) == 0 && len(p.BGP) == 0 {
		p.L2 = []L2{{}} // the default
	}
	warnDoubtful(s, p)
	return p
}

// warnDoubtful warns of keys of a pool that are allowed together and do less than they seem to.
func warnDoubtful(s spot, p Pool) {
	if len(p.Namespaces) == 0 {
		return
	}
	if first := s.key("namespaceSelectors").item(0); first.given() && p.NamespaceSelector == nil {
		first.warn("remove it, or give it a label", "an empty selector adds nothing to namespaces")
	}
	if p.NamespaceSelector != nil {
		return
	}
	shared := s.key("sharedNamespaces")
	for i, namespace := range p.SharedNamespaces {
		if !slices.Contains(p.Namespaces, namespace) {
			shared.item(i).warn("add it to namespaces", "%q may share addresses of the pool and may not use it", namespace)
		}
	}
}

// readRanges reads the addresses of a pool.
func (c *checker) readRanges(s spot, texts []string) []ipam.Range {
	var ranges []ipam.Range
	for i, text := range texts {
		item := s.item(i)
		if !item.given() {
			c.badAddress = true
			continue
		}
		r, err := ipam.ParseRange(text)
		if err != nil {
			c.badAddress = true
			item.fail(rangeCure(text, err), "%s", err)
			continue
		}
		ranges = append(ranges, r)
		c.entries = append(c.entries, entry{r, text, item})
	}
	if s.given() && len(texts) == 0 {
		s.fail(`write a range, like "192.0.2.10-192.0.2.20"`, "a pool needs at least one address")
	}
	return ranges
}
