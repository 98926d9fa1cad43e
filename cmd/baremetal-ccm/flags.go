package main

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/pflag"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/cloud-provider/options"
	"k8s.io/component-base/cli/flag"

	"baremetal.cloud/ccm/pkg/cloud"
)

// securePort is the default of --secure-port. The stock app's, 10258, is taken by the
// cloud-controller-manager that k3s and RKE2 bring along.
const securePort = 10273

// flags are ours, beside the stock app's.
type flags struct {
	listenAddress     string
	cloudConfigMap    string
	certFile          string
	keyFile           string
	tokenReviews      time.Duration
	validateConfig    string
	cleanup           bool
	cleanupDeployment string
	cleanupAddresses  string
}

// maxTokenReviews is how long an announcer's stream may outlive its Pod.
const maxTokenReviews = 5 * time.Minute

// addFlags declares the flags in a section of their own.
func (f *flags) addFlags(sections *flag.NamedFlagSets) {
	section := sections.FlagSet("baremetal")
	section.StringVar(&f.listenAddress, "announcer-listen-address", ":10270",
		"The address, HOST:PORT, on which announcers are served by gRPC.")
	section.StringVar(&f.cloudConfigMap, "cloud-config-map", "",
		"The ConfigMap, NAMESPACE/NAME, that holds the cloud-config under the key "+cloud.ConfigMapKey+". It is watched. "+
			"The file of --cloud-config counts only while the ConfigMap does not exist, and never replaces what came from it.")
	section.StringVar(&f.certFile, "announcer-tls-cert-file", "",
		"A file with the certificate to serve announcers with, for the DNS name baremetal-ccm. "+
			"If empty, one is made and kept in the Secret baremetal-ccm-tls.")
	section.StringVar(&f.keyFile, "announcer-tls-private-key-file", "",
		"The file with the private key of --announcer-tls-cert-file.")
	section.DurationVar(&f.tokenReviews, "announcer-token-review-interval", maxTokenReviews,
		"For tests: how long an announcer's stream may outlive its Pod, since its token is reviewed again so often. At most 5m.")
	section.StringVar(&f.validateConfig, "validate-config", "",
		"Check a cloud-config file, - for standard input, print what is wrong with it, and exit with status 1 if anything is, and 0 otherwise. "+
			"Needs no cluster. With --kubeconfig it is compared with a cluster, too: what speaks against it there is a warning.")
	section.BoolVar(&f.cleanup, "cleanup", false,
		"Remove the load balancer finalizers from the Services that were served, so that none is stuck "+
			"in Terminating after an uninstall, and exit. To be run when the Deployment is gone, or with --cleanup-deployment.")
	section.StringVar(&f.cleanupDeployment, "cleanup-deployment", "",
		"With --cleanup: the Deployment of this program, in its namespace. It is scaled to 0 first, and --cleanup waits until no replica leads.")
	section.StringVar(&f.cleanupAddresses, "cleanup-addresses", keepAddresses,
		"With --cleanup: Keep leaves the addresses that were given out in the status of Services, Remove takes them away.")
}

// newOptions returns the stock app's options with our defaults.
func newOptions(namespace string) (*options.CloudControllerManagerOptions, error) {
	o, err := options.NewCloudControllerManagerOptions()
	if err != nil {
		return nil, err
	}
	o.KubeCloudShared.CloudProvider.Name = cloud.ProviderName
	o.SecureServing.BindPort = securePort
	// The provider answers from memory: one worker and 20 requests per second would be
	// all that a thousand new Services wait for.
	o.ServiceController.ConcurrentServiceSyncs = 10
	o.Generic.ClientConnection.QPS = 500
	o.Generic.ClientConnection.Burst = 1000
	// No webhooks are served; without these there are no flags for them either.
	o.Webhook, o.WebhookServing = nil, nil

	election := &o.Generic.LeaderElection
	election.ResourceName = cloud.LeaseName
	election.ResourceNamespace = namespace
	// Shorter than upstream's 15s, 10s and 2s. That a Lease lapses for a moment ends no
	// process here, so there is less reason to be patient; a standby takes a Lease that
	// was given back within about two retry periods, one that was lost after LeaseDuration.
	election.LeaseDuration.Duration = 10 * time.Second
	election.RenewDeadline.Duration = 6 * time.Second
	election.RetryPeriod.Duration = time.Second
	return o, nil
}

// checkUnsupported refuses stock flags that would do harm here.
func checkUnsupported(o *options.CloudControllerManagerOptions) error {
	if o.KubeCloudShared.UseServiceAccountCredentials {
		return errors.New("--use-service-account-credentials: not supported: its clients would not be held by the leader fence; remove the flag")
	}
	return nil
}

// checkTokenReviews refuses an interval of --announcer-token-review-interval that is longer
// than what docs/security.md promises.
func (f *flags) checkTokenReviews() error {
	if f.tokenReviews < time.Second || f.tokenReviews > maxTokenReviews {
		return fmt.Errorf("--announcer-token-review-interval: %s is not between 1s and %s", f.tokenReviews, maxTokenReviews)
	}
	return nil
}

// wantsVersion reports whether --version was given.
func wantsVersion(set *pflag.FlagSet) bool {
	f := set.Lookup("version")
	return f != nil && f.Changed && f.Value.String() != "false"
}

// configSource returns where the cloud-config comes from.
func (p *program) configSource() (cloud.ConfigSource, error) {
	source := cloud.ConfigSource{Path: p.options.KubeCloudShared.CloudProvider.CloudConfigFile}
	if p.flags.cloudConfigMap == "" {
		if source.Path == "" {
			return source, errors.New("--cloud-config: no file was given, and no ConfigMap by --cloud-config-map: name what holds the pools")
		}
		return source, nil
	}
	namespace, name, ok := strings.Cut(p.flags.cloudConfigMap, "/")
	if !ok || namespace == "" || name == "" || strings.Contains(name, "/") {
		return source, fmt.Errorf("--cloud-config-map: %q is not NAMESPACE/NAME", p.flags.cloudConfigMap)
	}
	source.ConfigMap = types.NamespacedName{Namespace: namespace, Name: name}
	return source, nil
}
