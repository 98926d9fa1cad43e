package config

import "time"

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

// Announce is how nodes announce addresses to their network unasked. The fields are those of
// plan.Pacing.
type Announce struct {
	Burst    int           `yaml:"burst"`
	Interval time.Duration `yaml:"interval"`
	Repeat   int           `yaml:"repeat"`
	Refresh  time.Duration `yaml:"refresh"`
}

func (a Announce) checkAnnounce(s spot) Announce {
	checkBetween(s.key("burst"), a.Burst, minBurst, maxBurst)
	checkBetween(s.key("interval"), a.Interval, minAnnounceInterval, maxAnnounceInterval)
	checkBetween(s.key("repeat"), a.Repeat, minRepeat, maxRepeat)
	checkBetween(s.key("refresh"), a.Refresh, minRefresh, maxRefresh)
	return a
}
