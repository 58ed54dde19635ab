package section

import (
	"fmt"
	"time"
)

// Group makes members of a tag as they are needed: virtual machines from one template, and away again. It takes only
// machines that it made.
type Group struct {
	// Min is how many there are at least.
	Min int `need:"yes" min:"0" max:"10000" example:"2"`
	// Max is how many there are at most.
	Max int `need:"yes" min:"0" max:"10000" example:"10"`
	// Name is how they are called; %d stands for the lowest free number (%02d for two digits).
	Name string `need:"yes" format:"pattern" example:"unbound-%d.dc1.example.com"`
	// Spread is what two of them should not share, as far as there are enough.
	Spread Spread `example:"box"`
	// Template is what each of them is.
	Template Template
	// Scale is when to make more and take some away. Absent: always Min.
	Scale *Scale
}

func (g *Group) defaults() {
	g.Spread = SpreadRack // one power feed or switch must not take the whole group
}

func (Group) example() string {
	return `Min: 2
Max: 10
Name: unbound-%d.dc1.example.com
Spread: rack
Template: {Image: unbound, CPUs: 2, Memory: 2GiB, Disk: 20GiB, Subnet: prod}
Scale: {On: cpu, Target: 60%, Cooldown: {Out: 1m, In: 10m}}
`
}

func (g *Group) check(r *report) {
	if g.Max < g.Min {
		r.bad(fmt.Sprint(g.Max), fmt.Sprintf("is below Min, %d; expected at least that", g.Min), "Max")
	}
}

// Spread is what members of a group should not share.
type Spread string

// The values of Spread.
const (
	SpreadNone       Spread = "none"
	SpreadBox        Spread = "box"
	SpreadRack       Spread = "rack"
	SpreadDatacenter Spread = "datacenter"
)

func (Spread) values() []string {
	return []string{string(SpreadNone), string(SpreadBox), string(SpreadRack), string(SpreadDatacenter)}
}

// Template is what each member of a group is made of; the fields are those of VM.
type Template struct {
	// Image is the base image that the first disk grows from.
	Image string `need:"yes" format:"file" example:"unbound"`
	// CPUs are the virtual processors.
	CPUs int `min:"1" max:"1024" example:"2"`
	// Memory is the size of the memory.
	Memory Size `min:"1MiB" example:"2GiB"`
	// Disk is the size of the first disk. Absent is the size of the image.
	Disk Size `example:"20GiB"`
	// Subnet is the tag with the network that they are connected to.
	Subnet string `need:"yes" format:"key" example:"prod"`
}

func (t *Template) defaults() {
	var vm VM
	vm.defaults() // a member is a VM like any other
	t.CPUs, t.Memory = vm.CPUs, vm.Memory
}

// Scale is when a group grows and shrinks.
type Scale struct {
	// On is the load that is measured, as a mean over the members.
	On Load `example:"memory"`
	// Target is the load that the group is kept near.
	Target Percent `min:"1%" max:"100%" example:"60%"`
	// Cooldown is how long the group rests after a change.
	Cooldown Cooldown
}

func (s *Scale) defaults() {
	s.On = LoadCPU // what most services run out of first
	s.Target = 60  // the loss of every third member is carried by the rest
}

// Load is what a group's size follows.
type Load string

// The values of Load.
const (
	LoadCPU    Load = "cpu"
	LoadMemory Load = "memory"
)

func (Load) values() []string { return []string{string(LoadCPU), string(LoadMemory)} }

// Cooldown is how long a group rests after a change, by the direction of the next one.
type Cooldown struct {
	// Out is the rest before it grows again.
	Out time.Duration `max:"7d" example:"1m"`
	// In is the rest before it shrinks again.
	In time.Duration `max:"7d" example:"10m"`
}

func (c *Cooldown) defaults() {
	c.Out = time.Minute     // about what a new member needs to take its share
	c.In = 10 * time.Minute // load that comes back soon is cheaper to wait for
}
