package testbed

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// component is a program of the nested module test/e2e/components.
type component struct{ name, pkg string }

func components() []component {
	return []component{
		{"etcd", "go.etcd.io/etcd/server/v3"},
		{"kubectl", "k8s.io/kubernetes/cmd/kubectl"},
		{"kube-apiserver", "k8s.io/kubernetes/cmd/kube-apiserver"},
		{"kube-controller-manager", "k8s.io/kubernetes/cmd/kube-controller-manager"},
		{"kube-proxy", "k8s.io/kubernetes/cmd/kube-proxy"},
	}
}

// stamp makes the components tell the version that the module has.
const stamp = "-s -w -X k8s.io/component-base/version.gitVersion=v1.37.1 -X k8s.io/component-base/version.gitMajor=1 " +
	"-X k8s.io/component-base/version.gitMinor=37 -X k8s.io/component-base/version.gitCommit=testbed " +
	"-X k8s.io/component-base/version.gitTreeState=clean"

// Components builds the real Kubernetes components into bin, unless what is there was
// built from the same sources by the same Go.
func Components(ctx context.Context, bin string, progress io.Writer) error {
	repo, err := Repository()
	if err != nil {
		return err
	}
	module := filepath.Join(repo, "test", "e2e", "components")
	unlock, err := lock(bin)
	if err != nil {
		return err
	}
	defer unlock()
	want, err := sources(ctx, module, stamp)
	if err != nil {
		return err
	}
	stampFile := filepath.Join(bin, "components.sum")
	if have, err := os.ReadFile(stampFile); err == nil && string(have) == want && allThere(bin) {
		return nil
	}
	fmt.Fprintln(progress, "Building the real Kubernetes components; the first time takes some minutes.")
	for _, c := range components() {
		began := time.Now()
		fmt.Fprintf(progress, "  %-24s ", c.name)
		if err := goBuild(ctx, module, "-trimpath", "-ldflags", stamp, "-o", filepath.Join(bin, c.name), c.pkg); err != nil {
			fmt.Fprintln(progress, "failed")
			return err
		}
		fmt.Fprintf(progress, "%4.0fs\n", time.Since(began).Seconds())
	}
	return os.WriteFile(stampFile, []byte(want), 0o644)
}

// helmPackage is Helm's program, and helmStamp the Kubernetes version that it takes for the cluster's where it
// asks none.
const (
	helmPackage = "helm.sh/helm/v3/cmd/helm"
	helmStamp   = "-s -w -X helm.sh/helm/v3/pkg/chartutil.k8sVersionMajor=1 -X helm.sh/helm/v3/pkg/chartutil.k8sVersionMinor=37 " +
		"-X helm.sh/helm/v3/pkg/lint/rules.k8sVersionMajor=1 -X helm.sh/helm/v3/pkg/lint/rules.k8sVersionMinor=37"
)

// Helm builds Helm into bin, unless what is there was built from the same sources by the same Go. It is of a
// module of its own, test/e2e/helm: a testbed does not need it, and its dependencies would move those of Kubernetes.
func Helm(ctx context.Context, bin string, progress io.Writer) error {
	repo, err := Repository()
	if err != nil {
		return err
	}
	module := filepath.Join(repo, "test", "e2e", "helm")
	unlock, err := lock(bin)
	if err != nil {
		return err
	}
	defer unlock()
	want, err := sources(ctx, module, helmStamp)
	if err != nil {
		return err
	}
	program, stampFile := filepath.Join(bin, "helm"), filepath.Join(bin, "helm.sum")
	_, missing := os.Stat(program)
	if have, err := os.ReadFile(stampFile); err == nil && string(have) == want && missing == nil {
		return nil
	}
	fmt.Fprintln(progress, "Building Helm; the first time takes some minutes.")
	if err := goBuild(ctx, module, "-trimpath", "-ldflags", helmStamp, "-o", program, helmPackage); err != nil {
		return err
	}
	return os.WriteFile(stampFile, []byte(want), 0o644)
}

// sources is a digest of all that decides what the programs of a module are, linked with these flags.
func sources(ctx context.Context, module, flags string) (string, error) {
	version, err := exec.CommandContext(ctx, "go", "version").Output()
	if err != nil {
		return "", fmt.Errorf("go version: %w", err)
	}
	sum := sha256.New()
	sum.Write(version)
	sum.Write([]byte(flags))
	for _, name := range []string{"go.mod", "go.sum"} {
		data, err := os.ReadFile(filepath.Join(module, name))
		if err != nil {
			return "", err
		}
		sum.Write(data)
	}
	return hex.EncodeToString(sum.Sum(nil)) + "\n", nil
}

func allThere(bin string) bool {
	for _, c := range components() {
		if _, err := os.Stat(filepath.Join(bin, c.name)); err != nil {
			return false
		}
	}
	return true
}

// BuildOwn builds the testbed's own programs into bin: its supervisor and the web
// server. Go's cache makes that quick when nothing changed.
func BuildOwn(ctx context.Context, bin string) error {
	repo, err := Repository()
	if err != nil {
		return err
	}
	unlock, err := lock(bin)
	if err != nil {
		return err
	}
	defer unlock()
	if !allThere(bin) {
		return fmt.Errorf("the Kubernetes components are not in %s; build them with `go run ./test/e2e/cmd/testbed components`", bin)
	}
	return goBuild(ctx, repo, "-trimpath", "-ldflags", "-s -w", "-o", bin+"/", "./test/e2e/cmd/testbed", "./test/e2e/cmd/web")
}

func goBuild(ctx context.Context, dir string, args ...string) error {
	cmd := exec.CommandContext(ctx, "go", append([]string{"build"}, args...)...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOFLAGS=", "GOWORK=off")
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("go build %s: %w\n%s", args[len(args)-1], err, strings.TrimSpace(string(out)))
	}
	return nil
}

// lock keeps two builds from writing the same programs.
func lock(bin string) (unlock func(), err error) {
	if err := os.MkdirAll(bin, 0o755); err != nil {
		return nil, err
	}
	f, err := os.OpenFile(filepath.Join(bin, ".lock"), os.O_CREATE|os.O_RDWR, 0o644)
	if err != nil {
		return nil, err
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return func() { _ = f.Close() }, nil
}
