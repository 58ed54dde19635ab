package main

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/anishathalye/porcupine"

	"hostmesh/mesh/lease/leasetest"
)

// enough is how long one history may be looked at.
const enough = 2 * time.Minute

// slowMove is from when on a move is told of by itself. It is no defect: a machine that is busy does it.
const slowMove = 500 * time.Millisecond

// judge holds all that was reported to the promises, and prints the table.
func (p *proof) judge() error {
	violations := p.judgeDuties()
	grants, acts := 0, 0
	for _, d := range p.duties {
		list := p.book.byDuty(d)
		grants += len(list)
		for _, t := range list {
			acts += t.acts
		}
		switch porcupine.CheckOperationsTimeout(leasetest.Duty(), dutyHistory(list), enough) {
		case porcupine.Illegal:
			violations = append(violations, fmt.Sprintf("the %d tenures of %s are not linearizable", len(list), d))
		case porcupine.Unknown:
			violations = append(violations, fmt.Sprintf("whether the %d tenures of %s are linearizable was not found out within %s", len(list), d, enough))
		}
	}
	histories, n := p.book.records()
	for _, key := range slices.Sorted(maps.Keys(histories)) {
		if v := judgeRecords(key, histories[key], p.book.versions, enough); v != "" {
			violations = append(violations, v)
		}
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	var done []string
	for _, name := range slices.Sorted(maps.Keys(p.done)) {
		done = append(done, fmt.Sprintf("%s %d", name, p.done[name]))
	}
	fmt.Printf("\n%s on %d processes, seed %d\n\n", p.length, p.boxes, p.seed)
	row := func(what, format string, args ...any) { fmt.Printf("%-58s %s\n", what, fmt.Sprintf(format, args...)) }
	row("faults", "%s", strings.Join(done, ", "))
	row("duties granted", "%d, acted on %d times", grants, acts)
	for _, alone := range []bool{true, false} {
		under := "nothing else broken"
		if !alone {
			under = "while other faults lasted"
		}
		for _, leader := range []bool{false, true} {
			what := "holder killed -> next acts, leader alive"
			if leader {
				what = "holder killed -> next acts, leader died too"
			}
			row(what+", "+under, "%s", spread(p.takeovers(leader, alone)))
		}
		row("planned move: last act -> first act, "+under, "%s", spread(p.handOvers(alone)))
	}
	row("calls on records", "%d done, %d refused, %d of unknown outcome, %d with nothing done; %d keys", n.done, n.refused, n.unknown, n.none, len(histories))
	row("violations", "%d", len(violations))
	row("other defects", "%d", len(p.defects))
	for _, m := range p.moves {
		if old, next, ok := p.moved(m); ok && m.alone && next.from-old.to > slowMove {
			fmt.Printf("\nslow, with nothing else broken: %s moved at %s, %s after the old holder's last act:\n    %s\n    %s\n",
				m.duty, (next.from - p.zero).Round(time.Millisecond), (next.from - old.to).Round(time.Millisecond), &old, &next)
		}
	}
	for _, v := range violations {
		fmt.Printf("\nVIOLATION, seed %d: %s\n", p.seed, v)
	}
	for _, d := range p.defects {
		fmt.Printf("\nDEFECT, seed %d: %s\n", p.seed, d)
	}
	switch {
	case len(violations)+len(p.defects) > 0:
		return fmt.Errorf("%d violations, %d other defects; again with -seed %d", len(violations), len(p.defects), p.seed)
	case p.wrong:
		return fmt.Errorf("the times are wrong, and no check has seen it; again with -seed %d", p.seed)
	case grants < len(p.duties) || n.done == 0:
		return fmt.Errorf("nothing was proved: %d grants, %d calls done", grants, n.done)
	}
	return nil
}

// takeovers are the times from a kill to the first act of the next holder, for each duty that the killed one held.
func (p *proof) takeovers(leader, alone bool) (out []time.Duration) {
	for _, k := range p.kills {
		if k.leader != leader || k.alone != alone {
			continue
		}
		for d, fence := range k.held {
			if next, ok := p.after(d, fence); ok {
				out = append(out, next.from-k.at)
			}
		}
	}
	return out
}

// handOvers are the times from the last act of the old holder to the first of the new.
func (p *proof) handOvers(alone bool) (out []time.Duration) {
	for _, m := range p.moves {
		if m.alone != alone {
			continue
		}
		if old, next, ok := p.moved(m); ok {
			out = append(out, next.from-old.to)
		}
	}
	return out
}

// moved are the tenures before and after a move.
func (p *proof) moved(m handOver) (old, next tenure, ok bool) {
	list := p.book.byDuty(m.duty)
	i := slices.IndexFunc(list, func(t tenure) bool { return t.fence == m.from })
	if i < 0 || i+1 == len(list) {
		return old, next, false
	}
	return list[i], list[i+1], true
}

// after is the tenure that follows a number.
func (p *proof) after(duty string, fence uint64) (tenure, bool) {
	for _, t := range p.book.byDuty(duty) {
		if t.fence > fence {
			return t, true
		}
	}
	return tenure{}, false
}

func spread(list []time.Duration) string {
	if len(list) == 0 {
		return "-"
	}
	slices.Sort(list)
	ms := func(d time.Duration) time.Duration { return d.Round(time.Millisecond) }
	return fmt.Sprintf("median %s, worst %s (n=%d)", ms(list[len(list)/2]), ms(list[len(list)-1]), len(list))
}
