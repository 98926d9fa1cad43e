package migrate

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"baremetal.cloud/ccm/pkg/cloud/config"
	"baremetal.cloud/ccm/pkg/ipam"
)

// converter makes a Result of one source.
type converter struct {
	*report
	product Product
	name    string
	result  Result
	pools   []*pool
	peers   []*peer
	// lostPeers are the names of peers that could not be carried over.
	lostPeers map[string]bool
	// communities are names of communities with their values, in the form of the cloud-config.
	communities map[string]string
	classes     []string
	services    []*object
	// poolNames leads from the source's names of pools to ours.
	poolNames map[string]string
	// passwords are what the plan says about them, by peer.
	passwords []passwordSource
}

// passwordSource says where the password of a peer is. It never has the password itself.
type passwordSource struct {
	file string
	// secret and namespace are those of a Secret; "" if the password stands in the source.
	secret, namespace string
	place             Place
}

func newConverter(product Product, source Source) *converter {
	return &converter{
		report:  &report{generated: source.Generated, losses: []Finding{}, notes: []Finding{}, known: map[Finding]bool{}},
		product: product, name: source.Name,
		result:    Result{Annotations: []Annotation{}, Plan: []Step{}},
		lostPeers: map[string]bool{}, communities: map[string]string{}, poolNames: map[string]string{},
	}
}

// finish checks what the parts say together, and writes the result.
func (c *converter) finish() {
	if len(c.pools) == 0 {
		c.fail(Place{}, "", "gives no addresses of %s: %s", c.product, c.wanted())
		return
	}
	c.refuseOverlaps()
	c.settlePeers()
	c.settlePools()
	readServices(c)
	if len(c.problems) > 0 {
		return
	}
	c.result.CloudConfig = c.render()
	c.verify()
	c.result.Losses, c.result.Notes = c.losses, c.notes
	writePlan(c)
}

// wanted says which objects a product's configuration has.
func (c *converter) wanted() string {
	return map[Product]string{
		MetalLB: "want the ConfigMap config, or an IPAddressPool",
		OpenELB: "want an Eip",
		KubeVIP: "want the ConfigMap kubevip",
		PureLB:  "want a ServiceGroup with addresses",
		Cilium:  "want a CiliumLoadBalancerIPPool",
	}[c.product]
}

// refuseOverlaps reports addresses that would be given out twice.
func (c *converter) refuseOverlaps() {
	type entry struct {
		placedRange
		pool  *pool
		order int
	}
	var sorted []entry
	for _, p := range c.pools {
		for _, r := range p.ranges {
			sorted = append(sorted, entry{r, p, len(sorted)})
		}
	}
	slices.SortStableFunc(sorted, func(a, b entry) int { return a.First.Compare(b.First) })
	var furthest entry
	for i, e := range sorted {
		if i > 0 && furthest.Overlaps(e.Range) {
			first, second := furthest, e
			if second.order < first.order {
				first, second = second, first
			}
			c.fail(second.place, "leave each address in one pool",
				"%s overlaps %s (%s): an address could be given out twice", second.text, first.text, first.place)
		}
		if i == 0 || furthest.Last.Less(e.Last) {
			furthest = e
		}
	}
}

// outputPosition finds a position of the cloud-config that is made, which means nothing to the reader.
var outputPosition = regexp.MustCompile(`,? (first )?(which is \S+ )?at \d+:\d+`)

// outputPath finds the pool or the peer in the path of a problem.
var outputPath = regexp.MustCompile(`^(pools|bgp\.peers)\[(\d+)\]`)

// verify has the cloud-config read as the CCM will read it.
func (c *converter) verify() {
	_, warnings, err := config.Parse([]byte(c.result.CloudConfig), c.name)
	var refused *config.Error
	if errors.As(err, &refused) {
		for _, p := range refused.Problems {
			c.fail(c.placeOf(p.Path), p.Cure, "the cloud-config would be refused: %s: %s", p.Path, outputPosition.ReplaceAllString(p.Message, ""))
		}
		return
	}
	for _, w := range warnings {
		c.note(c.placeOf(w.Path), "%s: %s", w.Path, withCure(outputPosition.ReplaceAllString(w.Message, ""), w.Cure))
	}
}

func withCure(message, cure string) string {
	if cure == "" {
		return message
	}
	return message + "; " + cure
}

// placeOf returns where the part of the cloud-config at path comes from.
func (c *converter) placeOf(path string) Place {
	m := outputPath.FindStringSubmatch(path)
	if m == nil {
		return Place{}
	}
	var i int
	_, _ = fmt.Sscan(m[2], &i) // digits by the expression
	switch {
	case m[1] == "pools" && i < len(c.pools):
		return c.pools[i].place
	case m[1] == "bgp.peers" && i < len(c.peers):
		return c.peers[i].place
	}
	return Place{}
}

// known sorts the objects of the product's API groups by kind. Others are left alone, but for
// Services, which are kept for their annotations. versions are those that can be read, by kind.
func (c *converter) known(objects []*object, group func(string) bool, versions map[string][]string) map[string][]*object {
	byKind := map[string][]*object{}
	for _, o := range objects {
		switch {
		case o.group() == "" && o.kind == "Service":
			c.services = append(c.services, o)
		case !group(o.group()):
		case versions[o.kind] == nil:
			c.fail(o.root.place, "", "objects of the kind %q in %s are not known", o.kind, o.apiVersion)
		case len(versions[o.kind]) > 0 && !slices.Contains(versions[o.kind], o.version()):
			c.fail(o.root.place, "convert it to "+strings.Join(versions[o.kind], " or "), "the version %s of %s is not known", o.apiVersion, o.kind)
		default:
			byKind[o.kind] = append(byKind[o.kind], o)
		}
	}
	return byKind
}

// finishObject reports unknown keys beside spec.
func (o *object) finishObject() {
	o.root.ignore("apiVersion", "kind", "metadata", "status", "spec")
	o.root.finish()
}

// families returns the families of which the pool has addresses.
func (p *pool) families() []ipam.Family {
	var out []ipam.Family
	for _, f := range []ipam.Family{ipam.IPv4, ipam.IPv6} {
		if p.has(f) {
			out = append(out, f)
		}
	}
	return out
}
