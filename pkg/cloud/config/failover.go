package config

import "time"

// Bounds of Failover. Below, a busy machine is taken for a dead one; above, it would be no failover.
const (
	minTransmitInterval = 20 * time.Millisecond
	maxTransmitInterval = 10 * time.Second
	minDetectMultiplier = 2
	maxDetectMultiplier = 20
)

// Failover is how nodes that may answer for the same addresses watch each other.
type Failover struct {
	// TransmitInterval is the time between two heartbeats to each peer, 20 ms to 10 s.
	TransmitInterval time.Duration `yaml:"transmitInterval"`
	// DetectMultiplier is how many of them may be missing before a peer is taken for dead,
	// 2 to 20.
	DetectMultiplier int `yaml:"detectMultiplier"`
}

func (f Failover) checkFailover(s spot) Failover {
	checkBetween(s.key("transmitInterval"), f.TransmitInterval, minTransmitInterval, maxTransmitInterval)
	checkBetween(s.key("detectMultiplier"), f.DetectMultiplier, minDetectMultiplier, maxDetectMultiplier)
	return f
}
