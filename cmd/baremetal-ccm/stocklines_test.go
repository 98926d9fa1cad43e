package main

import (
	"bytes"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// TestFault_K1_7_StockLinesAreBounded: a tenant who edits a refused Service ten times a second
// causes one line a minute, and none for the stock controllers' Events.
func TestFault_K1_7_StockLinesAreBounded(t *testing.T) {
	var out bytes.Buffer
	var level slog.LevelVar
	now := time.Unix(0, 0)
	handler := &stockLines{slog.NewTextHandler(&out, &slog.HandlerOptions{Level: &level}), &failedServices{now: func() time.Time { return now }}}
	log := slog.New(handler).With("component", "stock")
	for i := range 1200 {
		now = now.Add(100 * time.Millisecond)
		log.Info("Event occurred", "object.name", "web", "reason", "EnsuringLoadBalancer")
		log.Warn(fmt.Sprintf("error processing service default/web (retrying in 5m0s): there is no pool %q", fmt.Sprint(i)))
	}
	log.Warn("error processing service default/other (retrying with exponential backoff): no")
	log.Info("addresses allocated", "service", "default/other")
	require.Equal(t, 3, strings.Count(out.String(), "default/web")+strings.Count(out.String(), "error processing service default/other"), out.String())
	require.Contains(t, out.String(), "addresses allocated")
	require.NotContains(t, out.String(), "Event occurred")

	for i := range 2 * maxFailed {
		log.Warn(fmt.Sprintf("error processing service default/s%d (retrying in 5m0s): no", i))
	}
	require.LessOrEqual(t, len(handler.failed.told), maxFailed, "memory is bounded")

	log.Info("Caches are synced")
	require.NotContains(t, out.String(), "Caches are synced", "it says nothing that an administrator needs")
	log.Warn("Waiting for caches to sync takes long")
	require.Contains(t, out.String(), "takes long")

	level.Set(slog.LevelDebug)
	log.Info("Event occurred", "object.name", "web")
	require.Contains(t, out.String(), `level=DEBUG msg="Event occurred"`, "with more verbosity they are there")
}
