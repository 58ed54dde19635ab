package mesh

import (
	"bytes"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/hashicorp/serf/serf"
)

// FuzzPeerList reads arbitrary bytes as the file of a directory: it never fails, keeps aside what it does not understand, and
// what it took reads the same again.
func FuzzPeerList(f *testing.F) {
	f.Add([]byte(`{"version": 1, "mesh": "00000000000000000000000000000001", "peers": [{"id": "00000000000000000000000000000002", "name": "a", "addr": "10.0.0.1", "gossip_port": 7946, "stream_port": 7947, "protocol": 1}], "removed": {"00000000000000000000000000000003": "2026-01-01T00:00:00Z"}}`))
	f.Add([]byte(`{"version": 2, "peers": [{"id": "00000000000000000000000000000002", "addr": "fe80::1%eth0"}, {}]}`))
	f.Add([]byte("{"))
	f.Fuzz(func(t *testing.T, b []byte) {
		dir := t.TempDir()
		path := filepath.Join(dir, peerListFile)
		if err := os.WriteFile(path, b, 0o600); err != nil {
			t.Fatal(err)
		}
		log := slog.New(slog.DiscardHandler)
		l, err := loadPeerList(dir, log)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := os.Stat(path); err != nil {
			if kept, err := os.ReadFile(path + ".bad"); err != nil || !bytes.Equal(kept, b) {
				t.Fatalf("what is not understood is not kept: %v", err)
			}
			return
		}
		for _, p := range l.all() {
			if !validID(p.ID) || !p.Addr.IsValid() {
				t.Fatalf("%+v", p)
			}
		}
		l.remove("ffffffffffffffffffffffffffffffff", time.Unix(0, 0))
		if err := l.save(); err != nil {
			// A time of removal that was read may be one that JSON cannot hold; nothing else may fail.
			t.Fatal(err)
		}
		again, err := loadPeerList(dir, log)
		if err != nil || again.mesh != l.mesh || len(again.all()) != len(l.all()) || !again.isRemoved("ffffffffffffffffffffffffffffffff") {
			t.Fatalf("%+v became %+v, %v", l, again, err)
		}
	})
}

// FuzzTags reads arbitrary member metadata, as a member of another build or with ill will sends it.
func FuzzTags(f *testing.F) {
	f.Add("00000000000000000000000000000001", "box1", "1", "7947", "dc1", "r1", []byte{10, 0, 0, 1}, "x")
	f.Add("", "\xff\x00", "-1", "65536", "", "", []byte{1}, "")
	f.Fuzz(func(t *testing.T, mesh, name, protocol, stream, dc, rack string, addr []byte, id string) {
		s := serf.Member{Name: id, Addr: net.IP(addr), Port: 7946, Tags: map[string]string{
			tagMesh: mesh, tagName: name, tagProtocol: protocol, tagStream: stream, tagDatacenter: dc, tagRack: rack,
		}}
		x := memberOf(s)
		if x.ID != id || x.Name != name || x.Datacenter != dc || x.Rack != rack {
			t.Fatalf("%+v", x)
		}
		m := &Mesh{refuse: newRefusals(slog.New(slog.DiscardHandler), time.Now), peers: &peerList{}}
		m.cfg.MeshID, m.cfg.NodeID = "00000000000000000000000000000001", "000000000000000000000000000000ff"
		err := (*gate)(m).NotifyMerge([]*serf.Member{&s})
		if err == nil && (mesh != m.cfg.MeshID || x.Protocol < ProtocolMin || !validID(id)) && id != m.cfg.NodeID {
			t.Fatalf("%+v is let in", s)
		}
	})
}

// FuzzGossipLine reads lines of memberlist that hold what strangers sent.
func FuzzGossipLine(f *testing.F) {
	f.Add(`[ERR] memberlist: discarding packet with unacceptable label "x": from=10.0.0.9:7946`)
	f.Add(`[ERR] memberlist: failed to receive: No installed keys could decrypt the message from=10.0.0.9:40001`)
	f.Add(`[ERR] memberlist: Conflicting address for a. Mine: 10.0.0.1:7946 Theirs: 10.0.0.2:7946 Old state: 0`)
	f.Add("[WARN] from=\xff from=[::1%x]:1\n")
	f.Fuzz(func(t *testing.T, line string) {
		var out bytes.Buffer
		log := slog.New(slog.NewTextHandler(&out, &slog.HandlerOptions{Level: slog.LevelDebug}))
		r, c := newRefusals(log, time.Now), newConflicts(log, time.Now)
		g := newGossipLogger(log, r, c, time.Now)
		for range 3 {
			if _, err := io.WriteString(g.Writer(), line); err != nil {
				t.Fatal(err)
			}
		}
		if n := bytes.Count(out.Bytes(), []byte("\n")); n > 3 || !utf8.Valid(out.Bytes()) {
			t.Fatalf("%d lines of one: %q", n, out.String())
		}
		if addr, _, ok := gossipRefusal(line); ok && addr == (netip.AddrPort{}) {
			t.Fatal("refused without an address")
		}
	})
}
