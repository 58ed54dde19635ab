package haproxy

import (
	"errors"
	"fmt"
	"net/netip"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"hostmesh/hostdb/section"
	"hostmesh/lbd/plan"
)

// ErrRefused is wrapped by what says that a service cannot be run as it is.
var ErrRefused = errors.New("haproxy refuses")

// Settings are what a file is made of beside services. The zero value of a text leaves its line out.
type Settings struct {
	Socket      string // of commands
	User, Group string // it goes on as
	Root        string // the directory it is confined to
	TLSDir      string // where NAME.pem are
	// Prints change with the certificates of that name, so that a renewed one makes another file.
	Prints   map[string]string
	Timeouts Timeouts
	// Files bounds its file descriptors; two of them are a connection.
	Files int
}

// Timeouts are how long HAProxy waits.
type Timeouts struct {
	Connect, Queue, Request, KeepAlive, HTTP, TCP, Tunnel time.Duration
}

// DefaultTimeouts are those of every service.
func DefaultTimeouts() Timeouts {
	return Timeouts{
		Connect:   2 * time.Second,  // a backend in the same network answers in milliseconds; after this another one is tried
		Queue:     5 * time.Second,  // a client that waits longer for a connection has mostly gone
		Request:   10 * time.Second, // for the whole head of a request: who sends it byte by byte holds a place
		KeepAlive: 15 * time.Second, // between requests: long enough for the next click
		HTTP:      60 * time.Second, // silence within a request or an answer, as common web servers have it
		TCP:       time.Hour,        // silence of a connection: databases and shells idle; a peer that is gone is found by keep-alive probes
		Tunnel:    time.Hour,        // the same after an upgrade, as to a WebSocket
	}
}

// DefaultFiles bounds file descriptors where the system sets a higher bound: 100,000 connections, some 3 GiB at the very most.
const DefaultFiles = 200_000

// carried are the services that HAProxy carries.
func carried(services []*plan.Service) []*plan.Service {
	var out []*plan.Service
	for _, s := range services {
		if s.Mode == section.Conn || s.Mode == section.HTTP {
			out = append(out, s)
		}
	}
	slices.SortFunc(out, func(a, b *plan.Service) int { return strings.Compare(a.Tag, b.Tag) })
	return out
}

// Render is the whole file. Services of mode nat are left out. The error wraps ErrRefused, and names the tag.
func Render(set Settings, services []*plan.Service) (string, error) {
	services = carried(services)
	var b strings.Builder
	b.WriteString("# Written by hostmesh out of HostDB, anew with each change: what is edited here is lost.\n\nglobal\n")
	line := func(format string, args ...any) { fmt.Fprintf(&b, "    "+format+"\n", args...) }
	if set.Files > 0 {
		line("fd-hard-limit %d", set.Files)
	}
	line("no strict-limits")
	if set.Socket != "" {
		line("stats socket %s mode 600 level admin expose-fd listeners", quote(set.Socket))
	}
	stop := time.Second
	for _, s := range services {
		stop = max(stop, s.Drain)
	}
	line("hard-stop-after %s", span(stop))
	for _, x := range []struct{ word, value string }{{"chroot", set.Root}, {"user", set.User}, {"group", set.Group}} {
		if x.value != "" {
			line("%s %s", x.word, quote(x.value))
		}
	}
	if slices.ContainsFunc(services, func(s *plan.Service) bool { return s.TLS != "" }) {
		line("ssl-default-bind-options ssl-min-ver TLSv1.2")
	}
	t := set.Timeouts
	for _, mode := range []string{"tcp", "http"} {
		silence := t.TCP
		fmt.Fprintf(&b, "\ndefaults %s\n", mode)
		line("mode %s", mode)
		line("retries 3")
		line("option redispatch 1")
		if mode == "http" {
			silence = t.HTTP
			line("option forwardfor")
			line("timeout http-request %s", span(t.Request))
			line("timeout http-keep-alive %s", span(t.KeepAlive))
		} else {
			line("option clitcpka")
			line("option srvtcpka")
		}
		line("timeout connect %s", span(t.Connect))
		line("timeout queue %s", span(t.Queue))
		line("timeout client %s", span(silence))
		line("timeout server %s", span(silence))
		line("timeout tunnel %s", span(t.Tunnel))
	}
	for _, s := range services {
		if err := renderService(&b, set, s); err != nil {
			return "", err
		}
	}
	return b.String(), nil
}

func renderService(b *strings.Builder, set Settings, s *plan.Service) error {
	refuse := func(format string, args ...any) error {
		return fmt.Errorf("%w tags/%s: %s", ErrRefused, s.Tag, fmt.Sprintf(format, args...))
	}
	line := func(format string, args ...any) { fmt.Fprintf(b, "    "+format+"\n", args...) }
	if !s.VIP.IsValid() {
		return refuse("it has no VIP")
	}
	bind := ""
	if s.TLS != "" {
		if !plainName(s.TLS) {
			return refuse("LB/TLS %q is no plain name", s.TLS)
		}
		bind = " ssl crt " + quote(filepath.Join(set.TLSDir, s.TLS+".pem"))
		if s.Mode == section.HTTP {
			bind += " alpn h2,http/1.1"
		}
	}
	addrs := make([]netip.Addr, 0, len(s.Backends))
	for i := range s.Backends {
		addrs = append(addrs, s.Backends[i].Addr)
	}
	ids := serverIDs(addrs)
	for _, f := range s.Ports {
		if f.Proto != section.TCP {
			return refuse("port %d/%s: only mode nat carries it", f.Port, f.Proto)
		}
		id := proxyID(s.Tag, f.Port)
		fmt.Fprintf(b, "\n# tags/%s, of HostDB %s\n", strconv.QuoteToASCII(s.Tag), strconv.QuoteToASCII(s.Version))
		fmt.Fprintf(b, "frontend f.%s from %s\n", id, s.Mode)
		if s.TLS != "" {
			line("# certificate %s", strconv.QuoteToASCII(set.Prints[s.TLS]))
		}
		line("bind %s transparent%s", netip.AddrPortFrom(s.VIP, f.Port), bind)
		if s.Mode == section.HTTP {
			line("http-request set-header X-Forwarded-Proto %s", map[bool]string{true: "https", false: "http"}[s.TLS != ""])
		}
		line("default_backend b.%s", id)
		fmt.Fprintf(b, "\nbackend b.%s from %s\n", id, s.Mode)
		for _, word := range balanceLines(s.Balance) {
			line("%s", word)
		}
		for i := range s.Backends {
			x := &s.Backends[i]
			if !x.Addr.IsValid() || x.Addr.Zone() != "" {
				return refuse("the backend %q has no address that can be used", x.Host)
			}
			state := ""
			if x.State != plan.In {
				state = " disabled" // a new process has no connections that could drain
			}
			line("%s%s", serverWords(x.Addr, f.To, ids[x.Addr]), state)
		}
	}
	return nil
}

func balanceLines(b section.Balance) []string {
	if b == section.BySource {
		return []string{"balance source", "hash-type consistent"}
	}
	return []string{"balance roundrobin"}
}

// serverWords is a server, as the file and the command that adds one have it after the backend.
func serverWords(addr netip.Addr, port uint16, id uint32) string {
	return fmt.Sprintf("server %s %s id %d", addr, netip.AddrPortFrom(addr, port), id)
}

// plainName reports whether a text can be part of a path: what section LB allows, checked again where it matters.
func plainName(s string) bool {
	if s == "" || len(s) > 128 || s[0] == '.' || s[0] == '-' {
		return false
	}
	return !strings.ContainsFunc(s, func(r rune) bool {
		return !(r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || r == '.' || r == '-' || r == '_')
	})
}

// span is a time as HAProxy reads it.
func span(d time.Duration) string { return strconv.FormatInt(max(1, d.Milliseconds()), 10) + "ms" }

// shape is all of a file but its servers and versions: with the same shape, what differs can be changed while it runs. The port of servers that are
// there cannot.
func shape(set Settings, services []*plan.Service) (string, error) {
	set.Socket = ""
	bare := carried(services)
	var ports strings.Builder
	for i, s := range bare {
		c := *s
		c.Backends, c.Version = nil, ""
		bare[i] = &c
		for _, f := range s.Ports {
			fmt.Fprintf(&ports, "# %s to %d\n", proxyID(s.Tag, f.Port), f.To)
		}
	}
	text, err := Render(set, bare)
	return text + ports.String(), err
}
