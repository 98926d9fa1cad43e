package testbed

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"baremetal.cloud/ccm/test/e2e/testbed/proc"
)

// socket is where the supervisor of testbed id takes orders: an abstract socket, which
// has no length limit like a path and needs no removal.
func socket(id string) string { return "@baremetal-testbed-" + id }

// errDown ends a supervisor that was told to remove its testbed.
var errDown = errors.New("the testbed is taken down")

// serveControl takes orders until ctx ends, or until the order to take it all down.
func (s *supervisor) serveControl(ctx context.Context) error {
	l, err := net.Listen("unix", socket(s.layout.ID))
	if err != nil {
		return fmt.Errorf("is another supervisor of this testbed alive? %w", err)
	}
	down := make(chan struct{}, 1)
	mux := http.NewServeMux()
	mux.HandleFunc("POST /stop", s.order(s.stop))
	mux.HandleFunc("POST /start", s.order(s.start))
	mux.HandleFunc("POST /heartbeats", beatFor)
	mux.HandleFunc("POST /down", func(http.ResponseWriter, *http.Request) {
		select {
		case down <- struct{}{}:
		default:
		}
	})
	server := &http.Server{Handler: mux, ReadHeaderTimeout: 10 * time.Second}
	served := make(chan error, 1)
	go func() { served <- server.Serve(ownersOnly{l}) }()
	defer server.Close()
	select {
	case <-down:
		// Lets the answer to the order go out.
		ctx, cancel := context.WithTimeout(ctx, time.Second)
		defer cancel()
		_ = server.Shutdown(ctx)
		return errDown
	case err := <-served:
		return err
	case <-ctx.Done():
		return nil
	}
}

func (s *supervisor) order(f func(context.Context, string) error) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		err := f(r.Context(), r.URL.Query().Get("what"))
		// The answer follows the env file, so that whoever asked can read it.
		err = errors.Join(err, s.writeEnv())
		if err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
		}
	}
}

// ownersOnly accepts connections of this user and nobody else: an abstract socket has
// no file permissions.
type ownersOnly struct{ net.Listener }

func (l ownersOnly) Accept() (net.Conn, error) {
	for {
		conn, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		if uid, err := peer(conn); err == nil && uid == uint32(os.Geteuid()) {
			return conn, nil
		}
		_ = conn.Close()
	}
}

func peer(conn net.Conn) (uid uint32, err error) {
	raw, err := conn.(*net.UnixConn).SyscallConn()
	if err != nil {
		return 0, err
	}
	var credentials *unix.Ucred
	controlErr := raw.Control(func(fd uintptr) {
		credentials, err = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED)
	})
	if err = errors.Join(controlErr, err); err != nil {
		return 0, err
	}
	return credentials.Uid, nil
}

// order sends one order to the supervisor of testbed id and waits until it is carried
// out.
func order(ctx context.Context, id, action, what string) error {
	response, err := send(ctx, id, action, what)
	if err != nil {
		return err
	}
	return response.Body.Close()
}

// send sends an order and returns the answer to one that was not refused.
func send(ctx context.Context, id, action, what string) (*http.Response, error) {
	transport := &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "unix", socket(id))
	}, DisableKeepAlives: true}
	target := "http://testbed/" + action + "?what=" + url.QueryEscape(what)
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, target, nil)
	if err != nil {
		return nil, err
	}
	response, err := transport.RoundTrip(request)
	if err != nil || response.StatusCode == http.StatusOK {
		return response, err
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		return nil, err
	}
	return nil, fmt.Errorf("%s %s: %s", action, what, strings.TrimSpace(string(text)))
}

// stop ends what `what` names and keeps it from coming back.
func (s *supervisor) stop(ctx context.Context, what string) error {
	targets, err := s.targets(what)
	if err != nil {
		return err
	}
	return each(ctx, targets, func(ctx context.Context, t target) error { return t.hold(ctx) })
}

// start brings back what stop held and waits until it serves.
func (s *supervisor) start(ctx context.Context, what string) error {
	targets, err := s.targets(what)
	if err != nil {
		return err
	}
	return each(ctx, targets, func(ctx context.Context, t target) error { return t.release(ctx) })
}

func each(ctx context.Context, targets []target, f func(context.Context, target) error) error {
	ctx, cancel := context.WithTimeoutCause(ctx, 2*time.Minute, errors.New("timed out"))
	defer cancel()
	group, ctx := errgroup.WithContext(ctx)
	for _, t := range targets {
		group.Go(func() error { return f(ctx, t) })
	}
	return group.Wait()
}

// target is something that can be stopped and started.
type target struct{ hold, release func(context.Context) error }

// targets resolves a name such as "etcd", "ccm", "ccm:node1" or "kube-proxy:node2".
func (s *supervisor) targets(what string) ([]target, error) {
	switch what {
	case "etcd":
		return []target{held(s.etcd, s.etcdReady)}, nil
	case "apiserver":
		return []target{held(s.apiserver, s.apiReady)}, nil
	case "kcm":
		return []target{held(s.kcm, nil)}, nil
	}
	kind, name, single := strings.Cut(what, ":")
	var targets []target
	for _, n := range s.nodes {
		if single && n.agent.Node.Name != name {
			continue
		}
		switch kind {
		case "ccm":
			targets = append(targets, containers(n, ccmImage))
		case "announcer":
			targets = append(targets, containers(n, announcerImage))
		case "kube-proxy":
			targets = append(targets, held(n.proxy, nil))
		case "kubelet": // Its Pods go on when it stops, and it registers its Node when it starts.
			targets = append(targets, target{hold: func(context.Context) error { return nil }, release: n.agent.Register})
		}
	}
	if len(targets) == 0 {
		return nil, fmt.Errorf("%q is nothing that can be stopped or started: say ccm, apiserver, etcd, kcm, kube-proxy, announcer or kubelet, "+
			"the first and the last three with :NODE for a single one of %s", what, strings.Join(s.layout.NodeNames(), ", "))
	}
	return targets, nil
}

// held controls a component; ready, if not nil, waits until it serves again.
func held(p *proc.Service, ready func(context.Context) error) target {
	return target{
		hold: p.Hold,
		release: func(ctx context.Context) error {
			p.Release()
			if err := p.WaitRunning(ctx); err != nil || ready == nil {
				return err
			}
			return ready(ctx)
		},
	}
}

func containers(n *node, image string) target {
	return target{
		hold:    func(ctx context.Context) error { return n.agent.Hold(ctx, image) },
		release: func(ctx context.Context) error { return n.agent.Release(ctx, image) },
	}
}
