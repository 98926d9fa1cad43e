package dialer

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"testing"

	packet "github.com/osrg/gobgp/v3/pkg/packet/bgp"
	"github.com/stretchr/testify/require"
)

// ours is what a node offers, and theirs what a router does that knows the same.
var (
	both = Families{IPv4: true, IPv6: true}
	ours = Open{
		ASN: 4200000001, HoldTime: 9, Identifier: [4]byte{192, 0, 2, 11}, MultiProtocol: true, Families: both, FourOctet: true, RouteRefresh: true,
		GracefulRestart: GracefulRestart{Offered: true, Notification: true, Restarting: true, Time: 120, Families: both, Forwarding: both},
	}
	theirs = Open{
		ASN: 64513, HoldTime: 180, Identifier: [4]byte{192, 0, 2, 1}, MultiProtocol: true, Families: both, FourOctet: true, RouteRefresh: true,
		GracefulRestart: GracefulRestart{Offered: true, Notification: true, Time: 90, Families: both},
	}
)

// open returns an OPEN with those bytes as its capabilities.
func open(capabilities ...byte) frame {
	body := []byte{4, 0xfc, 1, 0, 180, 192, 0, 2, 1, byte(len(capabilities) + 2), 2, byte(len(capabilities))}
	return seal(kindOpen, append(body, capabilities...))
}

// update returns an UPDATE of these parts (RFC 4271 section 4.3).
func update(withdrawn, attributes, announced []byte) frame {
	body := binary.BigEndian.AppendUint16(nil, uint16(len(withdrawn)))
	body = append(body, withdrawn...)
	body = append(binary.BigEndian.AppendUint16(body, uint16(len(attributes))), attributes...)
	return seal(kindUpdate, append(body, announced...))
}

func TestHeader(t *testing.T) {
	header := func(change func([]byte)) []byte {
		h := seal(kindKeepalive, nil)
		change(h)
		return h
	}
	for name, tt := range map[string]struct {
		header []byte
		want   *Notification
	}{
		"in order":             {header(func([]byte) {}), nil},
		"another marker":       {header(func(h []byte) { h[7] = 0 }), &Notification{1, 1, nil}},
		"shorter than itself":  {header(func(h []byte) { h[17] = 18 }), &Notification{1, 2, []byte{0, 18}}},
		"longer than allowed":  {header(func(h []byte) { h[16], h[17] = 0x10, 1 }), &Notification{1, 2, []byte{0x10, 1}}},
		"KEEPALIVE with body":  {header(func(h []byte) { h[17] = 20 }), &Notification{1, 2, []byte{0, 20}}},
		"OPEN without body":    {header(func(h []byte) { h[18] = 1 }), &Notification{1, 2, []byte{0, 19}}},
		"UPDATE that is short": {header(func(h []byte) { h[17], h[18] = 22, 2 }), &Notification{1, 2, []byte{0, 22}}},
		"another type":         {header(func(h []byte) { h[18] = 6 }), &Notification{1, 3, []byte{6}}},
	} {
		_, got := checkHeader(tt.header)
		require.Equal(t, tt.want, got, name)
	}
}

func TestParseOpen(t *testing.T) {
	plain := Open{ASN: 64513, HoldTime: 180, Identifier: [4]byte{192, 0, 2, 1}}
	with := func(change func(*Open)) Open {
		o := plain
		change(&o)
		return o
	}
	extended := func(length int, parameters ...byte) frame { // RFC 9072
		body := []byte{4, 0xfc, 1, 0, 180, 192, 0, 2, 1, 255, 255, 0, byte(length)}
		return seal(kindOpen, append(body, parameters...))
	}
	for name, tt := range map[string]struct {
		f    frame
		want Open
		bad  *Notification
	}{
		"no parameters":     {f: seal(kindOpen, []byte{4, 0xfc, 1, 0, 180, 192, 0, 2, 1, 0}), want: plain},
		"no capabilities":   {f: open(), want: plain},
		"IPv4":              {f: open(1, 4, 0, 1, 0, 1), want: with(func(o *Open) { o.MultiProtocol, o.Families.IPv4 = true, true })},
		"a VPN":             {f: open(1, 4, 0, 1, 0, 128), want: with(func(o *Open) { o.MultiProtocol = true })},
		"four octets":       {f: open(65, 4, 0xfa, 0x56, 0xea, 1), want: with(func(o *Open) { o.FourOctet, o.ASN = true, 4200000001 })},
		"next hops":         {f: open(5, 6, 0, 1, 0, 1, 0, 2), want: with(func(o *Open) { o.ExtendedNextHop = true })},
		"next hops of VPNs": {f: open(5, 6, 0, 1, 0, 128, 0, 2), want: plain},
		"next hops of IPv4": {f: open(5, 6, 0, 1, 0, 1, 0, 1), want: plain},
		"graceful restart": {f: open(64, 6, 0xc0, 90, 0, 2, 1, 0x80), want: with(func(o *Open) {
			o.GracefulRestart = GracefulRestart{true, true, true, 90, Families{IPv6: true}, Families{IPv6: true}}
		})},
		"one that is unknown":     {f: open(200, 3, 1, 2, 3, 2, 0), want: with(func(o *Open) { o.RouteRefresh = true })},
		"long lengths":            {f: extended(7, 2, 0, 4, 200, 2, 1, 2), want: plain},
		"long lengths that lie":   {f: extended(8, 2, 0, 4, 200, 2, 1, 2), bad: &Notification{2, 0, nil}},
		"another version":         {f: seal(kindOpen, []byte{5, 0xfc, 1, 0, 180, 192, 0, 2, 1, 0}), bad: &Notification{2, 1, []byte{0, 4}}},
		"AS 0":                    {f: seal(kindOpen, []byte{4, 0, 0, 0, 180, 192, 0, 2, 1, 0}), bad: &Notification{2, 2, nil}},
		"AS 0 of four octets":     {f: open(65, 4, 0, 0, 0, 0), bad: &Notification{2, 2, nil}},
		"no identifier":           {f: seal(kindOpen, []byte{4, 0xfc, 1, 0, 180, 0, 0, 0, 0, 0}), bad: &Notification{2, 3, nil}},
		"a hold time of 2":        {f: seal(kindOpen, []byte{4, 0xfc, 1, 0, 2, 192, 0, 2, 1, 0}), bad: &Notification{2, 6, nil}},
		"another parameter":       {f: seal(kindOpen, []byte{4, 0xfc, 1, 0, 180, 192, 0, 2, 1, 2, 1, 0}), bad: &Notification{2, 4, nil}},
		"parameters that lie":     {f: seal(kindOpen, []byte{4, 0xfc, 1, 0, 180, 192, 0, 2, 1, 9, 2, 0}), bad: &Notification{2, 0, nil}},
		"a capability that lies":  {f: open(65, 9, 0, 0, 0, 1), bad: &Notification{2, 0, nil}},
		"four octets of none":     {f: open(65, 0, 1, 4, 0, 1, 0, 1), bad: &Notification{2, 0, nil}},
		"a family of three bytes": {f: open(1, 3, 0, 1, 0), bad: &Notification{2, 0, nil}},
		"restart of three bytes":  {f: open(64, 3, 0, 90, 0), bad: &Notification{2, 0, nil}},
	} {
		got, bad := parseOpen(tt.f.body())
		require.Equal(t, tt.bad, bad, name)
		require.Equal(t, tt.want, got, name)
	}
}

// What is written is read as the same, by this package and by gobgp.
func TestOpenFrame(t *testing.T) {
	for _, o := range []Open{ours, theirs, {ASN: 1, HoldTime: 3, Identifier: [4]byte{1}}, {ASN: 1, Identifier: [4]byte{1}, MultiProtocol: true}} {
		got, bad := parseOpen(o.frame().body())
		require.Nil(t, bad)
		require.Equal(t, o, got)
		_, err := packet.ParseBGPMessage(o.frame())
		require.NoError(t, err)
	}
}

func TestNotificationText(t *testing.T) {
	for want, n := range map[string]Notification{
		"OPEN Message Error, Bad Peer AS (2/2)":                                 {2, 2, []byte{1}},
		`Cease, Administrative Shutdown (6/2) ("maintenance")`:                  {6, 2, append([]byte{11}, "maintenance"...)},
		"Cease, Administrative Shutdown (6/2)":                                  {6, 2, []byte{12, 'x'}},
		"unknown error (200/3)":                                                 {200, 3, nil},
		"Cease, Hard Reset (6/9) for Cease, BFD Down (6/10)":                    {6, 9, []byte{6, 10}},
		"Cease, Hard Reset (6/9)":                                               {6, 9, []byte{6, 9, 6, 9}},
		`Cease, Hard Reset (6/9) for Cease, Administrative Reset (6/4) ("now")`: {6, 9, append([]byte{6, 4, 3}, "now"...)},
		"Cease (6/200)": {6, 200, nil},
	} {
		require.Equal(t, want, n.String())
		require.Equal(t, n.String(), parseNotification(n.frame().body()).String())
	}
}

func TestCountUpdate(t *testing.T) {
	reach := []byte{0x80, 14, 5 + 16 + 9 + 1, 0, 2, 1, 16, 15: 0, 16: 0, 17: 0, 18: 0, 19: 0, 20: 0, 21: 0, 22: 0, 23: 0}
	reach = append(reach, 64, 1, 2, 3, 4, 5, 6, 7, 8, 0)
	for name, tt := range map[string]struct {
		f    frame
		want contents
		ok   bool
	}{
		"End-of-RIB":                  {endOfRIB(Families{IPv4: true}), contents{end: Families{IPv4: true}}, true},
		"End-of-RIB of IPv6":          {endOfRIB(Families{IPv6: true}), contents{end: Families{IPv6: true}}, true},
		"End-of-RIB, a longer length": {update(nil, []byte{0x90, 15, 0, 3, 0, 2, 1}, nil), contents{end: Families{IPv6: true}}, true},
		"with something else":         {update(nil, []byte{0x40, 1, 1, 0, 0x80, 15, 3, 0, 2, 1}, nil), contents{}, true},
		"three prefixes":              {update([]byte{8, 10}, []byte{0x40, 1, 1, 0}, []byte{0, 32, 1, 2, 3, 4, 9, 1, 2}), contents{announced: 3}, true},
		"two of IPv6":                 {update(nil, reach, nil), contents{announced: 2}, true},
		"a prefix that is cut":        {update(nil, []byte{0x40, 1, 1, 0}, []byte{32, 1, 2, 3}), contents{}, false},
		"a withdrawn one that is cut": {update([]byte{32, 1}, nil, nil), contents{}, false},
		"an attribute that is cut":    {update(nil, []byte{0x40, 1, 2, 0}, nil), contents{}, false},
		"attributes that lie":         {seal(kindUpdate, []byte{0, 0, 0, 9}), contents{}, false},
		"withdrawn ones that lie":     {seal(kindUpdate, []byte{0, 9, 0, 0}), contents{}, false},
		"a next hop that lies":        {update(nil, []byte{0x80, 14, 5, 0, 2, 1, 16, 0}, nil), contents{}, false},
	} {
		got, ok := countUpdate(tt.f.body())
		require.Equal(t, tt.ok, ok, name)
		require.Equal(t, tt.want, got, name)
	}
}

// FuzzOpen: whatever a router offers, gobgp reads an OPEN in canonical form, with nothing that
// the node did not offer itself.
func FuzzOpen(f *testing.F) {
	f.Add(theirs.frame().body())
	f.Add(open(65, 0, 1, 4, 0, 1, 0, 1).body()) // GHSA-gjrg-jjr3-56cm: the length of another capability
	f.Add(open(75, 1, 0).body())                // CVE-2025-43971: a software version without one
	f.Add(open(73, 2, 200, 1).body())
	f.Add(open(69, 5, 0, 1, 1, 3, 9, 71, 1, 0).body())
	f.Fuzz(func(t *testing.T, body []byte) {
		if len(body) < 10 || len(body) > maxLength-headerLength {
			return
		}
		o, bad := parseOpen(body)
		if bad != nil {
			require.EqualValues(t, codeOpen, bad.Code)
			return
		}
		again, bad := parseOpen(o.frame().body())
		require.Nil(t, bad)
		require.Equal(t, o.Takes(), again.Takes())
		told := Config{Open: ours, WithoutHoldTime: true}.forGobgp(o)
		require.True(t, both.has(told.Families))
		require.NotZero(t, told.HoldTime)
		message, err := packet.ParseBGPMessage(told.frame())
		require.NoError(t, err)
		_, err = packet.ValidateOpenMsg(message.Body.(*packet.BGPOpen), o.ASN, ours.ASN, nil)
		require.NoError(t, err)
	})
}

// FuzzUpdateCount: counting never looks past the body, and finds no more prefixes than bytes.
func FuzzUpdateCount(f *testing.F) {
	for _, shape := range advisories() {
		f.Add(shape.f.body())
	}
	f.Add(endOfRIB(Families{IPv6: true}).body())
	f.Fuzz(func(t *testing.T, body []byte) {
		if len(body) < 4 {
			return
		}
		c, ok := countUpdate(append([]byte(nil), body...))
		require.LessOrEqual(t, c.announced, len(body))
		if c.end != (Families{}) {
			require.True(t, ok)
			require.Zero(t, c.announced)
			require.LessOrEqual(t, len(body), 11)
		}
	})
}

// FuzzFrame: whatever bytes a router sends on an established session, gobgp reads only messages
// that this package writes.
func FuzzFrame(f *testing.F) {
	f.Add([]byte(keepalive()))
	f.Add([]byte(refresh(Families{IPv6: true})))
	f.Add([]byte((&Notification{6, 2, []byte{3, 'b', 'y', 'e'}}).frame()))
	f.Add(append([]byte(endOfRIB(Families{IPv4: true})), endOfRIB(Families{IPv6: true})...))
	for _, shape := range advisories() {
		f.Add([]byte(shape.f))
	}
	known := [][]byte{keepalive(), endOfRIB(Families{IPv4: true}), endOfRIB(Families{IPv6: true}), refresh(Families{IPv4: true}), refresh(Families{IPv6: true})}
	f.Fuzz(func(t *testing.T, data []byte) {
		r, told := deaf(t)
		in := bufio.NewReaderSize(bytes.NewReader(data), buffer)
		for {
			m, err := readFrame(in)
			if err != nil {
				break
			}
			if _, over := r.hear(m, r.alive); over {
				break
			}
		}
		out := bufio.NewReaderSize(bytes.NewReader(told.Bytes()), buffer)
		for {
			m, err := readFrame(out)
			if err != nil {
				require.Zero(t, out.Buffered())
				return
			}
			if m.kind() == kindNotification {
				require.Len(t, m.body(), 2)
				require.LessOrEqual(t, m.body()[0], byte(codeCease))
				continue
			}
			require.Contains(t, known, []byte(m))
		}
	})
}
