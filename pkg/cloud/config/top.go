package config

import (
	"reflect"

	"gopkg.in/yaml.v3"
	"k8s.io/apimachinery/pkg/util/validation"
)

// checker makes a Config of a decoded file, and reports the values that are not allowed.
type checker struct {
	*report
	index index
	// entries are the valid address ranges of all pools, for the checks across pools.
	entries []entry
	// badAddress is set if an address of a pool could not be read. Then it is not known what the
	// pools contain.
	badAddress bool
	// bgp is checked before the pools, which refer to it.
	bgp BGP
}

// readConfig decodes and checks the whole file, whose root value is n.
func readConfig(n *yaml.Node, r *report) Config {
	d := decoder{r, index{}}
	d.refuseAliases(n)
	if len(r.problems) > 0 {
		return Config{} // the value of an alias cannot be checked
	}
	var f file
	d.decodeNode(place{value: n}, "", reflect.ValueOf(&f).Elem())
	c := &checker{report: r, index: d.index}
	if n.Kind != yaml.MappingNode {
		return Config{}
	}
	return c.checkFile(spot{c, ""}, f)
}

func (c *checker) checkFile(s spot, f file) Config {
	checkConstant(s.key("apiVersion"), f.APIVersion, APIVersion)
	checkConstant(s.key("kind"), f.Kind, Kind)
	c.bgp = c.checkBGP(s.key("bgp"), f.BGP)
	config := Config{
		ServicesWithoutClass: f.ServicesWithoutClass,
		LoadBalancerClasses:  checkClasses(s.key("loadBalancerClasses"), f.LoadBalancerClasses),
		Pools:                c.checkPools(s.key("pools"), f.Pools),
		OnShrink:             shrinkPolicy(s.key("onShrink"), f.OnShrink),
		BGP:                  c.bgp,
		Failover:             f.Failover.checkFailover(s.key("failover")),
		Announce:             f.Announce.checkAnnounce(s.key("announce")),
		Conflicts:            f.Conflicts.checkConflicts(s.key("conflicts")),
		MaxMovesPerMinute:    checkBetween(s.key("rebalance").key("maxMovesPerMinute"), f.Rebalance.MaxMovesPerMinute, 0, maxMovesPerMinute),
		NodeHealth:           f.NodeHealth.checkNodeHealth(s.key("nodeHealth")),
		Nodes:                f.Nodes.checkNodes(s.key("nodes")),
	}
	if without := s.key("servicesWithoutClass"); without.given() && !f.ServicesWithoutClass && len(f.LoadBalancerClasses) == 0 {
		without.warn("add loadBalancerClasses: [baremetal.cloud/lb]", "with false and no loadBalancerClasses no Service is served")
	}
	c.checkOverlaps()
	c.odd(s, config)
	config.Reservations = c.checkReservations(s.key("reservations"), f.Reservations)
	if len(config.Pools) == 0 && len(c.problems) == 0 {
		c.warn(s.node(), "pools", "", "there are no pools: no Service will get an address")
	}
	return config
}

// maxMovesPerMinute bounds rebalance: above, it would no longer be a trickle.
const maxMovesPerMinute = 600

// checkConstant checks a text that can only be want.
func checkConstant(s spot, text, want string) {
	if s.given() && text != want {
		s.fail("write "+want, "%q is not a version or kind that this program reads", text)
	}
}

// checkClasses checks the classes of Services that are served.
func checkClasses(s spot, names []string) []string {
	checkOnce(s, names, func(item spot, name string) bool {
		why := validation.IsQualifiedName(name)
		for _, w := range why {
			item.fail("", "%q: %s", name, w)
		}
		return len(why) == 0
	})
	return names
}

func shrinkPolicy(s spot, p ShrinkPolicy) ShrinkPolicy {
	if s.given() && p != ShrinkRefuse && p != ShrinkReassign {
		s.fail("write Refuse or Reassign", "%q is not a policy", string(p))
	}
	return p
}
