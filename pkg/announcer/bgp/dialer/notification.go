package dialer

import (
	"fmt"
	"unicode/utf8"
)

// Codes and subcodes of NOTIFICATIONs that this package itself uses (RFC 4271 section 4.5,
// RFC 4486, RFC 6608, RFC 8538, RFC 9384).
const (
	codeHeader   = 1
	codeOpen     = 2
	codeHoldTime = 4
	codeState    = 5
	codeCease    = 6

	openVersion     = 1
	openPeerAS      = 2
	openIdentifier  = 3
	openParameter   = 4
	openHoldTime    = 6
	ceaseLimit      = 1
	ceaseShutdown   = 2
	ceaseRemoved    = 3
	ceaseReset      = 4
	ceaseConfigured = 6
	ceaseHardReset  = 9
	ceaseBFDDown    = 10
)

// Notification is a NOTIFICATION message. As an error it is what a peer did wrong.
type Notification struct {
	Code, Subcode uint8
	Data          []byte
}

// Error names the code.
func (n *Notification) Error() string { return n.String() }

// names are those of codes and subcodes.
var names = map[[2]uint8]string{
	{1, 0}: "Message Header Error", {2, 0}: "OPEN Message Error", {3, 0}: "UPDATE Message Error",
	{4, 0}: "Hold Timer Expired", {5, 0}: "Finite State Machine Error", {6, 0}: "Cease", {8, 0}: "Send Hold Timer Expired",
	{1, 1}: "Connection Not Synchronized", {1, 2}: "Bad Message Length", {1, 3}: "Bad Message Type",
	{2, 1}: "Unsupported Version Number", {2, 2}: "Bad Peer AS", {2, 3}: "Bad BGP Identifier",
	{2, 4}: "Unsupported Optional Parameter", {2, 6}: "Unacceptable Hold Time", {2, 7}: "Unsupported Capability",
	{5, 1}: "Unexpected Message in OpenSent", {5, 2}: "Unexpected Message in OpenConfirm", {5, 3}: "Unexpected Message in Established",
	{6, 1}: "Maximum Number of Prefixes Reached", {6, 2}: "Administrative Shutdown", {6, 3}: "Peer De-configured",
	{6, 4}: "Administrative Reset", {6, 5}: "Connection Rejected", {6, 6}: "Other Configuration Change",
	{6, 7}: "Connection Collision Resolution", {6, 8}: "Out of Resources", {6, 9}: "Hard Reset", {6, 10}: "BFD Down",
}

// String names the code, with the words that came with it.
func (n *Notification) String() string {
	name, ok := names[[2]uint8{n.Code, 0}]
	if !ok {
		name = "unknown error"
	}
	if detail, ok := names[[2]uint8{n.Code, n.Subcode}]; ok && n.Subcode != 0 {
		name += ", " + detail
	}
	out := fmt.Sprintf("%s (%d/%d)", name, n.Code, n.Subcode)
	if inner := n.inner(); inner != nil {
		return out + " for " + inner.String()
	}
	if words := n.words(); words != "" {
		out += fmt.Sprintf(" (%.128q)", words)
	}
	return out
}

// inner returns what a Hard Reset carries, or nil (RFC 8538 section 3.1).
func (n *Notification) inner() *Notification {
	if n.Code != codeCease || n.Subcode != ceaseHardReset || len(n.Data) < 2 {
		return nil
	}
	inner := &Notification{Code: n.Data[0], Subcode: n.Data[1], Data: n.Data[2:]}
	if inner.Code == codeCease && inner.Subcode == ceaseHardReset {
		return nil
	}
	return inner
}

// words returns the shutdown communication, or "" (RFC 9003).
func (n *Notification) words() string {
	if n.Code != codeCease || n.Subcode != ceaseShutdown && n.Subcode != ceaseReset || len(n.Data) == 0 {
		return ""
	}
	words := n.Data[1:]
	if int(n.Data[0]) > len(words) || !utf8.Valid(words[:n.Data[0]]) {
		return ""
	}
	return string(words[:n.Data[0]])
}

// withdraws reports whether the routes of a session that ends so must not be kept (RFC 8538
// section 3): the node does not come back, or the path to it is broken.
func (n *Notification) withdraws() bool {
	return n.Code == codeCease && (n.Subcode == ceaseShutdown || n.Subcode == ceaseRemoved || n.Subcode == ceaseBFDDown)
}

// hard returns the Hard Reset that carries n (RFC 8538 section 3.1).
func (n *Notification) hard() *Notification {
	return &Notification{Code: codeCease, Subcode: ceaseHardReset, Data: append([]byte{n.Code, n.Subcode}, n.Data...)}
}

// parseNotification returns what a NOTIFICATION's body has (RFC 4271 section 4.5).
func parseNotification(body []byte) *Notification {
	return &Notification{Code: body[0], Subcode: body[1], Data: append([]byte(nil), body[2:]...)}
}

// frame returns the message.
func (n *Notification) frame() frame {
	return seal(kindNotification, append([]byte{n.Code, n.Subcode}, n.Data[:min(len(n.Data), maxLength-headerLength-2)]...))
}

// plain returns n as gobgp gets it: a code and a subcode that are known, and nothing else.
func (n *Notification) plain() *Notification {
	if _, ok := names[[2]uint8{n.Code, n.Subcode}]; !ok || n.Code > codeCease {
		return &Notification{Code: codeCease}
	}
	return &Notification{Code: n.Code, Subcode: n.Subcode}
}
