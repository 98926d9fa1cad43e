package failover

import (
	"encoding/binary"
	"net/netip"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"baremetal.cloud/ccm/pkg/announcer/plan"
)

var (
	keyAB = plan.Key{1}
	ringB = NewKeyring("b", []plan.Peer{{Node: "a", Key: keyAB}, {Node: "c", Key: plan.Key{2}}})
)

func claim(address string, revision uint64) plan.Claim {
	return plan.Claim{Address: netip.MustParseAddr(address), Version: plan.Version{Term: 1, Revision: revision}}
}

func seal(p Packet, to string, key plan.Key) []byte {
	return NewSealer(key, p.From, to).Seal(p)
}

func packet() Packet {
	return Packet{
		From: "a", Incarnation: 1, Seq: 2, Heard: Echo{3, 4}, Unproven: Echo{5, 6}, Hears: true, Leave: true, Unhealthy: true, Want: true,
		Standing: Standing{Alone: true, Company: true}, Detect: 300 * time.Millisecond, Apart: 7, Digest: 8,
		Part: &Part{
			Range: true, More: true, From: netip.MustParseAddr("10.0.0.1"), Before: netip.MustParseAddr("2001:db8::9"),
			Claims: []plan.Claim{claim("10.0.0.1", 1), claim("2001:db8::1", 2)},
			Proofs: []plan.Proof{{}, {1}},
		},
	}
}

func TestSealAndOpen(t *testing.T) {
	for name, p := range map[string]Packet{
		"everything": packet(),
		"little":     {From: "a", Incarnation: 1, Seq: 1, Detect: time.Second},
		"changes": {From: "a", Incarnation: 1, Seq: 1, Detect: time.Second, Part: &Part{
			Claims: []plan.Claim{claim("10.0.0.1", 1), {Address: netip.MustParseAddr("10.0.0.2")}},
		}},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := ringB.Open(seal(p, "b", keyAB))
			require.NoError(t, err)
			require.Equal(t, p, got)
		})
	}
}

// TestWhatDoesNotOpen: strangers, forgeries and damage are told apart.
func TestWhatDoesNotOpen(t *testing.T) {
	good := seal(packet(), "b", keyAB)
	flip := func(at int) []byte {
		d := append([]byte{}, good...)
		d[at] ^= 0x80
		return d
	}
	// signed is a body of the right sender, sealed as it is.
	signed := func(change func([]byte) []byte) []byte {
		body := change(append([]byte{}, good[:len(good)-macSize]...))
		return append(body, packetMAC(keyAB, packetLabel, "a", "b", body)...)
	}
	set := func(at int, value byte) func([]byte) []byte {
		return func(b []byte) []byte { b[at] = value; return b }
	}
	flagged := func(flags uint16) func([]byte) []byte {
		return func(b []byte) []byte { binary.BigEndian.PutUint16(b[1:], flags); return b }
	}
	stranger := packet()
	stranger.From = "mallory"
	other := packet()
	other.From = "c"
	for name, test := range map[string]struct {
		datagram []byte
		want     error
	}{
		"empty":                      {nil, ErrMalformed},
		"short":                      {good[:headSize], ErrMalformed},
		"another version":            {flip(0), ErrVersion},
		"a stranger":                 {seal(stranger, "b", keyAB), ErrStranger},
		"another key":                {seal(packet(), "b", plan.Key{9}), ErrStranger},
		"for another receiver":       {seal(packet(), "c", keyAB), ErrStranger},
		"the key of another pair":    {seal(other, "b", keyAB), ErrStranger},
		"sent back to its sender":    {seal(Packet{From: "b", Incarnation: 1, Seq: 1, Detect: 1e9}, "a", keyAB), ErrStranger},
		"a changed byte":             {flip(headSize + 5), ErrForged},
		"a changed end":              {flip(len(good) - 1), ErrForged},
		"cut off":                    {signed(func(b []byte) []byte { return b[:len(b)-1] }), ErrMalformed},
		"something behind":           {signed(func(b []byte) []byte { return append(b, 0) }), ErrMalformed},
		"unknown flag":               {signed(flagged(flagsKnown + 1)), ErrMalformed},
		"range without part":         {signed(func(b []byte) []byte { return flagged(flagRange)(b)[:headSize] }), ErrMalformed},
		"no boot":                    {signed(set(18, 0)), ErrMalformed},
		"no sequence":                {signed(set(26, 0)), ErrMalformed},
		"no detection time":          {signed(func(b []byte) []byte { clear(b[59:63]); return b }), ErrMalformed},
		"detection time of an hour":  {signed(set(59, 0xff)), ErrMalformed},
		"an address of three bytes":  {signed(set(headSize, 3)), ErrMalformed},
		"a claim before the range":   {signed(set(headSize+1, 11)), ErrMalformed},
		"changes with a range":       {signed(flagged(flagPart)), ErrMalformed},
		"more claims than there are": {signed(func(b []byte) []byte { binary.BigEndian.PutUint16(b[headSize+22:], 3); return b }), ErrMalformed},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := ringB.Open(test.datagram)
			require.Equal(t, test.want, err)
		})
	}
}

// TestSize: a part with as many claims as there may be fits into 1200 bytes.
func TestSize(t *testing.T) {
	var c claims
	for i := range 1000 {
		c.setVersion(netip.AddrFrom16([16]byte{0x20, 1, 14: byte(i >> 8), 15: byte(i)}), plan.Version{Term: 1, Revision: 1})
	}
	parts := c.allParts()
	require.Len(t, parts, (1000+maxClaims-1)/maxClaims)
	for _, part := range parts {
		p := packet()
		p.Part = part
		require.LessOrEqual(t, len(seal(p, "b", keyAB)), 1200)
	}
}

// TestClaimsTravel: a thousand claims arrive whole, in parts; ranges take away what ended,
// changes only what they name.
func TestClaimsTravel(t *testing.T) {
	mine, its := claims{}, claims{}
	its.setVersion(netip.MustParseAddr("10.200.0.1"), plan.Version{Term: 1})
	its.setVersion(netip.MustParseAddr("::1"), plan.Version{Term: 1})
	for i := range 1000 {
		mine.setVersion(netip.AddrFrom4([4]byte{10, byte(i), byte(i >> 8), 1}), plan.Version{Term: 1, Revision: uint64(i + 1)})
	}
	for _, p := range mine.allParts() {
		its.applyPart(p)
	}
	require.Equal(t, mine.held, its.held)
	require.Equal(t, mine.digest, its.digest)

	gone := netip.MustParseAddr("10.3.0.1")
	mine.setVersion(gone, plan.Version{})
	for _, p := range mine.changedParts(map[netip.Addr]bool{gone: true}) {
		require.Equal(t, []netip.Addr{gone}, its.applyPart(p))
	}
	require.Equal(t, mine.digest, its.digest)

	for _, p := range (&claims{}).allParts() {
		its.applyPart(p)
	}
	require.Zero(t, its.held.Len())
	require.Zero(t, its.digest)
}

// FuzzOpen: whatever a peer with the right key sends is either refused or read as what
// says exactly that.
func FuzzOpen(f *testing.F) {
	f.Add(parseable(packet()))
	f.Add(parseable(Packet{From: "a", Incarnation: 1, Seq: 1, Detect: time.Second}))
	f.Add(parseable(Packet{From: "a", Incarnation: 1, Seq: 1, Detect: time.Second, Part: &Part{Claims: []plan.Claim{claim("10.0.0.1", 1)}}}))
	f.Fuzz(func(t *testing.T, body []byte) {
		datagram := append(append([]byte{}, body...), packetMAC(keyAB, packetLabel, "a", "b", body)...)
		p, err := ringB.Open(datagram)
		if err != nil {
			return
		}
		require.Equal(t, datagram, seal(p, "b", keyAB))
		applied := claims{}
		if p.Part != nil {
			applied.applyPart(p.Part)
		}
	})
}

// parseable is what Seal authenticates.
func parseable(p Packet) []byte {
	datagram := seal(p, "b", keyAB)
	return datagram[:len(datagram)-macSize]
}

// TestReplays: a packet counts once, and one of an earlier life of either side never.
func TestReplays(t *testing.T) {
	now := time.Hour
	settings := plan.Failover{TransmitInterval: 100 * time.Millisecond, DetectMultiplier: 3}
	with := func(node string, boot uint64, peer string) *Node {
		c := NewNode(node, boot)
		s := settings
		s.Peers = []plan.Peer{{Node: peer}}
		c.Configure(now, s)
		return c
	}
	var recorded []Packet // All that b ever sent to a.
	// exchange lets two cores talk for a second.
	exchange := func(a, b *Node) {
		for range 20 {
			now += 50 * time.Millisecond
			a.Reconcile(now)
			b.Reconcile(now)
			for _, out := range a.Flush(now) {
				_ = b.Receive(now, out.Packet)
			}
			for _, out := range b.Flush(now) {
				recorded = append(recorded, out.Packet)
				_ = a.Receive(now, out.Packet)
			}
		}
	}
	a, b := with("a", 1, "b"), with("b", 2, "a")
	exchange(a, b)
	require.Equal(t, []string{"b"}, a.Peers(Up))
	for _, p := range recorded {
		require.Error(t, a.Receive(now, p), "again")
	}
	require.Equal(t, ErrReplayed, a.Receive(now, recorded[len(recorded)-1]))

	replay := func(to *Node) {
		for _, p := range recorded {
			require.Error(t, to.Receive(now, p))
		}
	}
	b = with("b", 3, "a")
	before := len(recorded)
	exchange(a, b)
	require.Equal(t, []string{"b"}, a.Peers(Up), "b's new life")
	for _, p := range recorded[:before] {
		require.Equal(t, ErrUnproven, a.Receive(now, p), "b's old life")
	}
	now += time.Second
	a.Reconcile(now)
	require.Equal(t, []string{"b"}, a.Peers(Down))
	replay(a)
	require.Equal(t, []string{"b"}, a.Peers(Down))

	a = with("a", 4, "b")
	replay(a)
	require.Equal(t, []string{"b"}, a.Peers(Unknown), "a's new life")
	exchange(a, b)
	require.Equal(t, []string{"b"}, a.Peers(Up))

	require.Equal(t, ErrStranger, a.Receive(now, Packet{From: "mallory", Incarnation: 1, Seq: 1}))
}

// TestNobodyToWatch: without peers nothing is ever due, and without an interval the plan
// is done as it says.
func TestNobodyToWatch(t *testing.T) {
	c := NewNode("a", 1)
	lists := []List{
		{Address: netip.MustParseAddr("10.0.0.1"), Version: plan.Version{Term: 1}, Candidates: []string{"a", "b"}, Able: true},
		{Address: netip.MustParseAddr("10.0.0.2"), Version: plan.Version{Term: 1}, Candidates: []string{"b", "a"}, Able: true},
		{Address: netip.MustParseAddr("10.0.0.3"), Version: plan.Version{Term: 1}, Candidates: []string{"a"}, Able: false},
	}
	c.Configure(time.Hour, plan.Failover{Peers: []plan.Peer{{Node: "b"}}})
	for _, l := range lists {
		c.Put(time.Hour, l)
	}
	first := netip.MustParseAddr("10.0.0.1")
	require.Equal(t, []netip.Addr{first}, c.Reconcile(time.Hour))
	require.Equal(t, plan.NewIndex(plan.Claim{Address: first, Version: plan.Version{Term: 1}}), c.Claims())
	c.Drop(first)
	require.Equal(t, []netip.Addr{first}, c.Reconcile(time.Hour))
	require.Zero(t, c.Claims().Len())
	require.Empty(t, c.Flush(time.Hour))
	require.Zero(t, c.Wake())
	require.Zero(t, c.Deadline())
	require.False(t, c.Overslept(10*time.Hour))
}
