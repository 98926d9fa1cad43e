package main

import (
	"context"
	"log/slog"
	"regexp"
	"sync"
	"time"
)

// Lines of the stock app and of client-go that every user with the right to edit a Service can
// cause at will.
const (
	// eventLine tells of an Event of the stock controllers, which kubectl shows. It is logged
	// before client-go bounds the Events.
	eventLine = "Event occurred"
	// failedPeriod is the time between two lines that the stock service controller failed for
	// one Service, and maxFailed how many Services are told apart within it.
	failedPeriod = time.Minute
	maxFailed    = 1024
)

// quietStart matches lines of client-go and the stock app's servers that each start writes, most of them
// several times, and that need nothing done. Ours say what is waited for, and which replica leads.
var quietStart = regexp.MustCompile(`^(Waiting for caches to sync|Caches are synced|Starting controller|` +
	`Starting (RequestHeaderAuthRequest|DynamicServingCertificate)Controller|Neither --kubeconfig nor --master was specified|` +
	`Attempting to acquire leader lease|Successfully acquired lease|Warning: resync period is smaller than resync check period)`)

// failedLine is what the stock service controller writes at each failed attempt.
var failedLine = regexp.MustCompile(`^error processing service (\S+) \(retrying`)

// stockLines bounds such lines: those of Events and of each start are written at higher verbosity
// only, and those of failures once a minute for each Service.
type stockLines struct {
	slog.Handler
	failed *failedServices
}

func newStockLines(inner slog.Handler) slog.Handler {
	return &stockLines{inner, &failedServices{now: time.Now}}
}

// Handle implements slog.Handler.
func (h *stockLines) Handle(ctx context.Context, record slog.Record) error {
	if record.Message == eventLine || record.Level <= slog.LevelInfo && quietStart.MatchString(record.Message) {
		if !h.Enabled(ctx, slog.LevelDebug) {
			return nil
		}
		record.Level = slog.LevelDebug
	}
	if found := failedLine.FindStringSubmatch(record.Message); found != nil && !h.failed.tell(found[1]) {
		return nil
	}
	return h.Handler.Handle(ctx, record)
}

// WithAttrs implements slog.Handler.
func (h *stockLines) WithAttrs(attrs []slog.Attr) slog.Handler {
	return &stockLines{h.Handler.WithAttrs(attrs), h.failed}
}

// WithGroup implements slog.Handler.
func (h *stockLines) WithGroup(name string) slog.Handler {
	return &stockLines{h.Handler.WithGroup(name), h.failed}
}

// failedServices remembers the Services that have had a line in this period.
type failedServices struct {
	now func() time.Time

	mu sync.Mutex
	// began and told are guarded by mu.
	began time.Time
	told  map[string]bool
}

// tell reports whether to write of the Service with that key.
func (f *failedServices) tell(key string) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	if now := f.now(); f.told == nil || now.Sub(f.began) >= failedPeriod {
		f.began, f.told = now, map[string]bool{}
	}
	if f.told[key] || len(f.told) >= maxFailed {
		return false
	}
	f.told[key] = true
	return true
}
