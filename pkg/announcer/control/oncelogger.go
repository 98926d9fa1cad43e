package control

import (
	"context"
	"errors"
	"log/slog"
	"regexp"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
)

// onceLogger logs why something that is tried again and again fails: once, and again when
// the cause changes. It is not safe for concurrent use.
type onceLogger struct {
	logger *slog.Logger
	last   string
}

// digits differ from attempt to attempt (local ports, times) without being news.
var digits = regexp.MustCompile(`[0-9]+`)

func (t *onceLogger) logOnce(message string, err error, attrs ...any) {
	level := slog.LevelDebug
	if key := message + digits.ReplaceAllString(err.Error(), "0"); key != t.last {
		t.last, level = key, slog.LevelWarn
	}
	t.logger.Log(context.Background(), level, message, append([]any{"err", err}, attrs...)...)
}

// endTrouble forgets the trouble and reports whether there was any.
func (t *onceLogger) endTrouble() bool {
	had := t.last != ""
	t.last = ""
	return had
}

// streamError is the end of a stream as the announcer sees it.
type streamError struct {
	err   error
	code  codes.Code
	cause string // the replica's Cause constant, where it gave one
}

func newStreamError(err error, trailer metadata.MD) *streamError {
	e := &streamError{err: err, code: status.Code(err)}
	if values := trailer.Get(causeTrailer); len(values) > 0 {
		e.cause = values[0]
	}
	return e
}

func (e *streamError) Error() string { return e.err.Error() }

func (e *streamError) Unwrap() error { return e.err }

// certificateError is a handshake that failed, with the cause that gRPC does not tell.
type certificateError struct{ err, cause error }

func (e *certificateError) Error() string { return e.err.Error() }

func (e *certificateError) Unwrap() []error { return []error{e.err, e.cause} }

// errorHint says what an administrator can do about err, or "".
func errorHint(err error) string {
	if text := certificateHint(err); text != "" {
		return text
	}
	e, ok := errors.AsType[*streamError](err)
	if !ok {
		return ""
	}
	switch e.cause {
	case CauseAudience:
		return "the projected token volume must ask for the audience baremetal.cloud/announcer"
	case CauseServiceAccount:
		return "the announcer's Pod must run as the ServiceAccount baremetal-announcer in the namespace of baremetal-ccm"
	case CauseNodeMismatch:
		return "--node must be the name of the Node that the Pod runs on: set NODE_NAME from the field spec.nodeName"
	case CauseSourceAddress:
		return "the Pod must use the host network, and the Node's status.addresses must list the address that it dials from"
	case CauseToken:
		return "the token must be a valid, projected, Pod-bound one; kubelet renews it"
	case CauseOlderPod:
		return "another announcer Pod runs on this node; it resolves itself when that Pod ends"
	case CauseProtocol:
		return "finish the update of baremetal-ccm and baremetal-announcer"
	}
	return ""
}

// pauseLimit is the longest pause after err.
func pauseLimit(err error) time.Duration {
	e, ok := errors.AsType[*streamError](err)
	if !ok {
		return backoffMax
	}
	switch e.code {
	case codes.PermissionDenied, codes.InvalidArgument, codes.FailedPrecondition:
		return backoffRefused
	}
	return backoffMax
}
