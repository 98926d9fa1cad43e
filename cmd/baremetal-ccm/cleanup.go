package main

import (
	"baremetal.cloud/ccm/pkg/cloud/cleanup"
)

// cleanup removes what this program put on Services.
func (p *program) cleanup() error {
	reach, err := newClients(p.options)
	if err != nil {
		return err
	}
	election := p.options.Generic.LeaderElection
	changed, err := cleanup.Run(p.ctx, cleanup.Options{
		Client:    reach.general,
		Namespace: election.ResourceNamespace,
		Lease:     election.ResourceName,
		Logger:    p.log,
	})
	p.log.Info("cleanup", "services", changed)
	return err
}
