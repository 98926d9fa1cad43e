package migrate

import (
	"net/netip"
	"regexp"
	"slices"
	"strings"

	"baremetal.cloud/ccm/pkg/ipam"
)

// objectName is what the cloud-config takes as a name: a DNS subdomain with underscores.
var objectName = regexp.MustCompile(`^_?[a-z0-9]([-_a-z0-9]*[a-z0-9])?(\._?[a-z0-9]([-_a-z0-9]*[a-z0-9])?)*$`)

const maxName = 253

// ourName returns the name that the cloud-config takes for the source's; the same if it can be.
func ourName(name string) string {
	if objectName.MatchString(name) && len(name) <= maxName {
		return name
	}
	var labels []string
	for _, label := range strings.Split(strings.ToLower(name), ".") {
		label = strings.Map(func(r rune) rune {
			if r >= 'a' && r <= 'z' || r >= '0' && r <= '9' || r == '-' || r == '_' {
				return r
			}
			return '-'
		}, label)
		if label = strings.Trim(label, "-_"); label != "" {
			labels = append(labels, label)
		}
	}
	out := strings.Join(labels, ".")
	return strings.Trim(out[:min(len(out), maxName)], "-_.")
}

// addPool adds a pool with the source's name.
func (c *converter) addPool(name string, place Place) *pool {
	p := &pool{outPool: outPool{Name: ourName(name)}, place: place}
	switch {
	case p.Name == "":
		c.fail(place, "give it a name of letters, digits, '-', '_' and '.'", "%q cannot be the name of a pool", name)
	case p.Name != name:
		c.lose(place, "the name %q is not allowed here: the pool is called %q, and Services that name it have to, too", name, p.Name)
	}
	for _, other := range c.pools {
		if other.Name == p.Name && p.Name != "" {
			c.fail(place, "rename one of the two", "another pool has the name %q: %s", p.Name, other.place)
		}
	}
	c.poolNames[name] = p.Name
	c.pools = append(c.pools, p)
	return p
}

// setAutoAssign writes autoAssign if it is not the default.
func (p *pool) setAutoAssign(value bool) {
	p.AutoAssign = nil
	if !value {
		p.AutoAssign = &value
	}
}

// restrict keeps Services that do not ask for the pool out of it: a rule about the Services that may use it
// could not be carried over.
func (p *pool) restrict() { p.setAutoAssign(false) }

// addAddresses adds "192.0.2.0/24", "192.0.2.1-192.0.2.9" or a single address. Host bits of a CIDR
// count as the network, as all the products read them.
func (c *converter) addAddresses(p *pool, text string, place Place) {
	normal := strings.TrimSpace(text)
	if prefix, err := netip.ParsePrefix(normal); err == nil {
		normal = prefix.Masked().String()
	} else if first, last, isRange := strings.Cut(normal, "-"); isRange {
		normal = strings.TrimSpace(first) + "-" + strings.TrimSpace(last)
	}
	r, err := ipam.ParseRange(normal)
	if err != nil {
		c.fail(place, "", "%s", err)
		return
	}
	p.ranges = append(p.ranges, placedRange{r, normal, place})
}

// trimEnds leaves out the first and the last address of a CIDR of more than two addresses, if it
// is of IPv4 or all is set.
func (p *pool) trimEnds(i int, all bool) {
	r := &p.ranges[i]
	if !strings.Contains(r.text, "/") || !all && !r.First.Is4() || r.First == r.Last || r.First.Next() == r.Last {
		return
	}
	r.First, r.Last = r.First.Next(), r.Last.Prev()
	r.text = r.Range.String()
}

// mergeRanges joins ranges of one pool that overlap. They keep their order.
func (c *converter) mergeRanges(p *pool) {
	order := make([]int, len(p.ranges))
	for i := range order {
		order[i] = i
	}
	slices.SortStableFunc(order, func(i, j int) int { return p.ranges[i].First.Compare(p.ranges[j].First) })
	joined := make([]bool, len(p.ranges))
	into := -1 // the range that reaches furthest
	for _, i := range order {
		if into < 0 || !p.ranges[into].Overlaps(p.ranges[i].Range) {
			into = i
			continue
		}
		a, b := &p.ranges[into], p.ranges[i]
		c.note(b.place, "%s overlaps %s: the two are one range here", b.text, a.text)
		if a.Last.Less(b.Last) {
			a.Last = b.Last
			a.text = a.Range.String()
		}
		joined[i] = true
	}
	kept := p.ranges[:0:0]
	for i, r := range p.ranges {
		if !joined[i] {
			kept = append(kept, r)
		}
	}
	p.ranges = kept
}

// settlePools writes how each pool is announced, and disables those for which nothing says it.
func (c *converter) settlePools() {
	for _, p := range c.pools {
		if len(p.ranges) == 0 {
			c.fail(p.place, "", "the pool has no addresses")
			continue
		}
		p.L2 = c.fitL2(p)
		c.settleAdvertisements(p)
		if len(p.L2) == 0 && len(p.BGP) == 0 {
			p.Disabled = true
			c.lose(p.place, "no announcement of the pool is carried over; here each pool is announced, by layer 2 if nothing else is written: "+
				"the pool is disabled until you write l2 or bgp and remove disabled")
			continue
		}
		if len(p.BGP) == 0 && len(p.L2) == 1 && p.L2[0].Interface == "" && len(p.L2[0].NodeSelectors) == 0 {
			p.L2 = nil // the default
		}
	}
}
