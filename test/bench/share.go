package main

import (
	"path/filepath"
	"strings"
)

// busy is the processor time, in milliseconds, that the CCM's replicas have taken so far.
// The processors are shared with the API server and the kube-proxies, so that a wait can
// get longer for work that is not ours.
func (l *lab) busy() (float64, error) {
	pids, err := l.setting("CCM_PIDS")
	if err != nil {
		return 0, err
	}
	var sum float64
	for _, pid := range strings.Fields(pids) {
		seconds, err := processorSeconds(filepath.Join("/proc", pid))
		if err != nil {
			return 0, err
		}
		sum += 1000 * seconds
	}
	return sum, nil
}
