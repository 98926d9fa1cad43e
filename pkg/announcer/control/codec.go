package control

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"unicode/utf8"

	pb "baremetal.cloud/ccm/pkg/announcer/control/controlpb"
	"baremetal.cloud/ccm/pkg/announcer/plan"
)

// errDoesNotFit means that a difference was made against another state than the one held
// here. Both sides cure it with a new stream, which starts with the whole state.
var errDoesNotFit = errors.New("the difference does not fit the state it is to be applied to")

func encodeVersion(s plan.Version) *pb.Version {
	return &pb.Version{Term: s.Term, Revision: s.Revision}
}

// decodeVersion takes a missing version for the zero Stamp.
func decodeVersion(s *pb.Version) plan.Version {
	return plan.Version{Term: s.GetTerm(), Revision: s.GetRevision()}
}

// decodeAddress accepts the 4 or 16 bytes of an address in its one form: an IPv4 address
// in 16 bytes (RFC 4291 section 2.5.5.2) would be a second name for the same address.
func decodeAddress(b []byte) (netip.Addr, error) {
	addr, ok := netip.AddrFromSlice(b)
	if !ok {
		return netip.Addr{}, fmt.Errorf("address of %d bytes; it has 4 or 16", len(b))
	}
	if addr.Is4In6() {
		return netip.Addr{}, fmt.Errorf("address %s is an IPv4 address in 16 bytes", addr)
	}
	return addr, nil
}

// ascending checks that addresses come in strictly increasing order. The zero value is
// ready for use.
type ascending struct{ last netip.Addr }

func (a *ascending) checkNext(addr netip.Addr) error {
	if a.last.IsValid() && a.last.Compare(addr) >= 0 {
		return fmt.Errorf("address %s comes after %s; addresses ascend and each comes once", addr, a.last)
	}
	a.last = addr
	return nil
}

// decodeAddresses decodes a list in strictly increasing order. what names the list in errors.
func decodeAddresses(what string, list [][]byte) ([]netip.Addr, error) {
	if err := checkCount(what, len(list), maxAssignments); err != nil {
		return nil, err
	}
	addrs := make([]netip.Addr, 0, len(list))
	var order ascending
	for i, b := range list {
		addr, err := decodeAddress(b)
		if err == nil {
			err = order.checkNext(addr)
		}
		if err != nil {
			return nil, fmt.Errorf("%s %d: %w", what, i, err)
		}
		addrs = append(addrs, addr)
	}
	return addrs, nil
}

func checkCount(what string, n, limit int) error {
	if n > limit {
		return fmt.Errorf("%s: %d entries; the limit is %d", what, n, limit)
	}
	return nil
}

// checkText bounds a text in bytes. The value itself stays out of the error: it is too long.
func checkText(what, text string, limit int) error {
	if len(text) > limit {
		return fmt.Errorf("%s of %d bytes; the limit is %d", what, len(text), limit)
	}
	return nil
}

// checkName is checkText for a name that must be there.
func checkName(what, name string) error {
	if name == "" {
		return fmt.Errorf("%s is empty", what)
	}
	return checkText(what, name, maxName)
}

// boundText makes text fit: valid UTF-8, which protobuf insists on, and at most limit bytes.
func boundText(text string, limit int) string {
	text = strings.ToValidUTF8(text, "\uFFFD")
	if len(text) <= limit {
		return text
	}
	for limit > 0 && !utf8.RuneStart(text[limit]) {
		limit--
	}
	return text[:limit]
}
