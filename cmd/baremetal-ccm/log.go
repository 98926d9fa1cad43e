package main

import (
	"context"
	"log/slog"
	"os"
	"slices"
	"sync/atomic"

	"github.com/go-logr/logr"
	"github.com/spf13/pflag"
	logsapi "k8s.io/component-base/logs/api/v1"
	"k8s.io/klog/v2"
)

// logFormat is the default of --logging-format, and what the announcer writes:
// time, level, msg, and values as key=value, one line for each record.
const logFormat = "logfmt"

func init() {
	if err := logsapi.RegisterLogFormat(logFormat, logfmt{}, logsapi.LoggingStableOptions); err != nil {
		panic(err)
	}
}

// logfmt makes the logger of logFormat for klog, by which the stock app and client-go log.
type logfmt struct{}

// current is the handler that was made last. Our own lines go to it past klog, which writes
// warnings and errors as infos.
var current atomic.Pointer[slog.Handler]

// Create implements logsapi.LogFormatFactory.
func (logfmt) Create(c logsapi.LoggingConfiguration, _ logsapi.LoggingOptions) (logr.Logger, logsapi.RuntimeControl) {
	var level slog.LevelVar
	level.Set(-slog.Level(c.Verbosity))
	handler := slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: &level, ReplaceAttr: plainLevel})
	var inner slog.Handler = newStockLines(handler)
	current.Store(&inner)
	return logr.FromSlogHandler(inner), logsapi.RuntimeControl{SetVerbosityLevel: func(v uint32) error {
		level.Set(-slog.Level(v))
		return nil
	}}
}

// plainLevel writes the levels of klog's V(1) to V(9) as DEBUG, not as DEBUG+3 and the like.
func plainLevel(groups []string, a slog.Attr) slog.Attr {
	if level, ok := a.Value.Any().(slog.Level); ok && len(groups) == 0 && a.Key == slog.LevelKey && level < slog.LevelInfo {
		a.Value = slog.StringValue(slog.LevelDebug.String())
	}
	return a
}

// logEarly has lines in logFormat that are written before the stock app sets up its logging.
// It does that only where flags ask for that format.
func logEarly(flags *pflag.FlagSet) {
	if format := flags.Lookup("logging-format"); format == nil || format.Value.String() != logFormat {
		return
	}
	logger, _ := logfmt{}.Create(logsapi.LoggingConfiguration{}, logsapi.LoggingOptions{})
	klog.SetLoggerWithOptions(logger, klog.ContextualLogger(true))
}

// setLogFormat makes logFormat the default of --logging-format.
func setLogFormat(flags *pflag.FlagSet) error {
	format := flags.Lookup("logging-format")
	format.DefValue = logFormat
	return format.Value.Set(logFormat)
}

// newLogger returns a logger that writes where klog does and in its format.
func newLogger() *slog.Logger { return slog.New(&klogHandler{}) }

// klogHandler passes records on to the logger that klog has at the time. It adds the attributes
// of slog.Logger.With by itself: klog's own handler accepts them and does not write
// them, and writes warnings as infos where it has a logger (k8s.io/klog/v2 v2.140.0).
type klogHandler struct {
	attrs  []slog.Attr
	groups []string
}

func (h *klogHandler) targetHandler() slog.Handler {
	if handler := current.Load(); handler != nil {
		return *handler
	}
	return logr.ToSlogHandler(klog.Background())
}

// Enabled implements slog.Handler.
func (h *klogHandler) Enabled(ctx context.Context, level slog.Level) bool {
	return h.targetHandler().Enabled(ctx, level)
}

// WithAttrs implements slog.Handler.
func (h *klogHandler) WithAttrs(attrs []slog.Attr) slog.Handler {
	return &klogHandler{attrs: slices.Concat(h.attrs, h.groupAttrs(attrs)), groups: h.groups}
}

// WithGroup implements slog.Handler.
func (h *klogHandler) WithGroup(name string) slog.Handler {
	return &klogHandler{attrs: h.attrs, groups: slices.Concat(h.groups, []string{name})}
}

// Handle implements slog.Handler.
func (h *klogHandler) Handle(ctx context.Context, record slog.Record) error {
	with := slog.NewRecord(record.Time, record.Level, record.Message, record.PC)
	with.AddAttrs(h.attrs...)
	var own []slog.Attr
	record.Attrs(func(a slog.Attr) bool {
		own = append(own, a)
		return true
	})
	with.AddAttrs(h.groupAttrs(own)...)
	return h.targetHandler().Handle(ctx, with)
}

// groupAttrs puts attributes below the handler's groups.
func (h *klogHandler) groupAttrs(attrs []slog.Attr) []slog.Attr {
	for _, name := range slices.Backward(h.groups) {
		attrs = []slog.Attr{{Key: name, Value: slog.GroupValue(attrs...)}}
	}
	return attrs
}
