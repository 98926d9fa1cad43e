package cleanup

import (
	"context"
	"errors"
	"fmt"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

const (
	// lookEvery is the time between two looks at the Lease.
	lookEvery = 500 * time.Millisecond
	// tellEvery is the time between two lines about a leader that has not ended yet.
	tellEvery = 10 * time.Second
	// freeFor is how long the Lease has to be free. A replica that ends later than the leader may take
	// it; it looks every second (--leader-elect-retry-period).
	freeFor = 3 * time.Second
)

// Stop scales the CCM's Deployment to 0, waits until no replica leads, and does what Run does.
func Stop(ctx context.Context, options Options) (int, error) {
	if options.Now == nil {
		options.Now = time.Now
	}
	_, err := options.Client.AppsV1().Deployments(options.Namespace).
		Patch(ctx, options.Deployment, types.MergePatchType, []byte(`{"spec":{"replicas":0}}`), metav1.PatchOptions{}, "scale")
	if err != nil {
		return 0, fmt.Errorf("scale Deployment %s/%s to 0: %w", options.Namespace, options.Deployment, err)
	}
	options.Logger.Info("deployment scaled to 0", "deployment", options.Namespace+"/"+options.Deployment)
	for total := 0; ; {
		if err := awaitFree(ctx, options); err != nil {
			return total, err
		}
		changed, err := Run(ctx, options)
		total += changed
		if err == nil {
			// A replica that has led meanwhile may have put a finalizer back.
			err = checkLeaseIdle(ctx, options)
		}
		if !errors.Is(err, ErrRunning) {
			return total, err
		}
	}
}

// awaitFree returns nil once no replica has held the Lease for freeFor.
func awaitFree(ctx context.Context, options Options) error {
	told := time.Time{}
	for free := time.Duration(0); ; free += lookEvery {
		err := checkLeaseIdle(ctx, options)
		switch {
		case errors.Is(err, ErrRunning):
			if now := time.Now(); now.Sub(told) >= tellEvery {
				options.Logger.Info("waiting for the leader to end", "err", err)
				told = now
			}
			free = -lookEvery // It counts from the next look, if that finds the Lease free.
		case err != nil:
			return err
		case free >= freeFor:
			return nil
		}
		select {
		case <-ctx.Done():
			return errors.Join(context.Cause(ctx), err)
		case <-time.After(lookEvery):
		}
	}
}
