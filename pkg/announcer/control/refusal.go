package control

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/netip"
	"sync"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"baremetal.cloud/ccm/pkg/announcer/internal/lograte"
	"baremetal.cloud/ccm/pkg/reason"
)

// causeTrailer is the gRPC trailer that carries a refusal's cause to the announcer.
const causeTrailer = "baremetal-cause"

// refusal is why a Server does not take a stream, or ends it.
type refusal struct {
	cause string
	code  codes.Code
	err   error
}

func newRefusal(cause string, code codes.Code, err error) *refusal {
	return &refusal{cause: cause, code: code, err: err}
}

func malformedRefusal(err error) *refusal {
	return newRefusal(CauseMalformed, codes.InvalidArgument, err)
}

// Error gives the sentence that the peer gets.
func (r *refusal) Error() string { return r.err.Error() }

// Unwrap gives the reason behind it.
func (r *refusal) Unwrap() error { return r.err }

// GRPCStatus makes gRPC end the stream with the refusal's code.
func (r *refusal) GRPCStatus() *status.Status { return status.New(r.code, r.Error()) }

// refuseAuthentication keeps a denial, which is final, apart from a review that got no
// answer, which only means "not now".
func refuseAuthentication(err error) *refusal {
	if denied, ok := errors.AsType[*DeniedError](err); ok {
		return newRefusal(denied.Cause, codes.PermissionDenied, err)
	}
	if errors.Is(err, ErrBusy) {
		return newRefusal(CauseBusy, codes.ResourceExhausted, err)
	}
	return newRefusal(CauseNoAnswer, codes.Unavailable, fmt.Errorf("the token could not be reviewed: %w", err))
}

// receiveError translates what gRPC says about a message that it could not deliver. It is
// nil where the peer closed its side as it should.
func receiveError(err error) error {
	if errors.Is(err, io.EOF) {
		return nil
	}
	switch status.Code(err) {
	case codes.ResourceExhausted:
		return newRefusal(CauseOversized, codes.ResourceExhausted, err)
	case codes.Internal: // what does not parse as our message
		return malformedRefusal(err)
	}
	return err
}

// refusalLog writes a refusal once, and again only when the same source is refused for
// another cause: announcers try again every few seconds.
//
// A stranger that comes from many addresses, or for another cause each time, is worth no
// more lines than lograte allows in all.
type refusalLog struct {
	logger *slog.Logger
	limit  *lograte.Limiter

	mu   sync.Mutex
	last map[netip.Addr]string
}

// refusalLogSize bounds the memory for sources; when it is full everything is forgotten
// and may be logged once more.
const refusalLogSize = 4096

func newRefusalLog(logger *slog.Logger) *refusalLog {
	return &refusalLog{logger: logger, limit: lograte.NewDefault(), last: map[netip.Addr]string{}}
}

func (l *refusalLog) logRefusal(r *refusal, node string, remote netip.Addr) {
	const message = "refused an announcer's stream"
	attrs := []any{"cause", r.cause, "node", reason.Quote(node), "remote", remote, "err", reason.Quote(r.Error())}
	if !l.isNews(r.cause, remote) {
		l.logger.Debug(message, attrs...)
		return
	}
	l.limit.Log(l.logger, time.Now(), slog.LevelWarn, r.cause+remote.String(), message, attrs...)
}

func (l *refusalLog) isNews(cause string, remote netip.Addr) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.last[remote] == cause {
		return false
	}
	if len(l.last) >= refusalLogSize {
		clear(l.last)
	}
	l.last[remote] = cause
	return true
}

func (l *refusalLog) forgetSource(remote netip.Addr) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.last, remote)
}
