package arp_test

import (
	"net"
	"net/netip"
	"testing"

	codec "github.com/mdlayher/arp"
	"github.com/stretchr/testify/require"
	"golang.org/x/net/bpf"

	"baremetal.cloud/ccm/pkg/announcer/l2/arp"
	"baremetal.cloud/ccm/pkg/announcer/l2/responder"
)

var (
	ourMAC   = net.HardwareAddr{2, 0, 0, 0, 0, 0xaa}
	askerMAC = net.HardwareAddr{2, 0, 0, 0, 0, 0xbb}
	otherMAC = net.HardwareAddr{2, 0, 0, 0, 0, 0xcc}
	toAll    = net.HardwareAddr{0xff, 0xff, 0xff, 0xff, 0xff, 0xff}
	noMAC    = net.HardwareAddr{0, 0, 0, 0, 0, 0}

	vip   = netip.MustParseAddr("192.0.2.200")
	vip2  = netip.MustParseAddr("192.0.2.202")
	other = netip.MustParseAddr("192.0.2.201")
	asker = netip.MustParseAddr("192.0.2.1")
	far   = netip.MustParseAddr("203.0.113.9")
	none  = netip.IPv4Unspecified()
)

func port() *responder.Port {
	return &responder.Port{Index: 7, Name: "eth0", MAC: ourMAC, Addresses: responder.NewAddresses(vip, vip2)}
}

// question is an ARP packet to be; its zero fields are those of a common request.
type question struct {
	to, from, sender net.HardwareAddr
	operation        codec.Operation
	senderIP, target netip.Addr
	spoil            func(frame []byte) []byte
}

func (q question) frame(t testing.TB) []byte {
	t.Helper()
	def := func(mac, otherwise net.HardwareAddr) net.HardwareAddr {
		if mac == nil {
			return otherwise
		}
		return mac
	}
	if q.operation == 0 {
		q.operation = codec.OperationRequest
	}
	if !q.senderIP.IsValid() {
		q.senderIP = asker
	}
	if !q.target.IsValid() {
		q.target = vip
	}
	p, err := codec.NewPacket(q.operation, def(q.sender, askerMAC), q.senderIP, noMAC, q.target)
	require.NoError(t, err)
	body, err := p.MarshalBinary()
	require.NoError(t, err)
	frame := append(append(append([]byte{}, def(q.to, toAll)...), def(q.from, askerMAC)...), 0x08, 0x06)
	frame = append(frame, body...)
	if q.spoil != nil {
		frame = q.spoil(frame)
	}
	return frame
}

// TestDecide is behaviour L5, and what else may come along.
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
		"broadcast request":                   {question{}, responder.Answered},
		"unicast request":                     {question{to: ourMAC}, responder.Answered},
		"second address":                      {question{target: vip2}, responder.Answered},
		"asker of another subnet":             {question{senderIP: far}, responder.Answered},
		"probe by a host without address":     {question{senderIP: none}, responder.Answered},
		"padded to the least Ethernet frame":  {question{spoil: func(f []byte) []byte { return append(f, make([]byte, 18)...) }}, responder.Answered},
		"relayed: header and packet disagree": {question{from: otherMAC}, responder.Answered},
		"asker that uses another of ours":     {question{senderIP: vip2}, responder.Answered},
		"reply":                               {question{operation: codec.OperationReply}, responder.NotRequest},
		"operation 3, RARP":                   {question{operation: 3}, responder.NotRequest},
		"sent to a port of ours":              {question{to: otherMAC}, responder.Answered}, // Others do not pass the filter.
		"sent to a group":                     {question{to: net.HardwareAddr{1, 0, 0x5e, 0, 0, 1}}, responder.NotForUs},
		"another address":                     {question{target: other}, responder.NotOurs},
		"ours come back":                      {question{from: ourMAC, sender: ourMAC, senderIP: vip}, responder.OwnFrame},
		"another machine announces ours":      {question{senderIP: vip}, responder.Conflict},
		"sender is everybody":                 {question{sender: toAll}, responder.BadSender},
		"sender is a group":                   {question{sender: net.HardwareAddr{1, 0, 0x5e, 0, 0, 1}}, responder.BadSender},
		"sender is nobody":                    {question{sender: noMAC}, responder.BadSender},
		"other EtherType":                     {question{spoil: set(12, 0x08, 0x00)}, responder.Malformed},
		"other hardware type":                 {question{spoil: set(14, 0, 6)}, responder.Malformed},
		"other protocol type":                 {question{spoil: set(16, 0x86, 0xdd)}, responder.Malformed},
		"hardware addresses of 8 bytes":       {question{spoil: func(f []byte) []byte { return append(set(18, 8)(f), make([]byte, 18)...) }}, responder.Malformed},
		"protocol addresses of 16 bytes":      {question{spoil: func(f []byte) []byte { return append(set(19, 16)(f), make([]byte, 40)...) }}, responder.Malformed},
		"protocol addresses of 5 bytes":       {question{spoil: func(f []byte) []byte { return append(set(19, 5)(f), make([]byte, 40)...) }}, responder.Malformed},
		"cut off in the header":               {question{spoil: func(f []byte) []byte { return f[:13] }}, responder.Malformed},
		"cut off in the packet":               {question{spoil: func(f []byte) []byte { return f[:41] }}, responder.Malformed},
		"nothing":                             {question{spoil: func([]byte) []byte { return nil }}, responder.Malformed},
	} {
		t.Run(name, func(t *testing.T) {
			reply, outcome := arp.Protocol{}.Decide(test.question.frame(t), port())
			require.Equal(t, test.want.String(), outcome.String())
			require.Equal(t, test.want == responder.Answered, reply != nil)
		})
	}
}

func TestReply(t *testing.T) {
	q := question{to: ourMAC, from: otherMAC, senderIP: far}
	reply, _ := arp.Protocol{}.Decide(q.frame(t), port())
	require.Equal(t, askerMAC, net.HardwareAddr(reply[:6]), "straight to who asks")
	require.Equal(t, ourMAC, net.HardwareAddr(reply[6:12]))
	require.Equal(t, []byte{0x08, 0x06}, reply[12:14])
	require.Equal(t, codec.Packet{
		HardwareType: 1, ProtocolType: 0x0800, HardwareAddrLength: 6, IPLength: 4,
		Operation:          codec.OperationReply,
		SenderHardwareAddr: ourMAC, SenderIP: vip,
		TargetHardwareAddr: askerMAC, TargetIP: far,
	}, decode(t, reply))
}

func TestAnnouncement(t *testing.T) {
	frames := arp.Protocol{}.Announcement(port(), vip)
	require.Len(t, frames, 2)
	for i, want := range []struct {
		operation codec.Operation
		target    net.HardwareAddr
	}{{codec.OperationRequest, noMAC}, {codec.OperationReply, ourMAC}} {
		require.Equal(t, toAll, net.HardwareAddr(frames[i][:6]))
		require.Equal(t, ourMAC, net.HardwareAddr(frames[i][6:12]))
		p := decode(t, frames[i])
		require.Equal(t, want.operation, p.Operation)
		require.Equal(t, want.target, p.TargetHardwareAddr)
		require.Equal(t, ourMAC, p.SenderHardwareAddr)
		require.Equal(t, [2]netip.Addr{vip, vip}, [2]netip.Addr{p.SenderIP, p.TargetIP})
	}
}

// FuzzDecide: no frame is fatal, a reply is always true and goes to one machine, and the
// kernel's filter never holds back a frame that would be answered.
func FuzzDecide(f *testing.F) {
	f.Add(question{}.frame(f))
	f.Add(question{to: ourMAC, senderIP: none, target: vip2}.frame(f))
	f.Add(question{target: other}.frame(f))
	f.Add(question{operation: codec.OperationReply}.frame(f))
	f.Add(question{senderIP: vip}.frame(f))
	f.Add(question{}.frame(f)[:30])
	vm, err := bpf.NewVM(responder.Filter(arp.Protocol{}, port().Addresses, 100))
	require.NoError(f, err)
	f.Fuzz(func(t *testing.T, frame []byte) {
		reply, outcome := arp.Protocol{}.Decide(frame, port())
		require.Equal(t, outcome == responder.Answered, reply != nil)
		if reply == nil {
			return
		}
		require.Zero(t, reply[0]&1, "one machine only")
		p := decode(t, reply)
		require.Equal(t, codec.OperationReply, p.Operation)
		require.True(t, port().Has(p.SenderIP))
		require.Equal(t, ourMAC, p.SenderHardwareAddr)
		kept, err := vm.Run(frame)
		require.NoError(t, err)
		require.NotZero(t, kept, "the filter keeps what is answered")
	})
}

func decode(t testing.TB, frame []byte) codec.Packet {
	t.Helper()
	var p codec.Packet
	require.NoError(t, p.UnmarshalBinary(frame[14:]))
	return p
}

func BenchmarkDecide(b *testing.B) {
	frame, p := question{}.frame(b), port()
	b.ReportAllocs()
	for b.Loop() {
		arp.Protocol{}.Decide(frame, p)
	}
}

// TestProbe: what asks is answered by whoever answers, teaches nobody anything, and the
// answer shows who has the address.
func TestProbe(t *testing.T) {
	probe := arp.Protocol{}.Probe(otherMAC, vip)
	_, _, ok := arp.Protocol{}.Holder(probe)
	require.False(t, ok, "a probe is no answer")
	reply, outcome := arp.Protocol{}.Decide(probe, port())
	require.Equal(t, responder.Answered, outcome)
	holder(t, reply, vip)
	for _, frame := range (arp.Protocol{}).Announcement(port(), vip) {
		holder(t, frame, vip)
	}
	require.Nil(t, arp.Protocol{}.Probe(otherMAC[:3], vip))
}

// holder wants that frame shows that we have address, and passes the filter for it only.
func holder(t *testing.T, frame []byte, address netip.Addr) {
	t.Helper()
	got, mac, ok := arp.Protocol{}.Holder(frame)
	require.True(t, ok)
	require.Equal(t, address, got)
	require.Equal(t, ourMAC, mac)
	for _, asked := range []netip.Addr{address, other} {
		vm, err := bpf.NewVM(arp.Protocol{}.HolderFilter(responder.NewAddresses(asked)))
		require.NoError(t, err)
		n, err := vm.Run(frame)
		require.NoError(t, err)
		require.Equal(t, asked == address, n > 0)
	}
}

// FuzzHolder: no frame is misread as somebody without an address.
func FuzzHolder(f *testing.F) {
	reply, _ := arp.Protocol{}.Decide(arp.Protocol{}.Probe(otherMAC, vip), port())
	f.Add(reply)
	f.Add(arp.Protocol{}.Probe(otherMAC, vip))
	f.Fuzz(func(t *testing.T, frame []byte) {
		if address, mac, ok := (arp.Protocol{}).Holder(frame); ok {
			require.True(t, address.Is4() && !address.IsUnspecified())
			require.Len(t, mac, 6)
		}
	})
}
