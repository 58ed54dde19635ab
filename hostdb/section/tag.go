package section

// Tag is what the document of a tag says: the sections that hostmesh acts on. Other keys may stand beside them and
// reach the tag's hosts like all data.
//
// DNS, Subnet, LB, Group, Placement, MySQL and Service describe the tag itself: each tag's section stands alone. Guest,
// Puppet, Monitoring, Backup and Logs configure its members: those of all tags of a host combine (Effective), so a tag may
// have a part of one, and they may stand in the document of a host as well. Read those combined: in a single tag, defaults
// fill what another tag may set.
type Tag struct {
	// Priority decides between tags that give a host different values: the higher wins, unless the other lists the
	// host itself.
	Priority int `min:"-1000000" max:"1000000" example:"20"`

	// DNS makes the tag a zone. Nil is none; so it is with all sections.
	DNS *DNS
	// Subnet makes the tag a network.
	Subnet *Subnet
	// LB balances load over the tag's members.
	LB *LB
	// Group makes members as they are needed.
	Group *Group
	// Placement is what the tag's virtual machines share with each other and with those of other tags.
	Placement *Placement
	// MySQL makes the members a database cluster.
	MySQL *MySQL
	// Service is what the members offer.
	Service *Service

	// Guest is how each member configures itself at its first boot.
	Guest *Guest `combine:"yes"`
	// Puppet is what Puppet makes of each member.
	Puppet *Puppet `combine:"yes"`
	// Monitoring is what is watched on each member.
	Monitoring *Monitoring `combine:"yes"`
	// Backup is what is copied away from each member.
	Backup *Backup `combine:"yes"`
	// Logs is what becomes of the log files of each member.
	Logs *Logs `combine:"yes"`
}
