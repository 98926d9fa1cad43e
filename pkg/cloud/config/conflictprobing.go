package config

import "time"

// Bounds of Conflicts. Below, probing would be a noise that others see; above, it would say
// little of the present.
const (
	maxProbeAhead    = 256
	minProbeInterval = 10 * time.Second
	maxProbeInterval = 24 * time.Hour
	minQuarantine    = 10 * time.Second
	maxQuarantine    = 7 * 24 * time.Hour
)

// Conflicts is how addresses are checked for other machines on the network that use them.
type Conflicts struct {
	// ProbeAhead is how many free addresses of each family of a pool are asked for on the
	// network before they are needed, 0 to 256; 0 asks for none.
	ProbeAhead int `yaml:"probeAhead"`
	// ProbeInterval is the time between two times that an address is asked for, 10 s to 24 h.
	ProbeInterval time.Duration `yaml:"probeInterval"`
	// Quarantine is how long an address that another machine used must have been silent
	// before it is given out, 10 s to 7 days.
	Quarantine time.Duration `yaml:"quarantine"`
}

func (c Conflicts) checkConflicts(s spot) Conflicts {
	checkBetween(s.key("probeAhead"), c.ProbeAhead, 0, maxProbeAhead)
	checkBetween(s.key("probeInterval"), c.ProbeInterval, minProbeInterval, maxProbeInterval)
	checkBetween(s.key("quarantine"), c.Quarantine, minQuarantine, maxQuarantine)
	return c
}
