package proxyhealth

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strconv"
	"sync"
	"time"
)

const (
	// patience is how long an answer may take.
	patience = time.Second
	// atOnce is how many questions are open at one time.
	atOnce = 8
	// maxAnswer is how much of an answer is read.
	maxAnswer = 4 << 10
)

// Options are what a Checker needs.
type Options struct {
	// Now returns the time, of a clock that goes on while the machine sleeps.
	Now func() time.Duration
	// OnResult takes what was learned whenever that changed, and again for new targets. It
	// must not block.
	OnResult func(Result)
	// Logger takes what an operator should know; nil discards it.
	Logger *slog.Logger
}

// Checker asks. Set may be called from any goroutine and never waits.
type Checker struct {
	options Options
	client  *http.Client
	wake    chan struct{} // of one; never closed

	mu      sync.Mutex
	targets Targets
	// renewed reports whether targets were set, be they the same: a caller that set others for a moment,
	// which Run may never have seen, has forgotten what it heard for these.
	renewed bool
}

// NewChecker returns a Checker that asks nothing until Run.
func NewChecker(options Options) *Checker {
	if options.Logger == nil {
		options.Logger = slog.New(slog.DiscardHandler)
	}
	dialer := &net.Dialer{Timeout: patience}
	return &Checker{options: options, wake: make(chan struct{}, 1), client: &http.Client{
		// A new connection each time: that one is accepted is part of the answer. No proxy
		// of the environment, and no redirect sends the question elsewhere.
		Transport:     &http.Transport{DisableKeepAlives: true, DialContext: dialer.DialContext, MaxResponseHeaderBytes: maxAnswer},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		Timeout:       patience,
	}}
}

// Set makes t what is asked from now on. The caller must not write to it afterwards.
func (c *Checker) Set(t Targets) {
	if !isLoopback(t.Proxy) {
		t.Proxy = ""
	}
	c.mu.Lock()
	c.targets, c.renewed = t, true
	c.mu.Unlock()
	select {
	case c.wake <- struct{}{}:
	default:
	}
}

// isLoopback says whether a URL is one of the node itself. A plan can have nothing else asked.
func isLoopback(text string) bool {
	u, err := url.Parse(text)
	if err != nil || u.Scheme != "http" {
		return false
	}
	address, err := netip.ParseAddrPort(u.Host)
	return err == nil && address.Addr().IsLoopback()
}

// Run asks, in the calling process's network namespace, until ctx is done, and returns nil.
func (c *Checker) Run(ctx context.Context) error {
	timer := time.NewTimer(0)
	defer timer.Stop()
	s, untold := newState(), false
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-c.wake:
		case <-timer.C:
		}
		before := s.result
		c.mu.Lock()
		s.setTargets(c.options.Now(), c.targets)
		untold, c.renewed = untold || c.renewed, false
		c.mu.Unlock()
		late := s.isLate()
		if proxy, ports := s.nextDue(c.options.Now()); proxy {
			works, serving := c.askAll(ctx, s.targets, ports)
			if ctx.Err() != nil {
				return nil
			}
			s.takeAnswers(c.options.Now(), works, serving)
		}
		if s.known && (untold || !s.result.equalResult(before) || late && !s.isLate()) {
			c.reportResult(before, s.result)
			untold = false
		}
		if s.targets.Proxy != "" {
			timer.Reset(max(0, s.next-c.options.Now()))
		}
	}
}

// reportResult passes on what was learned.
func (c *Checker) reportResult(before, now Result) {
	if before.Works != now.Works {
		c.options.Logger.Info("kube-proxy of this node", "works", now.Works)
	}
	c.options.OnResult(now)
}

// askAll asks the proxy and ports, a few at a time.
func (c *Checker) askAll(ctx context.Context, t Targets, ports []Port) (works bool, serving []Port) {
	ctx, cancel := context.WithTimeout(ctx, 2*patience)
	defer cancel()
	if works = c.getURL(ctx, t.Proxy) == nil; !works {
		return false, nil
	}
	found := make([]bool, len(ports))
	free := make(chan struct{}, atOnce)
	var asking sync.WaitGroup
	for i, port := range ports {
		free <- struct{}{}
		asking.Go(func() {
			found[i] = c.servesPort(ctx, t.Own, port)
			<-free
		})
	}
	asking.Wait()
	for i, port := range ports {
		if found[i] {
			serving = append(serving, port)
		}
	}
	return works, serving
}

// servesPort asks for port on the node's addresses until one of them answers, and says whether
// that was 200. kube-proxy listens on all of them, or on those of --nodeport-addresses.
func (c *Checker) servesPort(ctx context.Context, own []netip.Addr, port Port) bool {
	for _, address := range own {
		if address.Is6() != port.IPv6 {
			continue
		}
		err := c.getURL(ctx, "http://"+net.JoinHostPort(address.String(), strconv.Itoa(int(port.Number)))+"/healthz")
		if err == nil || errors.Is(err, errUnhealthy) {
			return err == nil
		}
	}
	return false
}

// errUnhealthy means that there was an answer, and that it was not 200.
var errUnhealthy = errors.New("not well")

func (c *Checker) getURL(ctx context.Context, target string) error {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, target, nil)
	if err != nil {
		return err
	}
	response, err := c.client.Do(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	_, _ = io.CopyN(io.Discard, response.Body, maxAnswer)
	if response.StatusCode != http.StatusOK {
		return errUnhealthy
	}
	return nil
}
