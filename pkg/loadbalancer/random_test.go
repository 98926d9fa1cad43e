package loadbalancer

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"baremetal.cloud/ccm/pkg/announcer/plan"
	"baremetal.cloud/ccm/pkg/ipam"
)

// TestRetryComesToAnEnd: whatever happens, asking again for those that wait settles
// after a few rounds, because the owner of the core goes on while something was freed.
func TestRetryComesToAnEnd(t *testing.T) {
	for seed := range uint64(300) {
		random := rand.New(rand.NewPCG(seed, 3))
		b := New()
		b.SetNode(Node{Name: "node1"})
		now := time.Date(2026, 11, 21, 0, 0, 0, 0, time.UTC)
		for op := range 200 {
			now = now.Add(time.Second)
			switch random.IntN(6) {
			case 0:
				b.Release(fmt.Sprint("uid-", random.IntN(12)), now)
			case 1:
				_ = b.Configure(randomConfig(t, random)) // a refusal is one of the things that happen
				b.Reassign(now)
			case 2:
				b.Plan()
				b.Observe("node1", reportOf(b))
			default:
				_ = b.Ensure(randomService(random), now)
			}
			for rounds := 0; b.Freed(); rounds++ {
				require.Less(t, rounds, 50, "seed %d, operation %d", seed, op)
				b.Retry(now)
			}
		}
	}
}

func randomConfig(t *testing.T, random *rand.Rand) Config {
	var config Config
	config.Reassign = random.IntN(2) == 0
	for i, texts := range [][]string{{"10.0.0.0/30", "2001:db8::/126"}, {"10.0.1.0/31"}, {"2001:db8:1::/127"}} {
		if random.IntN(4) == 0 {
			continue
		}
		p := ipam.Pool{Name: fmt.Sprint("p", i), AutoAssign: random.IntN(3) > 0, Disabled: random.IntN(6) == 0}
		for _, text := range texts {
			r, err := ipam.ParseRange(text)
			require.NoError(t, err)
			p.Ranges = append(p.Ranges, r)
		}
		config.Pools = append(config.Pools, p)
	}
	return config
}

func randomService(random *rand.Rand) Service {
	n := random.IntN(12)
	s := Service{Request: ipam.Request{
		Holder:     ipam.Holder{UID: fmt.Sprint("uid-", n), Namespace: "default", Name: fmt.Sprint(n), Created: time.Unix(int64(n), 0)},
		Families:   [][]ipam.Family{{ipam.IPv4}, {ipam.IPv6}, {ipam.IPv4, ipam.IPv6}, {ipam.IPv6, ipam.IPv4}}[random.IntN(4)],
		RequireAll: random.IntN(3) == 0,
		Pool:       []string{"", "", "p0", "p1"}[random.IntN(4)],
	}}
	if random.IntN(4) == 0 {
		s.Addresses = []netip.Addr{netip.AddrFrom4([4]byte{10, 0, byte(random.IntN(2)), byte(random.IntN(4))})}
	}
	s.Sharing.Key = []string{"", "k", "l"}[random.IntN(3)]
	s.Sharing.Ports = []ipam.Port{{Protocol: "TCP", Number: uint16(random.IntN(3))}}
	s.Sharing.Local = random.IntN(4) == 0
	return s
}

// reportOf is what node1's announcer says after it has carried out its plan.
func reportOf(b *Balancer) (report plan.Report) {
	set := b.plan.sets["node1"]
	report.Plan, report.Highest = set.Version, set.Version
	report.Interfaces = []plan.Interface{{Name: "eth0"}}
	for a := range set.Assignments.All() {
		report.Claims = report.Claims.With(plan.Claim{Address: a.Address, Version: a.Version})
	}
	return report
}
