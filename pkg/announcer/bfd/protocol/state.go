package protocol

import "strconv"

// State is a session's state as one system sees it; the values are those on the wire
// (RFC 5880 §4.1).
type State uint8

const (
	// AdminDown: the session is held down on purpose. That says nothing about the path.
	AdminDown State = iota
	// Down: the peer does not answer, or said that it does not hear us.
	Down
	// Init: we hear the peer, and it does not know yet.
	Init
	// Up: both hear each other.
	Up
)

func (s State) String() string { return nameOf(uint8(s), "AdminDown", "Down", "Init", "Up") }

// Diagnostic is why a session's state changed last (RFC 5880 §4.1).
type Diagnostic uint8

const (
	NoDiagnostic Diagnostic = iota
	// DetectionTimeExpired: nothing was heard of the peer for the detection time.
	DetectionTimeExpired
	// EchoFailed and the others that nothing here gives are known because peers send them.
	EchoFailed
	// NeighborSignaledDown: the peer's packet reports that its session is down.
	NeighborSignaledDown
	ForwardingPlaneReset
	PathDown
	ConcatenatedPathDown
	// AdministrativelyDown: one of the two systems wanted it so.
	AdministrativelyDown
	ReverseConcatenatedPathDown
)

func (d Diagnostic) String() string {
	return nameOf(uint8(d), "none", "detection time expired", "echo failed", "neighbor signaled session down", "forwarding plane reset",
		"path down", "concatenated path down", "administratively down", "reverse concatenated path down")
}

// nameOf returns the name of value, or the number of one that has none.
func nameOf(value uint8, names ...string) string {
	if int(value) < len(names) {
		return names[value]
	}
	return strconv.Itoa(int(value))
}
