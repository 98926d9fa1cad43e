package kubelet

import (
	"context"
	"fmt"
	"path/filepath"
	"strings"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"

	"baremetal.cloud/ccm/test/e2e/testbed/netns"
	"baremetal.cloud/ccm/test/e2e/testbed/proc"
)

// Image is what stands for a container image: one program in an otherwise empty root.
type Image struct {
	// Program is the file on this machine.
	Program string
	// Entrypoint is its path in the container, and what runs if the Pod names no
	// command.
	Entrypoint string
}

// container runs one container of a Pod.
type container struct {
	pod     *pod
	spec    corev1.Container
	image   Image
	service *proc.Service

	mu      sync.Mutex
	started bool
	ready   bool
}

func (p *pod) newContainer(spec corev1.Container) (*container, error) {
	image, ok := p.agent.Images[imageName(spec.Image)]
	if !ok {
		return nil, fmt.Errorf("image %s is not known to the testbed", spec.Image)
	}
	c := &container{pod: p, spec: spec, image: image}
	object := p.object()
	c.service = &proc.Service{
		Name:    strings.Join([]string{p.agent.Node.Name, object.Namespace, object.Name, spec.Name}, "/"),
		Command: c.command,
		Log:     filepath.Join(p.agent.Logs, strings.Join([]string{object.Namespace, object.Name, spec.Name}, "_")+".log"),
		Grace:   p.grace(),
		Changed: p.poke,
		Once:    endsAfter(object.Spec.RestartPolicy),
		Logger:  p.agent.Logger,
		Spawner: p.agent.Spawner,
	}
	return c, nil
}

// endsAfter returns which exit codes a container is not started again after.
func endsAfter(policy corev1.RestartPolicy) func(exitCode int) bool {
	switch policy {
	case corev1.RestartPolicyNever:
		return func(int) bool { return true }
	case corev1.RestartPolicyOnFailure:
		return func(exitCode int) bool { return exitCode == 0 }
	default:
		return nil
	}
}

// imageName strips the tag: there is one version of each program here.
func imageName(image string) string {
	image, _, _ = strings.Cut(image, "@")
	if i := strings.LastIndexByte(image, ':'); i > strings.LastIndexByte(image, '/') {
		image = image[:i]
	}
	return image
}

// command is what the container runs, from the Pod as it is now.
func (c *container) command(ctx context.Context) (proc.Command, error) {
	env, values, err := c.pod.environment(ctx, c.spec)
	if err != nil {
		return proc.Command{}, err
	}
	line := append([]string{c.image.Entrypoint}, c.spec.Args...)
	if len(c.spec.Command) > 0 {
		line = append(append([]string{}, c.spec.Command...), c.spec.Args...)
	}
	for i := range line {
		line[i] = expand(line[i], values)
	}
	mounts, err := c.mounts()
	if err != nil {
		return proc.Command{}, err
	}
	identity := c.identity()
	security := c.spec.SecurityContext
	return proc.Command{
		Path: line[0], Args: line[1:], Env: env,
		NetNS:        c.pod.netNS(),
		Root:         c.pod.agent.Root,
		ReadOnlyRoot: security != nil && security.ReadOnlyRootFilesystem != nil && *security.ReadOnlyRootFilesystem,
		Binds:        append([]proc.Bind{{Source: c.image.Program, Target: c.image.Entrypoint, ReadOnly: true}}, mounts...),
		Identity:     &identity,
	}, nil
}

func (c *container) mounts() ([]proc.Bind, error) {
	var binds []proc.Bind
	for _, m := range c.spec.VolumeMounts {
		if m.SubPath != "" || m.SubPathExpr != "" {
			return nil, fmt.Errorf("volume mount %s: subPath is not supported by the testbed", m.Name)
		}
		for _, v := range c.pod.object().Spec.Volumes {
			if v.Name == m.Name {
				binds = append(binds, proc.Bind{Source: c.pod.volumes.path(v), Target: m.MountPath, ReadOnly: m.ReadOnly})
			}
		}
	}
	return binds, nil
}

// identity follows the security contexts of container and Pod. Seccomp profiles are
// not applied.
func (c *container) identity() proc.Identity {
	id := proc.Identity{UID: c.pod.user(), Capabilities: proc.RuntimeDefault()}
	if s := c.pod.object().Spec.SecurityContext; s != nil && s.RunAsGroup != nil {
		id.GID = int(*s.RunAsGroup)
	}
	s := c.spec.SecurityContext
	if s == nil {
		return id
	}
	if s.RunAsUser != nil {
		id.UID = int(*s.RunAsUser)
	}
	if s.RunAsGroup != nil {
		id.GID = int(*s.RunAsGroup)
	}
	if s.AllowPrivilegeEscalation != nil {
		id.NoNewPrivileges = !*s.AllowPrivilegeEscalation
	}
	if s.Capabilities != nil {
		id.Capabilities = capabilities(*s.Capabilities)
	}
	return id
}

func capabilities(want corev1.Capabilities) []string {
	dropped := map[string]bool{}
	for _, name := range want.Drop {
		dropped[string(name)] = true
	}
	var kept []string
	for _, name := range proc.RuntimeDefault() {
		if !dropped["ALL"] && !dropped[name] {
			kept = append(kept, name)
		}
	}
	for _, name := range want.Add {
		kept = append(kept, string(name))
	}
	return kept
}

// run keeps the container running and asks its probes, until ctx ends.
func (c *container) run(ctx context.Context) {
	var group sync.WaitGroup
	group.Go(func() { _ = c.service.Run(ctx) })
	group.Go(func() { c.probe(ctx) })
	group.Wait()
}

// probe asks for each run of the program anew: first the startup probe, then the other
// two beside each other.
func (c *container) probe(ctx context.Context) {
	for ctx.Err() == nil {
		state, ok := c.awaitRun(ctx)
		if !ok {
			return
		}
		alive, cancel := context.WithCancel(ctx)
		var group sync.WaitGroup
		group.Go(func() {
			defer cancel()
			c.awaitEnd(alive, state)
		})
		if c.startup(alive) {
			c.set(true, c.spec.ReadinessProbe == nil)
			group.Go(func() { c.readiness(alive) })
			group.Go(func() { c.liveness(alive) })
		}
		group.Wait()
		c.set(false, false)
	}
}

// poll is how often probes look whether their program still runs.
const poll = 100 * time.Millisecond

func (c *container) awaitRun(ctx context.Context) (proc.State, bool) {
	for {
		if state := c.service.State(); state.PID != 0 {
			return state, true
		}
		if !sleep(ctx, poll) {
			return proc.State{}, false
		}
	}
}

func (c *container) awaitEnd(ctx context.Context, state proc.State) {
	for sleep(ctx, poll) {
		if c.service.State().PID != state.PID {
			return
		}
	}
}

// startup reports whether the program came up; otherwise it has been restarted.
func (c *container) startup(ctx context.Context) bool {
	probe := c.spec.StartupProbe
	if probe == nil {
		return ctx.Err() == nil
	}
	ok := false
	c.each(ctx, probe, func(v verdict) bool {
		ok = v.ok
		if !ok {
			c.restart("startup")
		}
		return false
	})
	return ok
}

func (c *container) readiness(ctx context.Context) {
	probe := c.spec.ReadinessProbe
	if probe == nil {
		return
	}
	c.each(ctx, probe, func(v verdict) bool {
		c.set(true, v.ok)
		return true
	})
}

func (c *container) liveness(ctx context.Context) {
	probe := c.spec.LivenessProbe
	if probe == nil {
		return
	}
	c.each(ctx, probe, func(v verdict) bool {
		if !v.ok {
			c.restart("liveness")
		}
		return v.ok
	})
}

func (c *container) restart(probe string) {
	c.pod.agent.Logger.Warn("container is restarted", "pod", c.pod.key(), "container", c.spec.Name, "failed", probe)
	c.service.Restart()
}

// each asks the probe in its period and tells decided about every verdict, until that
// returns false or ctx ends.
func (c *container) each(ctx context.Context, probe *corev1.Probe, decided func(verdict) bool) {
	p := prober{
		dial:    netns.Dialer(c.pod.agent.Node.NetNS),
		address: c.pod.addresses().V4.String(),
		ports:   c.spec.Ports,
	}
	var v verdict
	if !sleep(ctx, time.Duration(probe.InitialDelaySeconds)*time.Second) {
		return
	}
	period := seconds(probe.PeriodSeconds, 10)
	next := time.Now()
	for {
		err := p.ask(ctx, probe)
		if ctx.Err() != nil {
			return
		}
		// Failures count once in a period; but until the first success it is asked more
		// often than kubelet does, so that a testbed is up sooner.
		if err == nil || !time.Now().Before(next) {
			next = time.Now().Add(period)
			if v.add(probe, err) && !decided(v) {
				return
			}
		}
		wait := period
		if !v.ok && probe != c.spec.LivenessProbe {
			wait = min(period, eager)
		}
		if !sleep(ctx, wait) {
			return
		}
	}
}

// eager is how often a probe asks that has not succeeded yet.
const eager = 250 * time.Millisecond

func sleep(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return ctx.Err() == nil
	case <-ctx.Done():
		return false
	}
}

func (c *container) set(started, ready bool) {
	c.mu.Lock()
	changed := c.started != started || c.ready != ready
	c.started, c.ready = started, ready
	c.mu.Unlock()
	if changed {
		c.pod.poke()
	}
}

func (c *container) flags() (started, ready bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.started, c.ready
}
