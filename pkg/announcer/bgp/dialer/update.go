package dialer

import "encoding/binary"

// Types of path attributes, and the flag of a length of two bytes (RFC 4271 section 4.3,
// RFC 4760).
const (
	attributeReach   = 14
	attributeUnreach = 15

	flagExtendedLength = 0x10
)

// contents is what an UPDATE has, by the lengths in it alone.
type contents struct {
	// announced counts prefixes that are announced, of any family that is known.
	announced int
	// end is the family that it is the End-of-RIB of, or none (RFC 4724 section 2).
	end Families
}

// countUpdate looks through the body of an UPDATE, which has four bytes at least. It reports
// false if the lengths do not fit.
func countUpdate(body []byte) (contents, bool) {
	withdrawn, rest, ok := section(body)
	if !ok {
		return contents{}, false
	}
	attributes, announced, ok := section(rest)
	if !ok {
		return contents{}, false
	}
	if len(body) == 4 {
		return contents{end: Families{IPv4: true}}, true
	}
	var c contents
	if c.announced, ok = countPrefixes(announced); !ok {
		return contents{}, false
	}
	if _, ok = countPrefixes(withdrawn); !ok {
		return contents{}, false
	}
	alone := len(withdrawn) == 0 && len(announced) == 0
	for len(attributes) > 0 {
		var t uint8
		var value []byte
		if t, value, attributes, ok = attribute(attributes); !ok {
			return contents{}, false
		}
		switch t {
		case attributeReach:
			n, ok := countReach(value)
			if !ok {
				return contents{}, false
			}
			c.announced += n
		case attributeUnreach:
			if len(value) < 3 {
				return contents{}, false
			}
			if alone && len(value) == 3 && len(attributes) == 0 && len(rest) < 10 {
				c.end = family(binary.BigEndian.Uint16(value), value[2])
			}
		}
	}
	return c, true
}

// section returns what follows a length of two bytes, and the rest.
func section(b []byte) (content, rest []byte, ok bool) {
	if len(b) < 2 {
		return nil, nil, false
	}
	n := int(binary.BigEndian.Uint16(b))
	if len(b) < 2+n {
		return nil, nil, false
	}
	return b[2 : 2+n], b[2+n:], true
}

// attribute returns the type and the value of the first path attribute of b, and the rest.
func attribute(b []byte) (t uint8, value, rest []byte, ok bool) {
	head := 3
	if len(b) >= 1 && b[0]&flagExtendedLength != 0 {
		head = 4
	}
	if len(b) < head {
		return 0, nil, nil, false
	}
	length := int(b[2])
	if head == 4 {
		length = int(binary.BigEndian.Uint16(b[2:]))
	}
	if len(b) < head+length {
		return 0, nil, nil, false
	}
	return b[1], b[head : head+length], b[head+length:], true
}

// countReach counts the prefixes of an MP_REACH_NLRI (RFC 4760 section 3).
func countReach(b []byte) (int, bool) {
	if len(b) < 5 || len(b) < 5+int(b[3]) {
		return 0, false
	}
	if family(binary.BigEndian.Uint16(b), b[2]) == (Families{}) {
		return 0, true
	}
	return countPrefixes(b[5+int(b[3]):])
}

// countPrefixes counts prefixes: each has its length in bits before it (RFC 4271 section 4.3).
func countPrefixes(b []byte) (n int, ok bool) {
	for ; len(b) > 0; n++ {
		length := 1 + (int(b[0])+7)/8
		if len(b) < length {
			return 0, false
		}
		b = b[length:]
	}
	return n, true
}
