package testbed

import (
	"bytes"
	"context"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"baremetal.cloud/ccm/internal/need"
	"baremetal.cloud/ccm/test/e2e/testbed/lan"
)

func TestQuote(t *testing.T) {
	for value, want := range map[string]string{
		"":           "",
		"/a/b-1.2:3": "/a/b-1.2:3",
		"1 2":        "'1 2'",
		"$(x)":       "'$(x)'",
		"it's":       `'it'\''s'`,
	} {
		require.Equal(t, want, quote(value))
	}
}

func TestMetric(t *testing.T) {
	text := "# HELP a_b help\na_bc 9\na_b{x=\"y\"} 3\nplain 1.5e3\n"
	require.InDelta(t, 3, metric(text, "a_b"), 0)
	require.InDelta(t, 1500, metric(text, "plain"), 0)
	require.Zero(t, metric(text, "none"))
}

func TestOptions(t *testing.T) {
	dir := t.TempDir()
	for name, c := range map[string]struct {
		o    Options
		want string
	}{
		"no directory":     {Options{}, "--dir"},
		"unknown proxy":    {Options{Dir: dir, Proxy: "ipvs"}, `"ipvs"`},
		"unknown network":  {Options{Dir: dir, Mgmt: "none"}, `"none"`},
		"too many nodes":   {Options{Dir: dir, Nodes: 1000}, "1000"},
		"fewer than none":  {Options{Dir: dir, Nodes: -1}, "-1"},
		"everything fine":  {Options{Dir: dir}, ""},
		"not there so far": {Options{Dir: filepath.Join(dir, "a", "b")}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			o, err := c.o.complete()
			if c.want != "" {
				require.ErrorContains(t, err, c.want)
				return
			}
			require.NoError(t, err)
			require.Equal(t, 3, o.Nodes)
			require.Equal(t, "nftables", o.Proxy)
			require.Equal(t, "lan", o.Mgmt)
		})
	}
}

// A directory has one identity, by whatever path it is called.
func TestRealPath(t *testing.T) {
	dir := t.TempDir()
	link := filepath.Join(dir, "link")
	require.NoError(t, os.Mkdir(filepath.Join(dir, "real"), 0o700))
	require.NoError(t, os.Symlink("real", link))
	direct, err := realPath(filepath.Join(dir, "real", "x"))
	require.NoError(t, err)
	byLink, err := realPath(filepath.Join(link, "x"))
	require.NoError(t, err)
	require.Equal(t, direct, byLink)
}

func TestClaimRefusesWhatIsUsed(t *testing.T) {
	dir := t.TempDir()
	existed, err := claim(dir)
	require.NoError(t, err)
	require.True(t, existed)
	_, err = claim(dir)
	require.ErrorContains(t, err, "not empty")
}

// Without a record nothing says that the files belong to a testbed: they stay.
func TestDownSparesStrangers(t *testing.T) {
	need.Root(t, "a testbed")
	dir := t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(dir, "precious"), nil, 0o600))
	require.NoError(t, Down(t.Context(), dir))
	require.FileExists(t, filepath.Join(dir, "precious"))
}

func TestFollow(t *testing.T) {
	var told []string
	tell := func(text string) { told = append(told, text) }
	require.NoError(t, follow(strings.NewReader(`{"Progress":"a"}`+"\n"+`{"Up":true}`+"\n"), tell))
	require.Equal(t, []string{"a"}, told)
	require.ErrorContains(t, follow(strings.NewReader(`{"Error":"broken"}`+"\n"), tell), "broken")
	require.ErrorContains(t, follow(strings.NewReader(""), tell), "ended early")
}

func TestControllersPatch(t *testing.T) {
	layout, err := lan.New("x", 3, false)
	require.NoError(t, err)
	s := &supervisor{layout: layout}
	daemonSet := func(args string) []byte {
		return []byte("apiVersion: apps/v1\nkind: DaemonSet\nmetadata: {name: baremetal-announcer}\n" +
			"spec: {template: {spec: {containers: [{name: a, args: " + args + "}]}}}\n")
	}
	for args, want := range map[string]string{
		"[--a, --controllers=x, --b]": `"op":"replace","path":"/spec/template/spec/containers/0/args/1"`,
		"[--a]":                       `"op":"add","path":"/spec/template/spec/containers/0/args/-"`,
	} {
		objects, err := decode(daemonSet(args))
		require.NoError(t, err)
		patch, err := s.controllersPatch(objects)
		require.NoError(t, err)
		require.Contains(t, patch, want)
		require.Contains(t, patch, "--controllers=172.30.0.11:10270,172.30.0.12:10270")
	}
	_, err = s.controllersPatch(nil)
	require.Error(t, err)
}

func TestForwardCarriesBothWays(t *testing.T) {
	target, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer target.Close()
	go func() {
		conn, err := target.Accept()
		if err != nil {
			return
		}
		// Everything comes before the answer: half a connection may be closed.
		text, _ := io.ReadAll(conn)
		_, _ = conn.Write(bytes.ToUpper(text))
		_ = conn.Close()
	}()
	door, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() {
		done <- forward(ctx, door, (&net.Dialer{}).DialContext, target.Addr().String())
	}()
	conn, err := net.Dial("tcp", door.Addr().String())
	require.NoError(t, err)
	_, err = conn.Write([]byte("hello"))
	require.NoError(t, err)
	require.NoError(t, conn.(*net.TCPConn).CloseWrite())
	text, err := io.ReadAll(conn)
	require.NoError(t, err)
	require.Equal(t, "HELLO", string(text))
	require.NoError(t, conn.Close())
	cancel()
	require.NoError(t, <-done)
}
