package bgp

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	gobgplog "github.com/osrg/gobgp/v3/pkg/log"
	packet "github.com/osrg/gobgp/v3/pkg/packet/bgp"

	"baremetal.cloud/ccm/pkg/reason"
)

// logger takes gobgp's log. It is the only place where gobgp says why a session is not
// established.
type logger struct {
	peer  string
	heard func(why reason.Reason, message string)
	lines func(string)
}

var _ gobgplog.Logger = (*logger)(nil)

// Panic is said of what gobgp takes for impossible. It does not go on afterwards.
func (l *logger) Panic(msg string, fields gobgplog.Fields) { l.fatal(msg, fields) }

// Fatal is as Panic.
func (l *logger) Fatal(msg string, fields gobgplog.Fields) { l.fatal(msg, fields) }

// fatal ends the process, as nobody recovers from it: gobgp relies on not going on.
func (l *logger) fatal(msg string, fields gobgplog.Fields) {
	panic(fmt.Sprintf("peer %s: %s", l.peer, text(msg, fields)))
}

// Error is said of what failed.
func (l *logger) Error(msg string, fields gobgplog.Fields) { l.line(msg, fields) }

// Warn is said of what a router did wrong, and of NOTIFICATIONs.
func (l *logger) Warn(msg string, fields gobgplog.Fields) { l.line(msg, fields) }

// Info is said of sessions that come and go.
func (l *logger) Info(msg string, fields gobgplog.Fields) { l.line(msg, fields) }

// Debug is said of every message; of it only what explains a session is taken.
func (l *logger) Debug(msg string, fields gobgplog.Fields) { l.explain(msg, fields) }

// SetLevel does nothing: everything is looked at.
func (l *logger) SetLevel(gobgplog.LogLevel) {}

// GetLevel has gobgp say why it could not connect.
func (l *logger) GetLevel() gobgplog.LogLevel { return gobgplog.DebugLevel }

func (l *logger) line(msg string, fields gobgplog.Fields) {
	l.explain(msg, fields)
	l.lines("peer " + l.peer + ": " + text(msg, fields))
}

func (l *logger) explain(msg string, fields gobgplog.Fields) {
	if why, message := explain(msg, fields); why != "" {
		l.heard(why, message)
	}
}

// text renders a line with its fields, sorted.
func text(msg string, fields gobgplog.Fields) string {
	var b strings.Builder
	b.WriteString(msg)
	for _, key := range slices.Sorted(maps.Keys(fields)) {
		if key != "Topic" && key != "Key" {
			fmt.Fprintf(&b, " %s=%v", strings.ToLower(key), fields[key])
		}
	}
	return b.String()
}

// explain returns what a line says went wrong with a session, or "".
func explain(msg string, fields gobgplog.Fields) (reason.Reason, string) {
	switch msg {
	case "failed to connect":
		return reason.PeerUnreachable, fmt.Sprint(fields["Error"])
	case "received notification":
		return reason.PeerRefuses, "the router ended the session: " + notification(fields)
	case "hold timer expired":
		return reason.PeerSilent, "nothing was heard within the hold time"
	case "Administrative shutdown(Prefix limit reached)":
		return reason.PeerFloods, fmt.Sprintf("the router sent more than %d routes of a family", maxReceived)
	case "sent notification":
		return sent(fields)
	case "state changed":
		return changed(fmt.Sprint(fields["old"]), fmt.Sprint(fields["new"]), fmt.Sprint(fields["reason"]))
	}
	return "", ""
}

// sent returns why the node ended a session.
func sent(fields gobgplog.Fields) (reason.Reason, string) {
	if e, ok := fields["Data"].(*packet.MessageError); ok {
		return reason.PeerRefused, fmt.Sprintf("the router is not what it should be: %s", code(e.TypeCode, e.SubTypeCode))
	}
	c, _ := fields["Code"].(uint8)
	sub, _ := fields["Subcode"].(uint8)
	switch {
	case c == packet.BGP_ERROR_HOLD_TIMER_EXPIRED:
		return reason.PeerSilent, "nothing was heard within the hold time"
	case c == packet.BGP_ERROR_CEASE && sub == packet.BGP_ERROR_SUB_MAXIMUM_NUMBER_OF_PREFIXES_REACHED:
		return reason.PeerFloods, fmt.Sprintf("the router sent more than %d routes of a family", maxReceived)
	case c == packet.BGP_ERROR_CEASE || c == 0:
		return "", "" // what the node itself wanted
	}
	return reason.PeerRefused, "the router is not what it should be: " + code(c, sub)
}

// changed returns what a change of state says that no line before it has said.
func changed(before, after, why string) (reason.Reason, string) {
	early := before == packet.BGP_FSM_OPENSENT.String() || before == packet.BGP_FSM_OPENCONFIRM.String()
	if early && after == packet.BGP_FSM_IDLE.String() && (why == "read-failed" || why == "write-failed") {
		return reason.PeerClosed, "the router closed the connection"
	}
	return "", ""
}

// notification names the code of a NOTIFICATION, with the words that came with it.
func notification(fields gobgplog.Fields) string {
	c, _ := fields["Code"].(uint8)
	sub, _ := fields["Subcode"].(uint8)
	out := code(c, sub)
	if words, ok := fields["Communicated-Reason"].(string); ok && words != "" {
		out += fmt.Sprintf(" (%.128q)", words)
	}
	return out
}

// names are those of codes and subcodes of NOTIFICATIONs (RFC 4271 section 4.5, RFC 4486).
var names = map[[2]uint8]string{
	{1, 0}: "Message Header Error", {2, 0}: "OPEN Message Error", {3, 0}: "UPDATE Message Error",
	{4, 0}: "Hold Timer Expired", {5, 0}: "Finite State Machine Error", {6, 0}: "Cease",
	{2, 1}: "Unsupported Version Number", {2, 2}: "Bad Peer AS", {2, 3}: "Bad BGP Identifier",
	{2, 4}: "Unsupported Optional Parameter", {2, 6}: "Unacceptable Hold Time", {2, 7}: "Unsupported Capability",
	{6, 1}: "Maximum Number of Prefixes Reached", {6, 2}: "Administrative Shutdown", {6, 3}: "Peer De-configured",
	{6, 4}: "Administrative Reset", {6, 5}: "Connection Rejected", {6, 6}: "Other Configuration Change",
	{6, 7}: "Connection Collision Resolution", {6, 8}: "Out of Resources", {6, 9}: "Hard Reset", {6, 10}: "BFD Down",
}

// code names a code with its subcode.
func code(c, sub uint8) string {
	name, ok := names[[2]uint8{c, 0}]
	if !ok {
		name = "unknown error"
	}
	if detail, ok := names[[2]uint8{c, sub}]; ok && sub != 0 {
		name += ", " + detail
	}
	return fmt.Sprintf("%s (%d/%d)", name, c, sub)
}
