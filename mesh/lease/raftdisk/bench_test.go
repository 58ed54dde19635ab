package raftdisk

import (
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/hashicorp/raft"
)

// BenchmarkStoreLogs stores one entry of 200 bytes at a time, in turns with a bare write and fdatasync of as many bytes into a file
// of as many blocks. It reports the medians of both.
func BenchmarkStoreLogs(b *testing.B) {
	dir := b.TempDir()
	d, err := Open(Config{Path: filepath.Join(dir, "raft"), Node: "n1"})
	if err != nil {
		b.Fatal(err)
	}
	defer d.Close()
	bare, err := osFS{}.Create(filepath.Join(dir, "bare"))
	if err != nil {
		b.Fatal(err)
	}
	defer bare.Close()
	if err := zeroFill(bare, 1<<20); err != nil {
		b.Fatal(err)
	}
	entry := record{kindEntry, raft.Log{Index: 1, Data: make([]byte, 200)}}
	raw := make([]byte, entry.size())
	var ours, theirs []time.Duration
	b.ReportAllocs()
	for n := uint64(1); b.Loop(); n++ {
		start := time.Now()
		if err := d.Logs().StoreLog(&raft.Log{Index: n, Term: 1, Data: entry.Log.Data}); err != nil {
			b.Fatal(err)
		}
		mid := time.Now()
		if _, err := bare.WriteAt(raw, int64(n)*int64(len(raw))%(1<<20-4096)); err != nil {
			b.Fatal(err)
		}
		if err := bare.Sync(); err != nil {
			b.Fatal(err)
		}
		ours, theirs = append(ours, mid.Sub(start)), append(theirs, time.Since(mid))
	}
	slices.Sort(ours)
	slices.Sort(theirs)
	b.ReportMetric(float64(ours[len(ours)/2].Microseconds()), "µs-p50")
	b.ReportMetric(float64(theirs[len(theirs)/2].Microseconds()), "µs-bare-p50")
	b.ReportMetric(float64(ours[len(ours)*99/100].Microseconds()), "µs-p99")
}

// BenchmarkVote is raft's vote: three values.
func BenchmarkVote(b *testing.B) {
	d, err := Open(Config{Path: filepath.Join(b.TempDir(), "raft"), Node: "n1"})
	if err != nil {
		b.Fatal(err)
	}
	defer d.Close()
	for n := uint64(1); b.Loop(); n++ {
		if err := d.Stable().SetUint64([]byte("CurrentTerm"), n); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkOpen opens a directory with ten thousand entries.
func BenchmarkOpen(b *testing.B) {
	dir := b.TempDir()
	d, err := Open(Config{Path: dir, Node: "n1"})
	if err != nil {
		b.Fatal(err)
	}
	for n := range uint64(100) {
		if err := d.Logs().StoreLogs(entries(1, 100*n+1, 100*n+100)); err != nil {
			b.Fatal(err)
		}
	}
	if err := d.Close(); err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		d, err := Open(Config{Path: dir, Node: "n1"})
		if err != nil {
			b.Fatal(err)
		}
		if err := d.Close(); err != nil {
			b.Fatal(err)
		}
	}
}
