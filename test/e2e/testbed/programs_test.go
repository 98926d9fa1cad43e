package testbed

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestPrograms(t *testing.T) {
	list, err := parsePrograms(strings.NewReader("# a comment\n\ntestbed ip iproute2\nrace  gcc  gcc libc6-dev\n"))
	require.NoError(t, err)
	require.Equal(t, []program{
		{group: "testbed", name: "ip", packages: []string{"iproute2"}},
		{group: "race", name: "gcc", packages: []string{"gcc", "libc6-dev"}},
	}, list)
	_, err = parsePrograms(strings.NewReader("testbed ip\n"))
	require.ErrorContains(t, err, "want a group, a program and its Debian packages")
}

// A testbed does not boot, and so no test waits, where a program that it runs does not exist.
func TestMissingProgramIsNamed(t *testing.T) {
	t.Setenv("PATH", t.TempDir())
	err := checkPrograms()
	require.ErrorContains(t, err, "this machine lacks bird, birdc, curl, ip, iptables, nft, ping, vtysh")
	require.ErrorContains(t, err, "install bird2, curl,")
}
