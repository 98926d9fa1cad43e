package history

import (
	"fmt"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"baremetal.cloud/ccm/pkg/ipam"
)

const pools = `apiVersion: baremetal.cloud/v1alpha1
kind: CloudConfig
pools:
- {name: a, addresses: [10.0.0.0/30], sharedNamespaces: [default, friend]}
- {name: b, addresses: [10.1.0.0/31, "2001:db8::/127"]}
`

const moved = `apiVersion: baremetal.cloud/v1alpha1
kind: CloudConfig
onShrink: Reassign
pools:
- {name: b, addresses: [10.1.0.0/31, "2001:db8::/127"]}
`

// script builds a history; the changes are ten seconds apart.
type script struct {
	history  History
	revision uint64
}

func newScript() *script {
	s := &script{}
	s.add(Change{Config: NewConfig(pools)})
	return s
}

func (s *script) add(c Change) uint64 {
	s.revision++
	c.Revision, c.At = s.revision, time.Unix(int64(s.revision)*10, 0)
	s.history = append(s.history, c)
	return s.revision
}

// service adds a version of a Service with those addresses in its status.
func (s *script) service(name string, addresses string, change ...func(*Service)) uint64 {
	v := &Service{
		Namespace: "default", Name: name, UID: name, Balanced: true, Families: []ipam.Family{ipam.IPv4},
		Ports: []string{"80/TCP"}, Allocated: "Allocated: …",
	}
	v.Addresses = addrs(addresses)
	for _, f := range change {
		f(v)
	}
	return s.add(Change{Service: v})
}

func addrs(text string) []netip.Addr {
	var out []netip.Addr
	for _, a := range slices.DeleteFunc([]string{text}, func(s string) bool { return s == "" }) {
		out = append(out, netip.MustParseAddr(a))
	}
	return out
}

func asking(a string) func(*Service) { return func(s *Service) { s.Asked = addrs(a) } }
func inPool(p string) func(*Service) { return func(s *Service) { s.Pool = p } }
func keyed(k, port string) func(*Service) {
	return func(s *Service) { s.Key, s.Ports = k, []string{port} }
}
func says(text string) func(*Service) { return func(s *Service) { s.Allocated = text } }
func of4and6(s *Service)              { s.Families = []ipam.Family{ipam.IPv4, ipam.IPv6} }
func both(s *Service)                 { of4and6(s); s.Both = true }
func foreign(s *Service)              { s.Namespace = "stranger" }
func friend(s *Service)               { s.Namespace = "friend" }
func local(s *Service)                { s.Local, s.Selector = true, "app=web" }
func deleting(s *Service)             { s.Deleting = true }
func plain(s *Service)                { s.Balanced = false }

func TestComplaints(t *testing.T) {
	for name, c := range map[string]struct {
		play func(*script)
		want []string
	}{
		"held twice": {func(s *script) {
			s.service("x", "10.0.0.0")
			s.service("y", "10.0.0.0")
		}, []string{"revision 3: default/y: is given 10.0.0.0, which default/x holds"}},
		"shared": {func(s *script) {
			s.service("x", "10.0.0.0", keyed("k", "80/TCP"))
			s.service("y", "10.0.0.0", keyed("k", "81/TCP"))
			s.service("z", "10.0.0.0", keyed("k", "82/TCP"), friend)
		}, nil},
		"shared with a stranger": {func(s *script) {
			s.service("x", "10.0.0.0", keyed("k", "80/TCP"))
			s.service("y", "10.0.0.0", keyed("k", "81/TCP"), foreign)
		}, []string{"revision 3: stranger/y: is given 10.0.0.0, which default/x holds"}},
		"shared port": {func(s *script) {
			s.service("x", "10.0.0.0", keyed("k", "80/TCP"))
			s.service("y", "10.0.0.0", keyed("k", "80/TCP"))
		}, []string{"revision 3: default/y: is given 10.0.0.0, which default/x holds"}},
		"shared, one Local": {func(s *script) {
			s.service("x", "10.0.0.0", keyed("k", "80/TCP"), local)
			s.service("y", "10.0.0.0", keyed("k", "81/TCP"))
		}, []string{"revision 3: default/y: is given 10.0.0.0, which default/x holds"}},
		"a clash by an edit": {func(s *script) {
			s.service("x", "10.0.0.0", keyed("k", "80/TCP"))
			s.service("y", "10.0.0.0", keyed("k", "81/TCP"))
			s.service("y", "10.0.0.0", keyed("l", "80/TCP"))
		}, nil},
		"after a deletion": {func(s *script) {
			s.service("x", "10.0.0.0")
			s.service("x", "10.0.0.0", deleting)
			s.service("y", "10.0.0.0")
		}, nil},
		"changed": {func(s *script) {
			s.service("x", "10.0.0.0")
			s.service("x", "10.0.0.1")
		}, []string{"revision 3: default/x: loses 10.0.0.0 for 10.0.0.1 without a cause"}},
		"lost": {func(s *script) {
			s.service("x", "10.0.0.0")
			s.service("x", "")
		}, []string{"revision 3: default/x: loses 10.0.0.0 without a cause"}},
		"changed on request": {func(s *script) {
			s.service("x", "10.0.0.0")
			s.service("x", "10.0.0.0", asking("10.0.0.2"))
			s.service("x", "10.0.0.2", asking("10.0.0.2"))
			s.service("x", "10.0.0.2", inPool("b"))
			s.service("x", "10.1.0.0", inPool("b"))
		}, nil},
		"lost by a refused request": {func(s *script) {
			s.service("x", "10.0.0.0")
			s.service("x", "10.0.0.0", asking("10.0.0.2"))
			s.service("x", "", asking("10.0.0.2"))
		}, []string{"revision 4: default/x: loses 10.0.0.0 without a cause"}},
		"a request of long ago is no cause": {func(s *script) {
			s.service("x", "10.0.0.0")
			s.service("x", "10.0.0.0", asking("10.0.0.2"))
			s.service("x", "10.0.0.0")
			s.service("x", "10.0.0.0")
			s.service("x", "10.0.0.2")
		}, []string{"revision 6: default/x: loses 10.0.0.0 for 10.0.0.2 without a cause"}},
		"against the request": {func(s *script) {
			s.service("x", "", inPool("b"))
			s.service("x", "10.0.0.0", inPool("b"))
		}, []string{"revision 3: default/x: is given 10.0.0.0, which it never asked for"}},
		"no load balancer any more": {func(s *script) {
			s.service("x", "10.0.0.0")
			s.service("x", "", plain)
			s.service("x", "")
			s.service("x", "10.0.0.1")
		}, nil},
		"a family given up": {func(s *script) {
			s.service("x", "2001:db8::", of4and6)
			s.service("x", "2001:db8::")
			s.service("x", "10.0.0.1")
		}, nil},
		"moved by a reload": {func(s *script) {
			s.service("x", "10.0.0.0")
			s.add(Change{Config: NewConfig(moved)})
			s.service("x", "10.1.0.0")
		}, nil},
		"moved by a reload that is told of later": {func(s *script) {
			s.service("x", "10.0.0.0")
			s.service("x", "10.1.0.0")
			s.history[2].At = s.history[2].At.Add(8 * time.Second)
			s.add(Change{Config: NewConfig(moved)})
		}, nil},
		"moved long before the reload": {func(s *script) {
			s.service("x", "10.0.0.0")
			s.service("x", "10.1.0.0")
			s.add(Change{Config: NewConfig(moved)})
		}, []string{"revision 3: default/x: loses 10.0.0.0 for 10.1.0.0 without a cause"}},
	} {
		t.Run(name, func(t *testing.T) {
			s := newScript()
			c.play(s)
			require.Equal(t, c.want, texts(s.history.Complaints()))
		})
	}
}

func texts(complaints []Complaint) []string {
	var out []string
	for _, c := range complaints {
		out = append(out, c.String())
	}
	return out
}

// A status written by the test itself is no holding. What was held before is to come back.
func TestComplaintsByHand(t *testing.T) {
	s := newScript()
	s.service("x", "10.0.0.0")
	s.service("y", "10.0.0.1")
	edit := s.service("y", "10.0.0.0")
	s.service("y", "10.0.0.0", keyed("unrelated", "80/TCP"))
	s.service("y", "10.0.0.1")
	require.Empty(t, s.history.Complaints(edit))
	require.Len(t, s.history.Complaints(), 3)

	s.service("y", "10.0.0.2")
	require.Equal(t, []string{"revision 7: default/y: loses 10.0.0.1 for 10.0.0.2 without a cause"}, texts(s.history.Complaints(edit)))
}

func TestUnfinished(t *testing.T) {
	full := func(s *script) {
		for i := range 4 {
			s.service(fmt.Sprint("a", i), fmt.Sprint("10.0.0.", i))
		}
		s.service("b0", "10.1.0.0")
		s.service("b1", "10.1.0.1", keyed("k", "80/TCP"))
	}
	for name, c := range map[string]struct {
		play func(*script)
		want []string
	}{
		"served": {func(s *script) { s.service("x", "10.0.0.0") }, nil},
		"waits": {func(s *script) { s.service("x", "", says("")) },
			[]string{"revision 2: default/x: has [] and could have the [IPv4] that it asks for", "revision 2: default/x: has no condition Allocated"}},
		"exhausted": {func(s *script) { full(s); s.service("x", "", says("!PoolExhausted: …")) }, nil},
		"exhausted, and says otherwise": {func(s *script) { full(s); s.service("x", "") },
			[]string{"revision 8: default/x: cannot have what it asks for, but its condition says Allocated: …"}},
		"a last one": {func(s *script) { full(s); s.service("b0", "", plain); s.service("x", "", says("!PoolExhausted: …")) },
			[]string{"revision 9: default/x: has [] and could have the [IPv4] that it asks for", "revision 9: default/x: has what it asks for, but its condition says !PoolExhausted: …"}[:1]},
		"could share": {func(s *script) { full(s); s.service("x", "", keyed("k", "81/TCP"), says("!PoolExhausted: …")) },
			[]string{"revision 8: default/x: has [] and could have the [IPv4] that it asks for"}},
		"may not share": {func(s *script) {
			s.service("y", "10.0.0.0", keyed("k", "80/TCP"))
			s.service("x", "", keyed("k", "80/TCP"), says("!SharingRefused: …"))
		}, nil},
		"one family": {func(s *script) { s.service("x", "2001:db8::", of4and6, says("PartiallyAllocated: …")) },
			[]string{"revision 2: default/x: has [2001:db8::] and could have the [IPv4] that it asks for"}},
		"one family of a full pool": {func(s *script) { full(s); s.service("x", "2001:db8::", of4and6, says("PartiallyAllocated: …")) }, nil},
		"both or none":              {func(s *script) { full(s); s.service("x", "", both, says("!PoolExhausted: …")) }, nil},
		"both":                      {func(s *script) { s.service("x", "", both, says("!PoolExhausted: …")) }, []string{"revision 2: default/x: has [] and could have the [IPv4 IPv6] that it asks for"}},
		"in another pool than it asks for": {func(s *script) { s.service("x", "10.0.0.0", inPool("b")) },
			[]string{"revision 2: default/x: has [10.0.0.0] and could have the [IPv4] that it asks for"}},
		"keeps what it has": {func(s *script) { full(s); s.service("a0", "10.0.0.0", inPool("c"), says("!PoolUnknown: …")) }, nil},
		"garbage": {func(s *script) {
			s.service("x", "", func(s *Service) { s.Garbage = "?" }, says("!RequestInvalid: …"))
		}, nil},
		"a family given up": {func(s *script) { s.service("x", "2001:db8::") },
			[]string{"revision 2: default/x: has [2001:db8::] and could have the [IPv4] that it asks for", "revision 2: default/x: has [2001:db8::], which is not what ipFamilies [IPv4] order"}},
		"a family given up by a refused request": {func(s *script) {
			s.service("x", "2001:db8::", func(s *Service) { s.Garbage = "?" }, says("!RequestInvalid: …"))
		}, nil},
		"left behind": {func(s *script) { s.service("x", "10.0.0.0", plain) }, []string{"revision 2: default/x: has [10.0.0.0] and is no load balancer of ours"}},
		"not gone":    {func(s *script) { s.service("x", "", deleting, plain) }, []string{"revision 2: default/x: is not gone"}},
	} {
		t.Run(name, func(t *testing.T) {
			s := newScript()
			c.play(s)
			require.Equal(t, c.want, texts(s.history.Unfinished()))
		})
	}
}

func TestTimeline(t *testing.T) {
	s := newScript()
	s.service("x", "", asking("10.0.0.2"))
	s.service("x", "10.0.0.2", asking("10.0.0.2"))
	s.service("x", "10.0.0.2", asking("10.0.0.2")) // nothing new
	s.service("y", "")
	leader := "ccm-1"
	s.add(Change{Leader: &leader})
	h := order(append(s.history, Change{At: time.Unix(41, 0), Note: "the leader is killed"}))
	require.Equal(t, `   10.000        2 default/x (x) wants [IPv4] address 10.0.0.2; has []; Allocated: …
   20.000        3 default/x (x) wants [IPv4] address 10.0.0.2; has [10.0.0.2]; Allocated: …
   31.000          ==> the leader is killed
   50.000        6 ccm-1 leads
`, func() string { text := h.Timeline("default/x"); return text[len(h[:1].Timeline()):] }())
}
