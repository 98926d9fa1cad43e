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

// large returns a world of 1000 nodes that answer for n addresses. Failover is on.
func large(b *testing.B, n int) *world {
	w := newWorld(b)
	w.run("pool default 10.0.0.0/12\nfailover 100ms 3\nleader 1\n")
	for i := range 1000 {
		w.run(fmt.Sprintf("node node%d zone=z%d\nconnect node%d\n", i, i%3, i))
	}
	for i := range n {
		w.run(fmt.Sprintf("service s%d local\nendpoints s%d node%d node%d\n", i, i, i%1000, (i+1)%1000))
	}
	w.acknowledge()
	return w
}

// acknowledge has every node whose plan is new carry it out, and returns how many that are.
func (w *world) acknowledge() int {
	told := 0
	before := w.plans
	w.plans = w.b.Plan()
	for name, set := range w.plans {
		if before[name].Version != set.Version {
			told++
			w.ack(name)
		}
	}
	return told
}

// BenchmarkEndpointAmongMany moves one endpoint of one Service of ten thousand, on a
// thousand nodes. Nodes that it does not concern are told nothing.
func BenchmarkEndpointAmongMany(b *testing.B) {
	w := large(b, 10_000)
	told := 0
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		w.run(fmt.Sprintf("endpoints s7 node7 node%d\n", 100+i%800))
		told += w.acknowledge()
	}
	b.ReportMetric(float64(told)/float64(b.N), "nodes-told/op")
}

// BenchmarkNodeAmongMany has a node's interfaces change, and change back.
func BenchmarkNodeAmongMany(b *testing.B) {
	w := large(b, 10_000)
	told := 0
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		delete(w.ports, "node7")
		if i%2 == 0 {
			w.run("interface node7 eth0 192.0.2.7/24 default\n")
		}
		w.ack("node7")
		told += w.acknowledge()
	}
	b.ReportMetric(float64(told)/float64(b.N), "nodes-told/op")
}
