package protocol

import (
	"bytes"
	"encoding/hex"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// plain is a packet as any router sends it.
func plain() Packet {
	return Packet{
		Diagnostic: NeighborSignaledDown, State: Init, Poll: true, DetectMultiplier: 3, MyDiscriminator: 0x01020304, YourDiscriminator: 0x05060708,
		DesiredMinTx: time.Second, RequiredMinRx: 50 * time.Millisecond,
	}
}

// The octets are those of RFC 5880 §4.1, written down by hand.
func TestEncode(t *testing.T) {
	require.Equal(t, "23a00318"+"01020304"+"05060708"+"000f4240"+"0000c350"+"00000000", hex.EncodeToString(plain().Encode("")))
	full := Packet{
		Diagnostic: 31, State: Up, Final: true, ControlPlaneIndependent: true, Demand: true, DetectMultiplier: 255,
		MyDiscriminator: 1, RequiredMinEchoRx: time.Microsecond,
	}
	require.Equal(t, "3fdaff18"+"00000001"+"00000000"+"00000000"+"00000000"+"00000001", hex.EncodeToString(full.Encode("")))
	long := Packet{DesiredMinTx: 100 * time.Hour, RequiredMinRx: -time.Second}.Encode("")
	require.Equal(t, "ffffffff"+"00000000", hex.EncodeToString(long[12:20]), "the wire's bounds")
}

// The digest is SHA-1 over the packet with the key, filled up with zeros, in the place of the
// digest (§6.7.4). It was computed by another program.
func TestEncodeAuthenticated(t *testing.T) {
	p := Packet{State: Up, DetectMultiplier: 3, MyDiscriminator: 1, YourDiscriminator: 2}
	p.Authentication = Authentication{Type: MeticulousKeyedSHA1, KeyID: 7, Sequence: 42}
	b := p.Encode("secret")
	require.Len(t, b, MaxPacket)
	require.Equal(t, "20c40334"+"00000001"+"00000002"+"00000000"+"00000000"+"00000000"+"051c0700"+"0000002a", hex.EncodeToString(b[:32]))
	require.Equal(t, "ebdd50ea977c4719975006a070a4a031af544a85", hex.EncodeToString(b[32:]))
}

func TestParseRefuses(t *testing.T) {
	authenticated := plain()
	authenticated.Authentication = Authentication{Type: KeyedSHA1, KeyID: 1, Sequence: 1}
	change := func(p Packet, at int, value byte) []byte {
		b := p.Encode("k")
		b[at] = value
		return b
	}
	for name, c := range map[string]struct {
		octets []byte
		want   error
	}{
		"nothing":                         {nil, ErrTruncated},
		"one octet too few":               {plain().Encode("")[:headerSize-1], ErrTruncated},
		"version 0":                       {change(plain(), 0, 0x03), ErrVersion},
		"version 2":                       {change(plain(), 0, 0x43), ErrVersion},
		"length below the least":          {change(plain(), 3, headerSize-1), ErrLength},
		"length beyond the payload":       {change(plain(), 3, headerSize+1), ErrLength},
		"detect multiplier 0":             {change(plain(), 2, 0), ErrDetectMultiplier},
		"multipoint":                      {change(plain(), 1, 0x81), ErrMultipoint},
		"my discriminator 0":              {Packet{State: Down, DetectMultiplier: 1}.Encode(""), ErrMyDiscriminator},
		"your discriminator 0 in Init":    {Packet{State: Init, DetectMultiplier: 1, MyDiscriminator: 1}.Encode(""), ErrYourDiscriminator},
		"your discriminator 0 in Up":      {Packet{State: Up, DetectMultiplier: 1, MyDiscriminator: 1}.Encode(""), ErrYourDiscriminator},
		"authentication without room":     {change(plain(), 1, 0x84), ErrLength},
		"authentication of a type unused": {change(authenticated, headerSize, 2), ErrAuthType},
		"authentication section too long": {change(authenticated, headerSize+1, sha1Section+1), ErrLength},
		"authentication section cut off":  {change(authenticated, 3, MaxPacket-1), ErrLength},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := Parse(c.octets)
			require.Equal(t, c.want, err)
		})
	}
	for _, p := range []Packet{
		{State: Down, DetectMultiplier: 1, MyDiscriminator: 1},
		{State: AdminDown, DetectMultiplier: 1, MyDiscriminator: 1},
	} {
		_, err := Parse(p.Encode(""))
		require.NoError(t, err, "your discriminator may be 0 in %s", p.State)
	}
}

func TestParseIgnoresWhatFollows(t *testing.T) {
	p, err := Parse(append(plain().Encode(""), 1, 2, 3))
	require.NoError(t, err)
	require.Equal(t, plain(), p)
}

// FuzzParse: whatever comes is either refused or read as what says exactly that.
func FuzzParse(f *testing.F) {
	f.Add(plain().Encode(""))
	f.Add(append(plain().Encode(""), 0))
	signed := plain()
	signed.Authentication = Authentication{Type: MeticulousKeyedSHA1, KeyID: 1, Sequence: 1 << 31}
	f.Add(signed.Encode("key"))
	f.Add([]byte{0x20, 0xc4, 1, 26, 0, 0, 0, 1, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 2})
	f.Fuzz(func(t *testing.T, octets []byte) {
		p, err := Parse(octets)
		if err != nil {
			require.Zero(t, p)
			return
		}
		again := p.Encode("")
		if p.Authentication.Type == NoAuth {
			again[3] = octets[3] // There may be more than is said.
		} else {
			// The reserved octet is ignored, and the digest is anybody's.
			require.Equal(t, octets[headerSize:headerSize+3], again[headerSize:headerSize+3])
			copy(again[headerSize+3:], octets[headerSize+3:headerSize+4])
			copy(again[headerSize+digestAt:], p.Authentication.Digest[:])
		}
		require.True(t, bytes.HasPrefix(octets, again))

		// And no packet upsets a session, whatever its state.
		s := New(Config{DesiredMinTx: time.Second, RequiredMinRx: time.Second, DetectMultiplier: 3}, 1, 1, 0)
		for range 3 {
			s, _ = s.Step(Received{Packet: p}, 0, 0.5)
		}
		require.GreaterOrEqual(t, s.DetectionTime(), time.Duration(0))
	})
}
