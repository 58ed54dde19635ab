package section

import (
	"strconv"
	"strings"
)

// cronFields are the five fields of a schedule, as in crontab(5).
var cronFields = []struct {
	low, high int
	names     []string // of low, low+1, ...
}{
	{0, 59, nil},
	{0, 23, nil},
	{1, 31, nil},
	{1, 12, []string{"jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"}},
	{0, 7, []string{"sun", "mon", "tue", "wed", "thu", "fri", "sat"}},
}

// checkSchedule accepts the five fields of crontab(5), and its names but @reboot: a reboot is no schedule.
func checkSchedule(s string) error {
	switch strings.ToLower(s) {
	case "@hourly", "@daily", "@midnight", "@weekly", "@monthly", "@yearly", "@annually":
		return nil
	}
	parts := strings.Fields(s)
	if len(parts) != len(cronFields) {
		return errWrong
	}
	for i, part := range parts {
		for item := range strings.SplitSeq(part, ",") {
			if !cronItem(i, item) {
				return errWrong
			}
		}
	}
	return nil
}

func cronItem(field int, item string) bool {
	f := cronFields[field]
	item, step, stepped := strings.Cut(item, "/")
	if stepped {
		if n, err := strconv.Atoi(step); err != nil || n < 1 || n > f.high {
			return false
		}
	}
	if item == "*" {
		return true
	}
	value := func(s string) (int, bool) {
		for i, name := range f.names {
			if strings.EqualFold(s, name) {
				return f.low + i, true
			}
		}
		if s == "" || strings.Trim(s, "0123456789") != "" {
			return 0, false
		}
		n, err := strconv.Atoi(s)
		return n, err == nil && n >= f.low && n <= f.high
	}
	first, last, ranged := strings.Cut(item, "-")
	low, ok := value(first)
	if !ok || !ranged {
		return ok && !stepped
	}
	high, ok := value(last)
	return ok && low <= high
}
