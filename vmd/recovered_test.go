package vmd_test

import (
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"hostmesh/mesh/report"
	"hostmesh/vmd"
)

// TestRecoveredGroupMakesNoSecondCopy: the lease group is recovered from a voter that lacks the newest records; the placer's
// replica has not heard of VM.Box yet. The box that took the machine reports it as running, and the placer must not give it away.
func TestRecoveredGroupMakesNoSecondCopy(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, "box1", "box2")
		first := w.place("elsewhere", newTripwire(0, false))
		id := uuidOf(1)
		w.vm("web1", id, "")
		w.mu.Lock()
		w.frozen["elsewhere"] = w.store.View() // it will not hear of VM.Box for a while
		w.mu.Unlock()
		w.until("it runs", time.Minute, func() bool { return w.phase(id) == report.Running })
		on := w.runs(id, "web1")
		first.stop()
		w.group.mu.Lock()
		delete(w.group.records, vmd.RecordKey(id)) // lost with the majority; names and grants are claimed again, this is not
		w.group.mu.Unlock()
		w.wires.mu.Lock()
		w.wires.cut[on] = true // it is on the other side of the cut
		w.wires.mu.Unlock()
		w.place("elsewhere", newTripwire(0, false))
		time.Sleep(2 * time.Minute)
		if list := w.runningOn(id); len(list) != 1 {
			t.Errorf("one machine runs on %v", list)
		}
		// The cut heals.
		w.wires.mu.Lock()
		w.wires.cut[on] = false
		w.wires.mu.Unlock()
		w.mu.Lock()
		delete(w.frozen, "elsewhere")
		w.mu.Unlock()
		time.Sleep(time.Minute)
		before := w.store.View().Version().String()
		time.Sleep(10 * time.Second)
		if after := w.store.View().Version().String(); after != before {
			t.Errorf("the two boxes write VM.Box in turns for ever: version %s -> %s in 10 s", before, after)
		}
	})
}

// TestRecoveredGroupLearnsWhatRuns: the lease group is recovered without the records of two machines. Each box says again what it has;
// where the record is another box's by now, it goes on with what runs, says so, and starts it no more once it ended.
func TestRecoveredGroupLearnsWhatRuns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, "box1")
		p := w.place("elsewhere", newTripwire(0, false))
		lost, taken := uuidOf(1), uuidOf(2)
		w.vm("web1", lost, "Network: {IP: 10.1.0.9}\n")
		w.vm("web2", taken, "")
		w.until("they run", time.Minute, func() bool { return w.phase(lost) == report.Running && w.phase(taken) == report.Running })
		p.stop()
		w.group.mu.Lock()
		delete(w.group.records, vmd.RecordKey(lost))
		delete(w.group.records, "name/addr/10.1.0.9")
		other := w.group.records[vmd.RecordKey(taken)]
		var r vmd.Record
		if err := vmd.Decode(other.Value, &r); err != nil {
			t.Fatal(err)
		}
		r.Node, r.Box = "box9", "box9"
		other.Value = vmd.Encode(r)
		w.group.records[vmd.RecordKey(taken)] = other
		w.group.recovered = 1
		w.group.mu.Unlock()
		w.until("the record is back", time.Minute, func() bool {
			r, ok := w.record(lost)
			return ok && r.State == vmd.Taken && r.Node == "box1"
		})
		w.until("its address, entered by hand, is its again", time.Minute, func() bool {
			w.group.mu.Lock()
			defer w.group.mu.Unlock()
			return string(w.group.records["name/addr/10.1.0.9"].Value) == lost
		})
		w.until("the other is said to be box9's", time.Minute, func() bool { return strings.Contains(w.reported(taken).Reason, "box9") })
		if w.phase(taken) != report.Running || w.phase(lost) != report.Running {
			t.Errorf("%+v %+v", w.reported(lost), w.reported(taken))
		}
		w.boxes["box1"].hv.Crash(taken)
		w.boxes["box1"].hv.Crash(lost)
		w.until("box9's is not started", time.Minute, func() bool { return w.phase(taken) == report.Failed })
		time.Sleep(time.Minute)
		if len(w.runningOn(taken)) != 0 || len(w.runningOn(lost)) != 1 {
			t.Errorf("%+v %+v", w.reported(lost), w.reported(taken))
		}
	})
}
