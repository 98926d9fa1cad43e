package cloudconfig

import (
	"time"

	"gopkg.in/yaml.v3"
)

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
	ProbeAhead int
	// ProbeInterval is the time between two times that an address is asked for, 10 s to 24 h.
	ProbeInterval time.Duration
	// Quarantine is how long an address that another machine used must have been silent
	// before it is given out, 10 s to 7 days.
	Quarantine time.Duration
}

// defaultConflicts asks for 64 addresses of a pool with both families in five minutes.
func defaultConflicts() Conflicts {
	return Conflicts{ProbeAhead: 32, ProbeInterval: 5 * time.Minute, Quarantine: 10 * time.Minute}
}

func (w *walker) conflicts(n *yaml.Node, path string) Conflicts {
	c := defaultConflicts()
	w.object(n, path, map[string]reader{
		"probeAhead": func(v *yaml.Node, at string) { c.ProbeAhead = w.integer(v, at, 0, maxProbeAhead) },
		"probeInterval": func(v *yaml.Node, at string) {
			c.ProbeInterval = w.durationBetween(v, at, minProbeInterval, maxProbeInterval)
		},
		"quarantine": func(v *yaml.Node, at string) {
			c.Quarantine = w.durationBetween(v, at, minQuarantine, maxQuarantine)
		},
	})
	return c
}
