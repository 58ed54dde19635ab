package mysqlha

import "slices"

// Step is one step of a change of the primary. It is written into the record before it is carried out, and is harmless when it was carried out before.
type Step string

// The steps. docs/mysql.md explains them.
const (
	StepDepose  Step = "depose"  // replicas receive nothing from the old primary any more; in parallel its server is killed
	StepChoose  Step = "choose"  // the gate, and who is to be the primary
	StepCheck   Step = "check"   // that the planned one can take over at once
	StepRefuse  Step = "refuse"  // the old primary takes no more writes
	StepCatchUp Step = "catchup" // the new one has all that the old has
	StepAddress Step = "address" // the address moves to the server that still refuses writes
	StepApply   Step = "apply"   // it applies what it has received
	StepPromote Step = "promote" // it follows nobody, and waits for acknowledgements
	StepRepoint Step = "repoint" // the others follow it
	StepOpen    Step = "open"    // it takes writes
	// StepWithdraw takes a change back, before its StepOpen: the old primary takes writes again. Nobody else has taken any.
	StepWithdraw Step = "withdraw"
)

// doing is a step, for people: what is being done.
var doing = map[Step]string{
	StepDepose: "replicas are cut from the old primary, which is killed", StepChoose: "who has all that was acknowledged is being found out", StepCheck: "whether it can hand over at once is looked at",
	StepRefuse: "the old primary takes no more writes", StepCatchUp: "the next one applies the last transactions", StepAddress: "the address moves", StepApply: "the next one applies what it has received",
	StepPromote: "the next one becomes a primary", StepRepoint: "the others follow the next one", StepOpen: "the next one takes writes", StepWithdraw: "it is taken back, and the old primary takes writes again",
}

// Steps are those of a change, in order.
func Steps(k Kind) []Step {
	switch k {
	case Failover:
		return []Step{StepDepose, StepChoose, StepAddress, StepApply, StepPromote, StepRepoint, StepOpen}
	case Switchover:
		return []Step{StepCheck, StepRefuse, StepCatchUp, StepAddress, StepPromote, StepRepoint, StepOpen}
	}
	return nil
}

// stepIndex is where a step stands; -1 = it is none of that change.
func stepIndex(k Kind, s Step) int { return slices.Index(Steps(k), s) }

// known reports whether a change may be at a step.
func known(k Kind, s Step) bool { return s == StepWithdraw || stepIndex(k, s) >= 0 }

// after is the step that follows; "" = it was the last.
func after(k Kind, s Step) Step {
	steps := Steps(k)
	if i := slices.Index(steps, s); i >= 0 && i+1 < len(steps) {
		return steps[i+1]
	}
	return ""
}
