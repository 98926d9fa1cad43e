package loadbalancer

import (
	"fmt"
	"testing"
)

// crowded returns a world of three nodes that answer for n addresses.
func crowded(b *testing.B, n int) *world {
	w := newWorld(b)
	w.run("pool default 10.0.0.0/12\nnode node1\nnode node2\nnode node3\nconnect node1 node2 node3\nleader 1\n")
	for i := range n {
		w.run(fmt.Sprintf("service s%d\nendpoints s%d node1\n", i, i))
	}
	w.run("plan\nack node1 node2 node3\n")
	return w
}

// BenchmarkOneMore adds a Service to many and sees it announced, and removes it.
func BenchmarkOneMore(b *testing.B) {
	for _, n := range []int{10, 1000, 10_000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			w := crowded(b, n)
			b.ReportAllocs()
			for i := 0; b.Loop(); i++ {
				w.run(fmt.Sprintf("service new%d\nendpoints new%d node1\n", i, i))
				w.plans = w.b.Plan()
				w.run("ack node1 node2 node3\n")
				w.b.Status(fmt.Sprintf("uid-new%d", i))
				w.run(fmt.Sprintf("endpoints new%d\nrelease new%d\n", i, i))
				w.plans = w.b.Plan()
				w.run("ack node1 node2 node3\n")
			}
		})
	}
}

// BenchmarkNewLeader restores all Services and plans for the first time.
func BenchmarkNewLeader(b *testing.B) {
	for _, n := range []int{1000, 10_000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			w := crowded(b, n)
			w.run("ack node1 node2 node3\n")
			for term := uint64(2); b.Loop(); term++ {
				w.newLeader()
				w.b.SetLeader("cluster", term)
				w.plans = w.b.Plan()
				w.run("ack node1 node2 node3\n")
			}
		})
	}
}
