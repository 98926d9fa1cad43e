package ipam

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// BenchmarkAssign takes and frees one address, from pools of very different sizes and
// fills. Design: allocation does not slow down as a pool fills.
func BenchmarkAssign(b *testing.B) {
	for _, bench := range []struct {
		name, pool string
		held       int
		family     Family
	}{
		{"empty /28", "10.0.0.0/28", 0, IPv4},
		{"/12 full but one", "10.0.0.0/12", 1<<20 - 1, IPv4},
		{"/64 with a million taken", "2001:db8::/64", 1_000_000, IPv6},
	} {
		b.Run(bench.name, func(b *testing.B) {
			a := newAllocator(b, newPool(b, "p", bench.pool))
			for i := range bench.held {
				_, err := a.Assign(service(fmt.Sprint(i), families(bench.family)), epoch)
				require.NoError(b, err)
			}
			req := service("new", families(bench.family))
			b.ReportAllocs()
			now := epoch
			for b.Loop() {
				now = now.Add(time.Second)
				if _, err := a.Assign(req, now); err != nil {
					b.Fatal(err)
				}
				a.Release(req.Holder.UID, now)
			}
		})
	}
}
