package proc

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"baremetal.cloud/ccm/internal/need"
)

// The test binary plays two further parts: the shim, and a supervisor to be killed.
func TestMain(m *testing.M) {
	RunIfShim()
	if dir := os.Getenv("PROC_TEST_SUPERVISE"); dir != "" {
		supervise(dir)
		return
	}
	os.Exit(m.Run())
}

// supervise runs `sleep` until it is killed.
func supervise(dir string) {
	ctx := context.Background()
	spawner := NewSpawner()
	go func() { _ = spawner.Run(ctx) }()
	log, err := os.Create(filepath.Join(dir, "log"))
	if err != nil {
		return
	}
	cmd, err := spawner.Start(ctx, Command{Path: "/bin/sleep", Args: []string{"1000"}}, log)
	if err != nil {
		return
	}
	_ = os.WriteFile(filepath.Join(dir, "pid"), []byte(strconv.Itoa(cmd.Process.Pid)), 0o600)
	_ = cmd.Wait()
}

func needRoot(t *testing.T) {
	t.Helper()
	need.Root(t, "mount namespaces")
}

// start runs a Service for the duration of the test.
func start(t *testing.T, command Command) (*Service, string) {
	t.Helper()
	needRoot(t)
	spawner := NewSpawner()
	log := filepath.Join(t.TempDir(), "log")
	s := &Service{
		Name: "test", Log: log, Grace: time.Second, Spawner: spawner, Logger: slog.New(slog.DiscardHandler),
		Command: func(context.Context) (Command, error) { return command, nil },
	}
	ctx, cancel := context.WithCancel(context.Background())
	spawning, stopSpawner := context.WithCancel(context.Background())
	spawned, done := make(chan struct{}), make(chan struct{})
	go func() { defer close(spawned); _ = spawner.Run(spawning) }()
	go func() { defer close(done); _ = s.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		<-done
		stopSpawner()
		<-spawned
	})
	return s, log
}

func eventually(t *testing.T, ok func() bool, why string) {
	t.Helper()
	require.Eventually(t, ok, 2*time.Minute, 10*time.Millisecond, why)
}

// running reports whether the shim has become sleep.
func running(s *Service) func() bool {
	return func() bool {
		name, _ := os.ReadFile(fmt.Sprintf("/proc/%d/comm", s.State().PID))
		return string(name) == "sleep\n"
	}
}

func alive(pid int) bool {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	return err == nil && !strings.Contains(string(data), ") Z ")
}

func TestServiceRestartsHoldsAndReleases(t *testing.T) {
	s, _ := start(t, Command{Path: "/bin/sleep", Args: []string{"1000"}})
	eventually(t, running(s), "it starts")
	first := s.State().PID
	require.NoError(t, syscall.Kill(first, syscall.SIGKILL))
	eventually(t, func() bool { return running(s)() && s.State().PID != first }, "it starts again")
	require.Equal(t, 128+int(syscall.SIGKILL), s.State().ExitCode)
	require.NoError(t, s.Hold(t.Context()))
	require.Zero(t, s.State().PID)
	s.Release()
	require.NoError(t, s.WaitRunning(t.Context()))
	eventually(t, running(s), "it runs again")
	second := s.State().PID
	s.Restart()
	eventually(t, func() bool { return running(s)() && s.State().PID != second }, "restart on request")
	require.Equal(t, 3, s.State().Exits)
}

// TestServiceEndsWithItsProgram: one that is to succeed once is started again until it has.
func TestServiceEndsWithItsProgram(t *testing.T) {
	needRoot(t)
	for name, c := range map[string]struct {
		script string
		once   func(exitCode int) bool
		exits  int
		code   int
	}{
		"whatever the end": {"exit 3", func(int) bool { return true }, 1, 3},
		"success":          {"[ -e again ] || { : >again; exit 1; }", func(exitCode int) bool { return exitCode == 0 }, 2, 0},
	} {
		t.Run(name, func(t *testing.T) {
			spawner := NewSpawner()
			spawning, stopSpawner := context.WithCancel(t.Context())
			spawned := make(chan struct{})
			go func() { defer close(spawned); _ = spawner.Run(spawning) }()
			defer func() { stopSpawner(); <-spawned }()
			dir := t.TempDir()
			s := &Service{
				Name: "test", Log: filepath.Join(dir, "log"), Grace: time.Second, Spawner: spawner, Logger: slog.New(slog.DiscardHandler), Once: c.once,
				Command: func(context.Context) (Command, error) {
					return Command{Path: "/bin/sh", Env: []string{"PATH=/usr/bin:/bin"}, Args: []string{"-c", "cd " + dir + " && " + c.script}}, nil
				},
			}
			require.NoError(t, s.Run(t.Context()))
			state := s.State()
			require.True(t, state.Completed)
			require.Equal(t, c.exits, state.Exits)
			require.Equal(t, c.code, state.ExitCode)
		})
	}
}

func TestServiceKillsWhoIgnoresSIGTERM(t *testing.T) {
	s, log := start(t, Command{Path: "/bin/sh", Env: []string{"PATH=/usr/bin:/bin"}, Args: []string{"-c", "trap '' TERM; echo deaf; while :; do sleep 1; done"}})
	eventually(t, func() bool { text, _ := os.ReadFile(log); return string(text) == "deaf\n" }, "it is deaf")
	pid := s.State().PID
	require.NoError(t, s.Hold(t.Context()))
	require.False(t, alive(pid))
}

func TestChildrenDieWithTheSupervisor(t *testing.T) {
	needRoot(t)
	dir := t.TempDir()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), "PROC_TEST_SUPERVISE="+dir)
	require.NoError(t, cmd.Start())
	var child int
	eventually(t, func() bool {
		text, _ := os.ReadFile(filepath.Join(dir, "pid"))
		child, _ = strconv.Atoi(string(text))
		return child != 0 && alive(child)
	}, "the child runs")
	require.NoError(t, cmd.Process.Kill())
	_ = cmd.Wait()
	eventually(t, func() bool { return !alive(child) }, "the child dies")
}

// A container sees its own root, its mounts and no more rights than it asked for.
func TestContainer(t *testing.T) {
	root, volume := t.TempDir(), t.TempDir()
	require.NoError(t, os.Chmod(volume, 0o755))
	require.NoError(t, os.WriteFile(filepath.Join(volume, "key"), []byte("value"), 0o644))
	shell, err := filepath.EvalSymlinks("/bin/sh")
	require.NoError(t, err)
	script := `cat /etc/volume/key; echo; id -u; grep -E '^(CapEff|CapBnd|NoNewPrivs)' /proc/self/status
touch /x 2>/dev/null && echo writable; touch /etc/volume/x 2>/dev/null && echo writable; ls -d /home /root 2>/dev/null; exec sleep 1000`
	for name, c := range map[string]struct {
		id   Identity
		want string
	}{
		"root with one capability": {Identity{Capabilities: []string{"NET_RAW"}, NoNewPrivileges: true},
			"value\n0\nNoNewPrivs:\t1\nCapEff:\t0000000000002000\nCapBnd:\t0000000000002000\n"},
		"another user": {Identity{UID: 65532, GID: 65532, Capabilities: []string{"NET_RAW"}},
			"value\n65532\nNoNewPrivs:\t0\nCapEff:\t0000000000000000\nCapBnd:\t0000000000002000\n"},
	} {
		t.Run(name, func(t *testing.T) {
			_, log := start(t, Command{
				Path: "/shell", Args: []string{"-c", script}, Env: []string{"PATH=/usr/bin:/bin"},
				Root: root, ReadOnlyRoot: true, Identity: &c.id,
				Binds: []Bind{
					{Source: shell, Target: "/shell", ReadOnly: true},
					{Source: "/usr", Target: "/usr", ReadOnly: true},
					{Source: "/lib", Target: "/lib", ReadOnly: true},
					{Source: "/lib64", Target: "/lib64", ReadOnly: true},
					{Source: volume, Target: "/etc/volume", ReadOnly: true},
				},
			})
			sorted := func(text string) []string {
				lines := strings.Split(strings.TrimSpace(text), "\n")
				for i := range lines {
					lines[i] = strings.TrimSpace(lines[i])
				}
				return lines
			}
			eventually(t, func() bool { text, _ := os.ReadFile(log); return strings.Count(string(text), "\n") >= 5 }, "it reports")
			text, err := os.ReadFile(log)
			require.NoError(t, err)
			require.ElementsMatch(t, sorted(c.want), sorted(string(text)))
		})
	}
	entries, err := os.ReadDir(root)
	require.NoError(t, err)
	require.Empty(t, entries, "the host sees nothing of it")
}

func TestCapabilityNames(t *testing.T) {
	mask, err := capabilityMask([]string{"NET_RAW", "cap_chown", "CHECKPOINT_RESTORE"})
	require.NoError(t, err)
	require.Equal(t, uint64(1<<13|1<<0|1<<40), mask)
	_, err = capabilityMask([]string{"FLY"})
	require.ErrorContains(t, err, `"FLY"`)
}
