package protocol

import (
	"encoding/binary"
	"errors"
	"math"
	"time"
)

const (
	version = 1
	// headerSize is the mandatory section's (RFC 5880 §4.1).
	headerSize = 24
	// MaxPacket is the size of the longest packet that is ours: one with SHA-1.
	MaxPacket = headerSize + sha1Section
)

// The bits of the second octet, below the state.
const (
	pollBit = 1 << (5 - iota)
	finalBit
	controlPlaneIndependentBit
	authenticationBit
	demandBit
	multipointBit
)

// Why a received packet does not count (RFC 5880 §6.8.6).
var (
	ErrTruncated         = errors.New("truncated")
	ErrVersion           = errors.New("version is not 1")
	ErrLength            = errors.New("length field is wrong")
	ErrDetectMultiplier  = errors.New("detect multiplier is zero")
	ErrMultipoint        = errors.New("multipoint bit is set")
	ErrMyDiscriminator   = errors.New("my discriminator is zero")
	ErrYourDiscriminator = errors.New("your discriminator is zero in state Init or Up")
	ErrAuthType          = errors.New("authentication is of a type that is not used")
	ErrAuthMissing       = errors.New("authentication is missing")
	ErrAuthKey           = errors.New("authentication key is unknown")
	ErrAuthSequence      = errors.New("authentication sequence number is outside its window")
	ErrAuthDigest        = errors.New("authentication digest is wrong")
	ErrAdminDown         = errors.New("session is administratively down")
)

// Packet is a BFD control packet (RFC 5880 §4.1).
type Packet struct {
	Diagnostic              Diagnostic
	State                   State
	Poll, Final             bool
	ControlPlaneIndependent bool
	Demand                  bool
	DetectMultiplier        uint8
	MyDiscriminator         uint32
	YourDiscriminator       uint32
	// The intervals have a resolution of a microsecond, and reach to 71 minutes.
	DesiredMinTx      time.Duration
	RequiredMinRx     time.Duration
	RequiredMinEchoRx time.Duration
	// Authentication is without a Type where there is none.
	Authentication Authentication
	// signed are the octets that a received authentication is about.
	signed [MaxPacket]byte
}

// Encode returns the packet as it goes on the wire, signed with key if it reports that it is
// authenticated.
func (p Packet) Encode(key string) []byte {
	size := headerSize
	if p.Authentication.Type != NoAuth {
		size = headerSize + sha1Section
	}
	b := make([]byte, size)
	b[0] = version<<5 | byte(p.Diagnostic)&0x1f
	b[1] = byte(p.State)<<6 | bit(p.Poll, pollBit) | bit(p.Final, finalBit) | bit(p.ControlPlaneIndependent, controlPlaneIndependentBit) |
		bit(p.Authentication.Type != NoAuth, authenticationBit) | bit(p.Demand, demandBit)
	b[2], b[3] = p.DetectMultiplier, byte(size)
	for i, v := range []uint32{
		p.MyDiscriminator, p.YourDiscriminator, microseconds(p.DesiredMinTx), microseconds(p.RequiredMinRx), microseconds(p.RequiredMinEchoRx),
	} {
		binary.BigEndian.PutUint32(b[4+4*i:], v)
	}
	if p.Authentication.Type != NoAuth {
		p.Authentication.signPacket(b, key)
	}
	return b
}

// Parse reads a packet and checks all that can be said of it without knowing its session
// (RFC 5880 §6.8.6). Octets behind the length that the packet gives are ignored.
func Parse(b []byte) (Packet, error) {
	if len(b) < headerSize {
		return Packet{}, ErrTruncated
	}
	flags, size := b[1], int(b[3])
	p := Packet{
		Diagnostic: Diagnostic(b[0] & 0x1f), State: State(flags >> 6),
		Poll: flags&pollBit != 0, Final: flags&finalBit != 0,
		ControlPlaneIndependent: flags&controlPlaneIndependentBit != 0, Demand: flags&demandBit != 0,
		DetectMultiplier: b[2],
		MyDiscriminator:  binary.BigEndian.Uint32(b[4:]), YourDiscriminator: binary.BigEndian.Uint32(b[8:]),
		DesiredMinTx: parseInterval(b[12:]), RequiredMinRx: parseInterval(b[16:]), RequiredMinEchoRx: parseInterval(b[20:]),
	}
	switch {
	case b[0]>>5 != version:
		return Packet{}, ErrVersion
	case size < headerSize || size > len(b):
		return Packet{}, ErrLength
	case p.DetectMultiplier == 0:
		return Packet{}, ErrDetectMultiplier
	case flags&multipointBit != 0:
		return Packet{}, ErrMultipoint
	case p.MyDiscriminator == 0:
		return Packet{}, ErrMyDiscriminator
	case p.YourDiscriminator == 0 && p.State >= Init:
		return Packet{}, ErrYourDiscriminator
	}
	if flags&authenticationBit != 0 {
		var err error
		if p.Authentication, err = parseAuthentication(b[headerSize:size]); err != nil {
			return Packet{}, err
		}
		copy(p.signed[:], b)
	}
	return p, nil
}

func bit(set bool, mask byte) byte {
	if set {
		return mask
	}
	return 0
}

// microseconds returns d as the wire has it. One that is too long becomes the longest.
func microseconds(d time.Duration) uint32 {
	return uint32(min(max(d.Microseconds(), 0), math.MaxUint32))
}

func parseInterval(b []byte) time.Duration {
	return time.Duration(binary.BigEndian.Uint32(b)) * time.Microsecond
}
