package realtime

import (
	"strconv"
	"strings"
)

// countList returns how many numbers a list as of /sys/devices/system/cpu has, "0-3,8" for example.
func countList(text string) int {
	n := 0
	for part := range strings.SplitSeq(strings.TrimSpace(text), ",") {
		first, last, isRange := strings.Cut(part, "-")
		low, err := strconv.Atoi(first)
		if err != nil {
			continue
		}
		high := low
		if isRange {
			if high, err = strconv.Atoi(last); err != nil {
				continue
			}
		}
		n += high - low + 1
	}
	return n
}
