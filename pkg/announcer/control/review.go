package control

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"google.golang.org/grpc/codes"
)

// reviewLoop reviews the stream's token again and again, so that no stream outlives its Pod by
// more than Limits.ReviewEvery. It returns why the stream must end. A review without an answer
// ends nothing and is tried again soon.
func (st *serverStream) reviewLoop(token string) error {
	server := st.server
	every := server.options.Limits.ReviewEvery
	last := st.identity.Reviewed
	if last.IsZero() {
		last = time.Now()
	}
	for failed := false; ; {
		pause := reviewPause(every, time.Since(last), rand.Float64(), failed) //nolint:gosec // spreads load
		if !sleepFor(st.ctx, pause) {
			return st.ctx.Err()
		}
		identity, err := server.authenticateNode(st, token, st.identity.Node, server.options.Authenticator.Review)
		if err == nil && identity.PodUID != st.identity.PodUID {
			err = newRefusal(CauseToken, codes.PermissionDenied, fmt.Errorf("the token is now one of Pod %q", identity.PodUID))
		}
		r, refused := errors.AsType[*refusal](err)
		switch {
		case err == nil:
			last, failed = time.Now(), false
		case refused && r.cause != CauseNoAnswer:
			return r
		case st.ctx.Err() != nil:
			return st.ctx.Err()
		default:
			failed = true
			server.log.Debug("token not reviewed again; the stream goes on", "node", st.identity.Node, "err", err)
		}
	}
}

// reviewPause is how long to wait for the next review, where the last one was elapsed ago.
// random in [0, 1) spreads the reviews of streams that began together over the last fifth
// of every; after a failure the pause is a tenth of it.
func reviewPause(every, elapsed time.Duration, random float64, failed bool) time.Duration {
	if failed {
		return every/10 + time.Duration(random*float64(every/20))
	}
	due := every*4/5 + time.Duration(random*float64(every/10))
	return max(due-elapsed, 0)
}
