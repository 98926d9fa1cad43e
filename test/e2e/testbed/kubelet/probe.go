package kubelet

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"baremetal.cloud/ccm/test/e2e/testbed/netns"
)

// prober asks one question of one container, from the node like kubelet.
type prober struct {
	dial netns.DialFunc
	// address is where to ask if the probe names no host.
	address string
	ports   []corev1.ContainerPort
}

// ask returns nil if the probe succeeds. Kinds that the testbed does not know fail.
func (p prober) ask(ctx context.Context, probe *corev1.Probe) error {
	ctx, cancel := context.WithTimeout(ctx, seconds(probe.TimeoutSeconds, 1))
	defer cancel()
	switch {
	case probe.HTTPGet != nil:
		return p.httpGet(ctx, probe.HTTPGet)
	case probe.TCPSocket != nil:
		conn, err := p.dial(ctx, "tcp", p.target(probe.TCPSocket.Host, probe.TCPSocket.Port))
		if err != nil {
			return err
		}
		return conn.Close()
	}
	return fmt.Errorf("probes other than httpGet and tcpSocket are not supported by the testbed")
}

func (p prober) target(host string, port intstr.IntOrString) string {
	if host == "" {
		host = p.address
	}
	number := port.String()
	for _, candidate := range p.ports {
		if port.Type == intstr.String && candidate.Name == port.StrVal {
			number = fmt.Sprint(candidate.ContainerPort)
		}
	}
	return net.JoinHostPort(host, number)
}

func (p prober) httpGet(ctx context.Context, get *corev1.HTTPGetAction) error {
	transport := &http.Transport{
		DialContext:       p.dial,
		DisableKeepAlives: true,
		// Like kubelet: a probe asks for health, not for identity.
		TLSClientConfig: &tls.Config{InsecureSkipVerify: true},
	}
	target := url.URL{Scheme: strings.ToLower(string(get.Scheme)), Host: p.target(get.Host, get.Port)}
	if target.Scheme == "" {
		target.Scheme = "http"
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, target.String()+get.Path, nil)
	if err != nil {
		return err
	}
	for _, h := range get.HTTPHeaders {
		request.Header.Add(h.Name, h.Value)
	}
	response, err := transport.RoundTrip(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	if response.StatusCode < 200 || response.StatusCode >= 400 {
		return fmt.Errorf("HTTP status %d", response.StatusCode)
	}
	return nil
}

// verdict turns single answers into a state, by the probe's thresholds.
type verdict struct {
	ok        bool
	successes int32
	failures  int32
}

// add counts one answer and reports whether the state is decided anew by it.
func (v *verdict) add(probe *corev1.Probe, err error) (decided bool) {
	if err == nil {
		v.successes, v.failures = v.successes+1, 0
		if v.successes >= max(probe.SuccessThreshold, 1) {
			v.ok = true
			return true
		}
		return false
	}
	v.failures, v.successes = v.failures+1, 0
	if v.failures >= max(probe.FailureThreshold, 1) {
		v.ok = false
		return true
	}
	return false
}

func seconds(n, fallback int32) time.Duration {
	if n <= 0 {
		n = fallback
	}
	return time.Duration(n) * time.Second
}
