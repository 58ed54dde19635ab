package main

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"os"
	"regexp"
	"slices"
	"text/tabwriter"
	"time"

	"hostmesh/node/api"
)

// Growth that is no leak. A short run begins with empty agents and says little, so it is held to nothing.
const (
	judgedFrom    = 20 * time.Minute // length of a run
	spareMemory   = 48 << 20         // of the median of the last quarter over that of the first, for the caches that fill,
	perKey        = 1 << 10          // and this for each key that was made meanwhile: what was deleted is remembered, as long as history is
	maxGrowth     = 1.3              // likewise of goroutines and open files,
	spareHandles  = 30
	warmUp        = 15 * time.Second // of each start, not looked at
	reasonsListed = 12
)

// table prints what the run took, and judges whether it grew.
func (s *soak) table() {
	s.mu.Lock()
	samples := s.samples
	why := maps.Clone(s.why)
	s.mu.Unlock()
	ops := s.ackedN.Load()
	fmt.Printf("\n%s in %s, seed %d\n\n", s.figures(), s.length, s.seed)
	out := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', 0)
	fmt.Fprintln(out, "agent\tstarts\tacknowledged\tmemory 1st quarter\tlast quarter\tpeak\tkeys made\tgrowth/key\twith mapped files\tgoroutines\topen files\ttables\tdatabase\tdisk/op")
	for i, a := range s.agents {
		list := s.steady(samples[i])
		first, last := quarters(list, s.length)
		if len(first) == 0 || len(last) == 0 {
			fmt.Fprintf(out, "%s\t%d\t%d\ttoo few samples\n", a.name, a.starts.Load(), a.acked.Load())
			continue
		}
		anon := func(x sample) int64 { return x.anon }
		made := func(x sample) int64 { return x.made }
		tables := func(x sample) int64 { return x.tables }
		goroutines := func(x sample) int64 { return x.goroutines }
		fds := func(x sample) int64 { return x.fds }
		m1, m2 := median(first, anon), median(last, anon)
		keys := median(last, made) - median(first, made)
		peak := slices.MaxFunc(samples[i], func(x, y sample) int { return cmp.Compare(x.anon, y.anon) }).anon
		all := slices.MaxFunc(samples[i], func(x, y sample) int { return cmp.Compare(x.rss, y.rss) }).rss
		db := slices.MaxFunc(last, func(x, y sample) int { return cmp.Compare(x.database, y.database) }).database // 0 while it is closed
		fmt.Fprintf(out, "%s\t%d\t%d\t%.1f MiB\t%.1f MiB\t%.1f MiB\t%d\t%.0f B\t%.1f MiB\t%d -> %d\t%d -> %d\t%d -> %d\t%.1f MiB\t%.0f B\n",
			a.name, a.starts.Load(), a.acked.Load(), mib(m1), mib(m2), mib(peak), keys, float64(m2-m1)/max(1, float64(keys)), mib(all),
			median(first, goroutines), median(last, goroutines), median(first, fds), median(last, fds), median(first, tables), median(last, tables), mib(db), float64(db)/max(1, float64(ops)))
		if s.length < judgedFrom {
			continue
		}
		if m2 > m1+spareMemory+keys*perKey {
			s.defect("the memory of %s is not flat: %.1f MiB in the first quarter, %.1f MiB in the last, in which %d keys were made", a.name, mib(m1), mib(m2), keys)
		}
		if x, y := median(first, goroutines), median(last, goroutines); float64(y) > float64(x)*maxGrowth+spareHandles {
			s.defect("the goroutines of %s are not flat: %d in the first quarter, %d in the last", a.name, x, y)
		}
		if x, y := median(first, fds), median(last, fds); float64(y) > float64(x)*maxGrowth+spareHandles {
			s.defect("the open files of %s are not flat: %d in the first quarter, %d in the last", a.name, x, y)
		}
	}
	_ = out.Flush() // to the terminal
	if waits := s.waits(); len(waits) > 0 {
		at := func(q float64) time.Duration { return round(waits[min(int(q*float64(len(waits))), len(waits)-1)]) }
		fmt.Printf("\nacknowledged after p50 %s, p99 %s, at most %s, faults included\n", at(0.5), at(0.99), at(1))
	}
	fmt.Println("\nwhy writes were refused or are unknown, as often as:")
	reasons := slices.SortedFunc(maps.Keys(why), func(a, b string) int { return cmp.Or(-cmp.Compare(why[a], why[b]), cmp.Compare(a, b)) })
	for _, r := range reasons[:min(len(reasons), reasonsListed)] {
		fmt.Printf("%8d  %s\n", why[r], r)
	}
	if n := len(s.defects); n == 0 {
		fmt.Println("\nno acknowledged write is lost, and all agents are equal")
	} else {
		fmt.Printf("\n%d defects:\n", n)
		for _, d := range s.defects[:min(n, maxDefects)] {
			fmt.Println(" ", d)
		}
	}
}

// waits are how long the acknowledged writes waited for that, sorted. It is for the end, when nobody writes.
func (s *soak) waits() []time.Duration {
	var out []time.Duration
	for _, w := range s.writers {
		for _, e := range w.ledger.writes {
			if e.outcome == acked {
				out = append(out, e.answered-e.began)
			}
		}
	}
	slices.Sort(out)
	return out
}

// steady leaves out what is of the first moments of a start, if enough remains.
func (s *soak) steady(list []sample) []sample {
	if s.length < judgedFrom {
		return list
	}
	var out []sample
	begun := map[int64]time.Duration{}
	for _, x := range list {
		if _, known := begun[x.started]; !known {
			begun[x.started] = x.at
		}
		if x.at-begun[x.started] >= warmUp {
			out = append(out, x)
		}
	}
	return out
}

// quarters are the samples of the first and last quarter of a run.
func quarters(list []sample, length time.Duration) (first, last []sample) {
	for _, x := range list {
		switch {
		case x.at < length/4:
			first = append(first, x)
		case x.at > length*3/4:
			last = append(last, x)
		}
	}
	return first, last
}

// median is of a list that is not empty.
func median(list []sample, of func(sample) int64) int64 {
	var values []int64
	for _, x := range list {
		values = append(values, of(x))
	}
	slices.Sort(values)
	return values[len(values)/2]
}

func mib(n int64) float64 { return float64(n) / (1 << 20) }

// own is what differs between messages that say the same.
var own = regexp.MustCompile(`(w\d+-[a-z]+\d+(-other)?|once-w\d+-\d+|w\d+-\d+|shared-[a-z]+\d+|\d+[.\d]*( ?[KMGkm]i?B|m?s)?|[0-9a-f]{16}|/\S*agent\.sock)`)

// reasonOf is an error without what is of one write alone.
func reasonOf(err error) string {
	var e *api.Error
	text := err.Error()
	if errors.As(err, &e) {
		text = e.Error()
	}
	text = own.ReplaceAllString(text, "…")
	if len(text) > 160 {
		text = text[:160] + "…"
	}
	return text
}
