package announcer

import (
	"errors"
	"log/slog"
	"maps"
	"time"

	"baremetal.cloud/ccm/pkg/announcer/plan"
)

// Why a plan was not accepted, as a metric label.
const (
	refusedStale      = "stale"
	refusedForeign    = "foreign"
	refusedIncomplete = "incomplete"
	// refusedImplausible is for a term that no history of leaders can have reached.
	refusedImplausible = "implausible"
)

// RefusalCauses returns the keys that Status.Refused may have.
func RefusalCauses() []string {
	return []string{refusedStale, refusedForeign, refusedIncomplete, refusedImplausible}
}

// refusalCause returns the cause of an error of plan.Accept, or "" for a plan
// that was accepted before: every new stream begins with one.
func refusalCause(err error) string {
	if stale, ok := errors.AsType[*plan.StaleError](err); ok {
		if stale.Duplicate() {
			return ""
		}
		return refusedStale
	}
	if _, ok := errors.AsType[*plan.ImplausibleError](err); ok {
		return refusedImplausible
	}
	if _, ok := errors.AsType[*plan.ForeignError](err); ok {
		return refusedForeign
	}
	return refusedIncomplete
}

// refusePlan counts a refusal, and logs it once for as long as it stays the same.
func (a *Announcer) refusePlan(replica string, err error) {
	cause := refusalCause(err)
	if cause == "" {
		return
	}
	// A Status that was handed out keeps its own map.
	a.refused = maps.Clone(a.refused)
	a.refused[cause]++
	if cause == refusedImplausible {
		a.publishResult(a.core.nextReport())
	} else {
		a.publishStatus()
	}
	if a.told[replica] == err.Error() {
		return
	}
	a.told[replica] = err.Error()
	// A replica could make up another text each time, for as many plans as it can send.
	a.logLimit.Log(a.log, time.Now(), slog.LevelWarn, replica+cause, "plan refused", "replica", replica, "error", err)
}
