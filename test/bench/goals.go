package main

// goal is a number to reach, or one that is shown beside it.
type goal struct {
	// measure and figure say where the number is.
	measure, figure string
	what            string
	// limit is what the median must not exceed; nil where there is no goal.
	limit *float64
}

// headline is a row of the table that the page begins with: one of the goals, in a user's words.
type headline struct{ measure, figure, what string }

// headlines are what a user of a cluster notices, in the order of a Service's life.
func headlines() []headline {
	return []headline{
		{"one", "address_ms", "A Service is created: until it has its address"},
		{"firstbyte", "address_ms", "A Service is created: until its address answers the first HTTP request"},
		{"burst", "tail_ms", "1000 Services are created: from the last one until all have their addresses"},
		{"gaps", "one_worst_ms", "The node that answers is cut off without a word: until requests succeed again, worst of 20"},
		{"crowd", "thousand_worst_ms", "The same, and the node answered for 1000 addresses"},
		{"gaps", "one_dead_worst_ms", "The same for one address, and neither this controller nor the API server runs"},
		{"routes", "crash_worst_ms", "BGP with BFD and two next hops, one of them is cut off: until requests succeed again, worst of 20"},
		{"planned", "announcers_turned_away", "All announcers are updated at 1000 new connections a second: refused, or later than 200 ms"},
		{"starved", "takeovers", "All processors are busy for half an hour: of 1000 addresses that many change their node"},
		{"takeover", "first_allocated_ms", "The leader is replaced in a cluster of 10 000 Services: until the next new Service has an address"},
		{"memory", "rss_mb", "Memory of an announcer that answers for 1000 addresses"},
		{"fleet", "rss_mb", "Memory of the controller with 10 000 Services and 1000 nodes"},
	}
}

// goals are the rows of the appendix's first table.
func goals() []goal {
	upTo := func(v float64) *float64 { return &v }
	return []goal{
		{"one", "address_ms", "One Service at a time, from the create call's answer to the watch event with the address, median of 30", upTo(20)},
		{"burst", "tail_ms", "1000 Services created by 32 writers: last creation → last address", upTo(1000)},
		{"burst", "total_ms", "The same: first creation → last address", nil},
		{"burst", "writes_per_service", "The same: API writes for each Service, all told", nil},
		{"assign", "full_12_ns_ratio", "Allocation from a /12 that is full but for one address, beside an empty /28: time", upTo(2)},
		{"assign", "full_12_bytes_ratio", "The same: bytes", upTo(2)},
		{"assign", "full_12_more_allocs", "The same: further allocations of memory", upTo(0)},
		{"assign", "million_64_ns_ratio", "Allocation from a /64 with a million addresses taken, beside an empty /28: time", upTo(2)},
		{"assign", "million_64_bytes_ratio", "The same: bytes", upTo(2)},
		{"assign", "million_64_more_allocs", "The same: further allocations of memory", upTo(0)},
		{"takeover", "first_allocated_ms", "Lease acquired → first allocation answered, with 10 000 Services", upTo(2000)},
		{"firstbyte", "over_nodeport_percent", "One Service at a time, create → first byte, asked every 5 ms, median of 30: through the address slower than through the NodePort on the owner by", upTo(5)},
		{"firstbyte", "address_ms", "The same: through the address", nil},
		{"thousand", "over_nodeport_percent", "1000 Services: last creation → all have answered an HTTP request; through addresses slower than through NodePorts by", upTo(5)},
		{"memory", "rss_mb", "Announcer with 1000 addresses, 60 s after the last change: resident memory (VmRSS)", upTo(40)},
		{"memory", "anonymous_mb", "The same: its anonymous part", upTo(20)},
		{"flood", "flood_cpu_percent", "50 000 ARP requests/s for addresses of others, half of them in the pool: announcer, of one core", upTo(1)},
		{"balance", "largest_ratio", "1000 addresses on 10 nodes: largest share beside the mean", upTo(1.1)},
		{"balance", "needless_moves", "The same: addresses of other nodes that move when one leaves", upTo(0)},
		{"heartbeats", "most_sessions", "10, 100, 1000 and 5000 nodes (simulated): most others that a node watches", upTo(64)},
		{"heartbeats", "most_kbits", "The same: most that a node sends, and as much that it receives, over IPv6, with all headers", upTo(1000)},
		{"bfd", "false_downs", "100 BFD sessions at 50 ms × 3 for 10 minutes beside 4 busy threads on 2 cores: sessions that went down", upTo(0)},
		{"bfd", "cpu_percent", "The same: processor time of one end, of one core", nil},
		{"fleet", "rss_mb", "10 000 Services, 1000 announcers: resident memory (VmRSS) of the CCM", nil},
		{"fleet", "last_ms", "The same: one endpoint change → the last plan has reached the last node that is concerned, median", upTo(100)},
		{"fleet", "others_bytes", "The same: bytes to all other nodes, keepalives aside", upTo(0)},
		{"cold", "last_ms", "All announcers start with 1000 addresses in the plans on their disks and no CCM: start of the program → the last is announced", upTo(2500)},
		{"starved", "takeovers", "1000 addresses, eight busy threads at nice 0 on 2 cores: addresses taken over though nothing failed", upTo(0)},
		{"starved", "minutes", "The same: how many minutes it was watched", nil},
		{"gaps", "one_worst_ms", "Owner of an address cut off silently, 100 ms × 3: until requests succeed again, worst of 20", upTo(400)},
		{"crowd", "thousand_worst_ms", "The same, owner of 1000 addresses, 20 of them requested", upTo(500)},
		{"crowd", "thousand_last_frame_worst_ms", "The same: until the last of 1000 addresses is announced by another node", nil},
		{"gaps", "one_tuned_worst_ms", "The first at 50 ms × 3", upTo(250)},
		{"crowd", "thousand_tuned_worst_ms", "1000 addresses at 50 ms × 3", upTo(250)},
		{"gaps", "one_dead_worst_ms", "The first with no CCM and no API server", upTo(400)},
		{"crowd", "thousand_dead_worst_ms", "1000 addresses with no CCM and no API server", upTo(500)},
		{"gaps", "one_leader_worst_ms", "The first with the leader on the node that is cut off", upTo(400)},
		{"keepalived", "default_worst_ms", "The first with keepalived, an advert a second, its default", nil},
		{"keepalived", "fast_worst_ms", "The first with keepalived, ten adverts a second", nil},
		{"two", "one_worst_ms", "The first on a cluster of two nodes", upTo(400)},
		{"gaps", "kill_flushed_worst_ms", "Announcer of the owner killed (SIGKILL), the client's neighbour entry flushed before each request", upTo(400)},
		{"gaps", "kill_kept_worst_ms", "The same, neighbour entry kept", upTo(0)},
		{"planned", "announcers_turned_away", "Rolling update of the announcers, 1000 new connections a second: refused or delayed > 200 ms", upTo(0)},
		{"planned", "ccm_turned_away", "The same, rolling update of the CCM", upTo(0)},
		{"planned", "exclude_turned_away", "The same, the exclude label put on a node and taken away", upTo(0)},
		{"routes", "route_bird_ms", "BGP: Service created → route in the router's table, median of 30: BIRD", upTo(50)},
		{"routes", "route_ms", "The same: FRR, which lets a route lie for 60 ms", upTo(50)},
		{"routes", "route_update_ms", "The same: until the UPDATE is there", nil},
		{"routes", "crash_worst_ms", "BGP, BFD 100 ms × 3, two next hops: one cut off silently, until requests succeed again, worst of 20", upTo(400)},
		{"routes", "killed_turned_away", "BGP, graceful restart, one next hop, 1000 new connections a second: failed or delayed > 200 ms when the announcer is killed", upTo(0)},
		{"routes", "restart_turned_away", "The same, when it is restarted", upTo(0)},
		{"routes", "exclude_turned_away", "BGP, two next hops: the exclude label put on a node and taken away", upTo(0)},
		{"routes", "drain_turned_away", "The same, the last local endpoint of a node gone and back", upTo(0)},
		{"routes", "prefixes_pss_mb", "10 000 prefixes on 4 peers: memory of the announcer with its BGP process, what both share counted once", upTo(80)},
		{"routes", "prefixes_sent_ms", "The same: first session established → all four routers have them all", upTo(2000)},
		{"waiting", "change_percent", "The first measure while 500 other Services wait on an exhausted pool: slower by", upTo(10)},
	}
}
