package main

import (
	"bytes"
	"log/slog"
	"testing"

	"github.com/go-logr/logr"
	"github.com/stretchr/testify/require"
	"k8s.io/klog/v2"
)

// K6.2: a line names the component, the node and the Pod that its logger was made with, in
// the format that klog was given.
func TestFault_K6_2_LinesNameTheirSubject(t *testing.T) {
	var out bytes.Buffer
	klog.SetLoggerWithOptions(logr.FromSlogHandler(slog.NewTextHandler(&out, &slog.HandlerOptions{ReplaceAttr: plainLevel})), klog.ContextualLogger(true))
	t.Cleanup(klog.ClearLogger)
	log := newLogger().With("component", "control").With("node", "node1", "pod", "a/b")
	log.Info("stream begins", "term", 7)
	require.Regexp(t, `^time=\S+ level=INFO msg="stream begins" component=control node=node1 pod=a/b term=7\n$`, out.String())
	out.Reset()
	log.Warn("stream is slow", "err", "busy")
	require.Regexp(t, `^time=\S+ level=WARN msg="stream is slow" component=control node=node1 pod=a/b err=busy\n$`, out.String())
	out.Reset()
	log.WithGroup("peer").Info("peer up", "name", "tor-a")
	require.Regexp(t, `node=node1 pod=a/b peer.name=tor-a\n$`, out.String())
	out.Reset()
	log.Error("stream ended", "err", "cut off")
	require.Regexp(t, `^time=\S+ level=ERROR msg="stream ended" component=control node=node1 pod=a/b err="cut off"\n$`, out.String())
}

// The same where klog writes by itself, as with --logging-format=text before it is set up.
func TestFault_K6_2_LinesNameTheirSubjectInKlog(t *testing.T) {
	var out bytes.Buffer
	klog.LogToStderr(false)
	klog.SetOutput(&out)
	t.Cleanup(func() { klog.LogToStderr(true) })
	newLogger().With("node", "node1").Warn("stream begins", "term", 7)
	klog.Flush()
	require.Contains(t, out.String(), `"stream begins" node="node1" term=7`)
}

// The stock app logs in our format by default, and debug lines only where they are wanted.
func TestLogFormat(t *testing.T) {
	command, err := newCommand(t.Context())
	require.NoError(t, err)
	format := command.Flags().Lookup("logging-format")
	require.Equal(t, logFormat, format.DefValue)
	require.Equal(t, logFormat, format.Value.String())
	require.Contains(t, format.Usage, `"json"`)
	require.Contains(t, format.Usage, `"logfmt"`)
	require.Equal(t, "DEBUG", plainLevel(nil, slog.Any(slog.LevelKey, slog.Level(-2))).Value.String())
	require.Equal(t, "WARN", plainLevel(nil, slog.Any(slog.LevelKey, slog.LevelWarn)).Value.String())
}

// TestFault_K6_2_WarningsStayWarnings: our own lines keep their level, whatever logger klog has.
func TestFault_K6_2_WarningsStayWarnings(t *testing.T) {
	var out bytes.Buffer
	var handler slog.Handler = slog.NewTextHandler(&out, nil)
	before := current.Swap(&handler)
	t.Cleanup(func() { current.Store(before) })
	log := newLogger().With("component", "leader")
	log.Error("cloud-config refused")
	log.Warn("stream is slow")
	require.Contains(t, out.String(), `level=ERROR msg="cloud-config refused" component=leader`)
	require.Contains(t, out.String(), `level=WARN msg="stream is slow" component=leader`)
}
