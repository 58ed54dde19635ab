package mysqlha

// Severity is how much a diagnosis asks of a person.
type Severity string

// The severities.
const (
	Fine    Severity = ""        // all is well
	Notice  Severity = "notice"  // the agents see to it, or it is as somebody wants it
	Warning Severity = "warning" // the cluster works, and could bear less than it should
	Grave   Severity = "error"   // writes stand still, or the next fault would make them, until somebody does something
)

// Severity tells it of a name.
func (n Name) Severity() Severity {
	switch n {
	case Well:
		return Fine
	case IntentOpen, PrimaryUnseen, ReplicaNew, CopyUnverified, OldPrimary, OldPrimaryLeft, AckerDue, AckerRestarted, AckerLeaving, ReplicaStopped, ReplicaAstray, NoRecord, IsPaused:
		return Notice
	case ReplicaBroken, ReplicaLost, ReplicaDown, ReplicaLagging, NoPlace, NoGTID, BinlogOff, ErrantFound, ReplicaWritable, AckerAway, AckerStray, AckerSilent, CopyDiffers, OneMember, PrimaryAsync:
		return Warning
	}
	return Grave
}
