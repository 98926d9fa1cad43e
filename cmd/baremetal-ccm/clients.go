package main

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"os"
	"time"

	"k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/cloud-provider/options"
)

const (
	// dialTimeout bounds a TCP connection to the API server. It is a little longer than the
	// kernel waits before it sends its request a second time, and short, so that the next
	// attempt comes soon after the way there is restored.
	dialTimeout = 1500 * time.Millisecond
	// keepAlive is the time between two probes of an idle TCP connection.
	keepAlive = 10 * time.Second
)

// dialAPIServer connects to the API server.
func dialAPIServer(ctx context.Context, network, address string) (net.Conn, error) {
	dialer := net.Dialer{Timeout: dialTimeout, KeepAlive: keepAlive}
	return dialer.DialContext(ctx, network, address)
}

// What client-go finds out by that an HTTP/2 connection is dead: a ping after that many
// seconds of silence, and how long its answer is waited for. client-go's own 30 and 15
// leave every watch silent for 45 seconds after a machine with an API server died.
const (
	readIdleSeconds = "5"
	pingSeconds     = "3"
)

// setHealthChecks sets what the environment does not, from where client-go reads it.
func setHealthChecks() error {
	for name, seconds := range map[string]string{
		"HTTP2_READ_IDLE_TIMEOUT_SECONDS": readIdleSeconds,
		"HTTP2_PING_TIMEOUT_SECONDS":      pingSeconds,
	} {
		if _, given := os.LookupEnv(name); given {
			continue
		}
		if err := os.Setenv(name, seconds); err != nil {
			return fmt.Errorf("environment: %w", err)
		}
	}
	return nil
}

// clients reach the API server, all unfenced.
type clients struct {
	// general is for what standbys do too.
	general kubernetes.Interface
	// election is for the Lease alone, so that a renewal never queues behind a burst of
	// other requests, on a TCP connection of its own.
	election kubernetes.Interface
}

// newClients builds clients from the stock app's flags. It asks the API server nothing.
func newClients(o *options.CloudControllerManagerOptions) (clients, error) {
	if err := setHealthChecks(); err != nil {
		return clients{}, err
	}
	config, err := clientcmd.BuildConfigFromFlags(o.Master, o.Generic.ClientConnection.Kubeconfig)
	if err != nil {
		return clients{}, fmt.Errorf("where is the API server? Run this in a Pod or give --kubeconfig: %w", err)
	}
	config.Dial = dialAPIServer
	config.ContentType = o.Generic.ClientConnection.ContentType
	config.AcceptContentTypes = o.Generic.ClientConnection.AcceptContentTypes
	config.QPS, config.Burst = o.Generic.ClientConnection.QPS, int(o.Generic.ClientConnection.Burst)
	general, err := kubernetes.NewForConfig(rest.AddUserAgent(config, programName))
	if err != nil {
		return clients{}, fmt.Errorf("client for the API server: %w", err)
	}
	// A transport belongs to the dial function that it was made for (client-go keeps one for
	// each), and every client takes its own copy: they share no connection.
	config.QPS, config.Burst = 0, 0 // client-go's defaults: 5 and 10, enough for renewals
	config.Timeout = o.Generic.LeaderElection.RenewDeadline.Duration / 2
	election, err := kubernetes.NewForConfig(rest.AddUserAgent(config, programName+"-election"))
	if err != nil {
		return clients{}, fmt.Errorf("client for the API server: %w", err)
	}
	return clients{general: general, election: election}, nil
}

const (
	// askTimeout bounds one question whether the API server is there, askEvery is the
	// time between two, and repeatEvery that between two log lines that it is not.
	askTimeout  = 5 * time.Second
	askEvery    = time.Second
	repeatEvery = time.Minute
)

// waitForAPIServer returns nil once the API server is healthy, and otherwise the last
// cause once ctx is done. The stock app would end the process after ten seconds, and it
// would do so before anything says what is missing.
func waitForAPIServer(ctx context.Context, client kubernetes.Interface, log *slog.Logger) error {
	began, said := time.Now(), time.Time{}
	for {
		err := askHealth(ctx, client)
		switch {
		case err == nil:
			if !said.IsZero() {
				log.Info("the API server answers", "waited", time.Since(began).Round(time.Second))
			}
			return nil
		case ctx.Err() != nil:
			return fmt.Errorf("the API server does not answer: %w", err)
		case said.IsZero() || time.Since(said) >= repeatEvery:
			said = time.Now()
			log.Warn("waiting for the API server", "err", err)
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("the API server does not answer: %w", err)
		case <-time.After(askEvery):
		}
	}
}

// askHealth returns nil if the API server is healthy, or at least answers that this client may
// not ask or that there is no such path.
func askHealth(ctx context.Context, client kubernetes.Interface) error {
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	_, err := client.Discovery().RESTClient().Get().AbsPath("/healthz").DoRaw(ctx)
	if errors.IsForbidden(err) || errors.IsNotFound(err) {
		return nil
	}
	return err
}
