package control

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"time"

	"baremetal.cloud/ccm/pkg/announcer/plan"
)

// Causes for which a Server refuses or ends a stream. They are the values of a metric
// label and travel to the announcer, which words its log line by them. The first five
// are an Authenticator's to give in a DeniedError.
const (
	// CauseAudience means that the token was issued for another audience.
	CauseAudience = "audience"
	// CauseServiceAccount means that the token is not that of the announcer's ServiceAccount.
	CauseServiceAccount = "service_account"
	// CauseNodeMismatch means that the token belongs to a Pod on another node.
	CauseNodeMismatch = "node_mismatch"
	// CauseSourceAddress means that the stream does not come from an address of the node.
	CauseSourceAddress = "source_address"
	// CauseToken means that there is no token, or that it is expired, revoked or forged.
	CauseToken = "token"
	// CauseNoAnswer means that the token could not be reviewed just now.
	CauseNoAnswer = "no_answer"
	// CauseOlderPod means that another, not older Pod holds the node's stream.
	CauseOlderPod = "older_pod"
	// CauseProtocol means that the two sides have no protocol version in common.
	CauseProtocol = "protocol"
	// CauseMalformed means that a message broke the protocol.
	CauseMalformed = "malformed"
	// CauseOversized means that a message was larger than the limit.
	CauseOversized = "oversized"
	// CauseHelloTimeout means that no Hello came in time.
	CauseHelloTimeout = "hello_timeout"
	// CauseBusy means that the source address has too many streams awaiting admission.
	CauseBusy = "busy"
)

// ErrBusy is what an Authenticator's error wraps where a source address has asked too often.
var ErrBusy = errors.New("busy")

// ErrNoAnswer is the cause of the context of an Authenticator that took too long, as opposed
// to a caller that went away.
var ErrNoAnswer = errors.New("no answer in time")

// Nodes knows which addresses Nodes have. It is called from many goroutines at once, and
// must not block. It may be a little behind the API server: it decides which budget counts,
// and never which peer is admitted.
type Nodes interface {
	// Has reports whether address is one of any Node.
	Has(address netip.Addr) bool
	// Owns reports whether address is one of the Node called node.
	Owns(node string, address netip.Addr) bool
}

// noNodes is a cluster without Nodes.
type noNodes struct{}

func (noNodes) Has(netip.Addr) bool          { return false }
func (noNodes) Owns(string, netip.Addr) bool { return false }

// Identity is the peer that an Authenticator found at the other end of a stream.
type Identity struct {
	// Node is the name of the Node that the announcer's Pod is bound to.
	Node string
	// PodUID is the UID of the announcer's Pod.
	PodUID string
	// PodCreated is the Pod's creationTimestamp, which has a resolution of one second.
	PodCreated time.Time
	// Reviewed is when the token was last reviewed: a cache may answer for a while. The zero
	// time is just now.
	Reviewed time.Time
}

// Authenticator decides whether a token proves that the caller is the announcer on node,
// dialling from remote. It is called from many goroutines at once.
//
// A *DeniedError is final. Any other error means that no answer could be had: it keeps
// the new stream out for now and closes no other.
type Authenticator interface {
	Authenticate(ctx context.Context, token, node string, remote netip.Addr) (Identity, error)
	// Review is Authenticate for a stream that goes on: it asks anew, and no cache answers.
	// A *DeniedError ends the stream; any other error leaves it as it is.
	Review(ctx context.Context, token, node string, remote netip.Addr) (Identity, error)
}

// DeniedError is an Authenticator's final no.
type DeniedError struct {
	// Cause is one of the Cause constants, short and machine-readable.
	Cause string
	// Message says what was found and what was expected. The announcer logs it; it must
	// hold no part of the token.
	Message string
}

// Error gives the message followed by the cause.
func (e *DeniedError) Error() string { return fmt.Sprintf("%s (%s)", e.Message, e.Cause) }

// Observer hears what nodes say. For one node the calls come one at a time and in order:
// NodeConnected, any number of NodeReported, NodeDisconnected. Calls must not block; they
// may call Publish and Counters. The reports are the Observer's to keep and to read.
type Observer interface {
	// NodeConnected means that the node has a stream now, with its whole state.
	NodeConnected(node string, report plan.Report)
	// NodeReported gives the node's whole state after a change.
	NodeReported(node string, report plan.Report)
	// NodeDisconnected means that the node no longer has a stream. It says nothing about whether
	// the node still answers for its addresses.
	NodeDisconnected(node string)
}
