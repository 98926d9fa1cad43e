package failover

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"maps"
	"net/netip"
	"slices"
	"time"

	"baremetal.cloud/ccm/pkg/announcer/plan"
)

// Port is the UDP port of the protocol.
const Port = 10272

// Echo names a packet that was received: the sender's life and the number within it.
type Echo struct{ Incarnation, Seq uint64 }

// Packet is what one node says to another.
type Packet struct {
	// From is the sender. It is not sent by name; the identifier of the pair shows it.
	From string
	// Incarnation is the sender's life: a number drawn at random at each start, and whenever it
	// overslept. Seq grows with each packet of a life.
	Incarnation, Seq uint64
	// Heard is the newest packet of the receiver that counted, Unproven one of a life of
	// the receiver that has yet to prove that it is no recording.
	Heard, Unproven Echo
	// Hears reports whether the sender finds the receiver up.
	Hears bool
	// Leave reports whether the sender ends and no longer claims anything.
	Leave bool
	// Unhealthy reports whether the sender's claims end when a healthy node claims instead.
	Unhealthy bool
	// Want asks for all claims in full.
	Want bool
	// Standing is how the sender stands with others than the receiver.
	Standing Standing
	// Detect is the time of silence after which peers take the sender for down.
	Detect time.Duration
	// Apart is how much the sender heard from any sender while it did not hear the receiver last.
	Apart uint32
	// Digest is that of all claims of the sender.
	Digest Digest
	// Part, if not nil, is a part of the sender's claims, or of what changed in them.
	Part *Part
}

// Part is some of a node's claims, small enough for a packet.
type Part struct {
	// Range reports whether Claims are all of the sender's from From on and before Before, of
	// which an invalid one means no limit. Without it they are those that changed.
	Range        bool
	From, Before netip.Addr
	// More reports whether another part follows at once.
	More bool
	// Claims are sorted by address, each address once. One that ended has a zero version,
	// which occurs only without Range.
	Claims []plan.Claim
	// Proofs, if there are any, are those of the first of Claims: they show the receiver that
	// a leader allows the claims. The zero Proof is of one that it cannot check.
	Proofs []plan.Proof
}

// proofAt returns the one of the claim with that number.
func (p *Part) proofAt(i int) plan.Proof {
	if i < len(p.Proofs) {
		return p.Proofs[i]
	}
	return plan.Proof{}
}

// The layout of a datagram. All numbers are big-endian.
//
//	0   version
//	1   flags (2 bytes)
//	3   pair: what only sender, receiver and leaders know of the two, see pairID
//	11  boot, sequence
//	27  boot and sequence of what was heard, then of what is unproven
//	59  detection time in microseconds
//	63  how much was heard while apart
//	67  digest of the claims
//	75  part, if the flag says so: from and before as addresses, number of claims (2 bytes),
//	    then each claim as an address, term, revision and proof
//	end first 16 bytes of HMAC-SHA256 over names and all that is before
//
// An address, as a proof, is its length in bytes, 0 for none, and the bytes.
const (
	version  = 3
	headSize = 75
	macSize  = 16
	// pairOffset is where the identifier of the pair begins, and pairSize its length.
	pairOffset = 3
	pairSize   = 8

	// maxClaims fit into a datagram of 1200 bytes even if all are IPv6.
	maxClaims = (1200 - headSize - macSize - 2*17 - 2) / (17 + 16 + 1 + plan.ProofSize)
	// maxDatagram is the longest that is read.
	maxDatagram = 1500
	// maxDetect bounds what a peer may say about itself.
	maxDetect = 5 * time.Minute
)

const (
	flagLeave = 1 << iota
	flagHears
	flagWant
	flagPart
	flagRange
	flagMore
	flagUnhealthy
	flagAlone
	flagCompany
	flagsKnown = 1<<iota - 1
)

// Why a datagram did not count.
var (
	// ErrMalformed means that a datagram is none of this protocol's.
	ErrMalformed = errors.New("malformed")
	// ErrVersion means that a datagram is of another version of the protocol.
	ErrVersion = errors.New("version")
	// ErrHopLimit means that a datagram may have come through a router (RFC 5082).
	ErrHopLimit = errors.New("hop limit")
	// ErrStranger means that the sender is no peer, or has another key.
	ErrStranger = errors.New("stranger")
	// ErrForged means that the datagram is not as sender and receiver's key would make it.
	ErrForged = errors.New("forged")
	// ErrReplayed means that the packet, or a newer one, was received before.
	ErrReplayed = errors.New("replayed")
	// ErrUnproven means that the sender has not shown yet that it hears this node now, so
	// that the packet may be a recording from before. The first of each life is one.
	ErrUnproven = errors.New("unproven")
	// ErrOverflow means that packets came faster than they could be looked at.
	ErrOverflow = errors.New("overflow")
)

// DropCauses returns the texts of all errors that keep a datagram from counting.
func DropCauses() []string {
	var out []string
	for _, err := range []error{ErrMalformed, ErrVersion, ErrHopLimit, ErrStranger, ErrForged, ErrReplayed, ErrUnproven, ErrOverflow} {
		out = append(out, err.Error())
	}
	return out
}

// pairID tells what one node sends to another from everything else, before anything is
// computed: the kernel looks at nothing but that. It is made from their key, so that a machine
// that has not seen a datagram of the two cannot make one that the receiver has to look at.
type pairID [pairSize]byte

func newPairID(key plan.Key, from, to string) pairID {
	return pairID(packetMAC(key, "pair", from, to, nil))
}

// Keyring opens what peers send to a node. It is not written to once it is in use.
type Keyring struct {
	node  string
	peers map[pairID]plan.Peer
}

// NewKeyring returns the keyring of node, which opens packets of peers.
func NewKeyring(node string, peers []plan.Peer) *Keyring {
	k := &Keyring{node: node, peers: make(map[pairID]plan.Peer, len(peers))}
	for _, p := range peers {
		k.peers[newPairID(p.Key, p.Node, node)] = p
	}
	return k
}

// sortedPairs returns the identifiers of all pairs, sorted.
func (k *Keyring) sortedPairs() []pairID {
	return slices.SortedFunc(maps.Keys(k.peers), func(a, b pairID) int { return bytes.Compare(a[:], b[:]) })
}

// Open returns the packet in a datagram to the keyring's node, or one of ErrMalformed,
// ErrVersion, ErrStranger and ErrForged.
func (k *Keyring) Open(datagram []byte) (Packet, error) {
	if len(datagram) < 1 || len(datagram) > maxDatagram {
		return Packet{}, ErrMalformed
	}
	if datagram[0] != version {
		return Packet{}, ErrVersion
	}
	if len(datagram) < headSize+macSize {
		return Packet{}, ErrMalformed
	}
	sender, ok := k.peers[pairID(datagram[pairOffset:])]
	if !ok {
		return Packet{}, ErrStranger
	}
	body := datagram[:len(datagram)-macSize]
	if !hmac.Equal(datagram[len(body):], packetMAC(sender.Key, packetLabel, sender.Node, k.node, body)) {
		return Packet{}, ErrForged
	}
	p, ok := parseBody(body)
	if !ok {
		return Packet{}, ErrMalformed
	}
	p.From = sender.Node
	return p, nil
}

// Sealer makes datagrams of packets from one node to another.
type Sealer struct {
	from, to string
	key      plan.Key
	pair     pairID
}

// NewSealer returns what seals packets of from to the node that shares key with it.
func NewSealer(key plan.Key, from, to string) Sealer {
	return Sealer{from, to, key, newPairID(key, from, to)}
}

// Seal returns p as a datagram.
func (s Sealer) Seal(p Packet) []byte {
	body := make([]byte, 0, maxDatagram)
	body = binary.BigEndian.AppendUint16(append(body, version), p.headerFlags())
	body = append(body, s.pair[:]...)
	for _, n := range []uint64{p.Incarnation, p.Seq, p.Heard.Incarnation, p.Heard.Seq, p.Unproven.Incarnation, p.Unproven.Seq} {
		body = binary.BigEndian.AppendUint64(body, n)
	}
	body = binary.BigEndian.AppendUint32(body, uint32(p.Detect/time.Microsecond))
	body = binary.BigEndian.AppendUint32(body, p.Apart)
	body = binary.BigEndian.AppendUint64(body, uint64(p.Digest))
	if p.Part != nil {
		body = p.Part.appendTo(body)
	}
	return append(body, packetMAC(s.key, packetLabel, s.from, s.to, body)...)
}

// packetLabel keeps the codes of packets apart from whatever else is made with a key.
const packetLabel = "baremetal failover"

// packetMAC binds body to label and both names, in this order, by key.
func packetMAC(key plan.Key, label, from, to string, body []byte) []byte {
	mac := hmac.New(sha256.New, key[:])
	for _, part := range []string{label, from, to} {
		mac.Write([]byte(part))
		mac.Write([]byte{0})
	}
	mac.Write(body)
	return mac.Sum(nil)[:macSize]
}

func (p Packet) headerFlags() uint16 {
	var flags uint16
	set := func(flag uint16, on bool) {
		if on {
			flags |= flag
		}
	}
	set(flagLeave, p.Leave)
	set(flagHears, p.Hears)
	set(flagWant, p.Want)
	set(flagUnhealthy, p.Unhealthy)
	set(flagAlone, p.Standing.Alone)
	set(flagCompany, p.Standing.Company)
	if p.Part != nil {
		set(flagPart, true)
		set(flagRange, p.Part.Range)
		set(flagMore, p.Part.More)
	}
	return flags
}

func (p Part) appendTo(b []byte) []byte {
	b = appendAddress(appendAddress(b, p.From), p.Before)
	b = binary.BigEndian.AppendUint16(b, uint16(len(p.Claims)))
	for i, c := range p.Claims {
		b = appendAddress(b, c.Address)
		b = binary.BigEndian.AppendUint64(b, c.Version.Term)
		b = binary.BigEndian.AppendUint64(b, c.Version.Revision)
		if proof := p.proofAt(i); proof != (plan.Proof{}) {
			b = append(append(b, plan.ProofSize), proof[:]...)
		} else {
			b = append(b, 0)
		}
	}
	return b
}

func appendAddress(b []byte, a netip.Addr) []byte {
	raw := a.AsSlice()
	return append(append(b, byte(len(raw))), raw...)
}

// parseBody reads an authenticated body, all but the sender's name.
func parseBody(b []byte) (Packet, bool) {
	flags := binary.BigEndian.Uint16(b[1:])
	r := reader{rest: b[pairOffset+pairSize:]}
	p := Packet{Leave: flags&flagLeave != 0, Hears: flags&flagHears != 0, Want: flags&flagWant != 0, Unhealthy: flags&flagUnhealthy != 0}
	p.Standing = Standing{Alone: flags&flagAlone != 0, Company: flags&flagCompany != 0}
	for _, n := range []*uint64{&p.Incarnation, &p.Seq, &p.Heard.Incarnation, &p.Heard.Seq, &p.Unproven.Incarnation, &p.Unproven.Seq} {
		*n = r.readUint64()
	}
	p.Detect = time.Duration(r.readUint32()) * time.Microsecond
	p.Apart = r.readUint32()
	p.Digest = Digest(r.readUint64())
	if flags&flagPart != 0 {
		p.Part = r.readPart(flags)
	}
	whole := !r.failed && len(r.rest) == 0
	sound := p.Incarnation != 0 && p.Seq != 0 && p.Detect > 0 && p.Detect <= maxDetect
	known := flags&^uint16(flagsKnown) == 0 && (flags&flagPart != 0 || flags&(flagRange|flagMore) == 0)
	return p, whole && sound && known
}

// reader takes numbers and addresses off a datagram.
type reader struct {
	rest   []byte
	failed bool
}

func (r *reader) takeBytes(n int) []byte {
	if r.failed || len(r.rest) < n {
		r.failed = true
		return make([]byte, n)
	}
	taken := r.rest[:n]
	r.rest = r.rest[n:]
	return taken
}

func (r *reader) readUint64() uint64 { return binary.BigEndian.Uint64(r.takeBytes(8)) }

func (r *reader) readUint32() uint32 { return binary.BigEndian.Uint32(r.takeBytes(4)) }

// readAddress reads an address; one that is IPv4 in the form of IPv6 is refused.
func (r *reader) readAddress() netip.Addr {
	size := int(r.takeBytes(1)[0])
	switch size {
	case 0:
		return netip.Addr{}
	case 4, 16:
		a, _ := netip.AddrFromSlice(r.takeBytes(size)) // The size is right.
		r.failed = r.failed || a.Is4In6()
		return a
	}
	r.failed = true
	return netip.Addr{}
}

// readPart reads a Part, and refuses one that is out of order or out of its range.
func (r *reader) readPart(flags uint16) *Part {
	p := &Part{Range: flags&flagRange != 0, More: flags&flagMore != 0, From: r.readAddress(), Before: r.readAddress()}
	if !p.Range && (p.From.IsValid() || p.Before.IsValid()) {
		r.failed = true
	}
	n := int(binary.BigEndian.Uint16(r.takeBytes(2)))
	last := netip.Addr{}
	for ; n > 0 && !r.failed; n-- {
		c := plan.Claim{Address: r.readAddress(), Version: plan.Version{Term: r.readUint64(), Revision: r.readUint64()}}
		if !c.Address.IsValid() || c.Address.Compare(last) <= 0 || !p.containsAddress(c.Address) || p.Range && c.Version.IsZero() {
			r.failed = true
		}
		last = c.Address
		p.Claims = append(p.Claims, c)
		r.readProof(p)
	}
	return p
}

// readProof reads the proof of the last of p's claims. One of nothing but zeros is refused: there is
// one form for none.
func (r *reader) readProof(p *Part) {
	size := int(r.takeBytes(1)[0])
	if size == 0 {
		return
	}
	if size != plan.ProofSize {
		r.failed = true
		return
	}
	for len(p.Proofs) < len(p.Claims)-1 {
		p.Proofs = append(p.Proofs, plan.Proof{})
	}
	proof := plan.Proof(r.takeBytes(size))
	r.failed = r.failed || proof == plan.Proof{}
	p.Proofs = append(p.Proofs, proof)
}

// containsAddress says whether address lies in the range of p.
func (p Part) containsAddress(address netip.Addr) bool {
	return (!p.From.IsValid() || p.From.Compare(address) <= 0) && (!p.Before.IsValid() || address.Less(p.Before))
}
