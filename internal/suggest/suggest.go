// Package suggest finds the name that somebody probably meant, for messages
// about names that do not exist. It imports nothing of the project.
package suggest

import (
	"fmt"
	"strings"
)

// Nearest returns the candidate that is closest to name by edits of one
// character, ignoring case, or "" if none is close enough to be a likely slip
// of the keyboard.
func Nearest(name string, candidates []string) string {
	best, distance := "", max(2, len(name)/3)+1
	for _, c := range candidates {
		if d := edits(strings.ToLower(name), strings.ToLower(c)); d < distance && d < max(len(c), 2) {
			best, distance = c, d
		}
	}
	return best
}

// Hint returns ` (did you mean "x"?)`, with a leading space, or "".
func Hint(name string, candidates []string) string {
	if n := Nearest(name, candidates); n != "" {
		return fmt.Sprintf(" (did you mean %q?)", n)
	}
	return ""
}

// edits is the number of insertions, deletions, replacements and swaps of
// neighbours that turn a into b.
func edits(a, b string) int {
	x, y := []rune(a), []rune(b)
	before, last, row := make([]int, len(y)+1), make([]int, len(y)+1), make([]int, len(y)+1)
	for j := range row {
		last[j] = j
	}
	for i := 1; i <= len(x); i++ {
		row[0] = i
		for j := 1; j <= len(y); j++ {
			cost := 1
			if x[i-1] == y[j-1] {
				cost = 0
			}
			row[j] = min(last[j]+1, row[j-1]+1, last[j-1]+cost)
			if i > 1 && j > 1 && x[i-1] == y[j-2] && x[i-2] == y[j-1] {
				row[j] = min(row[j], before[j-2]+1)
			}
		}
		before, last, row = last, row, before
	}
	return last[len(y)]
}
