package history

import (
	"net/netip"
	"slices"

	"baremetal.cloud/ccm/pkg/cloud/config"
	"baremetal.cloud/ccm/pkg/ipam"
)

// Config is a cloud-config that the leader says it uses.
type Config struct {
	// Text is the file; "" before there was one.
	Text string
	*config.Config
}

// NewConfig reads the text of a cloud-config. One that cannot be read has no pools.
func NewConfig(text string) *Config {
	parsed, _, err := config.Parse([]byte(text), "history")
	if err != nil {
		parsed = &config.Config{}
	}
	return &Config{Text: text, Config: parsed}
}

// poolOf returns the pool that contains a, or nil.
func (c *Config) poolOf(a netip.Addr) *ipam.Pool {
	for i, p := range c.Pools {
		if slices.ContainsFunc(p.Ranges, func(r ipam.Range) bool { return r.Contains(a) }) {
			return &c.Pools[i].Pool
		}
	}
	return nil
}

// in reports whether a is in the pool with that name.
func (c *Config) in(a netip.Addr, pool string) bool {
	p := c.poolOf(a)
	return p != nil && p.Name == pool
}

// serves reports whether a Service of that version is to have addresses.
func (c *Config) serves(s *Service) bool {
	return s.Balanced && !s.Deleting && (s.Class == "" || slices.Contains(c.LoadBalancerClasses, s.Class))
}

// Strands returns who, of those that hold an address of c, would hold one that is in no
// pool of next.
func (c *Config) Strands(next *Config, services []*Service) []*Service {
	return slices.DeleteFunc(slices.Clone(services), func(s *Service) bool {
		return !slices.ContainsFunc(s.Addresses, func(a netip.Addr) bool { return c.poolOf(a) != nil && next.poolOf(a) == nil })
	})
}
