package mysqlha

import (
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"
)

// The severities of a Setting.
const (
	SettingError   = "error"   // transactions can be lost, or a failover does not work
	SettingWarning = "warning" // slower, or harder to find out
)

// rule is what one variable must be.
type settingRule struct {
	name     string
	mysql    string // its name in MySQL 8; "" = the same, "-" = there is none
	want     string // for people and for SET
	ok       func(have string) bool
	why      string
	severity string
	restart  bool
	on       Duty // where it holds; 0 = everywhere
	missing  bool // that the server does not have it is no fault
}

// Duty is as what a server is checked, which may be both: a replica that acknowledges is to be the primary one day.
type Duty int

// Where a setting holds.
const (
	OnPrimary Duty = 1 << iota
	OnReplica
)

// effectivelyForEver is for rpl_semi_sync_master_timeout, in milliseconds: the largest that MariaDB takes is 2^64-1, and half of it is enough.
const effectivelyForEver = 10 * 365 * 24 * 3600 * 1000

func is(values ...string) func(string) bool {
	return func(have string) bool {
		return slices.ContainsFunc(values, func(v string) bool { return strings.EqualFold(v, have) })
	}
}

var isOn, isOff = is("ON", "1", "YES", "TRUE"), is("OFF", "0", "NO", "FALSE")

func atLeast(n float64) func(string) bool {
	return func(have string) bool { x, err := strconv.ParseFloat(have, 64); return err == nil && x >= n }
}

func between(low, high float64) func(string) bool {
	return func(have string) bool {
		x, err := strconv.ParseFloat(have, 64)
		return err == nil && x >= low && x <= high
	}
}

// settingRules are the steady state. What is set at run time by the agents themselves (read_only, semi-sync by role) is checked by role.
func settingRules(flavour string, strict bool) []settingRule {
	forEver := settingRule{
		name: "rpl_semi_sync_master_timeout", mysql: "rpl_semi_sync_source_timeout", want: strconv.Itoa(effectivelyForEver), ok: atLeast(effectivelyForEver), severity: SettingError,
		why: "after this time the primary goes on without acknowledgement: what is written then stands in one place only",
	}
	if !strict {
		forEver.want, forEver.ok, forEver.severity = "10000", between(1000, 60_000), SettingWarning
		forEver.why = "in durability available writes wait this long for an acknowledgement before they go on without; under 1 s a replica that is slow for a moment ends them"
	}
	list := []settingRule{
		{name: "log_bin", want: "ON", ok: isOn, restart: true, severity: SettingError, why: "without a binary log nobody can follow this server, and it can never be the primary"},
		{name: "server_id", want: "a number of its own, not 0", ok: func(h string) bool { return h != "" && h != "0" }, restart: true, severity: SettingError, why: "two servers with one number take each other's transactions for their own"},
		{name: "binlog_format", want: "ROW", ok: is("ROW"), severity: SettingError, why: "statements may have other effects on a replica than on the primary"},
		{name: "log_slave_updates", mysql: "log_replica_updates", want: "ON", ok: isOn, restart: true, severity: SettingError, why: "what a replica applied would not be in its own log: nobody could follow it once it is the primary"},
		{name: "sync_binlog", want: "1", ok: is("1"), severity: SettingError, why: "a primary that loses power could forget transactions that replicas have"},
		{name: "innodb_flush_log_at_trx_commit", want: "1", ok: is("1"), severity: SettingError, why: "a server that loses power could forget transactions that clients were told of"},
		{name: "rpl_semi_sync_master_wait_point", mysql: "rpl_semi_sync_source_wait_point", want: "AFTER_SYNC", ok: is("AFTER_SYNC"), severity: SettingError, why: "with AFTER_COMMIT other clients see what a failover may take back"},
		forEver,
		{name: "rpl_semi_sync_master_wait_no_slave", mysql: "rpl_semi_sync_source_wait_no_replica", want: "ON", ok: isOn, severity: SettingError, why: "when the last replica goes, the primary would go on without acknowledgement at once"},
		{name: "slave_net_timeout", mysql: "replica_net_timeout", want: "60", ok: between(1, 3600), severity: SettingWarning, why: "a replica whose source is silent notices after this many seconds"},
		{name: "rpl_semi_sync_slave_kill_conn_timeout", mysql: "-", want: "1", ok: between(0, 5), severity: SettingWarning, missing: true, why: "stopping a replica's thread waits up to this many seconds for a source that is silent"},
		{name: "sync_relay_log", want: "10000", ok: func(h string) bool { return !is("1")(h) }, severity: SettingWarning, why: "with 1 a replica that is behind notices the death of its source late"},
		{name: "max_connections", want: "100", ok: atLeast(20), severity: SettingWarning, why: "the agents need some connections of their own beside those of clients"},
		{name: "skip_name_resolve", want: "ON", ok: isOn, restart: true, severity: SettingWarning, why: "a connection waits for DNS, and when that is away new clients and the agents wait with it"},
	}
	if flavour == MariaDB {
		list = append(list,
			settingRule{name: "gtid_strict_mode", want: "ON", ok: isOn, severity: SettingError, why: "without it a server takes transactions out of order, and who has what cannot be told from GTIDs any more"},
			settingRule{name: "read_only", want: "ON", ok: isOn, on: OnReplica, severity: SettingError, why: "what a client writes on a replica exists nowhere else, and replication breaks on it"},
		)
	} else {
		list = append(list,
			settingRule{name: "gtid_mode", want: "ON", ok: isOn, restart: true, severity: SettingError, why: "without GTIDs replicas cannot be set to follow another primary"},
			settingRule{name: "enforce_gtid_consistency", want: "ON", ok: isOn, restart: true, severity: SettingError, why: "gtid_mode needs it"},
			settingRule{name: "super_read_only", want: "ON", ok: isOn, on: OnReplica, severity: SettingError, why: "what a client writes on a replica exists nowhere else, and replication breaks on it"},
			// MariaDB cannot be asked for it; the agent gives it as an argument with each start, to both.
			settingRule{name: "skip_replica_start", want: "ON", ok: isOn, restart: true, severity: SettingError, why: "a server that starts must follow nobody until the agents say whom: its relay log may be all that has a transaction"},
			settingRule{name: "relay_log_recovery", want: "ON", ok: isOn, restart: true, severity: SettingError, why: "after a crash a replica could apply from a damaged relay log"},
		)
	}
	// Semi-sync by role: ON where it must not be is worse than OFF where it should be.
	return append(list,
		settingRule{name: "rpl_semi_sync_master_enabled", mysql: "rpl_semi_sync_source_enabled", want: "ON", ok: isOn, on: OnPrimary, severity: SettingError, why: "the primary does not wait for acknowledgements: what it says is written may stand in one place only"},
		settingRule{name: "rpl_semi_sync_master_enabled", mysql: "rpl_semi_sync_source_enabled", want: "OFF", ok: isOff, on: OnReplica, severity: SettingError, why: "on a replica the thread that applies hangs on it"},
		settingRule{name: "rpl_semi_sync_slave_enabled", mysql: "rpl_semi_sync_replica_enabled", want: "ON", ok: isOn, on: OnReplica, severity: SettingWarning, why: "this replica does not acknowledge"},
	)
}

// Check tells what is not as the steady state wants it, of a server in a role, in a fixed order. What the server did not say is not judged, but for
// what it must have. It never changes anything: Server.Apply does.
func Check(f Facts, role Duty, strict bool) []Setting {
	var out []Setting
	for _, r := range settingRules(f.Flavour, strict) {
		if r.on != 0 && r.on&role == 0 {
			continue
		}
		name := r.name
		if f.Flavour == MySQL8 && r.mysql != "" {
			if r.mysql == "-" {
				continue
			}
			name = r.mysql
		}
		have, said := f.Settings[name]
		switch {
		case !said && (r.missing || len(f.Settings) == 0):
			continue
		case !said:
			have = "not there"
		case r.ok(have):
			continue
		}
		out = append(out, Setting{Name: name, Want: r.want, Have: have, Why: r.why, Severity: r.severity, Restart: r.restart})
	}
	if s, ok := checkReplication(f); ok {
		out = append(out, s...)
	}
	return out
}

// hurried are the settings by which a primary that is to wait for acknowledgements goes on without, or waits where it should not. What the server did not
// say is not judged.
func hurried(f Facts, strict bool) (out []Setting) {
	waiting := []string{"rpl_semi_sync_master_timeout", "rpl_semi_sync_master_wait_no_slave", "rpl_semi_sync_master_wait_point"}
	for _, r := range settingRules(f.Flavour, strict) {
		if !slices.Contains(waiting, r.name) {
			continue
		}
		name := r.name
		if f.Flavour == MySQL8 {
			name = r.mysql
		}
		if have, said := f.Settings[name]; said && !r.ok(have) {
			out = append(out, Setting{Name: name, Want: r.want, Have: have, Why: r.why, Severity: r.severity})
		}
	}
	return out
}

// asynchronous tells why what a primary told clients may stand there alone, by what was last seen of it; "" = it waited for acknowledgements, or took no writes.
func asynchronous(host string, s Sight, now time.Time) string {
	if f := s.Facts; !s.Known || f.ReadOnly || f.Semi.Source && f.Semi.Active {
		return ""
	}
	return fmt.Sprintf("%s did not wait for acknowledgements when it was last seen, %s ago: what it told clients then may stand there alone", host, age(now, s.Answered))
}

// checkReplication looks at what is set by CHANGE MASTER, not by a variable.
func checkReplication(f Facts) (out []Setting, ok bool) {
	r := f.Replica
	if r == nil {
		return nil, false
	}
	if !r.UsesGTID {
		out = append(out, Setting{Name: "MASTER_USE_GTID", Want: "slave_pos", Have: "no", Severity: SettingError, Why: "a replica that follows file and offset cannot be set to follow another primary without losing or repeating transactions"})
	}
	if r.HeartbeatPeriod <= 0 || r.HeartbeatPeriod.Seconds() > 0.25+1e-9 {
		out = append(out, Setting{Name: "MASTER_HEARTBEAT_PERIOD", Want: "0.25", Have: strconv.FormatFloat(math.Max(r.HeartbeatPeriod.Seconds(), 0), 'g', -1, 64), Severity: SettingWarning, Why: "how long a primary that is silent is not noticed: two to three of these"})
	}
	if r.Delay > 0 {
		out = append(out, Setting{Name: "MASTER_DELAY", Want: "0", Have: strconv.FormatFloat(r.Delay.Seconds(), 'g', -1, 64), Severity: SettingWarning, Why: "a failover to this replica waits until it has applied what it holds back"})
	}
	return out, true
}

// SettingNames are the variables that Check looks at, for whoever fills Facts.Settings, sorted.
func SettingNames(flavour string) []string {
	var out []string
	for _, r := range settingRules(flavour, true) {
		name := r.name
		if flavour == MySQL8 && r.mysql != "" {
			name = r.mysql
		}
		if name != "-" {
			out = append(out, name)
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// Minimum are the oldest versions that we lead.
func minimumVersion(flavour string) (major, minor int) {
	if flavour == MariaDB {
		return 10, 5 // the first with READ ONLY ADMIN apart, and REPLICA words
	}
	return 8, 0
}

// VersionOf reads the first two numbers of a version, which come first in both flavours; ok is false for a text that has none.
func VersionOf(version string) (major, minor int, ok bool) {
	a, rest, _ := strings.Cut(version, ".")
	b, _, _ := strings.Cut(rest, ".")
	if i := strings.IndexFunc(b, func(r rune) bool { return r < '0' || r > '9' }); i >= 0 {
		b = b[:i]
	}
	major, err := strconv.Atoi(a)
	minor, err2 := strconv.Atoi(b)
	return major, minor, err == nil && err2 == nil
}

// Supported tells why a server cannot be led; "" = it can.
func Supported(f Facts) string {
	if f.Flavour != MariaDB && f.Flavour != MySQL8 {
		return fmt.Sprintf("it is of flavour %q; expected MariaDB or MySQL", f.Flavour)
	}
	major, minor, ok := VersionOf(f.Version)
	wantMajor, wantMinor := minimumVersion(f.Flavour)
	if !ok || major < wantMajor || major == wantMajor && minor < wantMinor {
		return fmt.Sprintf("it is %s %s; expected %d.%d or later", f.Flavour, f.Version, wantMajor, wantMinor)
	}
	return ""
}
