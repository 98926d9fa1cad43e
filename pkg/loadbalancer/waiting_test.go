package loadbalancer

import (
	"net/netip"
	"testing"

	"github.com/stretchr/testify/require"

	"baremetal.cloud/ccm/pkg/ipam"
)

// An edit that lets others share wakes those who wait for that, as a freed address does.
func TestWhoMayShareNowIsServed(t *testing.T) {
	w := newWorld(t)
	w.run("pool default 10.0.0.0/29\nservice a key=k port=80\nservice b key=k port=80")
	w.b.Freed()
	w.run("service a key=k port=80")
	require.False(t, w.b.Freed(), "nothing changed")
	w.run("service a key=k port=81")
	require.True(t, w.b.Freed())
	require.Equal(t, []string{"uid-b"}, w.b.Retry(w.now))
	require.Equal(t, []netip.Addr{netip.MustParseAddr("10.0.0.0")}, addressesOf(w.b, "uid-b"))
}

// So does a sharer that gets an address which others may join.
func TestWhoMayJoinNowIsServed(t *testing.T) {
	w := newWorld(t)
	w.run("pool default 10.0.0.0/32\nservice holder\nservice a key=k port=80\nservice b key=k port=81")
	w.b.Release("uid-holder", w.now)
	require.True(t, w.b.Freed())
	w.run("service a key=k port=80")
	require.True(t, w.b.Freed())
	require.Equal(t, []string{"uid-b"}, w.b.Retry(w.now))
}

// A published address is replaced by the new one of its family before a node has
// acknowledged that: the status of a family is never emptied and filled again.
func TestPublishedAddressIsReplaced(t *testing.T) {
	w := newWorld(t)
	w.run("pool v4 10.0.0.0/30\npool v6 2001:db8::/64\nnode n\nconnect n\nleader 1\nendpoints web n\nservice web dual published=10.0.0.0 published=2001:db8::")
	w.run("service web dual address=10.0.0.2")
	status, _ := w.b.Status("uid-web")
	require.Equal(t, []netip.Addr{netip.MustParseAddr("10.0.0.2"), netip.MustParseAddr("2001:db8::")}, status.Published)
}

func TestPublished(t *testing.T) {
	x4, y4, x6 := netip.MustParseAddr("10.0.0.1"), netip.MustParseAddr("10.0.0.2"), netip.MustParseAddr("2001:db8::1")
	held := func(addresses ...netip.Addr) (out []ipam.Assignment) {
		for _, a := range addresses {
			out = append(out, ipam.Assignment{Address: a})
		}
		return out
	}
	for name, c := range map[string]struct {
		before []netip.Addr
		held   []ipam.Assignment
		want   []netip.Addr
	}{
		"a new one waits":          {nil, held(x4), nil},
		"what is there stays":      {[]netip.Addr{x4}, held(x4), []netip.Addr{x4}},
		"a second family waits":    {[]netip.Addr{x4}, held(x4, x6), []netip.Addr{x4}},
		"replaced":                 {[]netip.Addr{x4}, held(y4), []netip.Addr{y4}},
		"replaced beside another":  {[]netip.Addr{x4, x6}, held(y4, x6), []netip.Addr{x6, y4}},
		"a family is given up":     {[]netip.Addr{x4, x6}, held(x4), []netip.Addr{x4}},
		"the other family instead": {[]netip.Addr{x4}, held(x6), []netip.Addr{x6}},
		"nothing is held":          {[]netip.Addr{x4}, nil, nil},
	} {
		t.Run(name, func(t *testing.T) { require.Equal(t, c.want, publishedOf(c.before, c.held)) })
	}
}

func addressesOf(b *Balancer, uid string) []netip.Addr {
	status, _ := b.Status(uid)
	var out []netip.Addr
	for _, a := range status.Held {
		out = append(out, a.Address)
	}
	return out
}
