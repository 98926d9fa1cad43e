package announcer

import "time"

const (
	// The least and the most that pace allows at a time.
	leastBatch, mostBatch = 32, 512
	// stepLimit is how long a turn may take: well below the time after which peers take a node
	// for down that does not speak.
	stepLimit = 30 * time.Millisecond
)

// batchSize is how many addresses the announcer thinks about before it listens to peers, and
// speaks to them, again. To think about very many, or about some on a machine that has
// better to do, can take longer than peers wait.
type batchSize int

// nextSize returns the pace after a turn that took so long: half of it after a slow one.
func (p batchSize) nextSize(took time.Duration) batchSize {
	if took > stepLimit {
		return max(leastBatch, p/2)
	}
	return min(mostBatch, 2*p)
}

// applySize is how many addresses the node begins to answer for, or announces: with each the
// kernel has to do.
func (p batchSize) applySize() int { return int(p) / 8 }
