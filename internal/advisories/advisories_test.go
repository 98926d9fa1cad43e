package advisories

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

const found = `{"config": {"scan_level": "symbol"}}
{"osv": {"id": "GO-2026-0001"}}
{"finding": {"osv": "GO-2026-0001", "fixed_version": "v1.2.4", "trace": [{"module": "example.org/m", "version": "v1.2.3"}]}}
{"finding": {"osv": "GO-2026-0002", "fixed_version": "v1.2.4", "trace": [{"module": "example.org/m", "version": "v1.2.3", "package": "example.org/m", "function": "F"}]}}
{"finding": {"osv": "GO-2026-0002", "fixed_version": "v1.2.4", "trace": [{"module": "example.org/m", "version": "v1.2.3", "package": "example.org/m", "function": "G"}]}}
{"finding": {"osv": "GO-2026-0003", "trace": [{"module": "example.org/old", "version": "v3.0.0", "package": "p", "function": "F"}]}}
{"finding": {"osv": "GO-2026-0004", "fixed_version": "v1.26.9", "trace": [{"module": "stdlib", "version": "v1.26.8", "package": "net/http", "function": "F"}]}}
{"finding": {"osv": "GO-2026-0005", "fixed_version": "v1.26.12", "trace": [{"module": "stdlib", "version": "v1.26.8", "package": "net/http", "function": "F"}]}}
`

func TestJudge(t *testing.T) {
	findings, err := Read(strings.NewReader(found))
	require.NoError(t, err)
	require.Len(t, findings, 4, "what is only required, and not called, is no finding of a scan for symbols")
	accepted := Table("| Advisory | Where | Why |\n|---|---|---|\n| GO-2026-0003 | `example.org/old` v3.0.0 | it is contained |\n| GO-2025-0009 | `example.org/gone` v1.0.0 | not any longer |\n")
	require.Equal(t, Accepted{"GO-2026-0003", "example.org/old", "v3.0.0", "it is contained"}, accepted[0])
	wrong, notes := Judge(findings, accepted, "go1.26.11")
	require.Equal(t, []string{
		"GO-2025-0009: docs/security.md accepts it for example.org/gone, and it is not found; remove the row",
		"GO-2026-0002: example.org/m v1.2.3; run go get example.org/m@v1.2.4",
		"GO-2026-0005: images are built with go1.26.11; name Go 1.26.12 or later in the Dockerfile",
	}, wrong)
	require.Equal(t, []string{"GO-2026-0004: Go 1.26.8 has it, images are built with go1.26.11, where it is fixed"}, notes)

	wrong, _ = Judge(findings, nil, "go1.26.11")
	require.Contains(t, wrong, "GO-2026-0003: example.org/old v3.0.0 has no fix; contain it, and add it with the reason to the table in docs/security.md")
}

func TestReadOfAnotherScan(t *testing.T) {
	findings, err := Read(strings.NewReader(strings.ReplaceAll(found, `"symbol"`, `"package"`)))
	require.NoError(t, err)
	require.Len(t, findings, 4)
	findings, err = Read(strings.NewReader(strings.ReplaceAll(found, `"symbol"`, `"module"`)))
	require.NoError(t, err)
	require.Len(t, findings, 5)
	for _, bad := range []string{"", "govulncheck: no such file", found + "{"} {
		_, err = Read(strings.NewReader(bad))
		require.ErrorContains(t, err, "output of govulncheck", bad)
	}
}
