package main

import (
	"errors"
	"fmt"

	"baremetal.cloud/ccm/pkg/cloud"
	"baremetal.cloud/ccm/pkg/cloud/cleanup"
)

// What --cleanup-addresses may say.
const (
	keepAddresses   = "Keep"
	removeAddresses = "Remove"
)

// checkCleanup refuses values that --cleanup would not understand, and flags that mean nothing without it.
func (f *flags) checkCleanup() error {
	switch {
	case f.cleanupAddresses != keepAddresses && f.cleanupAddresses != removeAddresses:
		return fmt.Errorf("--cleanup-addresses: %q is neither %s nor %s", f.cleanupAddresses, keepAddresses, removeAddresses)
	case !f.cleanup && f.cleanupAddresses != keepAddresses:
		return errors.New("--cleanup-addresses: is for --cleanup, which is not given; remove the one or add the other")
	case !f.cleanup && f.cleanupDeployment != "":
		return errors.New("--cleanup-deployment: is for --cleanup, which is not given; remove the one or add the other")
	}
	return nil
}

// removeOwn removes what this program put on Services.
func (p *program) removeOwn() error {
	reach, err := newClients(p.options)
	if err != nil {
		return err
	}
	election := p.options.Generic.LeaderElection
	optIn, err := cloud.OptIn(p.ctx, reach.general, p.namespace)
	if err != nil {
		p.log.Warn("it is not known whether Services without a loadBalancerClass were served; only those with a condition or finalizer of ours are changed", "err", err)
		optIn = true
	}
	do := cleanup.Run
	if p.flags.cleanupDeployment != "" {
		do = cleanup.Stop
	}
	changed, err := do(p.ctx, cleanup.Options{
		Client:          reach.general,
		OptIn:           optIn,
		Namespace:       election.ResourceNamespace,
		Lease:           election.ResourceName,
		Deployment:      p.flags.cleanupDeployment,
		RemoveAddresses: p.flags.cleanupAddresses == removeAddresses,
		Logger:          p.log,
	})
	p.log.Info("cleanup", "services", changed)
	return err
}
