package guard

import (
	"encoding/json"
	"testing"

	"github.com/stretchr/testify/require"

	"baremetal.cloud/ccm/internal/advisories"
)

// Each advisory that is accepted is about the version that go.mod has: with another one it is
// looked at again. make vuln, which needs the database, says whether it is there at all.
func TestAcceptedAdvisoriesAreOfOurVersions(t *testing.T) {
	var mod struct {
		Require []struct{ Path, Version string }
	}
	require.NoError(t, json.Unmarshal([]byte(command(t, "go", "mod", "edit", "-json")), &mod))
	versions := map[string]string{}
	for _, r := range mod.Require {
		versions[r.Path] = r.Version
	}
	accepted := advisories.Table(read(t, "docs/security.md"))
	require.NotEmpty(t, accepted)
	for _, a := range accepted {
		require.Equal(t, versions[a.Module], a.Version, a.ID)
		require.NotEmpty(t, a.Reason, a.ID)
	}
}
