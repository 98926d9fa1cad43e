package main

import (
	"net/netip"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestParseReceived(t *testing.T) {
	text := `Inter-|   Receive                                                |  Transmit
 face |bytes    packets errs drop fifo frame compressed multicast|bytes    packets errs drop fifo colls carrier compressed
    lo:     100       2    0    0    0     0          0         0      100       2    0    0    0     0       0          0
  eth0: 4200000  100000    0    0    0     0          0         0      300       3    0    0    0     0       0          0
`
	received, err := parseReceived(text, "eth0")
	require.NoError(t, err)
	require.Equal(t, 100000.0, received)
	_, err = parseReceived(text, "eth1")
	require.Error(t, err)
}

func TestSettingIn(t *testing.T) {
	env := "POOL_V4=198.18.0.0/20\nANNOUNCER_PID_node10=77\nANNOUNCER_PID_node1=42\nCCM_PIDS='1 2'\n"
	for name, want := range map[string]string{"ANNOUNCER_PID_node1": "42", "CCM_PIDS": "1 2"} {
		got, err := settingIn(env, name)
		require.NoError(t, err)
		require.Equal(t, want, got)
	}
	_, err := settingIn(env, "ANNOUNCER_PID_node")
	require.Error(t, err)
}

// Half of what the flood asks for is in the pool, and nothing of it is anybody's.
func TestFloodAddresses(t *testing.T) {
	pool := netip.MustParsePrefix("198.18.0.0/20")
	used := map[netip.Addr]bool{}
	for a := pool.Addr(); len(used) < 1000; a = a.Next() {
		used[a] = true
	}
	in := 0
	all := floodAddresses(pool, used)
	for _, a := range all {
		require.False(t, used[a], a)
		if pool.Contains(a) {
			in++
		}
	}
	require.Equal(t, len(all)/2, in)
}

// A thread that works shows in the process's time.
func TestProcessorSeconds(t *testing.T) {
	before, err := processorSeconds("/proc/self")
	require.NoError(t, err)
	for after := before; after <= before; { // looking is work, too
		after, err = processorSeconds("/proc/self")
		require.NoError(t, err)
	}
	_, err = processorSeconds("/proc/none")
	require.Error(t, err)
}
