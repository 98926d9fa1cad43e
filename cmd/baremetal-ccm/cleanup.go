package main

import (
	"baremetal.cloud/ccm/pkg/cloud"
	"baremetal.cloud/ccm/pkg/cloud/cleanup"
)

// cleanup removes what this program put on Services.
func (p *program) cleanup() error {
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
	changed, err := cleanup.Run(p.ctx, cleanup.Options{
		Client:    reach.general,
		OptIn:     optIn,
		Namespace: election.ResourceNamespace,
		Lease:     election.ResourceName,
		Logger:    p.log,
	})
	p.log.Info("cleanup", "services", changed)
	return err
}
