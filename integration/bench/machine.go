package main

import (
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// machine tells where the figures come from, and how fast the disk below dir takes a small write.
func machine(dir string) (string, error) {
	syncs, err := diskSyncs(dir, 100)
	if err != nil {
		return "", err
	}
	mem, err := procField("/proc/meminfo", "MemTotal")
	if err != nil {
		return "", err
	}
	kernel, err := os.ReadFile("/proc/sys/kernel/osrelease")
	if err != nil {
		return "", err
	}
	load, err := os.ReadFile("/proc/loadavg")
	if err != nil {
		return "", err
	}
	return fmt.Sprintf("%d cores, %.1f GiB RAM, Linux %s, %s %s/%s, load at start %s\ndisk of %s: append of 1 KiB with fdatasync p50 %s, p99 %s",
		runtime.NumCPU(), float64(mem)/(1<<30), strings.TrimSpace(string(kernel)), runtime.Version(), runtime.GOOS, runtime.GOARCH, strings.Fields(string(load))[0],
		filepath.Dir(dir), ms(median(syncs)), ms(quantile(syncs, 0.99))), nil
}

// diskSyncs appends and syncs n times.
func diskSyncs(dir string, n int) ([]time.Duration, error) {
	f, err := os.CreateTemp(dir, "sync")
	if err != nil {
		return nil, err
	}
	defer os.Remove(f.Name())
	defer f.Close()
	buf := make([]byte, 1024)
	var out []time.Duration
	for range n {
		begin := time.Now()
		if _, err := f.Write(buf); err != nil {
			return nil, err
		}
		if err := unix.Fdatasync(int(f.Fd())); err != nil {
			return nil, fmt.Errorf("sync %s: %w", f.Name(), err)
		}
		out = append(out, time.Since(begin))
	}
	return out, nil
}
