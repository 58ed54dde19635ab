package badgerdb

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"hostmesh/hostdb"
)

// The batch of the benchmarks: about 1 KB in four puts, as an operation with its registers is.
func benchBatch(n int64) []hostdb.Put {
	body := strings.Repeat(fmt.Sprintf("%016x", n*2654435761), 48)
	return []hostdb.Put{
		{Key: fmt.Appendf(nil, "op/%016x", n), Value: []byte(body)},
		{Key: fmt.Appendf(nil, "reg/%06d/Network/IP", n%20000), Value: fmt.Appendf(nil, "%032d", n)},
		{Key: fmt.Appendf(nil, "reg/%06d/Status", n%20000), Value: fmt.Appendf(nil, "%032d", n)},
		{Key: []byte("vector"), Value: fmt.Appendf(nil, "%032d", n)},
	}
}

// BenchmarkCommit gives commits/s for one caller and for 64, and the ratio to bare fsyncs of a file beside it, which
// are measured in turn with them.
func BenchmarkCommit(b *testing.B) {
	for _, callers := range []int{1, 64} {
		b.Run(fmt.Sprintf("callers=%d", callers), func(b *testing.B) {
			dir := b.TempDir()
			db, err := Open(Config{Dir: filepath.Join(dir, "db")})
			if err != nil {
				b.Fatal(err)
			}
			defer db.Close()
			var commits, bare time.Duration
			bares := 0
			b.ResetTimer()
			for done := 0; done < b.N; { // in slices, so that both meet the same neighbours of the disk
				slice := min(max(b.N/10, 1), b.N-done)
				commits += commitFrom(b, db, callers, done, slice)
				done += slice
				b.StopTimer()
				bare += bareSyncs(b, dir, 50)
				bares += 50
				b.StartTimer()
			}
			b.StopTimer()
			rate, floor := float64(b.N)/commits.Seconds(), float64(bares)/bare.Seconds()
			s := db.Stats()
			b.ReportMetric(rate, "commits/s")
			b.ReportMetric(floor, "baresyncs/s")
			b.ReportMetric(rate/floor, "x-bare")
			b.ReportMetric(float64(s.Batches)/float64(s.Syncs), "commits/sync")
		})
	}
}

// commitFrom makes n commits, numbered from first, by so many callers.
func commitFrom(b *testing.B, db *DB, callers, first, n int) time.Duration {
	var next atomic.Int64
	var wg sync.WaitGroup
	start := time.Now()
	for range callers {
		wg.Go(func() {
			for i := next.Add(1); i <= int64(n); i = next.Add(1) {
				if err := db.Commit(benchBatch(int64(first) + i)); err != nil {
					b.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
	return time.Since(start)
}

// bareSyncs appends 1 KB to a file and syncs it, n times.
func bareSyncs(b *testing.B, dir string, n int) time.Duration {
	b.Helper()
	f, err := os.CreateTemp(dir, "bare")
	if err != nil {
		b.Fatal(err)
	}
	defer f.Close()
	buf := make([]byte, 1024)
	start := time.Now()
	for range n {
		if _, err := f.Write(buf); err != nil {
			b.Fatal(err)
		}
		if err := datasync(f); err != nil {
			b.Fatal(err)
		}
	}
	return time.Since(start)
}

// BenchmarkMemory runs a process that commits 20,000 batches of 1 KB from 64 callers, as the import of a site does,
// and gives its peak and its resting resident memory, and what the same process takes before it opens a database.
// It rests for 20 seconds.
func BenchmarkMemory(b *testing.B) {
	for range b.N {
		out, err := childCommand(b, "memory", b.TempDir()).Output()
		if err != nil {
			b.Fatal(err, exitText(err))
		}
		var before, peak, rest float64
		if _, err := fmt.Sscan(string(out), &before, &peak, &rest); err != nil {
			b.Fatalf("%v in %q", err, out)
		}
		b.ReportMetric(before, "MB-before")
		b.ReportMetric(peak, "MB-peak")
		b.ReportMetric(rest, "MB-rest")
	}
}

func exitText(err error) string {
	if e, ok := err.(*exec.ExitError); ok {
		return string(e.Stderr)
	}
	return ""
}

func memoryChild(dir string) error {
	debug.SetGCPercent(50) // as the agent does
	before := memory("VmRSS")
	db, err := Open(Config{Dir: dir})
	if err != nil {
		return err
	}
	var next atomic.Int64
	errs := make([]error, 64)
	var wg sync.WaitGroup
	for w := range errs {
		wg.Go(func() {
			for i := next.Add(1); i <= 20000 && errs[w] == nil; i = next.Add(1) {
				errs[w] = db.Commit(benchBatch(i))
			}
		})
	}
	wg.Wait()
	if err := errors.Join(errs...); err != nil {
		return err
	}
	peak := memory("VmHWM")
	time.Sleep(20 * time.Second) // Badger keeps the buffers of compactions for a while
	runtime.GC()
	debug.FreeOSMemory()
	fmt.Println(before, peak, memory("VmRSS"))
	return db.Close()
}

// memory reads a line of /proc/self/status, in MB.
func memory(field string) float64 {
	text, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return 0
	}
	_, rest, _ := strings.Cut(string(text), field+":")
	var kb float64
	if _, err := fmt.Sscan(rest, &kb); err != nil {
		return 0
	}
	return kb / 1000
}
