package haproxy

import (
	"bufio"
	"context"
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"strconv"
	"strings"
	"time"
)

// maxAnswer bounds what a command answers: some ten thousand servers.
const maxAnswer = 16 << 20

// commandTime bounds a command where the caller's context does not.
const commandTime = 5 * time.Second

// ErrCommand is wrapped by what HAProxy says to a command that it does not follow.
var ErrCommand = errors.New("haproxy did not follow a command")

// ask sends a command to a runtime socket, and returns the answer. Each has a connection of its own: the answer ends with it.
func ask(ctx context.Context, socket, command string) (string, error) {
	if strings.ContainsAny(command, "\n;<\\") {
		return "", fmt.Errorf("%w: %q would be two", ErrCommand, command)
	}
	ctx, cancel := context.WithTimeout(ctx, commandTime)
	defer cancel()
	conn, err := (&net.Dialer{}).DialContext(ctx, "unix", socket)
	if err != nil {
		return "", fmt.Errorf("haproxy's socket: %w", err)
	}
	defer conn.Close()
	deadline, _ := ctx.Deadline()
	conn.SetDeadline(deadline)
	stop := context.AfterFunc(ctx, func() { conn.Close() })
	defer stop()
	if _, err := io.WriteString(conn, command+"\n"); err != nil {
		return "", fmt.Errorf("haproxy's socket: %w", err)
	}
	answer, err := io.ReadAll(io.LimitReader(conn, maxAnswer))
	if err != nil {
		return "", fmt.Errorf("haproxy's socket: %w", err)
	}
	return strings.TrimRight(string(answer), "\n"), nil
}

// follow sends a command that answers nothing, or one of these texts, where it is followed.
func follow(ctx context.Context, socket, command string, good ...string) error {
	answer, err := ask(ctx, socket, command)
	if err != nil {
		return err
	}
	answer = strings.TrimSpace(answer)
	if answer == "" {
		return nil
	}
	for _, g := range good {
		if strings.Contains(answer, g) {
			return nil
		}
	}
	return fmt.Errorf("%w: %s: %s", ErrCommand, command, short(answer))
}

// pidOf is the process that answers at a socket.
func pidOf(ctx context.Context, socket string) (int, error) {
	answer, err := ask(ctx, socket, "show info")
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(answer) {
		if rest, ok := strings.CutPrefix(line, "Pid:"); ok {
			return strconv.Atoi(strings.TrimSpace(rest))
		}
	}
	return 0, fmt.Errorf("%w: show info names no Pid", ErrCommand)
}

// mode is the state of a server in HAProxy.
type mode string

const (
	ready mode = "ready"
	drain mode = "drain"
	maint mode = "maint"
)

// server is one as HAProxy has it.
type server struct {
	backend string
	addr    netip.Addr
	mode    mode
}

// servers are all of a process.
func servers(ctx context.Context, socket string) ([]server, error) {
	answer, err := ask(ctx, socket, "show servers state")
	if err != nil {
		return nil, err
	}
	return readServers(answer)
}

// The bits of srv_admin_state that matter: forced, inherited, resolution and name; then forced and inherited drain.
const (
	maintBits = 0x01 | 0x02 | 0x20 | 0x40
	drainBits = 0x08 | 0x10
)

func readServers(answer string) ([]server, error) {
	var out []server
	columns := map[string]int{}
	scan := bufio.NewScanner(strings.NewReader(answer))
	scan.Buffer(nil, 64<<10)
	for scan.Scan() {
		words := strings.Fields(strings.TrimPrefix(scan.Text(), "# "))
		if len(words) < 2 {
			continue // the version of the format, or the end
		}
		if strings.HasPrefix(scan.Text(), "#") {
			for i, w := range words {
				columns[w] = i
			}
			continue
		}
		field := func(name string) string {
			if i, ok := columns[name]; ok && i < len(words) {
				return words[i]
			}
			return ""
		}
		admin, err := strconv.ParseUint(field("srv_admin_state"), 10, 32)
		if err != nil {
			return nil, fmt.Errorf("%w: show servers state: %q", ErrCommand, short(scan.Text()))
		}
		addr, err := netip.ParseAddr(field("srv_name"))
		if err != nil {
			continue // not ours: nothing else is in the file
		}
		s := server{backend: field("be_name"), addr: addr, mode: ready}
		switch {
		case admin&maintBits != 0:
			s.mode = maint
		case admin&drainBits != 0:
			s.mode = drain
		}
		out = append(out, s)
	}
	return out, scan.Err()
}

// Stat is what HAProxy counts of one frontend, or of one server behind one.
type Stat struct {
	Tag  string     `json:"tag"`
	Port uint16     `json:"port"`
	Host string     `json:"host,omitempty"` // "" = all of the port
	Addr netip.Addr `json:"addr,omitzero"`
	// Connections are open now, Total since the process began.
	Connections, Total uint64
	// In and Out are bytes from and to clients.
	In, Out uint64
	// ConnectErrors are connections to the server that failed, Errors answers of 500 and above.
	ConnectErrors, Errors uint64
	Status                string `json:"status"` // in HAProxy's words
}

// readStats reads show stat.
func readStats(answer string) ([]statRow, error) {
	answer = strings.TrimPrefix(answer, "# ")
	r := csv.NewReader(strings.NewReader(answer))
	r.FieldsPerRecord = -1
	r.LazyQuotes = true
	head, err := r.Read()
	if err != nil {
		return nil, fmt.Errorf("%w: show stat: %w", ErrCommand, err)
	}
	column := map[string]int{}
	for i, name := range head {
		column[name] = i
	}
	var out []statRow
	for {
		row, err := r.Read()
		if errors.Is(err, io.EOF) {
			return out, nil
		}
		if err != nil {
			return nil, fmt.Errorf("%w: show stat: %w", ErrCommand, err)
		}
		text := func(name string) string {
			if i, ok := column[name]; ok && i < len(row) {
				return row[i]
			}
			return ""
		}
		number := func(name string) uint64 {
			n, err := strconv.ParseUint(text(name), 10, 64)
			if err != nil {
				return 0 // what does not apply is empty
			}
			return n
		}
		out = append(out, statRow{
			proxy: text("pxname"), server: text("svname"),
			Stat: Stat{
				Connections: number("scur"), Total: number("stot"), In: number("bin"), Out: number("bout"),
				ConnectErrors: number("econ"), Errors: number("hrsp_5xx"), Status: text("status"),
			},
		})
	}
}

type statRow struct {
	proxy, server string
	Stat
}

// short is a text for a message, on one line.
func short(s string) string {
	s = strings.Join(strings.Fields(s), " ")
	if len(s) > 400 {
		s = s[:400] + "..."
	}
	return s
}
