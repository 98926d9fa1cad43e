package dialer

import (
	"bufio"
	"encoding/binary"
)

const (
	// headerLength is the length of marker, length and type, and maxLength that of the longest
	// message (RFC 4271 section 4.1). The longer ones of RFC 8654 are not negotiated.
	headerLength = 19
	maxLength    = 4096
)

// kind is the type of a message (RFC 4271 section 4.1, RFC 2918).
type kind uint8

const (
	kindOpen kind = 1 + iota
	kindUpdate
	kindNotification
	kindKeepalive
	kindRefresh
)

// lengths returns the least and the greatest length of a message of that type; 0 for a type
// that is unknown (RFC 4271 section 6.1, RFC 2918 section 3).
func (k kind) lengths() (least, most int) {
	switch k {
	case kindOpen:
		return 29, maxLength
	case kindUpdate:
		return 23, maxLength
	case kindNotification:
		return 21, maxLength
	case kindKeepalive:
		return headerLength, headerLength
	case kindRefresh:
		return 23, 23
	}
	return 0, 0
}

// frame is one whole message whose header is in order.
type frame []byte

func (f frame) kind() kind   { return kind(f[headerLength-1]) }
func (f frame) body() []byte { return f[headerLength:] }

// readFrame reads one message. It is valid until the next one is read. The error is a
// *Notification if the header is not in order.
func readFrame(r *bufio.Reader) (frame, error) {
	header, err := r.Peek(headerLength)
	if err != nil {
		return nil, err
	}
	length, bad := checkHeader(header)
	if bad != nil {
		return nil, bad
	}
	whole, err := r.Peek(length)
	if err != nil {
		return nil, err
	}
	_, err = r.Discard(length)
	return whole, err
}

// checkHeader returns the length of the message that begins with a header (RFC 4271 section 6.1).
func checkHeader(header []byte) (int, *Notification) {
	for _, b := range header[:16] {
		if b != 0xff {
			return 0, &Notification{Code: codeHeader, Subcode: 1}
		}
	}
	length, k := int(binary.BigEndian.Uint16(header[16:])), kind(header[18])
	least, most := k.lengths()
	switch {
	case length < headerLength || length > maxLength:
		return 0, &Notification{Code: codeHeader, Subcode: 2, Data: header[16:18:18]}
	case least == 0:
		return 0, &Notification{Code: codeHeader, Subcode: 3, Data: header[18:19:19]}
	case length < least || length > most:
		return 0, &Notification{Code: codeHeader, Subcode: 2, Data: header[16:18:18]}
	}
	return length, nil
}

// seal returns the message of a type that has body.
func seal(k kind, body []byte) frame {
	out := make([]byte, headerLength, headerLength+len(body))
	for i := range 16 {
		out[i] = 0xff
	}
	out[18] = byte(k)
	out = append(out, body...)
	binary.BigEndian.PutUint16(out[16:], uint16(len(out))) //nolint:gosec // At most maxLength.
	return out
}

// Families are the families that a node has prefixes of: IPv4 and IPv6 unicast.
type Families struct{ IPv4, IPv6 bool }

// and returns what is in both.
func (f Families) and(g Families) Families { return Families{f.IPv4 && g.IPv4, f.IPv6 && g.IPv6} }

// has reports whether all of g are in f.
func (f Families) has(g Families) bool { return f.and(g) == g }

// or returns what is in either.
func (f Families) or(g Families) Families { return Families{f.IPv4 || g.IPv4, f.IPv6 || g.IPv6} }

// each returns the families one by one.
func (f Families) each() []Families {
	var out []Families
	if f.IPv4 {
		out = append(out, Families{IPv4: true})
	}
	if f.IPv6 {
		out = append(out, Families{IPv6: true})
	}
	return out
}

// Numbers of families (RFC 4760 section 3).
const (
	afiIPv4, afiIPv6           = 1, 2
	safiUnicast, safiMulticast = 1, 2
)

// afi returns the number of the single family in f.
func (f Families) afi() uint16 {
	if f.IPv6 {
		return afiIPv6
	}
	return afiIPv4
}

// family returns the family with these numbers, or none.
func family(afi uint16, safi uint8) Families {
	return Families{IPv4: afi == afiIPv4 && safi == safiUnicast, IPv6: afi == afiIPv6 && safi == safiUnicast}
}

// parseRefresh returns the family that a ROUTE-REFRESH asks for, or none: the demarcations of
// RFC 7313 are not negotiated.
func parseRefresh(body []byte) Families {
	if body[2] != 0 {
		return Families{}
	}
	return family(binary.BigEndian.Uint16(body), body[3])
}

// refresh returns the ROUTE-REFRESH for a single family (RFC 2918 section 3).
func refresh(f Families) frame {
	return seal(kindRefresh, append(binary.BigEndian.AppendUint16(nil, f.afi()), 0, safiUnicast))
}

// keepalive returns a KEEPALIVE.
func keepalive() frame { return seal(kindKeepalive, nil) }

// endOfRIB returns the End-of-RIB marker of a single family (RFC 4724 section 2).
func endOfRIB(f Families) frame {
	if f.IPv4 {
		return seal(kindUpdate, []byte{0, 0, 0, 0})
	}
	// An optional MP_UNREACH_NLRI of three bytes and nothing else.
	return seal(kindUpdate, []byte{0, 0, 0, 6, 0x80, attributeUnreach, 3, 0, afiIPv6, safiUnicast})
}
