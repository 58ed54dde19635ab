package api

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// well is the status of a node that has nothing to complain of.
func well() Status {
	return Status{
		Time: start.Add(time.Hour),
		Node: NodeStatus{Name: "box1", Started: start, DataDir: "/d", DiskFree: 10 << 30, DiskFloor: 1 << 30},
		Mesh: MeshStatus{ID: "m", Members: 3, Alive: 3},
		HostDB: HostDBStatus{
			Version: "v", Peers: []ReplicaStatus{{Name: "box2", Missing: 3}},
		},
		Duties:    DutiesStatus{Group: &DutyGroup{ID: "0123456789abcdef0123456789abcdef", Generation: 1, Datacenter: "dc1", Home: true}, AnsweredMS: -1, ContactMS: -1},
		Daemons:   []DaemonStatus{{Name: "dnsd", LagMS: 40}},
		Listeners: []ListenerStatus{{Name: "http", Addr: "127.0.0.1:7950"}},
	}
}

func TestDiagnose(t *testing.T) {
	for _, c := range []struct {
		name   string
		change func(*Status)
		want   string // severity subject: a part of the text; empty = nothing is wrong
	}{
		{"all is well", func(*Status) {}, ""},
		{"a member that left in order", func(s *Status) { s.Mesh.Left = 1 }, ""},
		{"one member is down", func(s *Status) { s.Mesh.Failed = 1 }, "error mesh: 1 of 3 members does not answer"},
		{"two members are down", func(s *Status) { s.Mesh.Failed = 2 }, "error mesh: 2 of 3 members do not answer"},
		{"not heard of, just started", func(s *Status) { s.Mesh.Unknown, s.Time = 1, start }, ""},
		{"not heard of for long", func(s *Status) { s.Mesh.Unknown = 1 }, "error mesh: 1 of 3"},
		{"all at once", func(s *Status) { s.Mesh.Failed, s.Mesh.MassSuspicion = 2, true }, "error mesh: 2 of 3 members stopped answering at once"},
		{"no mesh", func(s *Status) { s.Mesh = MeshStatus{} }, "error mesh: this node has not joined"},
		{"a copied directory", func(s *Status) {
			s.Mesh.IDConflicts, s.Mesh.ConflictAddrs = 4, "10.0.0.1:7946 and 10.0.0.2:7946"
		}, "error mesh: two boxes have one node id, because a data directory was copied; the others see only one of them: 10.0.0.1:7946 and 10.0.0.2:7946"},
		{"slow itself", func(s *Status) { s.Mesh.Health = 5 }, "error mesh: this node itself is slow"},
		{"a little slow", func(s *Status) { s.Mesh.Health = 1 }, ""},
		{"wrong key", func(s *Status) { s.Mesh.RefusedKey = 2 }, "notice mesh: a peer with another mesh key was turned away 2 times"},
		{"reports are fresh", func(s *Status) { s.Mesh.Reports = ReportsStatus{Nodes: 3, LagMS: 6000} }, ""},
		{"reports are old", func(s *Status) { s.Mesh.Reports = ReportsStatus{Nodes: 3, LagMS: 90_000} },
			"notice reports: what members report may be old here: none could be compared with for 1m30s"},
		{"a broken report", func(s *Status) { s.Mesh.Reports = ReportsStatus{Nodes: 3, Refused: 1} }, "notice reports: a report was refused 1 time since the start"},
		{"no writes", func(s *Status) { s.HostDB.Failure = "storage is full" }, "error hostdb: writes are refused on this box: storage is full"},
		{"read-only mode", func(s *Status) { s.HostDB.ReadOnly = &ReadOnly{On: true, Reason: "the datacenter moves"} }, "notice hostdb: read-only mode: every node refuses writes and logins: the datacenter moves"},
		{"little space", func(s *Status) { s.Node.DiskFree = 3 << 29 }, "notice disk: 1.5 GiB free where /d is; below 1 GiB"},
		{"no space", func(s *Status) { s.Node.DiskFree = 1 << 20 }, "error disk: 1 MiB free"},
		{"space not known", func(s *Status) { s.Node.DiskFree = -1 }, ""},
		{"clock", func(s *Status) { s.HostDB.ClockLeadMS = 700 }, "notice clock: new writes are stamped 700ms ahead"},
		{"held aside", func(s *Status) {
			s.HostDB.Replication.Aside = []AsideStatus{{Node: "box3", AheadMS: 3_600_000, Until: time.Date(2026, 1, 31, 12, 0, 0, 0, time.UTC)}}
		}, "error clock: operations of box3 wait until 2026-01-31 12:00:00 UTC: its clock ran 1h0m0s ahead"},
		{"fork", func(s *Status) {
			s.HostDB.Replication.Forks = []ForkStatus{{Origin: "00000000000000aa", Node: "box3"}}
		}, "error hostdb: run 00000000000000aa of box3 has two chains"},
		{"first copy", func(s *Status) { s.HostDB.Replication.Join = &JoinStatus{Bytes: 3 << 20, Error: "gone"} },
			"notice hostdb: takes its first copy of HostDB: 3 MiB so far; the last piece did not come: gone"},
		{"history to come", func(s *Status) { s.HostDB.Replication.HistoryMissing = 17 }, "notice hostdb: still fetches history: 17 operations to go"},
		{"old history is kept", func(s *Status) { s.HostDB.Replication.Kept = "old history is kept because box3 may lack some of it" },
			"notice hostdb: old history is kept because box3"},
		{"own clock", func(s *Status) { s.HostDB.Replication.Clocks = ClocksStatus{Known: 5, AheadMS: -2300, Wrong: true} },
			"error clock: this box's clock is -2.3s off the median of 5: writes are refused here"},
		{"two clocks", func(s *Status) { s.HostDB.Replication.Clocks = ClocksStatus{Known: 2, AheadMS: 900, Differ: true} },
			"error clock: this box's clock and that of the only other one are over a second apart"},
		{"another's clock", func(s *Status) {
			s.HostDB.Replication.Clocks = ClocksStatus{Known: 5, Others: []PeerClock{{Name: "box3", OffMS: 3200, Wrong: true}}}
		}, "error clock: the clock of box3 is 3.2s off the median"},
		{"replicas that differed", func(s *Status) { s.HostDB.Replication.Verdict = "repaired" }, "notice hostdb: replicas differed: repaired"},
		{"newer operations", func(s *Status) { s.HostDB.Unfolded = 1 }, "notice hostdb: 1 operation of a newer version"},
		{"other state", func(s *Status) { s.HostDB.Peers[0].Differs = true }, "error box2: holds the same operations"},
		{"a daemon fails", func(s *Status) { s.Daemons[0].Failures, s.Daemons[0].Error = 3, "port in use" }, "error dnsd: failed 3 times in a row: port in use"},
		{"a daemon hangs", func(s *Status) { s.Daemons[0].Stuck = true }, "error dnsd: does not come to an end"},
		{"a daemon lags", func(s *Status) { s.Daemons[0].LagMS = 12_300 }, "error dnsd: is 12s behind HostDB"},
		{"a hypervisor that works", func(s *Status) { s.Hypervisor = &HypervisorStatus{URI: "qemu:///system", Driver: "QEMU"} }, ""},
		{"a hypervisor that does not", func(s *Status) { s.Hypervisor = &HypervisorStatus{URI: "qemu:///system", Error: "no socket"} }, "error hypervisor: no socket"},
		{"a listener", func(s *Status) { s.Listeners[0].Error = "address in use" }, "error http: not served on 127.0.0.1:7950: address in use"},
		{"no part in duties", func(s *Status) { s.Duties = DutiesStatus{Error: "raft directory is in use"} }, "error duties: this node takes no part in duties: raft directory is in use"},
		{"no group", func(s *Status) { s.Duties.Group = nil }, "notice duties: no lease group is known in this datacenter: no duty"},
		{"no group, and a duty to hold", func(s *Status) { s.Duties.Group, s.Duties.Offers = nil, 1 }, "error duties: no lease group is known in this datacenter"},
		{"no group, just started", func(s *Status) { s.Duties.Group, s.Time = nil, start.Add(time.Second) }, ""},
		{"a group that does not begin", func(s *Status) { s.Duties.Group, s.Duties.Pending = nil, true }, "error duties: the lease group that was to begin on this node"},
		{"a group of another datacenter", func(s *Status) { s.Duties.Elsewhere = true }, `error duties: this node is of datacenter "" and its lease group of datacenter "dc1"`},
		{"a voter that hears its leader", func(s *Status) { s.Duties.Votes, s.Duties.ContactMS = true, 100 }, ""},
		{"a voter without a leader", func(s *Status) { s.Duties.Votes, s.Duties.ContactMS = true, 61_000 }, "error duties: this voter hears no leader of the lease group for 1m1s: nothing new is granted"},
		{"a voter that never heard one", func(s *Status) { s.Duties.Votes, s.Duties.ContactMS = true, 9e12 }, "error duties: this voter hears no leader of the lease group for 1h0m0s"},
		{"the leader itself", func(s *Status) { s.Duties.Votes, s.Duties.Leads, s.Duties.ContactMS = true, true, 0 }, ""},
		{"an election", func(s *Status) { s.Duties.LastError, s.Duties.AnsweredMS = "no leader", 1200 }, ""},
		{"no leader", func(s *Status) { s.Duties.LastError, s.Duties.AnsweredMS = "no leader", 12_000 }, "error duties: no leader of the lease group answers for 12s: nothing new is granted, and what this node held it has stopped (no leader)"},
		{"a sick disk", func(s *Status) { s.Duties.Sick = "no space left on device" }, "error duties: this node cannot vote: no space left on device"},
		{"discarded state", func(s *Status) { s.Duties.Alarm = "what raft had written here was discarded: it is a copy" }, "notice duties: what raft had written here was discarded: it is a copy"},
		{"a newer build's log", func(s *Status) { s.Duties.Alarm = "entry 7 of the log: written by a newer build of hostmesh" }, "error duties: entry 7"},
		{"raft that does not start", func(s *Status) { s.Duties.Alarm = "raft does not start: no" }, "error duties: raft does not start"},
		{"owned twice", func(s *Status) { s.Duties.OwnedTwice = "block 7: box3" }, "notice duties: two lease groups, or generations of one, granted the same: block 7"},
		{"owing", func(s *Status) { s.Duties.Owing = true }, "notice duties: the lease group has not heard yet what this node owns"},
		{"observe", func(s *Status) { s.Node.Observe = true }, "notice agent: only shows"},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := well()
			c.change(&s)
			got := Diagnose(s)
			if c.want == "" {
				if len(got) != 0 {
					t.Errorf("got %v, want nothing", got)
				}
				return
			}
			if len(got) != 1 || !strings.HasPrefix(got[0].Severity+" "+got[0].Subject+": "+got[0].Text, c.want) {
				t.Errorf("got %v, want %q", got, c.want)
			}
		})
	}
}

func TestProblemsAreSorted(t *testing.T) {
	got := sortProblems([]Problem{{Severity: SeverityNotice, Subject: "a"}, {Severity: SeverityError, Subject: "b"}, {Severity: SeverityError, Subject: "a"}})
	want := []Problem{{Severity: SeverityError, Subject: "b"}, {Severity: SeverityError, Subject: "a"}, {Severity: SeverityNotice, Subject: "a"}}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestSize(t *testing.T) {
	for n, want := range map[int64]string{0: "0 B", 1023: "1023 B", 1024: "1 KiB", 1000 << 10: "0.977 MiB", 5 << 30: "5 GiB", 1 << 62: "4 EiB"} {
		if got := size(n); got != want {
			t.Errorf("size(%d) = %q, want %q", n, got, want)
		}
	}
}
