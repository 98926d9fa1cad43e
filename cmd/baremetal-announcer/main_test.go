package main

import (
	"bufio"
	"bytes"
	"context"
	"net"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// waitAtMost is generous: no test takes it unless it fails.
const waitAtMost = 30 * time.Second

// The test binary is also the program.
func TestMain(m *testing.M) {
	if os.Getenv("ANNOUNCER_TEST_MAIN") != "" {
		main()
	}
	os.Exit(m.Run())
}

func environment(pairs ...string) func(string) string {
	return func(name string) string {
		for _, p := range pairs {
			if value, ok := strings.CutPrefix(p, name+"="); ok {
				return value
			}
		}
		return ""
	}
}

func TestParse(t *testing.T) {
	o, err := parseFlags(nil, environment("NODE_NAME=node1"), &bytes.Buffer{})
	require.NoError(t, err)
	require.Equal(t, options{
		node: "node1", controllers: []string{"baremetal-ccm.baremetal-ccm.svc:10270"},
		caFile: "/etc/baremetal/ca/ca.crt", tokenFile: "/var/run/secrets/baremetal.cloud/token",
		statusAddress: "127.0.0.1:10271", passwordDir: "/etc/baremetal/bgp-passwords", realtime: true,
	}, o)
	o, err = parseFlags([]string{"--node=n", "--controllers=a:1, b:2,", "--log-level=debug", "--realtime=false"}, environment(), &bytes.Buffer{})
	require.NoError(t, err)
	require.Equal(t, "n", o.node)
	require.Equal(t, []string{"a:1", "b:2"}, o.controllers)
	require.Equal(t, "DEBUG", o.logLevel.String())
	require.False(t, o.realtime)
}

func TestExitStatus(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer taken.Close()
	for name, test := range map[string]struct {
		args   []string
		want   int
		output string
	}{
		"version":        {[]string{"--version"}, 0, "baremetal-announcer "},
		"help":           {[]string{"--help"}, 0, "-status-address"},
		"no node":        {nil, 2, "--node is empty and NODE_NAME is not set"},
		"unknown flag":   {[]string{"--nod=x"}, 2, "flag provided but not defined: -nod"},
		"argument":       {[]string{"--node=x", "y"}, 2, `unexpected argument "y"`},
		"no controllers": {[]string{"--node=x", "--controllers="}, 2, "--controllers names nobody"},
		"log level":      {[]string{"--node=x", "--log-level=loud"}, 2, `invalid value "loud" for flag -log-level`},
		"address taken":  {[]string{"--node=x", "--realtime=false", "--status-address=" + taken.Addr().String()}, 1, "--status-address: listen tcp"},
		"no port":        {[]string{"--node=x", "--realtime=false", "--controllers=ccm", "--status-address=127.0.0.1:0"}, 1, "ccm"},
	} {
		t.Run(name, func(t *testing.T) {
			var stdout, stderr bytes.Buffer
			require.Equal(t, test.want, run(t.Context(), test.args, environment(), &stdout, &stderr), stderr.String())
			require.Contains(t, stdout.String()+stderr.String(), test.output)
		})
	}
}

// TestEndsCleanly: a signal ends the program with status 0, with nobody to talk to.
func TestEndsCleanly(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	status := make(chan int)
	var stderr bytes.Buffer
	go func() {
		status <- run(ctx, []string{"--node=x", "--realtime=false", "--controllers=127.0.0.1:1", "--ca-file=/none", "--token-file=/none", "--status-address=127.0.0.1:0"},
			environment(), &bytes.Buffer{}, &stderr)
	}()
	cancel()
	require.Zero(t, <-status, stderr.String())
}

// TestFault_K1_3_GoesOnAsANormalProcess: where the kernel refuses a deadline the program says so,
// once, and how to cure it, and goes on.
func TestFault_K1_3_GoesOnAsANormalProcess(t *testing.T) {
	program := exec.CommandContext(t.Context(), "/proc/self/exe",
		"--node=x", "--controllers=127.0.0.1:1", "--ca-file=/none", "--token-file=/none", "--status-address=127.0.0.1:0")
	program.Env = append(os.Environ(), "ANNOUNCER_TEST_MAIN=1")
	if os.Geteuid() == 0 { // others have no capabilities anyway
		program.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
	}
	stderr, err := program.StderrPipe()
	require.NoError(t, err)
	require.NoError(t, program.Start())
	var warnings []string
	for lines := bufio.NewScanner(stderr); lines.Scan(); {
		if strings.Contains(lines.Text(), "deadline scheduling") {
			warnings = append(warnings, lines.Text())
		}
		if strings.Contains(lines.Text(), "msg=starting") {
			require.NoError(t, program.Process.Signal(syscall.SIGTERM))
		}
	}
	require.NoError(t, program.Wait())
	require.Len(t, warnings, 1)
	require.Contains(t, warnings[0], "SYS_NICE")
	require.Contains(t, warnings[0], "operation not permitted")
}

// TestFault_K1_3_StderrThatIsNotRead: a log that is read by nothing, as on a node whose disk is full,
// holds nothing up, not even the end.
func TestFault_K1_3_StderrThatIsNotRead(t *testing.T) {
	read, full, err := os.Pipe()
	require.NoError(t, err)
	defer read.Close()
	require.NoError(t, full.SetWriteDeadline(time.Now().Add(100*time.Millisecond)))
	for err == nil {
		_, err = full.Write(make([]byte, 4096))
	}
	require.ErrorIs(t, err, os.ErrDeadlineExceeded)
	_, err = full.Write([]byte("x"))
	require.Error(t, err)

	free, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	address := free.Addr().String()
	require.NoError(t, free.Close())
	program := exec.CommandContext(t.Context(), "/proc/self/exe", "--node=x", "--realtime=false", "--log-level=debug",
		"--controllers=127.0.0.1:1", "--ca-file=/none", "--token-file=/none", "--status-address="+address)
	program.Env = append(os.Environ(), "ANNOUNCER_TEST_MAIN=1")
	program.Stderr = full
	require.NoError(t, program.Start())
	require.Eventually(t, func() bool {
		response, err := http.Get("http://" + address + "/healthz")
		if err != nil {
			return false
		}
		defer response.Body.Close()
		return response.StatusCode == http.StatusOK
	}, waitAtMost, 20*time.Millisecond, "it works")
	require.NoError(t, program.Process.Signal(syscall.SIGTERM))
	require.NoError(t, program.Wait(), "it ends")
}
