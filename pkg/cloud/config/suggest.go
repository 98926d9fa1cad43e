package config

import "strings"

// suggestKey returns the cure for an unknown key: the known one that was probably meant, or
// all of them.
func suggestKey(key string, known []string) string {
	best, distance := "", min(2, len(key)/2)+1 // with more slips it is another word
	for _, k := range known {
		if d := Edits(strings.ToLower(key), strings.ToLower(k)); d < distance {
			best, distance = k, d
		}
	}
	if best != "" {
		return "did you mean " + best + "?"
	}
	return "known are " + strings.Join(known, ", ")
}

// Edits returns the Levenshtein distance of a and b, or a bound that is large enough
// where one is much longer than any key.
func Edits(a, b string) int {
	if len(a) > 64 || len(b) > 64 {
		return 64
	}
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			change := diagonal
			if a[i] != b[j] {
				change++
			}
			diagonal = row[j+1]
			row[j+1] = min(change, row[j+1]+1, row[j]+1)
		}
	}
	return row[len(b)]
}
