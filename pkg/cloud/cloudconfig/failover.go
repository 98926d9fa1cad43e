package cloudconfig

import (
	"time"

	"gopkg.in/yaml.v3"
)

// Bounds of Failover. Below, a busy machine is taken for a dead one; above, nobody would call
// it failover.
const (
	minTransmitInterval = 20 * time.Millisecond
	maxTransmitInterval = 10 * time.Second
	minDetectMultiplier = 2
	maxDetectMultiplier = 20
)

// Failover is how nodes that may answer for the same addresses watch each other.
type Failover struct {
	// TransmitInterval is the time between two packets to each peer, 20 ms to 10 s.
	TransmitInterval time.Duration
	// DetectMultiplier is how many of them may be missing before a peer is taken for dead,
	// 2 to 20.
	DetectMultiplier int
}

func (w *walker) failover(n *yaml.Node, path string) Failover {
	f := defaultFailover()
	w.object(n, path, map[string]reader{
		"transmitInterval": func(v *yaml.Node, at string) {
			f.TransmitInterval = w.durationBetween(v, at, minTransmitInterval, maxTransmitInterval)
		},
		"detectMultiplier": func(v *yaml.Node, at string) {
			f.DetectMultiplier = w.integer(v, at, minDetectMultiplier, maxDetectMultiplier)
		},
	})
	return f
}
