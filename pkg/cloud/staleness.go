package cloud

import (
	"context"
	"errors"
	"fmt"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/client-go/tools/cache"
)

// errBehind is why nothing is released or withdrawn now: what the cache says may be older
// than what this replica knows already. It passes, and what was refused is tried again.
var errBehind = errors.New("the cache may be behind the API server")

const (
	// confirmTimeout is how long a list is waited for that confirms an absence.
	confirmTimeout = 5 * time.Second
	// behindPeriod is the time between two tries while the cache may be behind.
	behindPeriod = time.Second
	// behindLimit is for how long the stock controller's wish to release something waits
	// for the cache: it asks again only after five seconds and more, and writes a Warning.
	behindLimit = 2 * time.Second
)

// awaitCurrent waits a while until the cache of Services has caught up. Events of a list that
// mends a watch are handled before the watch is back.
func (p *Provider) awaitCurrent(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, behindLimit)
	defer cancel()
	for {
		changed := p.options.Watches.Changed()
		if p.services.Current() {
			return
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return
		}
	}
}

// mayRelease returns nil if what the cache says of the Service with that key and UID may be
// acted on although it takes something away: the cache has caught up with the API server
// since leading began and since a watch was last broken. That the Service is absent is
// confirmed by a list which the API server answers after the call; if it is there after
// all, or no answer comes, the error is an errBehind.
//
// Everything that releases, retires or withdraws on the word of a cache asks it first.
func (p *Provider) mayRelease(ctx context.Context, key, uid string) error {
	select {
	case <-p.restored: // every cache was refreshed before
	default:
		return fmt.Errorf("%w: leading has only begun", errBehind)
	}
	if !p.services.Current() {
		return fmt.Errorf("%w: the watch of Services is broken or has not caught up", errBehind)
	}
	if p.isCached(key, uid) {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, confirmTimeout)
	defer cancel()
	if err := p.options.Watches.RefreshOne(ctx, p.services); err != nil {
		return fmt.Errorf("%w: no answer whether Service %s is gone: %w", errBehind, key, err)
	}
	if p.isCached(key, uid) {
		return fmt.Errorf("%w: Service %s is there after all", errBehind, key)
	}
	return nil
}

// isCached reports whether the cache has the Service with that key and UID.
func (p *Provider) isCached(key, uid string) bool {
	namespace, name, err := cache.SplitMetaNamespaceKey(key)
	if err != nil {
		return false
	}
	svc, err := p.listers.services.Services(namespace).Get(name)
	return !apierrors.IsNotFound(err) && err == nil && string(svc.UID) == uid
}

// releaseOthers frees what Services with that key and another UID hold, which are gone.
func (p *Provider) releaseOthers(ctx context.Context, key, uid string) error {
	for _, other := range p.core.otherUIDs(key, uid) {
		if err := p.mayRelease(ctx, key, other); err != nil {
			return err
		}
		p.logReleased(key, p.core.releaseService(other))
	}
	return nil
}
