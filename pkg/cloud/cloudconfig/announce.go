package cloudconfig

import (
	"time"

	"gopkg.in/yaml.v3"

	"baremetal.cloud/ccm/pkg/announcer/announcement"
)

// Bounds of Announce. Below minBurst, probes and announcements would wait for each other; below
// minRefresh, refreshing would be most of what a node sends.
const (
	minBurst            = 5
	maxBurst            = 10000
	minAnnounceInterval = 100 * time.Millisecond
	maxAnnounceInterval = time.Minute
	minRepeat           = 1
	maxRepeat           = 100
	minRefresh          = 10 * time.Second
	maxRefresh          = time.Hour
)

// Announce is how nodes announce addresses to their network unasked.
type Announce = announcement.Pacing

func (w *walker) announce(n *yaml.Node, path string) Announce {
	a := announcement.DefaultPacing()
	w.object(n, path, map[string]reader{
		"burst": func(v *yaml.Node, at string) { a.Burst = w.integer(v, at, minBurst, maxBurst) },
		"interval": func(v *yaml.Node, at string) {
			a.Interval = w.durationBetween(v, at, minAnnounceInterval, maxAnnounceInterval)
		},
		"repeat": func(v *yaml.Node, at string) { a.Repeat = w.integer(v, at, minRepeat, maxRepeat) },
		"refresh": func(v *yaml.Node, at string) {
			a.Refresh = w.durationBetween(v, at, minRefresh, maxRefresh)
		},
	})
	return a
}
