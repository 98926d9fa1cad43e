package main

import (
	"context"
	"fmt"
	"log/slog"

	apiversion "k8s.io/apimachinery/pkg/util/version"
	"k8s.io/client-go/discovery"
	"k8s.io/client-go/kubernetes"
)

// minimumKubernetes is the oldest API server that this program works with: since 1.30 the
// field ipMode of a Service's status is kept by default, and a Pod-bound token names its node.
var minimumKubernetes = apiversion.MajorMinor(1, 30)

// checkKubernetes returns an error if the API server reports that it is older than
// minimumKubernetes. One that does not say what it is passes, with a Warning.
func checkKubernetes(ctx context.Context, client kubernetes.Interface, log *slog.Logger) error {
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	said, err := discovery.ToServerVersionInterfaceWithContext(client.Discovery()).ServerVersionWithContext(ctx)
	if err != nil {
		log.Warn("the version of the API server is not known", "minimum", minimumKubernetes.String(), "err", err)
		return nil
	}
	// Distributions add to it: v1.30.4+k3s1, v1.30.2-gke.1587003.
	version, err := apiversion.ParseGeneric(said.GitVersion)
	switch {
	case err != nil:
		log.Warn("the version of the API server is not known", "minimum", minimumKubernetes.String(), "version", said.GitVersion)
	case version.LessThan(minimumKubernetes):
		return fmt.Errorf("the API server is Kubernetes %s, and %s needs %d.%d or later: upgrade the cluster first",
			said.GitVersion, programName, minimumKubernetes.Major(), minimumKubernetes.Minor())
	}
	return nil
}
