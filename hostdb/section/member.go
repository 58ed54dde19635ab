package section

import (
	"time"

	"hostmesh/hostdb"
)

// Puppet is what Puppet makes of each member: the answer of an external node classifier.
type Puppet struct {
	// Environment is the Puppet environment. Absent is the server's default.
	Environment string `format:"environment" example:"production"`
	// Classes are the classes by name, with their parameters.
	Classes map[string]hostdb.Document `keys:"class" unit:"mapping" example:"{ntp: {}, nginx: {workers: 4}}"`
	// Parameters are top-scope variables by name.
	Parameters map[string]hostdb.Document `example:"{app: shop}"`
}

func (Puppet) example() string {
	return `Environment: production
Classes:
  ntp: {}
  nginx: {workers: 4}
Parameters: {app: shop}
`
}

// Monitoring is what is watched on each member.
type Monitoring struct {
	// Prometheus is how metrics are collected.
	Prometheus Prometheus
	// Nagios is what is checked, and who is told.
	Nagios Nagios
}

func (Monitoring) example() string {
	return `Prometheus: {Port: 9100, Labels: {team: shop}}
Nagios: {Checks: {ssh: check_ssh}, Contacts: [shop]}
`
}

// Prometheus is how the metrics of each member are collected.
type Prometheus struct {
	// Port is where they are offered. Absent (0): nowhere.
	Port uint16 `min:"1" example:"9100"`
	// Labels are added to each metric.
	Labels map[string]string `keys:"label" example:"{team: shop}"`
}

// Nagios is what is checked on each member, and who is told.
type Nagios struct {
	// Checks are the services by the name they are shown under; each names a check in checks.d of the boxes.
	Checks map[string]string `format:"file" example:"{ssh: check_ssh}"`
	// Contacts are the contacts or contact groups that are told.
	Contacts []string `format:"file" example:"[shop]"`
}

// Backup is what is copied away from each member.
type Backup struct {
	// Paths are the files and directories to copy; wildcards are allowed.
	Paths []string `need:"combined" format:"path" example:"[/etc, /srv]"`
	// Repository names where to, a file in repositories.d of the boxes.
	Repository string `need:"combined" format:"file" example:"shop"`
	// Schedule is when: five fields of crontab(5), or @hourly, @daily, @weekly, @monthly, @yearly. Each member starts a
	// while after that, by its name, so that they do not all start at once.
	Schedule string `format:"cron" example:"30 2 * * mon-fri"`
	// Keep is how many copies are kept.
	Keep Keep
}

func (b *Backup) defaults() {
	b.Schedule = "@daily" // at most a day's work is lost
}

func (Backup) example() string {
	return `Paths: [/etc, /srv]
Repository: shop
Schedule: "@daily"
Keep: {Daily: 7, Weekly: 4}
`
}

// Keep is how many copies of a backup are kept: the newest of each day and week.
type Keep struct {
	// Daily is for how many days the newest copy of the day is kept.
	Daily int `min:"0" max:"3660" example:"7"`
	// Weekly is for how many weeks the newest copy of the week is kept.
	Weekly int `min:"0" max:"520" example:"4"`
}

func (k *Keep) defaults() {
	k.Daily = 7  // the mistake of last week
	k.Weekly = 4 // and of last month
}

// Logs is what becomes of the log files of each member.
type Logs struct {
	// Paths are the log files; wildcards are allowed.
	Paths []string `need:"combined" format:"path" example:"[/var/log/shop/*.log]"`
	// Rotate is how often a new file is begun.
	Rotate Rotate `example:"hourly"`
	// Keep is how long old files stay on the host.
	Keep time.Duration `min:"1h" max:"3660d" example:"30d"`
	// Forward is where lines are sent as they are written: name or address, and port. Absent is nowhere.
	Forward string `format:"endpoint" example:"logs.tag.mesh.internal:514"`
	// PurgeAfter is what must have happened before a file older than Keep is removed.
	PurgeAfter PurgeAfter `example:"never"`
}

func (l *Logs) defaults() {
	l.Rotate = Daily              // as Debian's logrotate does
	l.Keep = 14 * 24 * time.Hour  // long enough to look into what was noticed after a weekend
	l.PurgeAfter = PurgeForwarded // a line that was sent nowhere is the only copy
}

func (Logs) example() string {
	return `Paths: [/var/log/shop/*.log]
Rotate: daily
Keep: 14d
Forward: logs.tag.mesh.internal:514
PurgeAfter: forwarded
`
}

// Rotate is how often a new log file is begun.
type Rotate string

// The values of Rotate.
const (
	Hourly  Rotate = "hourly"
	Daily   Rotate = "daily"
	Weekly  Rotate = "weekly"
	Monthly Rotate = "monthly"
)

func (Rotate) values() []string {
	return []string{string(Hourly), string(Daily), string(Weekly), string(Monthly)}
}

// PurgeAfter is what must have happened before an old log file is removed.
type PurgeAfter string

// The values of PurgeAfter.
const (
	PurgeForwarded PurgeAfter = "forwarded" // all of it was sent to Forward; without Forward nothing is removed
	PurgeNever     PurgeAfter = "never"     // it stays until a person removes it
)

func (PurgeAfter) values() []string { return []string{string(PurgeForwarded), string(PurgeNever)} }
