package protocol

import (
	"crypto/sha1"
	"crypto/subtle"
	"encoding/binary"
	"fmt"
)

// AuthType is a type of authentication (RFC 5880 §4.1).
type AuthType uint8

const (
	NoAuth AuthType = 0
	// KeyedSHA1 and MeticulousKeyedSHA1 are the two that every implementation of
	// authentication must have (§6.7). The meticulous one lets no packet count twice.
	KeyedSHA1           AuthType = 4
	MeticulousKeyedSHA1 AuthType = 5
)

const (
	// sha1Section is the size of an authentication section with SHA-1 (§4.4), whose
	// digest begins at digestAt.
	sha1Section = 28
	digestAt    = 8
	// MaxKey is the longest key, in octets.
	MaxKey = sha1.Size
)

// Auth is how a session's packets are authenticated. Both systems must have the same.
type Auth struct {
	// Type is KeyedSHA1 or MeticulousKeyedSHA1.
	Type AuthType
	// KeyID names the key to the peer.
	KeyID uint8
	// Key has 1 to MaxKey octets.
	Key string
}

// Check says what of a cannot be used.
func (a Auth) Check() error {
	if a.Type != KeyedSHA1 && a.Type != MeticulousKeyedSHA1 {
		return fmt.Errorf("authentication type %d: there is keyed SHA-1 (%d) and meticulous keyed SHA-1 (%d)", a.Type, KeyedSHA1, MeticulousKeyedSHA1)
	}
	if len(a.Key) == 0 || len(a.Key) > MaxKey {
		return fmt.Errorf("authentication key of %d octets: a SHA-1 key has 1 to %d", len(a.Key), MaxKey)
	}
	return nil
}

// Authentication is a packet's authentication section, for SHA-1 (RFC 5880 §4.4).
type Authentication struct {
	Type     AuthType
	KeyID    uint8
	Sequence uint32
	Digest   [sha1.Size]byte
}

// parseAuthentication reads what is between the mandatory section and the packet's end.
func parseAuthentication(b []byte) (Authentication, error) {
	if len(b) < 2 {
		return Authentication{}, ErrLength
	}
	a := Authentication{Type: AuthType(b[0])}
	if a.Type != KeyedSHA1 && a.Type != MeticulousKeyedSHA1 {
		return Authentication{}, ErrAuthType
	}
	if len(b) != sha1Section || int(b[1]) != sha1Section {
		return Authentication{}, ErrLength
	}
	a.KeyID, a.Sequence, a.Digest = b[2], binary.BigEndian.Uint32(b[4:]), [sha1.Size]byte(b[digestAt:])
	return a, nil
}

// signPacket writes the section into the packet b, which has room for it.
func (a Authentication) signPacket(b []byte, key string) {
	section := b[headerSize:]
	section[0], section[1], section[2], section[3] = byte(a.Type), sha1Section, a.KeyID, 0
	binary.BigEndian.PutUint32(section[4:], a.Sequence)
	sum := packetDigest([MaxPacket]byte(b), key)
	copy(section[digestAt:], sum[:])
}

// packetDigest is the hash of a packet with the key, filled up with zeros, in place of the digest
// (RFC 5880 §6.7.4).
func packetDigest(packet [MaxPacket]byte, key string) [sha1.Size]byte {
	place := packet[headerSize+digestAt:]
	clear(place)
	copy(place, key)
	return sha1.Sum(packet[:])
}

// checkAuthentication checks a received packet against what the session uses (RFC 5880 §6.7.4).
// Nothing of s changes: what does not count leaves no trace.
func (s *Session) checkAuthentication(p Packet) error {
	a := s.config.Auth
	if a.Type == NoAuth {
		if p.Authentication.Type != NoAuth {
			return ErrAuthType
		}
		return nil
	}
	switch {
	case p.Authentication.Type == NoAuth:
		return ErrAuthMissing
	case p.Authentication.Type != a.Type:
		return ErrAuthType
	case p.Authentication.KeyID != a.KeyID:
		return ErrAuthKey
	case !s.inWindow(p):
		return ErrAuthSequence
	}
	want := packetDigest(p.signed, a.Key)
	if subtle.ConstantTimeCompare(want[:], p.Authentication.Digest[:]) != 1 {
		return ErrAuthDigest
	}
	return nil
}

// inWindow reports whether the packet's sequence number may follow the last: circular, at
// most three detect multipliers further, and with the meticulous type at least one.
func (s *Session) inWindow(p Packet) bool {
	if !s.sequenceKnown {
		return true
	}
	step := p.Authentication.Sequence - s.receivedSequence
	return step <= 3*uint32(p.DetectMultiplier) && (step > 0 || s.config.Auth.Type == KeyedSHA1)
}

// authenticatePacket gives a packet its authentication section before it is sent. The sequence
// number goes up with every packet, or, where that is enough, with every different one.
func (s *Session) authenticatePacket(p *Packet) {
	a := s.config.Auth
	if a.Type == NoAuth {
		return
	}
	if a.Type == MeticulousKeyedSHA1 || s.sent.unsigned() != *p {
		s.sequence++
	}
	p.Authentication = Authentication{Type: a.Type, KeyID: a.KeyID, Sequence: s.sequence}
}
