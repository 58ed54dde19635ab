package main

import (
	"encoding/json"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// What the theory computes with. Messages are weighed with what they are wrapped in.
const (
	fanout       = 64
	repairEvery  = 3 * time.Second
	pushBytes    = 180 + 120 // a change of one field of a host
	answerBytes  = 45 + 120
	compareBytes = 320 + 2*120 // a comparison and its answer, but for what is named of each run
	headBytes    = 24          // of a run
	pushWait     = time.Second // after which a node pushes to a silent child's children
)

// depth is how many hops the last node of a tree over n nodes is from the root.
func depth(n int) int {
	d, reach, level := 0, 1, 1
	for reach < n {
		d++
		level *= fanout
		reach += level
	}
	return d
}

// treeTime is what a write needs to all n nodes: the writer's fsync, then for each hop 64 sends one behind the other, the longest way,
// the service and the fsync; and where it is likelier than not that a message of n is lost, one resending.
func treeTime(n int, m model) time.Duration {
	way := m.otherRack.to
	if n >= 100 {
		way = m.otherSite.to
	}
	sends := time.Duration(float64(min(n-1, fanout)) * pushBytes * 8 / m.uplink * 1e9)
	d := m.fsync + time.Duration(depth(n))*(sends+way+m.service+m.fsync)
	if math.Pow(1-m.loss, float64(n-1)) < 0.5 {
		d += m.resend
	}
	return d
}

// restRate is what a node sends at rest: each compares every three seconds, and is compared with as often. Runs are those of the one who
// made the database, and of who wrote before: 20 times somebody by chance.
func restRate(n int) float64 {
	runs := 1 + float64(n)*(1-math.Pow(1-1/float64(n), 20))
	return (compareBytes + headBytes*runs) / repairEvery.Seconds()
}

// epidemicTime is about what a write would need by comparisons alone.
func epidemicTime(n int) time.Duration {
	return time.Duration(math.Log(float64(n)) * float64(repairEvery))
}

// save merges results with those that were measured before, so that large meshes can be measured apart, and returns all.
func save(dir string, fresh []result) ([]result, error) {
	path := filepath.Join(dir, "results.json")
	all, err := recall(path)
	if err != nil {
		return nil, err
	}
	for _, r := range fresh {
		all = slices.DeleteFunc(all, func(o result) bool { return o.N == r.N && o.Joiners == r.Joiners })
		all = append(all, r)
	}
	slices.SortFunc(all, func(a, b result) int { return a.N*10 + a.Joiners - b.N*10 - b.Joiners })
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, fmt.Errorf("make the folder for plots: %w", err)
	}
	text, err := json.MarshalIndent(all, "", "  ")
	if err != nil {
		return nil, err
	}
	return all, os.WriteFile(path, append(text, '\n'), 0o644)
}

func recall(path string) ([]result, error) {
	var all []result
	text, err := os.ReadFile(path)
	if os.IsNotExist(err) {
		return nil, nil
	}
	if err == nil {
		err = json.Unmarshal(text, &all)
	}
	if err != nil {
		return nil, fmt.Errorf("read what was measured before: %w", err)
	}
	return all, nil
}

// line makes a series of what value gives for each result of one kind.
func line(name string, of []result, value func(r result) float64) series {
	s := series{name: name}
	for _, r := range of {
		if y := value(r); y > 0 {
			s.points = append(s.points, point{float64(r.N), y})
		}
	}
	return s
}

func dashed(s series) series { s.theory = true; return s }

func ms(d time.Duration) float64 { return float64(d) / 1e6 }

// draw writes all plots.
func draw(dir string, all []result, m model) error {
	meshes := slices.DeleteFunc(slices.Clone(all), func(r result) bool { return r.Joiners > 0 })
	joins := slices.DeleteFunc(slices.Clone(all), func(r result) bool { return r.Joiners == 0 })
	agents := "agents"
	plots := map[string]*plot{}
	if len(meshes) > 0 {
		busy := float64(pushBytes+answerBytes) * writesPerSecond
		plots["convergence"] = &plot{"One write, until it is seen", agents, "time after the write began", milliseconds, []series{
			line("half of the agents", meshes, func(r result) float64 { return ms(r.Write.Half) }),
			line("99 %", meshes, func(r result) float64 { return ms(r.Write.Most) }),
			line("all", meshes, func(r result) float64 { return ms(r.Write.All) }),
			line("all, worst write", meshes, func(r result) float64 { return ms(r.Write.WorstAll) }),
			dashed(line("tree, all", meshes, func(r result) float64 { return ms(treeTime(r.N, m)) })),
			dashed(line("comparisons only: 3 s · ln n", meshes, func(r result) float64 { return ms(epidemicTime(r.N)) })),
		}}
		plots["traffic"] = &plot{"What a node sends", agents, "bytes a second", byteRate, []series{
			line("at rest, mean", meshes, func(r result) float64 { return r.Rest.Mean }),
			line("10 writes a second, mean", meshes, func(r result) float64 { return r.Busy.Mean }),
			line("10 writes a second, busiest", meshes, func(r result) float64 { return r.Busy.Busiest }),
			dashed(line("at rest: a + b · runs", meshes, func(r result) float64 { return restRate(r.N) })),
			dashed(line("at rest + 10 pushes, answers", meshes, func(r result) float64 { return restRate(r.N) + busy*float64(r.N-1)/float64(r.N) })),
		}}
		plots["sick"] = &plot{"One agent in twenty sick: all healthy ones see a write", agents, "time after the write began", milliseconds, []series{
			line("none sick", meshes, func(r result) float64 { return ms(r.Write.All) }),
			line("answer after 5 s", meshes, func(r result) float64 { return ms(r.Slow.All) }),
			line("answer after 5 s, worst", meshes, func(r result) float64 { return ms(r.Slow.WorstAll) }),
			line("never answer", meshes, func(r result) float64 { return ms(r.Mute.All) }),
			line("never answer, worst", meshes, func(r result) float64 { return ms(r.Mute.WorstAll) }),
			dashed(line("tree, and 1 s for a silent hop", meshes, func(r result) float64 {
				return ms(treeTime(r.N, m) + time.Duration(depth(r.N)-1)*pushWait)
			})),
		}}
		plots["recovery"] = &plot{"After a fault, until all are equal", agents, "time", milliseconds, []series{
			line("rack back after a cut", meshes, func(r result) float64 { return ms(r.Rack.Took) }),
			line("mass restart", meshes, func(r result) float64 { return ms(r.Restart.Took) }),
			dashed(line("dialled again: 5 s, and 1 s", meshes, func(result) float64 { return ms(m.joinSeen.to + 4*time.Second + m.lookEvery) })),
			dashed(line("comparisons only: 3 s · ln n", meshes, func(r result) float64 { return ms(epidemicTime(r.N)) })),
		}}
		plots["peaks"] = &plot{"Most that one node sent within a second", agents, "bytes", byteRate, []series{
			line("at rest", meshes, func(r result) float64 { return r.Rest.Peak }),
			line("10 writes a second", meshes, func(r result) float64 { return r.Busy.Peak }),
			line("rack back after a cut", meshes, func(r result) float64 { return r.Rack.Flow.Peak }),
			line("mass restart", meshes, func(r result) float64 { return r.Restart.Flow.Peak }),
			dashed(line("the budget of repair", meshes, func(result) float64 { return 32 << 20 })),
		}}
	}
	if len(joins) > 0 {
		plots["join"] = &plot{"Three times as many join within a minute", "agents that were there", "time until the joiner has the state", milliseconds, []series{
			line("median", joins, func(r result) float64 { return ms(r.Join.Median) }),
			line("longest", joins, func(r result) float64 { return ms(r.Join.Longest) }),
			dashed(line("a state over one link", joins, func(r result) float64 { return ms(joinTime(r, m)) })),
		}}
		plots["joinload"] = &plot{"Three times as many join within a minute: the old agents", "agents that were there", "bytes", byteRate, []series{
			line("most of one within a second", joins, func(r result) float64 { return r.Join.Flow.Peak }),
			line("mean of all nodes", joins, func(r result) float64 { return r.Join.Flow.Mean * float64(r.N) / float64(r.N+r.Joiners) }),
			dashed(line("the budget of repair", joins, func(result) float64 { return 32 << 20 })),
		}}
	}
	for name, p := range plots {
		if err := os.WriteFile(filepath.Join(dir, name+".svg"), []byte(p.svg()), 0o644); err != nil {
			return fmt.Errorf("write a plot: %w", err)
		}
	}
	return nil
}

// joinTime is what a joiner that finds an old agent at once needs: a comparison, the state, and where it comes from the other site
// two ways there and back.
func joinTime(r result, m model) time.Duration {
	way := m.otherRack.to
	if r.N+r.Joiners >= 100 {
		way = m.otherSite.to
	}
	const stateBytes = 170_000
	return 4*way + 4*m.service + time.Duration(stateBytes*8/m.uplink*1e9) + stateBytes/1024*m.servicePerKB
}

// tables are those of the page, by name.
func tables(all []result, m model) map[string]string {
	out := map[string]*strings.Builder{}
	row := func(table string, cells ...string) {
		if out[table] == nil {
			out[table] = &strings.Builder{}
		}
		fmt.Fprintf(out[table], "| %s |\n", strings.Join(cells, " | "))
	}
	head := func(table string, cells ...string) {
		row(table, cells...)
		row(table, slices.Repeat([]string{"---"}, len(cells))...)
	}
	head("convergence", "agents", "half", "99 %", "all", "worst: half", "99 %", "all", "theory: tree", "comparisons alone")
	head("traffic", "agents", "at rest: mean", "busiest", "10 writes/s: mean", "busiest", "most within a second", "theory: at rest", "with writes")
	head("sick", "agents", "none sick: all", "slow: all", "worst", "mute: all", "worst", "theory")
	head("rack", "agents", "until all equal", "sent by a node, mean", "by all", "most of one within a second", "requests at a time", "turned away")
	head("restart", "agents", "until all equal", "longest write", "sent by a node, mean", "most of one within a second", "requests at a time", "turned away")
	head("join", "agents", "joiners", "state: median", "longest", "last has it after", "history after", "bytes for one", "most of an old one within a second", "requests at a time", "turned away")
	for _, r := range all {
		n := fmt.Sprint(r.N)
		if r.Joiners > 0 {
			j := r.Join
			row("join", n, fmt.Sprint(r.Joiners), short(j.Median), short(j.Longest), short(j.State), short(j.History), size(j.Each), size(j.Flow.Peak),
				fmt.Sprint(j.Flow.MostServe), fmt.Sprint(j.Busy))
			continue
		}
		w := r.Write
		row("convergence", n, short(w.Half), short(w.Most), short(w.All), short(w.WorstHalf), short(w.WorstMost), short(w.WorstAll), short(treeTime(r.N, m)), short(epidemicTime(r.N)))
		row("traffic", n, size(r.Rest.Mean), size(r.Rest.Busiest), size(r.Busy.Mean), size(r.Busy.Busiest), size(r.Busy.Peak),
			size(restRate(r.N)), size(restRate(r.N)+(pushBytes+answerBytes)*writesPerSecond*float64(r.N-1)/float64(r.N)))
		row("sick", n, short(w.All), short(r.Slow.All), short(r.Slow.WorstAll), short(r.Mute.All), short(r.Mute.WorstAll),
			short(treeTime(r.N, m)+time.Duration(depth(r.N)-1)*pushWait))
		f := r.Rack.Flow
		row("rack", n, short(r.Rack.Took), size(f.Total/float64(r.N)), size(f.Total), size(f.Peak), fmt.Sprint(f.MostServe), fmt.Sprint(r.Rack.Busy))
		f = r.Restart.Flow
		row("restart", n, short(r.Restart.Took), short(r.Restart.Worst), size(f.Total/float64(r.N)), size(f.Peak), fmt.Sprint(f.MostServe), fmt.Sprint(r.Restart.Busy))
	}
	text := map[string]string{}
	for name, b := range out {
		text[name] = b.String()
	}
	return text
}

func short(d time.Duration) string {
	switch {
	case d >= 10*time.Second:
		return fmt.Sprintf("%.0f s", d.Seconds())
	case d >= time.Second:
		return fmt.Sprintf("%.1f s", d.Seconds())
	case d >= 10*time.Millisecond:
		return fmt.Sprintf("%.0f ms", ms(d))
	}
	return fmt.Sprintf("%.1f ms", ms(d))
}

func size(n float64) string {
	switch {
	case n >= 1e9:
		return fmt.Sprintf("%.1f GB", n/1e9)
	case n >= 1e6:
		return fmt.Sprintf("%.1f MB", n/1e6)
	case n >= 1e3:
		return fmt.Sprintf("%.1f kB", n/1e3)
	}
	return fmt.Sprintf("%.0f B", n)
}

// fillPage replaces the tables of a page: each stands between two comments that name it.
func fillPage(path string, tables map[string]string) error {
	text, err := os.ReadFile(path)
	if err != nil {
		return fmt.Errorf("fill in the tables: %w", err)
	}
	page := string(text)
	for name, table := range tables {
		begin, end := "<!-- table "+name+" -->\n", "<!-- end -->"
		before, rest, found := strings.Cut(page, begin)
		_, after, closed := strings.Cut(rest, end)
		if !found || !closed {
			return fmt.Errorf("fill in the tables: %s has no place for %q, which begins with %q and ends with %q", path, name, strings.TrimSpace(begin), end)
		}
		page = before + begin + "\n" + table + "\n" + end + after
	}
	return os.WriteFile(path, []byte(page), 0o644)
}
