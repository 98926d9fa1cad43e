package main

import (
	"context"
	"fmt"
	"time"
)

// measure is one row of the numbers to reach.
type measure struct {
	name, title string
	// onTestbed says that take needs a lab.
	onTestbed bool
	take      func(ctx context.Context, bed *lab, runs int) (result, error)
	// soak, where there is no take, goes on for as long as it is told to, once.
	soak func(ctx context.Context, bed *lab, duration time.Duration) (result, error)
	// alternative says that it measures what others made, and only where it is asked for.
	alternative bool
}

func (m measure) measure(ctx context.Context, bed *lab, s settings) (result, error) {
	if m.soak != nil {
		return m.soak(ctx, bed, s.duration)
	}
	return m.take(ctx, bed, s.runs)
}

// measures are taken in this order: what leaves most behind comes last.
var measures = []measure{
	{"assign", "one address from pools of different size and fill", false, assign, nil, false},
	{"balance", "1000 addresses on ten nodes, and after one of the nodes has left", false, balance, nil, false},
	{"heartbeats", "10 to 5000 nodes, simulated: how many others a node watches, and what it sends them", false, heartbeatTraffic, nil, false},
	{"fleet", "10 000 Services and 1000 simulated announcers on real streams, and one endpoint change after the other", false, fleet, nil, false},
	{"bfd", "100 BFD sessions at 50 ms × 3 with a system like it, beside four busy threads", false, nil, watchBFD, false},
	{"quiet", "three announcers with ten addresses, to which nothing happens", false, nil, quiet, false},
	{"cold", "three announcers start with 1000 addresses in the plans on their disks and without a CCM: until the last is announced", false, cold, nil, false},
	{"groups", "1000 addresses on announcers in CPU groups as a kubelet makes them, beside 20 busy threads of Pods that ask for the rest", false, nil, grouped, false},
	{"runaway", "an announcer with 3000 addresses that is flooded, or runs wild: what two busy threads keep of two cores", false, runaway, nil, false},
	{"one", "one Service at a time, from the create call's answer to the watch event with the address", true, oneAtATime, nil, false},
	{"firstbyte", "one Service at a time, from the create call's answer to the first byte, through its address and through its owner's NodePort", true, firstByte, nil, false},
	{"waiting", "the same while 500 other Services wait on an exhausted pool", true, whileOthersWait, nil, false},
	{"burst", "1000 Services created by 32 writers", true, burst, nil, false},
	{"thousand", "1000 Services created by 32 writers, from the last creation to the last first answer, through addresses and through NodePorts", true, thousand, nil, false},
	{"flood", "announcers with 1000 addresses while the segment is asked for addresses that nobody has", true, flood, nil, false},
	{"memory", "an announcer with 1000 addresses, a minute after the last change", true, memory, nil, false},
	{"starved", "1000 addresses on announcers that compete with eight busy threads, and nothing else wrong", true, nil, starved, false},
	{"gaps", "the node that answers for an address is cut off silently, or its announcer is killed: how long requests fail; 20 faults of each kind", true, gaps, nil, false},
	{"crowd", "the node that answers for 1000 addresses is cut off silently: how long requests to 20 of them fail; 20 faults of each kind", true, crowdGaps, nil, false},
	{"two", "the same cut on a cluster of two nodes", false, gapsOfTwo, nil, false},
	{"planned", "1000 new connections a second to 20 addresses, and 100 open ones, during planned work", true, planned, nil, false},
	{"routes", "addresses announced by BGP to FRR and BIRD: the first route, planned work, and 10 000 prefixes", false, routes, nil, false},
	{name: "keepalived", title: "keepalived in place of ours: the node that has an address is cut off silently, 20 times", onTestbed: true, take: keepalived, alternative: true},
	{"takeover", "a new leader with 10 000 Services, from the Lease to the first allocation", true, takeover, nil, false},
}

func names() []string {
	var out []string
	for _, m := range measures {
		out = append(out, m.name)
	}
	return out
}

// repeat takes a measure several times, each when the machine has become calm.
func repeat(ctx context.Context, runs int, once func(ctx context.Context, i int) (sample, error)) (result, error) {
	var r result
	for i := range runs {
		busy, err := machineCalm(ctx)
		if err != nil {
			return r, err
		}
		s, err := once(ctx, i)
		if err != nil {
			return r, fmt.Errorf("run %d: %w", i+1, err)
		}
		s.Figures["machine_busy_before_percent"] = busy
		say("run %d of %d: %s", i+1, runs, s)
		r.Runs = append(r.Runs, s)
	}
	return r, nil
}
