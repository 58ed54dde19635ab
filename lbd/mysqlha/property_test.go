package mysqlha_test

import (
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"hostmesh/hostdb/section"
	"hostmesh/lbd/mysqlha/mysqlhatest"
)

// deed is one thing that happens.
type deed struct {
	what string
	host string
	to   string
	wait time.Duration
}

func (d deed) String() string {
	return fmt.Sprintf("%s %s %s, then %s", d.what, d.host, d.to, d.wait)
}

// do has it happen. Holders are those that have, or had, the duty.
func (d deed) do(w *mysqlhatest.World, holders *[]*mysqlhatest.Holder, mysql func() section.MySQL) {
	last := (*holders)[len(*holders)-1]
	switch d.what {
	case "kill":
		w.Kill(d.host)
	case "kill the primary":
		w.Kill(w.Record().Primary)
	case "freeze":
		w.Freeze(d.host, true)
	case "thaw":
		w.Freeze(d.host, false)
	case "freeze the primary":
		w.Freeze(w.Record().Primary, true)
	case "isolate":
		w.Isolate(d.host, true)
	case "join":
		w.Isolate(d.host, false)
	case "silence":
		w.Silence(d.host, true)
	case "speak":
		w.Silence(d.host, false)
	case "stop its agent":
		w.StopAgent(d.host)
	case "kill its agent":
		w.KillAgent(d.host)
	case "start its agent":
		w.StartAgent(d.host)
	case "flush":
		w.Flush(d.host)
	case "cut":
		w.Link(d.host, d.to, false)
	case "mend":
		w.Link(d.host, d.to, true)
	case "blind":
		w.Link(d.host, "watcher", false)
	case "see":
		w.Link(d.host, "watcher", true)
	case "power off":
		w.Power(d.host, false)
	case "power on":
		w.Power(d.host, true)
	case "stop applying":
		w.StopSQL(d.host)
	case "hang":
		w.Stick(d.host, true)
	case "go on":
		w.Stick(d.host, false)
	case "slow":
		w.Slow(d.host, 1)
	case "saturate":
		w.Saturate(d.host, true)
	case "next runner":
		last.End()
		*holders = append(*holders, w.Hold("watcher", mysql, nil, logger()))
	case "overtaken runner": // it does not know, and nobody stops it
		*holders = append(*holders, w.Hold("watcher", mysql, nil, logger()))
	case "switchover":
		go func() { _, _ = last.Switchover(w.Context(), d.host, "somebody", "a test") }() // it may be refused
	case "clone":
		go func() { _, _ = last.Clone(w.Context(), "", d.host, "somebody") }() // it may be refused
	case "unheard":
		w.Unheard(d.host, true)
	case "heard":
		w.Unheard(d.host, false)
	case "acknowledge":
		go func() { _, _ = last.Ack(w.Context(), "somebody", "a test") }()
	case "no quorum":
		w.Quorum(false)
	case "quorum":
		w.Quorum(true)
	}
}

var deeds = []string{
	"kill", "kill the primary", "kill the primary", "freeze", "thaw", "freeze the primary", "isolate", "join", "join", "silence", "speak", "speak", "stop its agent", "kill its agent", "start its agent", "start its agent", "flush", "cut", "mend", "mend", "blind", "see",
	"power off", "power on", "power on", "stop applying", "hang", "go on", "slow", "saturate", "next runner", "overtaken runner", "switchover", "clone", "clone", "unheard", "heard", "acknowledge", "acknowledge", "no quorum", "quorum",
}

// TestNothingAcknowledgedIsLost has anything happen to a strict cluster, in any order; then all is mended. What must never be never was, and what clients were told of is there.
func TestNothingAcknowledgedIsLost(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		n := rapid.IntRange(2, 4).Draw(rt, "servers")
		host := rapid.SampledFrom([]string{"a", "b", "c", "d"}[:n])
		var plan []deed
		for range rapid.IntRange(1, 12).Draw(rt, "deeds") {
			plan = append(plan, deed{
				rapid.SampledFrom(deeds).Draw(rt, "deed"), host.Draw(rt, "host"), host.Draw(rt, "to"),
				time.Duration(rapid.SampledFrom([]int{0, 1, 3, 7, 20, 60, 300, 1000, 4000, 12000}).Draw(rt, "wait")) * time.Millisecond,
			})
		}
		vms := rapid.Bool().Draw(rt, "machines")
		var wrong []string
		synctest.Test(t, func(t *testing.T) { wrong = live(t, n, vms, plan) })
		if len(wrong) > 0 {
			rt.Fatalf("%d servers, machines: %v\n%v\nnever to be: %s", n, vms, plan, strings.Join(wrong, "\n"))
		}
	})
}

func live(t *testing.T, n int, vms bool, plan []deed) (wrong []string) {
	w := mysqlhatest.New("shop-db", n, true)
	defer w.Close()
	for _, m := range w.Members() {
		w.VM(m.Host, vms)
	}
	holders := []*mysqlhatest.Holder{w.Hold("watcher", w.Section, nil, logger())}
	time.Sleep(500 * time.Millisecond)
	c := write(t, w)
	time.Sleep(200 * time.Millisecond)
	for _, d := range plan {
		d.do(w, &holders, w.Section)
		time.Sleep(d.wait)
	}
	// All is mended.
	w.Quorum(true)
	for _, m := range w.Members() {
		w.Isolate(m.Host, false)
		w.Freeze(m.Host, false)
		w.Silence(m.Host, false)
		w.Power(m.Host, true)
		w.Stick(m.Host, false)
		w.Slow(m.Host, 0)
		w.Saturate(m.Host, false)
		w.Unheard(m.Host, false)
		w.Link(m.Host, "watcher", true)
		for _, x := range w.Members() {
			w.Link(m.Host, x.Host, true)
		}
	}
	last := holders[len(holders)-1]
	// It is whole when it stays so: what the record says may be older than what has happened.
	well := 0
	for end := time.Now().Add(10 * time.Minute); well < 5 && time.Now().Before(end); time.Sleep(time.Second) {
		if well++; !whole(w, n)() {
			well = 0
		}
	}
	c.end()
	wrong = w.Faults()
	r := w.Record()
	if lost := w.Lost(r.Primary); len(lost) > 0 {
		wrong = append(wrong, fmt.Sprintf("%s has not got %d writes that clients were told of: %v", r.Primary, len(lost), lost))
	}
	if well < 5 {
		p := last.Picture()
		text := ""
		if p != nil {
			text = fmt.Sprintf("%+v, %+v", p.Diagnoses, p.Action)
		}
		wrong = append(wrong, fmt.Sprintf("it did not come back: %+v, intent %+v, writable %v, address %q: %s", r, r.Intent, w.Writable(), w.Address(), text))
	}
	return wrong
}
