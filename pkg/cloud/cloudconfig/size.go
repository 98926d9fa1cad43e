package cloudconfig

import (
	"math/big"

	"baremetal.cloud/ccm/pkg/ipam"
)

// Sizes above which a range was probably not meant: more IPv4 addresses than a cluster has Services,
// and an IPv6 range that is larger than a subnet, or a CIDR that is larger than a site
// (RFC 6177).
const (
	doubtfulBits   = 16
	doubtfulBitsV6 = 64
	siteBits       = 80
)

// warnOfSize warns of a range that a slip of the pen has made large, like 192.68.1.1-192.168.1.255.
func warnOfSize(s spot, r ipam.Range, isCIDR bool) {
	bits := doubtfulBits
	switch {
	case r.First.Is6() && isCIDR:
		bits = siteBits
	case r.First.Is6():
		bits = doubtfulBitsV6
	}
	if size := r.Size(); size.Cmp(new(big.Int).Lsh(big.NewInt(1), uint(bits))) > 0 { //nolint:gosec // bounded
		s.warn("check both ends; each address has to be yours", "%s is %s addresses", r, size)
	}
}
