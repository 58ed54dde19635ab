package integration

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"hostmesh/lbd/mysqlha"
	"hostmesh/node/api"
)

// How a run by hand differs from that of each run of the tests: see make databases-soak.
const (
	stormFor  = "HOSTMESH_TEST_DB_SOAK"      // how long
	stormSeed = "HOSTMESH_TEST_DB_SOAK_SEED" // what the faults follow from
	stormRate = "HOSTMESH_TEST_DB_SOAK_RATE" // rows a second
	stormOut  = "HOSTMESH_TEST_DB_SOAK_OUT"  // a directory for what happened, in order, and for the logs of a run that failed
	stormOnly = "HOSTMESH_TEST_DB_SOAK_ONLY" // a pattern of names of faults
)

// TestDatabasesUnderRandomFaults has five agents, three to four of which are beside a member's real MariaDB server, and clients that write each row once through the
// address of the primary, each a transaction. For two minutes faults are drawn by a seed, of random lengths, one at a time; by hand for as long as is wanted, one, two or three at once. All the time it is looked for
// two servers that can acknowledge, and for two boxes that answer for the address; after each round, when all was healed, the cluster must become well by
// itself, and the primary must have each row that was acknowledged; in the end all members must, and be equal. A long run is by hand: make databases-soak.
func TestDatabasesUnderRandomFaults(t *testing.T) {
	if os.Getenv(inNamespaces) != "" {
		ownProcesses(t)
		databasesUnderRandomFaults(t)
		return
	}
	t.Parallel()
	inOwnProcesses(t, "ip", "nft", "tc", "mariadbd", "mariadb-backup")
}

// storm is one run.
type storm struct {
	*dbSite
	seed   uint64
	rng    *rand.Rand
	begun  time.Time
	load   *stormLedger
	watch  *stormWatch
	file   *os.File // of what happened; nil = none is asked for
	tale   []string // likewise, of the whole run
	gaps   map[string][]time.Duration
	counts map[string]int
	lines  chan string // of what goes on beside
	judged int         // the id of the first row that no round has looked at
	fresh  string      // the data of a server that was just installed

	// Of now:
	held     map[string]bool // what a fault has, so that no other takes it
	frozen   map[*box]bool   // agents that were stopped
	starts   map[*box]int
	measured map[*box][]taken
	seen     api.MySQLCluster // as it was heard of last
	primary  string           // by that
	most     int              // faults at once
	replaced bool             // a disk was, in this round
	burnt    bool             // and that was the primary's
	killed   bool             // a server was, in this round
	acks     bool             // failovers are acknowledged, so that another may follow
	paused   bool             // somebody has paused automatic acts, and is to resume them
	unsaid   bool             // HostDB does not have the members yet
	left     uint64           // the epoch in which box4 lost the tag
	strayed  bool             // it has the tag again, and another became the primary meanwhile: it may have received what nobody acknowledged
	copied   time.Time        // when a person had it made a copy for that
}

// onTmpfs has all that the test makes in memory: a server that waits for a disk at each commit is not what is tested.
func onTmpfs(t *testing.T) {
	t.Helper()
	dir, err := os.MkdirTemp("", "hms")
	if err != nil {
		t.Fatal(err)
	}
	if err := unix.Mount("none", dir, "tmpfs", 0, "size=75%"); err != nil {
		t.Fatalf("a file system in memory: %v", err)
	}
	t.Cleanup(func() { _ = errors.Join(unix.Unmount(dir, unix.MNT_DETACH), os.Remove(dir)) }) // its mounts end with this process
	t.Setenv("TMPDIR", dir)
}

func databasesUnderRandomFaults(t *testing.T) {
	length, rate := 2*time.Minute, 200
	x := &storm{
		seed: 16, most: 1, gaps: map[string][]time.Duration{}, counts: map[string]int{}, lines: make(chan string, 100), held: map[string]bool{},
		frozen: map[*box]bool{}, starts: map[*box]int{}, measured: map[*box][]taken{}, acks: true,
	}
	if text := os.Getenv(stormFor); text != "" {
		d, err := time.ParseDuration(text)
		if err != nil || d <= 0 {
			t.Fatalf("%s=%s: want a duration", stormFor, text)
		}
		length, rate = d, 1000
		x.seed, x.most = rand.Uint64()>>32, 3
	}
	if text := os.Getenv(stormRate); text != "" {
		n, err := strconv.Atoi(text)
		if err != nil || n < 1 {
			t.Fatalf("%s=%s: want a number from 1", stormRate, text)
		}
		rate = n
	}
	if text := os.Getenv(stormSeed); text != "" {
		n, err := strconv.ParseUint(text, 10, 64)
		if err != nil {
			t.Fatalf("%s=%s: want a number", stormSeed, text)
		}
		x.seed = n
	}
	if dir := os.Getenv(stormOut); dir != "" {
		f, err := os.Create(filepath.Join(dir, fmt.Sprintf("events-%d.txt", x.seed)))
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		x.file = f
	}
	onTmpfs(t)
	// Logs that are kept for longer would fill the memory in an hour; a member that was away for so long becomes a copy.
	x.dbSite = newDBSite(t, "max-connections=200", "innodb-buffer-pool-size=64M", "innodb-log-file-size=64M", "max-binlog-size=64M", "binlog-expire-logs-seconds=300")
	t.Cleanup(x.keepLogs) // while the agents' logs are there
	x.dbSite.begin()
	x.fresh = filepath.Join(t.TempDir(), "fresh")
	x.installed(func(datadir string) { x.must(exec.Command("cp", "-a", datadir, x.fresh)) })
	x.writes.end()
	x.reads.end()
	for _, b := range x.boxes {
		x.starts[b] = 1
	}
	x.run(length, rate)
}

// say tells what happens.
func (x *storm) say(format string, args ...any) {
	line := fmt.Sprintf("%8.3f ", time.Since(x.begun).Seconds()) + fmt.Sprintf(format, args...)
	x.tale = append(x.tale, line)
	if x.file != nil {
		fmt.Fprintln(x.file, line)
	}
}

// beside is say for what runs beside the test's own goroutine.
func (x *storm) beside(format string, args ...any) {
	select {
	case x.lines <- fmt.Sprintf(format, args...):
	default: // it is said so often that one more says nothing
	}
}

// defect is what must never be: the run ends after its round.
func (x *storm) defect(format string, args ...any) {
	x.t.Helper()
	text := fmt.Sprintf(format, args...)
	x.t.Errorf("%.3f s into the run (%s), seed %d: %s", time.Since(x.begun).Seconds(), time.Now().Format("15:04:05.000"), x.seed, text)
	x.beside("DEFECT: %s", text)
}

func (x *storm) run(length time.Duration, rate int) {
	t := x.t
	x.begun = time.Now()
	x.rng = rand.New(rand.NewPCG(x.seed, 0))
	x.say("%s, %d rows/s, seed %d, at %s", length, rate, x.seed, x.begun.Format("15:04:05.000"))
	t.Logf("faults by seed %d", x.seed)
	x.primary = "db1"
	x.dbs["db1"].Exec("CREATE TABLE shop.ledger (id BIGINT PRIMARY KEY, by_server INT NOT NULL)")
	x.load = newStormLedger(x.dbSite, rate)
	x.watch = newStormWatch(x)
	x.settle()
	deck := []stormFault{}
	rounds := 0
	for ; time.Since(x.begun) < length && !t.Failed(); rounds++ {
		// In the third of each eight rounds nobody acknowledges failovers: the second one is not made by itself.
		x.acks = rounds%8 != 2
		x.round(rounds, &deck)
	}
	x.acks = true
	x.settle()
	x.load.end()
	if !t.Failed() {
		x.ends()
	}
	x.table(rounds, length)
	for _, b := range x.boxes {
		if !t.Failed() {
			b.stop()
		}
	}
}

// planned is something to be done at a time.
type planned struct {
	at time.Time
	do func()
}

// round makes some faults, heals them, and waits until the cluster is well.
func (x *storm) round(n int, deck *[]stormFault) {
	rng := rand.New(rand.NewPCG(x.seed, uint64(n)+1))
	faults := min([]int{1, 1, 2, 2, 3}[rng.IntN(5)], x.most)
	from := time.Now()
	x.replaced, x.burnt, x.killed = false, false, false
	var plan []planned
	later := func(after time.Duration, do func()) {
		at := time.Now().Add(after)
		i, _ := slices.BinarySearchFunc(plan, at, func(p planned, at time.Time) int { return p.at.Compare(at) })
		plan = slices.Insert(plan, i, planned{at, do})
	}
	var names []string
	for i := range faults {
		if len(*deck) == 0 {
			*deck = x.faults()
			rng.Shuffle(len(*deck), func(i, j int) { (*deck)[i], (*deck)[j] = (*deck)[j], (*deck)[i] })
		}
		f := (*deck)[0]
		*deck = (*deck)[1:]
		own := rand.New(rand.NewPCG(rng.Uint64(), 0))
		start := time.Duration(0)
		if i > 0 {
			start = time.Duration(own.Int64N(int64(4 * time.Second)))
		}
		last := f.least
		if f.most > f.least {
			last += time.Duration(own.Int64N(int64(f.most - f.least)))
		}
		later(start, func() {
			what, heal := f.begin(x, own)
			if what == "" {
				x.say("fault %s: it cannot be made now", f.name)
				return
			}
			names = append(names, f.name)
			x.counts[f.name]++
			x.say("fault %s: %s, for %s", f.name, what, last.Round(time.Millisecond))
			later(last, func() {
				if heal != nil {
					heal()
					x.say("healed %s", f.name)
				}
			})
		})
	}
	for len(plan) > 0 {
		if wait := time.Until(plan[0].at); wait > 0 {
			time.Sleep(min(wait, 100*time.Millisecond))
			x.tick()
			continue
		}
		p := plan[0]
		plan = plan[1:]
		p.do()
	}
	healed := time.Now()
	x.settle()
	gap := x.load.longest(from, healed)
	switch len(names) {
	case 0:
	case 1:
		x.gaps[names[0]] = append(x.gaps[names[0]], gap)
	default:
		key := fmt.Sprintf("%d at once", len(names))
		x.gaps[key] = append(x.gaps[key], gap)
	}
	x.say("round %d: %s: no write for %d ms; well %d ms after the last was healed; %s", n, strings.Join(names, " + "), gap.Milliseconds(), time.Since(healed).Milliseconds(), x.load.figures())
}

// tick is done all the time: a person acknowledges failovers, and agents are measured.
func (x *storm) tick() {
	for len(x.lines) > 0 {
		x.say("%s", <-x.lines)
	}
	if c, ok := x.ask(); ok {
		if r := c.Record; x.seen.Record == nil || r.Epoch != x.seen.Record.Epoch || c.Verdict.Name != x.seen.Verdict.Name {
			intent := ""
			if i := r.Intent; i != nil {
				intent = fmt.Sprintf(", %s at %s to %s %s", i.Kind, i.Step, i.To, i.Stopped)
			}
			x.say("epoch %d, primary %s, ackers %v, fenced %v%s: %s: %s", r.Epoch, r.Primary, r.Ackers, r.Fenced, intent, c.Verdict.Name, c.Verdict.Text)
		}
		x.seen, x.primary = c, c.Record.Primary
		if c.Verdict.Name == string(mysqlha.ErrantFound) && x.strayed && time.Since(x.copied) > 10*time.Second {
			x.copied = time.Now()
			err := x.orders(func(ctx context.Context, b *box) error {
				_, err := b.api.CloneMySQL(ctx, shopTag, api.MySQLClone{To: "box4", Log: "soak"})
				return err
			})
			x.say("box4 was no member when the primary changed, and has what nobody else has: a person has it made a copy (%v)", err)
		}
		// Only another primary ends that the one there is has lost its data: a person acknowledges the failover before in any round.
		if r := c.Record; (x.acks || c.Verdict.Name == string(mysqlha.PrimaryLost)) && r.LastFailover != nil && r.AckedBy == "" && r.Intent == nil {
			x.orders(func(ctx context.Context, b *box) error {
				_, err := b.api.AckMySQL(ctx, shopTag, api.MySQLNote{Log: "seen"})
				return err
			})
		}
	}
	for _, b := range x.able() {
		list := x.measured[b]
		if len(list) == 0 || time.Since(x.begun)-list[len(list)-1].at > 10*time.Second {
			if m, ok := x.takes(b); ok {
				x.measured[b] = append(list, m)
			}
		}
	}
}

// able are the agents that run, and were not stopped.
func (x *storm) able() (out []*box) {
	for _, b := range x.running() {
		if !x.frozen[b] {
			out = append(out, b)
		}
	}
	return out
}

// ask asks agents how the cluster stands, and takes the newest that is heard of.
func (x *storm) ask() (best api.MySQLCluster, ok bool) {
	for _, b := range x.able() {
		ctx, cancel := context.WithTimeout(x.t.Context(), time.Second)
		c, err := b.api.MySQLCluster(ctx, shopTag)
		cancel()
		if err != nil || c.Record == nil || best.Record != nil && c.Record.Epoch <= best.Record.Epoch {
			continue
		}
		best = c
		if c.Watcher != nil {
			break
		}
	}
	return best, best.Record != nil
}

// orders has some agent do something.
func (x *storm) orders(do func(ctx context.Context, b *box) error) (err error) {
	list := x.able()
	for _, b := range list {
		ctx, cancel := context.WithTimeout(x.t.Context(), 5*time.Second)
		e := do(ctx, b)
		cancel()
		if e == nil {
			return nil
		}
		err = errors.Join(err, fmt.Errorf("%s: %w", b.name, e))
	}
	return err
}

// settleBound is how long a cluster that was healed has to become well. It is generous, for what failed is tried again after a pause.
const settleBound = 4 * time.Minute

// settle waits until the cluster is well by itself, and judges it.
func (x *storm) settle() {
	t := x.t
	t.Helper()
	if len(x.held) > 0 {
		t.Fatalf("%v is not healed", x.held)
	}
	for begin, why := time.Now(), error(nil); ; time.Sleep(50 * time.Millisecond) {
		x.tick()
		if why = x.well(); why == nil {
			break
		}
		if time.Since(begin) > settleBound {
			x.defect("the cluster is not well %s after all was healed: %v\n%s", settleBound, why, x.told())
			t.FailNow()
		}
	}
	x.ask()
	rows := x.load.known(x.judged)
	for try := 0; ; try++ {
		lost, wrong, err := x.compares(x.primary, x.judged, rows)
		if err == nil && len(lost) == 0 && len(wrong) == 0 {
			break
		}
		if try < 5 {
			time.Sleep(time.Second)
			x.tick()
			continue
		}
		x.tellLost(x.primary, lost, wrong, err)
		t.FailNow()
	}
	const again = 20_000 // rows before those that are new: a change since may have lost them
	x.judged = max(0, x.judged+len(rows)-again)
}

func (x *storm) compares(host string, from int, rows []row) (lost, wrong []int64, err error) {
	ctx, cancel := context.WithTimeout(x.t.Context(), dbPatience)
	defer cancel()
	return missing(ctx, x.dbs[host], from, rows)
}

func (x *storm) tellLost(host string, lost, wrong []int64, err error) {
	x.t.Helper()
	known := x.load.known(0)
	var when []string
	for _, id := range lost[:min(len(lost), 10)] {
		when = append(when, fmt.Sprintf("%d acknowledged at %.3f s", id, known[id].at.Seconds()))
	}
	x.defect("%s lost %d rows that were acknowledged (%s); has %d that were refused (%v): %v\n%s", host, len(lost), strings.Join(when, ", "), len(wrong), wrong[:min(len(wrong), 10)], err, x.told())
}

// well tells why the cluster is not.
func (x *storm) well() error {
	if x.unsaid {
		if err := x.putMembers(); err != nil {
			return err
		}
	}
	if x.paused {
		if err := x.resume(); err != nil {
			return err
		}
	}
	for _, b := range x.boxes {
		if !b.running() {
			x.defect("%s ended by itself: %s\n%s", b.name, b.cmd.ProcessState, lastLines(withoutGossip(b.log()), 20))
			x.t.FailNow()
		}
	}
	c, ok := x.ask()
	if !ok {
		return errors.New("nobody knows the record")
	}
	r := c.Record
	// One that lost the tag before it had rejoined does so when it gets it again.
	left := slices.DeleteFunc(slices.Collect(maps.Keys(r.Fenced)), func(h string) bool { return !slices.Contains(x.members, h) })
	if c.Verdict.Name != "well" && c.Verdict.Name != string(mysqlha.OldPrimaryLeft) || r.Intent != nil || len(left) > 0 || !slices.Equal(r.Ackers, x.replicas(r.Primary)) {
		return fmt.Errorf("%s (%s), intent %+v, fenced %v, ackers %v %s", c.Verdict.Name, c.Verdict.Text, r.Intent, r.Fenced, r.Ackers, c.NotWatched)
	}
	if x.acks && r.LastFailover != nil && r.AckedBy == "" {
		return errors.New("the failover is not acknowledged")
	}
	if err := x.one(r.Primary); err != nil {
		return err
	}
	if !slices.Contains(x.members, r.Primary) {
		return fmt.Errorf("the primary, %s, is no member", r.Primary)
	}
	x.seen, x.primary = c, r.Primary
	from := x.load.ackedRows()
	time.Sleep(200 * time.Millisecond)
	if n := x.load.ackedRows() - from; n < 4 {
		return fmt.Errorf("%d rows were acknowledged in 200 ms: %s", n, x.load.figures())
	}
	return nil
}

// ends judges a cluster to which nobody writes any more: all members have the same, and that is what was acknowledged.
func (x *storm) ends() {
	t := x.t
	t.Helper()
	positions := func() (map[string]string, bool) {
		out, same := map[string]string{}, true
		for _, h := range x.members {
			out[h] = x.dbs[h].Text("SELECT @@gtid_current_pos")
			same = same && out[h] == out[x.members[0]]
		}
		return out, same
	}
	begin := time.Now()
	for {
		p, same := positions()
		if same {
			x.say("all members have %s, %d ms after the last write", p[x.primary], time.Since(begin).Milliseconds())
			break
		}
		if time.Since(begin) > settleBound {
			x.defect("the members do not come to have the same: %v\n%s", p, x.told())
			return
		}
		time.Sleep(50 * time.Millisecond)
		x.tick()
	}
	rows := x.load.known(0)
	sums := map[string]string{}
	for _, h := range x.members {
		lost, wrong, err := x.compares(h, 0, rows)
		if err != nil || len(lost) > 0 || len(wrong) > 0 {
			x.tellLost(h, lost, wrong, err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), dbPatience)
		var table, sum string
		if err := x.dbs[h].Root().QueryRowContext(ctx, "CHECKSUM TABLE shop.ledger").Scan(&table, &sum); err != nil {
			t.Errorf("checksum of %s: %v", h, err)
		}
		cancel()
		sums[h] = sum
		if sums[h] != sums[x.members[0]] {
			x.defect("members are not equal: %v", sums)
		}
	}
	if !t.Failed() {
		x.say("each of %v has all that was acknowledged, nothing that was refused, and they are equal", x.members)
	}
}

// table tells what was done, and what it cost.
func (x *storm) table(rounds int, length time.Duration) {
	for len(x.lines) > 0 {
		x.say("%s", <-x.lines)
	}
	at := len(x.tale)
	x.say("%d rounds in %s, seed %d: %s, %.0f rows/s", rounds, time.Since(x.begun).Round(time.Second), x.seed, x.load.figures(), float64(x.load.ackedRows())/time.Since(x.begun).Seconds())
	x.say("%-32s %6s %6s %12s %12s", "fault", "made", "alone", "no write for", "worst")
	line := func(name string, made string) {
		list := slices.Clone(x.gaps[name])
		if len(list) == 0 {
			x.say("%-32s %6s %6d", name, made, 0)
			return
		}
		slices.Sort(list)
		x.say("%-32s %6s %6d %9d ms %9d ms", name, made, len(list), list[len(list)/2].Milliseconds(), list[len(list)-1].Milliseconds())
	}
	for _, f := range x.faults() {
		line(f.name, strconv.Itoa(x.counts[f.name]))
	}
	line("2 at once", "")
	line("3 at once", "")
	for _, why := range slices.Sorted(maps.Keys(x.load.why)) {
		x.say("%8d  %s", x.load.why[why], why)
	}
	x.growth(length)
	for _, l := range x.tale[at:] {
		x.t.Log(l)
	}
}

// keepLogs tells what happened last in a run that failed, and keeps its logs where that was asked for.
func (x *storm) keepLogs() {
	if !x.t.Failed() {
		return
	}
	for len(x.lines) > 0 {
		x.say("%s", <-x.lines)
	}
	x.t.Logf("what happened last:\n%s", strings.Join(x.tale[max(0, len(x.tale)-60):], "\n"))
	dir := os.Getenv(stormOut)
	if dir == "" || x.dbSite == nil {
		return
	}
	keep := func(name, from string) {
		text, err := os.ReadFile(from)
		if err == nil {
			err = os.WriteFile(filepath.Join(dir, fmt.Sprintf("%d-%s.log", x.seed, name)), text, 0o600)
		}
		if err != nil {
			x.t.Log(err)
		}
	}
	for _, b := range x.boxes {
		keep(b.name, b.logFile())
	}
	for host, db := range x.dbs {
		keep(host+"-server", db.Log)
	}
}
