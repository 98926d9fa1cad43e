package reason

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestFault_K6_4_NodesAreCountedAndNamed: a message has names and numbers in place of codes.
func TestFault_K6_4_NodesAreCountedAndNamed(t *testing.T) {
	three, five := []string{"a", "b", "c"}, []string{"a", "b", "c", "d", "e"}
	require.Equal(t, "3 nodes (a, b, c) do not match nodeSelector zone=z9", OfNodes(NodeNotSelected, three, "zone=z9"))
	require.Equal(t, "node a does not match nodeSelector zone=z9", OfNodes(NodeNotSelected, three[:1], "zone=z9"))
	require.Equal(t, "no interface bond7 on 5 nodes (a, b, c and 2 more)", OfNodes(NodeNoInterface, five, "no interface bond7"))
	require.Equal(t, "SomethingNew on 3 nodes (a, b, c)", OfNodes("SomethingNew", three, ""))
	for why, s := range sentences {
		for _, text := range []string{s.one, s.several} {
			require.Contains(t, text, "NODES", why)
			require.NotContains(t, text, string(why))
		}
		require.Equal(t, strings.Contains(s.one, "DETAIL"), strings.Contains(s.several, "DETAIL"), why)
	}
}
