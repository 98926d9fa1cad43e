package ndp_test

import (
	"encoding/binary"
	"net"
	"net/netip"
	"testing"

	codec "github.com/mdlayher/ndp"
	"github.com/stretchr/testify/require"
	"golang.org/x/net/bpf"

	"baremetal.cloud/ccm/pkg/announcer/l2/ndp"
	"baremetal.cloud/ccm/pkg/announcer/l2/responder"
)

var (
	ourMAC   = net.HardwareAddr{2, 0, 0, 0, 0, 0xaa}
	askerMAC = net.HardwareAddr{2, 0, 0, 0, 0, 0xbb}
	otherMAC = net.HardwareAddr{2, 0, 0, 0, 0, 0xcc}
	groupMAC = net.HardwareAddr{0x33, 0x33, 0xff, 0, 2, 0}
	allMAC   = net.HardwareAddr{0x33, 0x33, 0, 0, 0, 1}

	vip   = netip.MustParseAddr("2001:db8::200")
	alike = netip.MustParseAddr("2001:db8:9::200")
	other = netip.MustParseAddr("2001:db8::201")
	asker = netip.MustParseAddr("fe80::bb")
	far   = netip.MustParseAddr("2001:db8:ffff::9")
	none  = netip.IPv6Unspecified()
	group = netip.MustParseAddr("ff02::1:ff00:200")
	all   = netip.MustParseAddr("ff02::1")
)

func port() *responder.Port {
	return &responder.Port{Index: 7, Name: "eth0", MAC: ourMAC, Addresses: responder.NewAddresses(vip, alike)}
}

// question is a solicitation to be; its zero fields are those of a common one.
type question struct {
	to                          net.HardwareAddr
	source, destination, target netip.Addr
	option                      net.HardwareAddr
	noOption                    bool
	message                     codec.Message
	spoil                       func(frame []byte) []byte
}

func (q question) frame(t testing.TB) []byte {
	t.Helper()
	address := func(a, otherwise netip.Addr) netip.Addr {
		if a.IsValid() {
			return a
		}
		return otherwise
	}
	q.source, q.destination, q.target = address(q.source, asker), address(q.destination, group), address(q.target, vip)
	if q.to == nil {
		q.to = groupMAC
	}
	if q.option == nil {
		q.option = askerMAC
	}
	if q.message == nil {
		ns := &codec.NeighborSolicitation{TargetAddress: q.target}
		if !q.noOption {
			ns.Options = []codec.Option{&codec.LinkLayerAddress{Direction: codec.Source, Addr: q.option}}
		}
		q.message = ns
	}
	body, err := codec.MarshalMessageChecksum(q.message, q.source, q.destination)
	require.NoError(t, err)
	frame := append(append([]byte{}, q.to...), askerMAC...)
	frame = append(frame, 0x86, 0xdd, 0x60, 0, 0, 0)
	frame = binary.BigEndian.AppendUint16(frame, uint16(len(body)))
	frame = append(frame, 58, 255)
	frame = append(append(frame, q.source.AsSlice()...), q.destination.AsSlice()...)
	frame = append(frame, body...)
	if q.spoil != nil {
		frame = q.spoil(frame)
	}
	return frame
}

// TestDecide is behaviour L7, and what else may come along.
func TestDecide(t *testing.T) {
	set := func(offset int, value ...byte) func([]byte) []byte {
		return func(frame []byte) []byte {
			copy(frame[offset:], value)
			return frame
		}
	}
	for name, test := range map[string]struct {
		question question
		want     responder.Outcome
	}{
		"multicast":                       {question{}, responder.Answered},
		"multicast without option":        {question{noOption: true}, responder.Answered},
		"unicast":                         {question{to: ourMAC, destination: vip}, responder.Answered},
		"unicast without option":          {question{to: ourMAC, destination: vip, noOption: true}, responder.Answered},
		"to the group, by our MAC":        {question{to: ourMAC}, responder.Answered},
		"duplicate address detection":     {question{source: none, noOption: true}, responder.Answered},
		"asker of another prefix":         {question{source: far}, responder.Answered},
		"address that ends alike":         {question{target: alike}, responder.Answered},
		"padded":                          {question{spoil: func(f []byte) []byte { return append(f, 0, 0, 0) }}, responder.Answered},
		"an unknown option":               {question{message: &codec.NeighborSolicitation{TargetAddress: vip, Options: []codec.Option{&codec.RawOption{Type: 77, Length: 1, Value: make([]byte, 6)}}}}, responder.Answered},
		"another address":                 {question{target: other, destination: netip.MustParseAddr("ff02::1:ff00:201")}, responder.NotOurs},
		"to a port of ours":               {question{to: otherMAC, destination: vip}, responder.Answered}, // Others do not pass the filter.
		"to another group":                {question{destination: all}, responder.NotForUs},
		"an advertisement":                {question{message: &codec.NeighborAdvertisement{TargetAddress: vip}}, responder.NotRequest},
		"a router solicitation":           {question{message: &codec.RouterSolicitation{}}, responder.NotRequest},
		"TCP":                             {question{spoil: set(20, 6)}, responder.NotRequest},
		"ours come back":                  {question{option: ourMAC}, responder.OwnFrame},
		"another machine has the address": {question{source: vip}, responder.Conflict},
		"sender is a group":               {question{option: allMAC}, responder.BadSender},
		"sender is nobody":                {question{option: make(net.HardwareAddr, 6)}, responder.BadSender},
		"source is a group":               {question{source: all}, responder.BadSender},
		"forwarded: hop limit 254":        {question{spoil: set(21, 254)}, responder.Malformed},
		"code 1":                          {question{spoil: set(55, 1)}, responder.Malformed},
		"wrong checksum":                  {question{spoil: set(56, 0, 0)}, responder.Malformed},
		"detection with an option":        {question{source: none}, responder.Malformed},
		"detection sent to the address":   {question{source: none, noOption: true, destination: vip}, responder.Malformed},
		"IPv4 EtherType":                  {question{spoil: set(12, 8, 0)}, responder.Malformed},
		"version 4":                       {question{spoil: set(14, 0x40)}, responder.Malformed},
		"length beyond the frame":         {question{spoil: set(18, 0xff)}, responder.Malformed},
		"length 0":                        {question{spoil: set(18, 0, 0)}, responder.Malformed},
		"option of length 0":              {question{spoil: set(79, 0)}, responder.Malformed},
		"cut off in the header":           {question{spoil: func(f []byte) []byte { return f[:50] }}, responder.Malformed},
		"cut off in the message":          {question{spoil: func(f []byte) []byte { return f[:70] }}, responder.Malformed},
		"nothing":                         {question{spoil: func([]byte) []byte { return nil }}, responder.Malformed},
	} {
		t.Run(name, func(t *testing.T) {
			reply, outcome := ndp.Protocol{}.Decide(test.question.frame(t), port())
			require.Equal(t, test.want.String(), outcome.String())
			require.Equal(t, test.want == responder.Answered, reply != nil)
		})
	}
}

func TestReplies(t *testing.T) {
	for name, test := range map[string]struct {
		question    question
		to          net.HardwareAddr
		destination netip.Addr
		solicited   bool
	}{
		"to the option's address":      {question{option: otherMAC}, otherMAC, asker, true},
		"to the frame's without one":   {question{noOption: true}, askerMAC, asker, true},
		"to all where nobody can hear": {question{source: none, noOption: true}, allMAC, all, false},
	} {
		t.Run(name, func(t *testing.T) {
			reply, _ := ndp.Protocol{}.Decide(test.question.frame(t), port())
			requireAdvertisement(t, reply, test.to, test.destination, test.solicited)
		})
	}
}

func TestAnnouncement(t *testing.T) {
	frames := ndp.Protocol{}.Announcement(port(), vip)
	require.Len(t, frames, 1)
	requireAdvertisement(t, frames[0], allMAC, all, false)
}

func requireAdvertisement(t testing.TB, frame []byte, to net.HardwareAddr, destination netip.Addr, solicited bool) {
	t.Helper()
	require.Equal(t, to, net.HardwareAddr(frame[:6]))
	require.Equal(t, ourMAC, net.HardwareAddr(frame[6:12]))
	require.Equal(t, []byte{58, 255}, frame[20:22])
	source, ok := netip.AddrFromSlice(frame[22:38])
	require.True(t, ok)
	require.Equal(t, destination.AsSlice(), frame[38:54])
	m, err := codec.ParseMessage(frame[54:])
	require.NoError(t, err)
	na, ok := m.(*codec.NeighborAdvertisement)
	require.True(t, ok)
	require.Equal(t, source, na.TargetAddress)
	require.True(t, port().Has(source))
	require.True(t, na.Override)
	require.False(t, na.Router)
	require.Equal(t, solicited, na.Solicited)
	require.Equal(t, []codec.Option{&codec.LinkLayerAddress{Direction: codec.Target, Addr: ourMAC}}, na.Options)
	again, err := codec.MarshalMessageChecksum(m, source, destination)
	require.NoError(t, err)
	require.Equal(t, again, frame[54:], "the checksum is right")
}

func TestGroup(t *testing.T) {
	for _, address := range []netip.Addr{vip, alike} {
		got, ok := ndp.Protocol{}.Group(address)
		require.True(t, ok)
		require.Equal(t, group, got, "addresses that end alike share one")
	}
}

// FuzzDecide: no frame is fatal, a reply is always true, and the kernel's filter never
// holds back a frame that would be answered.
func FuzzDecide(f *testing.F) {
	f.Add(question{}.frame(f))
	f.Add(question{source: none, noOption: true}.frame(f))
	f.Add(question{to: ourMAC, destination: vip, target: alike}.frame(f))
	f.Add(question{message: &codec.NeighborAdvertisement{TargetAddress: vip}}.frame(f))
	f.Add(question{}.frame(f)[:60])
	vm, err := bpf.NewVM(responder.Filter(ndp.Protocol{}, port().Addresses, 100))
	require.NoError(f, err)
	f.Fuzz(func(t *testing.T, frame []byte) {
		// A fuzzer does not guess checksums: let every message have the right one.
		reply, outcome := ndp.Protocol{}.Decide(withChecksum(frame), port())
		require.Equal(t, outcome == responder.Answered, reply != nil)
		if reply == nil {
			return
		}
		destination, _ := netip.AddrFromSlice(reply[38:54])
		m, err := codec.ParseMessage(reply[54:])
		require.NoError(t, err)
		requireAdvertisement(t, reply, net.HardwareAddr(reply[:6]), destination, m.(*codec.NeighborAdvertisement).Solicited)
		kept, err := vm.Run(frame)
		require.NoError(t, err)
		require.NotZero(t, kept, "the filter keeps what is answered")
	})
}

// withChecksum puts the right ICMPv6 checksum into a frame that has room for one.
func withChecksum(frame []byte) []byte {
	if len(frame) < 58 {
		return frame
	}
	out := append([]byte{}, frame...)
	end := 54 + int(binary.BigEndian.Uint16(out[18:]))
	if end > len(out) || end < 58 {
		return out
	}
	out[56], out[57] = 0, 0
	sum := uint32(end-54) + 58
	for i, b := range out[22:end] {
		sum += uint32(b) << (8 * (1 - i%2))
	}
	for sum > 0xffff {
		sum = sum>>16 + sum&0xffff
	}
	binary.BigEndian.PutUint16(out[56:], ^uint16(sum))
	return out
}

// TestProbe: what asks is answered by whoever answers, and the answer shows who has the
// address.
func TestProbe(t *testing.T) {
	probe := ndp.Protocol{}.Probe(otherMAC, vip)
	_, _, ok := ndp.Protocol{}.Holder(probe)
	require.False(t, ok, "a probe is no answer")
	reply, outcome := ndp.Protocol{}.Decide(probe, port())
	require.Equal(t, responder.Answered, outcome)
	got, mac, ok := ndp.Protocol{}.Holder(reply)
	require.True(t, ok)
	require.Equal(t, vip, got)
	require.Equal(t, ourMAC, mac)
	for _, asked := range []netip.Addr{vip, other} {
		vm, err := bpf.NewVM(ndp.Protocol{}.HolderFilter(responder.NewAddresses(asked)))
		require.NoError(t, err)
		n, err := vm.Run(reply)
		require.NoError(t, err)
		require.Equal(t, asked == vip, n > 0)
	}
	for _, spoil := range []int{20, 21, 22, len(reply) - 1} {
		bad := append([]byte{}, reply...)
		bad[spoil]++
		_, _, ok := ndp.Protocol{}.Holder(bad)
		require.False(t, ok, "byte %d", spoil)
	}
	require.Nil(t, ndp.Protocol{}.Probe(otherMAC, netip.MustParseAddr("192.0.2.1")))
}

// FuzzHolder: no frame is misread as somebody without an address.
func FuzzHolder(f *testing.F) {
	reply, _ := ndp.Protocol{}.Decide(ndp.Protocol{}.Probe(otherMAC, vip), port())
	f.Add(reply)
	f.Add(ndp.Protocol{}.Probe(otherMAC, vip))
	f.Fuzz(func(t *testing.T, frame []byte) {
		if address, mac, ok := (ndp.Protocol{}).Holder(frame); ok {
			require.True(t, address.Is6() && !address.IsMulticast())
			require.Len(t, mac, 6)
		}
	})
}
