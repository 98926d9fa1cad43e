// Package need is for tests that need of the machine what not every machine has. They skip
// themselves where it is missing, and fail where nothing may be missing: in continuous
// integration a test that skips itself would hide that nothing is tested.
package need

import (
	"os"
	"testing"
)

// Everything is the environment variable that is "yes" where nothing may be missing.
const Everything = "NEED_EVERYTHING"

// Root skips t without root; why is what root is needed for.
func Root(t testing.TB, why string) {
	t.Helper()
	if os.Geteuid() != 0 {
		Missing(t, "needs root: "+why)
	}
}

// Missing skips t, which cannot show anything here.
func Missing(t testing.TB, why string) {
	t.Helper()
	if os.Getenv(Everything) == "yes" {
		t.Fatalf("%s, and with %s=yes nothing may be missing", why, Everything)
	}
	t.Skip(why)
}
