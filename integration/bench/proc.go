package main

import (
	"encoding/binary"
	"fmt"
	"net"
	"os"
	"strconv"
	"strings"
	"time"
)

// userHZ is the unit of times in /proc (proc_pid_stat(5)); it is 100 on every Linux that Go runs on but Alpha's.
const userHZ = 100

// cpuTime is what a process has computed, in user and kernel mode, to a hundredth of a second.
func cpuTime(pid int) (time.Duration, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, err
	}
	// The name of the command stands in parentheses and may hold anything; utime and stime are fields 14 and 15.
	_, rest, found := strings.Cut(string(text), ") ")
	fields := strings.Fields(rest)
	if !found || len(fields) < 13 {
		return 0, fmt.Errorf("/proc/%d/stat: %q", pid, text)
	}
	var ticks int64
	for _, f := range fields[11:13] {
		n, err := strconv.ParseInt(f, 10, 64)
		if err != nil {
			return 0, fmt.Errorf("/proc/%d/stat: %w", pid, err)
		}
		ticks += n
	}
	return time.Duration(ticks) * time.Second / userHZ, nil
}

// procField is a line of a file of /proc that counts kB, in bytes.
func procField(path, name string) (int64, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(text)) {
		if rest, ok := strings.CutPrefix(line, name+":"); ok {
			kb, err := strconv.ParseInt(strings.Fields(rest)[0], 10, 64)
			return kb << 10, err
		}
	}
	return 0, fmt.Errorf("%s has no %s", path, name)
}

func memory(pid int, name string) (int64, error) {
	return procField(fmt.Sprintf("/proc/%d/status", pid), name)
}

// residents are the bytes of a process in memory by what they belong to (proc_pid_smaps(5)).
type residents struct{ anonymous, binary, libraries, files int64 }

func resident(pid int) (r residents, err error) {
	path := fmt.Sprintf("/proc/%d", pid)
	binary, err := os.Readlink(path + "/exe")
	if err != nil {
		return r, err
	}
	text, err := os.ReadFile(path + "/smaps")
	if err != nil {
		return r, err
	}
	into := &r.anonymous
	for line := range strings.Lines(string(text)) {
		name, rest, _ := strings.Cut(line, " ")
		switch {
		case name == "Rss:":
			kb, err := strconv.ParseInt(strings.Fields(rest)[0], 10, 64)
			if err != nil {
				return r, fmt.Errorf("%s/smaps: %w", path, err)
			}
			*into += kb << 10
		case strings.HasSuffix(name, ":"): // another figure of the mapping
		default: // the head of the next one
			_, file, mapped := strings.Cut(rest, "/")
			switch file = "/" + strings.TrimSpace(file); {
			case !mapped:
				into = &r.anonymous
			case file == binary:
				into = &r.binary
			case strings.Contains(file, ".so"):
				into = &r.libraries
			default:
				into = &r.files
			}
		}
	}
	return r, nil
}

// udpDrops is how many datagrams found the buffer of an IPv4 socket full, for all sockets that are bound to the address.
func udpDrops(addr net.Addr) (int, error) {
	at := addr.(*net.UDPAddr).AddrPort()
	ip := at.Addr().Unmap().As4()
	// The kernel prints the address as the integer it is in memory.
	local := fmt.Sprintf("%08X:%04X", binary.NativeEndian.Uint32(ip[:]), at.Port())
	text, err := os.ReadFile("/proc/net/udp")
	if err != nil {
		return 0, err
	}
	drops := 0
	for line := range strings.Lines(string(text)) {
		fields := strings.Fields(line)
		if len(fields) < 13 || fields[1] != local {
			continue
		}
		n, err := strconv.Atoi(fields[12])
		if err != nil {
			return 0, fmt.Errorf("/proc/net/udp: %w", err)
		}
		drops += n
	}
	return drops, nil
}

func mib(bytes int64) string { return fmt.Sprintf("%.0f MiB", float64(bytes)/(1<<20)) }
