package section

import (
	"strings"
	"unicode/utf8"
)

// maxDistance is how many edits a name may be away from a known one to be taken for a slip of it.
const maxDistance = 2

// nearest is the known name that key was probably meant to be, "" when it is like none. A name in other case is always
// near. Short names must be nearer than maxDistance, or every two-letter key would be a slip of LB.
func nearest(key string, known []string) string {
	best, at := "", maxDistance+1
	for _, k := range known {
		d := distance(strings.ToLower(key), strings.ToLower(k), maxDistance)
		if d < at && 2*d < max(utf8.RuneCountInString(key), utf8.RuneCountInString(k)) {
			best, at = k, d
		}
	}
	return best
}

// distance is the number of letters to insert, remove, replace or swap with their neighbour that lead from a to b
// (optimal string alignment), or limit+1 if it is more than limit.
func distance(a, b string, limit int) int {
	s, t := []rune(a), []rune(b)
	if len(s)-len(t) > limit || len(t)-len(s) > limit {
		return limit + 1
	}
	var before []int
	row := make([]int, len(t)+1)
	for j := range row {
		row[j] = j
	}
	for i := 1; i <= len(s); i++ {
		next := make([]int, len(t)+1)
		next[0] = i
		for j := 1; j <= len(t); j++ {
			cost := 1
			if s[i-1] == t[j-1] {
				cost = 0
			}
			next[j] = min(row[j]+1, next[j-1]+1, row[j-1]+cost)
			if i > 1 && j > 1 && s[i-1] == t[j-2] && s[i-2] == t[j-1] {
				next[j] = min(next[j], before[j-2]+1)
			}
		}
		before, row = row, next
	}
	return min(row[len(t)], limit+1)
}
