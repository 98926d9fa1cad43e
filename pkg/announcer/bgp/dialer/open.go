package dialer

import "encoding/binary"

// Open is an OPEN message with the capabilities that this package knows (RFC 4271 section 4.2,
// RFC 5492). All others are left out of it.
type Open struct {
	// ASN is the one of the capability for four octets if there is one (RFC 6793).
	ASN        uint32
	HoldTime   uint16
	Identifier [4]byte
	// MultiProtocol reports whether any family is named; one that names none takes IPv4
	// (RFC 4760 section 8).
	MultiProtocol bool
	Families      Families
	FourOctet     bool
	RouteRefresh  bool
	// ExtendedNextHop is that IPv4 prefixes may have IPv6 next hops (RFC 8950 section 4).
	ExtendedNextHop bool
	GracefulRestart GracefulRestart
}

// GracefulRestart is the capability of RFC 4724 section 3, with the N bit of RFC 8538 section 2.
type GracefulRestart struct {
	Offered                  bool
	Restarting, Notification bool
	// Time is in seconds, twelve bits of it.
	Time uint16
	// Families are those that are named, and Forwarding those for which forwarding went on.
	Families, Forwarding Families
}

// Takes returns the families that the sender takes prefixes of.
func (o Open) Takes() Families {
	if !o.MultiProtocol {
		return Families{IPv4: true}
	}
	return o.Families
}

const (
	version = 4
	asTrans = 23456 // RFC 6793 section 9

	parameterCapabilities = 2
	parameterExtended     = 255 // RFC 9072

	capabilityMultiProtocol   = 1
	capabilityRouteRefresh    = 2
	capabilityExtendedNextHop = 5
	capabilityGracefulRestart = 64
	capabilityFourOctet       = 65

	maxRestartTime = 1<<12 - 1

	bitRestarting, bitNotification = 0x80, 0x40
	bitForwarding                  = 0x80
)

// parseOpen reads the body of an OPEN, which has ten bytes at least.
func parseOpen(body []byte) (Open, *Notification) {
	if body[0] != version {
		return Open{}, &Notification{Code: codeOpen, Subcode: openVersion, Data: []byte{0, version}}
	}
	o := Open{ASN: uint32(binary.BigEndian.Uint16(body[1:])), HoldTime: binary.BigEndian.Uint16(body[3:]), Identifier: [4]byte(body[5:9])}
	parameters, extended, ok := parametersOf(body[9:])
	if !ok {
		return Open{}, &Notification{Code: codeOpen}
	}
	if bad := o.readParameters(parameters, extended); bad != nil {
		return Open{}, bad
	}
	switch {
	case o.ASN == 0: // RFC 7607
		return Open{}, &Notification{Code: codeOpen, Subcode: openPeerAS}
	case o.Identifier == [4]byte{}: // RFC 6286
		return Open{}, &Notification{Code: codeOpen, Subcode: openIdentifier}
	case o.HoldTime == 1 || o.HoldTime == 2:
		return Open{}, &Notification{Code: codeOpen, Subcode: openHoldTime}
	}
	return o, nil
}

// parametersOf returns the optional parameters of what begins with their length, and whether
// they have lengths of two bytes themselves (RFC 9072 section 2).
func parametersOf(b []byte) (parameters []byte, extended, ok bool) {
	length, rest := int(b[0]), b[1:]
	if length > 0 && len(rest) >= 3 && rest[0] == parameterExtended {
		length, rest, extended = int(binary.BigEndian.Uint16(rest[1:])), rest[3:], true
	}
	return rest, extended, length == len(rest)
}

// readParameters takes the capabilities of all optional parameters.
func (o *Open) readParameters(b []byte, extended bool) *Notification {
	for len(b) > 0 {
		t, value, rest, ok := cut(b, extended)
		if !ok {
			return &Notification{Code: codeOpen}
		}
		if t != parameterCapabilities {
			return &Notification{Code: codeOpen, Subcode: openParameter}
		}
		for len(value) > 0 {
			var code uint8
			var content []byte
			if code, content, value, ok = cut(value, false); !ok || !o.readCapability(code, content) {
				return &Notification{Code: codeOpen}
			}
		}
		b = rest
	}
	return nil
}

// cut returns the first type, length and value of b, and what is after it.
func cut(b []byte, extended bool) (t uint8, value, rest []byte, ok bool) {
	head := 2
	if extended {
		head = 3
	}
	if len(b) < head {
		return 0, nil, nil, false
	}
	length := int(b[1])
	if extended {
		length = int(binary.BigEndian.Uint16(b[1:]))
	}
	if len(b) < head+length {
		return 0, nil, nil, false
	}
	return b[0], b[head : head+length], b[head+length:], true
}

// readCapability takes one capability, within its own length. It reports whether that length is
// one that such a capability has.
func (o *Open) readCapability(code uint8, b []byte) bool {
	switch code {
	case capabilityMultiProtocol:
		if len(b) != 4 {
			return false
		}
		o.MultiProtocol = true
		o.Families = o.Families.or(family(binary.BigEndian.Uint16(b), b[3]))
	case capabilityRouteRefresh:
		o.RouteRefresh = true
		return len(b) == 0
	case capabilityFourOctet:
		if len(b) != 4 {
			return false
		}
		o.FourOctet, o.ASN = true, binary.BigEndian.Uint32(b)
	case capabilityExtendedNextHop:
		for ; len(b) >= 6; b = b[6:] {
			prefixes := family(binary.BigEndian.Uint16(b), b[3])
			o.ExtendedNextHop = o.ExtendedNextHop || b[2] == 0 && prefixes.IPv4 && binary.BigEndian.Uint16(b[4:]) == afiIPv6
		}
		return len(b) == 0
	case capabilityGracefulRestart:
		return o.GracefulRestart.read(b)
	}
	return true
}

// read takes the capability. Of two the last one counts (RFC 4724 section 3).
func (g *GracefulRestart) read(b []byte) bool {
	if len(b) < 2 || len(b)%4 != 2 {
		return false
	}
	*g = GracefulRestart{
		Offered: true, Restarting: b[0]&bitRestarting != 0, Notification: b[0]&bitNotification != 0,
		Time: binary.BigEndian.Uint16(b) & maxRestartTime,
	}
	for b = b[2:]; len(b) > 0; b = b[4:] {
		f := family(binary.BigEndian.Uint16(b), b[2])
		g.Families = g.Families.or(f)
		if b[3]&bitForwarding != 0 {
			g.Forwarding = g.Forwarding.or(f)
		}
	}
	return true
}

// frame returns the message.
func (o Open) frame() frame {
	capabilities := o.capabilities()
	as := uint16(asTrans)
	if o.ASN < 1<<16 {
		as = uint16(o.ASN)
	}
	b := binary.BigEndian.AppendUint16([]byte{version}, as)
	b = binary.BigEndian.AppendUint16(b, o.HoldTime)
	b = append(b, o.Identifier[:]...)
	if len(capabilities) == 0 {
		return seal(kindOpen, append(b, 0))
	}
	// All that is known is far shorter than the 253 bytes that fit.
	b = append(b, byte(len(capabilities)+2), parameterCapabilities, byte(len(capabilities))) //nolint:gosec // See above.
	return seal(kindOpen, append(b, capabilities...))
}

// capabilities returns them encoded, in one order.
func (o Open) capabilities() []byte {
	var b []byte
	if o.MultiProtocol {
		for _, f := range o.Families.each() {
			b = append(b, capabilityMultiProtocol, 4, 0, byte(f.afi()), 0, safiUnicast) //nolint:gosec // 1 or 2.
		}
		if o.Families == (Families{}) {
			// Some family is named that is not the node's, and one that names none takes IPv4.
			b = append(b, capabilityMultiProtocol, 4, 0, afiIPv4, 0, safiMulticast)
		}
	}
	if o.RouteRefresh {
		b = append(b, capabilityRouteRefresh, 0)
	}
	if o.ExtendedNextHop {
		b = append(b, capabilityExtendedNextHop, 6, 0, afiIPv4, 0, safiUnicast, 0, afiIPv6)
	}
	if o.GracefulRestart.Offered {
		b = o.GracefulRestart.appendTo(b)
	}
	if o.FourOctet {
		b = binary.BigEndian.AppendUint32(append(b, capabilityFourOctet, 4), o.ASN)
	}
	return b
}

// appendTo appends the capability to b.
func (g GracefulRestart) appendTo(b []byte) []byte {
	families := g.Families.each()
	b = append(b, capabilityGracefulRestart, byte(2+4*len(families))) //nolint:gosec // At most ten.
	b = binary.BigEndian.AppendUint16(b, min(g.Time, maxRestartTime))
	flags := &b[len(b)-2]
	if g.Restarting {
		*flags |= bitRestarting
	}
	if g.Notification {
		*flags |= bitNotification
	}
	for _, f := range families {
		bits := byte(0)
		if g.Forwarding.has(f) {
			bits = bitForwarding
		}
		b = append(b, 0, byte(f.afi()), safiUnicast, bits) //nolint:gosec // 1 or 2.
	}
	return b
}
