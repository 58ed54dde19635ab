package integration

import (
	"encoding/json"
	"errors"
	"fmt"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"hostmesh/node/api"
)

// dutiesSite is a mesh of three whose agents all may keep one Git repository.
type dutiesSite struct {
	*site
	repository string
	written    int
}

// holder is the box that holds the mirror, by the word of another one, and its fencing number.
func (s *dutiesSite) holder(asked *box) (*box, uint64, error) {
	list, err := asked.api.Duties(s.t.Context())
	if err != nil {
		return nil, 0, err
	}
	for _, d := range list.Duties {
		for _, b := range s.boxes {
			if d.Duty == "mirror" && d.Name == b.name {
				return b, d.Fence, nil
			}
		}
	}
	return nil, 0, fmt.Errorf("nobody holds the mirror: %+v", list.Duties)
}

// held waits until the mirror is held under a higher number than before, by none of some boxes.
func (s *dutiesSite) held(asked *box, before uint64, not ...*box) (b *box, fence uint64) {
	s.t.Helper()
	took := s.wait("another box holds the mirror", func() (err error) {
		if b, fence, err = s.holder(asked); err == nil && (fence <= before || slices.Contains(not, b)) {
			err = fmt.Errorf("it is held by %s under number %d, before it was %d", b.name, fence, before)
		}
		return err
	})
	s.t.Logf("%s holds the mirror after %s, number %d", b.name, took, fence)
	return b, fence
}

// mirrored writes a host at a box and waits until the repository shows it.
func (s *dutiesSite) mirrored(at *box) {
	s.t.Helper()
	s.written++
	id := fmt.Sprintf("hosts/mirrored-%d", s.written)
	at.mustPut(id, "Owner: me\n")
	took := s.wait("the mirror has "+id, func() error {
		out, err := exec.Command("git", "-C", s.repository, "ls-tree", "-r", "--name-only", "main").CombinedOutput()
		if err == nil && !strings.Contains(string(out), id+"\n") {
			err = errors.New("it has not")
		}
		return err
	})
	s.t.Logf("the mirror has %s after %s", id, took)
}

// voters waits until so many vote, all of them alive. That takes more than half a minute: a node must have been there for a while.
func (s *dutiesSite) voters(asked *box, want int) (v api.DutyVoters) {
	s.t.Helper()
	enough := func() error {
		var err error
		v, err = asked.api.DutyVoters(s.t.Context())
		n := 0
		for _, x := range v.Voters {
			if x.Voter && x.State == "alive" {
				n++
			}
		}
		if err == nil && (n != want || len(v.Voters) != want) {
			err = fmt.Errorf("%d of %d: %+v", n, want, v)
		}
		return err
	}
	for begin := time.Now(); time.Since(begin) < eventually; time.Sleep(200 * time.Millisecond) {
		if enough() == nil {
			return v
		}
	}
	s.wait(fmt.Sprintf("there are %d voters", want), enough)
	return v
}

// TestDuties has three agents and one duty: its holder is killed, drained, frozen and removed, a voter's disk is full, and there is
// always one who keeps the mirror.
func TestDuties(t *testing.T) {
	if !withOwnMounts(t) {
		return
	}
	s := &dutiesSite{site: newSite(t, 3)}
	s.repository = filepath.Join(s.dir, "history.git")
	disk := newSmallDisk(s.boxes[1])
	for i, b := range s.boxes {
		b.settings = append(b.settings, fmt.Sprintf("labels: {datacenter: dc1, rack: r%d}", i+1), "mirror: {git: "+s.repository+", every: 1s}")
	}
	s.start()
	a := s.boxes[0]
	s.mirrored(a) // long before there are three voters
	s.voters(a, 3)
	v := s.voters(s.boxes[2], 3)
	out, errs, code := a.hostmesh("duties", "voters")
	if code != 0 || strings.Count(out, " alive ") != 3 || !strings.Contains(out, "leader") {
		t.Fatalf("%d %s%s", code, out, errs)
	}
	var leader *box
	for _, b := range s.boxes {
		if b.name == v.LeaderName {
			leader = b
		}
	}
	// A leader that settles in gives the duty away.
	first, fence := s.held(a, 0, leader)
	if out, errs, code := a.hostmesh("duties"); code != 0 || !strings.Contains(out, "mirror") || !strings.Contains(out, first.name) || strings.Contains(errs, "hand") {
		t.Errorf("%d %s%s", code, out, errs)
	}
	if out, errs, _ := first.hostmesh("status"); !strings.Contains(out, "holds mirror, ") {
		t.Errorf("%s%s", out, errs)
	}

	// Killed: another one goes on, where the repository ended. The killed one comes back with its vote.
	first.kill()
	second, fence := s.held(leader, fence, first)
	s.mirrored(leader)
	first.start()
	s.allAlive()
	s.voters(leader, 3)
	if lines := first.logged("discarded"); len(lines) > 0 {
		t.Errorf("%s threw its vote away: %s", first.name, lines)
	}
	if out, _, _ := first.hostmesh("status"); !strings.Contains(out, "votes") {
		t.Errorf("%s does not vote:\n%s", first.name, out)
	}

	// Drained: it hands over at once, and holds nothing until it is undrained.
	if out, errs, code := first.hostmesh("node", "drain", second.name, "-m", "new memory"); code != 0 || !strings.Contains(out, second.name+" is drained and holds nothing") {
		t.Fatalf("%d %s%s", code, out, errs)
	}
	third, fence := s.held(leader, fence, second)
	s.mirrored(third)
	if out, _, _ := leader.hostmesh("duties", "explain", "mirror"); !strings.Contains(out, "it is drained: new memory") {
		t.Errorf("%s", out)
	}
	if out, errs, code := leader.hostmesh("node", "undrain", second.name); code != 0 {
		t.Errorf("%d %s%s", code, out, errs)
	}

	// Frozen: when it goes on it knows that it holds nothing, and exports nothing.
	third.signal(syscall.SIGSTOP)
	asked := first
	if third == first {
		asked = second
	}
	_, fence = s.held(asked, fence, third)
	s.mirrored(asked)
	// It is not to get the duty anew either, so that what it exports from now on is under the old grant.
	if out, errs, code := asked.hostmesh("node", "drain", third.name, "-m", "it stands still", "--no-wait"); code != 0 {
		t.Fatalf("%d %s%s", code, out, errs)
	}
	time.Sleep(10 * time.Second) // the mesh gives it up, too
	third.signal(syscall.SIGCONT)
	s.allAlive()
	exported := third.metric("hostmesh_mirror_last_success_timestamp_seconds")
	s.wait(third.name+" knows that it does not hold the mirror", func() error {
		if got := third.metric("hostmesh_mirror_holder"); got != 0 {
			return fmt.Errorf("it says %v", got)
		}
		return nil
	})
	s.mirrored(third)
	if b, now, err := s.holder(third); err != nil || b == third || now < fence {
		t.Errorf("the mirror is held by %s under %d, and was under %d: %v", b.name, now, fence, err)
	}
	if now := third.metric("hostmesh_mirror_last_success_timestamp_seconds"); now != exported {
		t.Errorf("%s exported at %f under a grant that was over, before that at %f", third.name, now, exported)
	}
	if out, errs, code := asked.hostmesh("node", "undrain", third.name); code != 0 {
		t.Fatalf("%d %s%s", code, out, errs)
	}
	s.voters(asked, 3)

	// A full disk at a voter: HostDB there takes no writes, and duties go on.
	full := s.boxes[1]
	disk.fill(1<<20, 1<<30, 0)
	full.refusesWrites()
	for _, to := range []*box{s.boxes[0], s.boxes[2], s.boxes[0]} {
		out, errs, code := full.hostmesh("duties", "move", "mirror", to.name)
		if code != 0 || !strings.Contains(out, "mirror is held by "+to.name) {
			t.Fatalf("%d %s%s", code, out, errs)
		}
	}
	s.mirrored(s.boxes[0])
	disk.clear()
	s.wait(full.name+" takes writes again", func() error { return full.put("hosts/after", "Owner: me\n") })

	// Removed: the leader takes it out of the voters by itself.
	out, _, _ = full.hostmesh("duties", "voters", "-o", "json")
	if err := json.Unmarshal([]byte(out), &v); err != nil {
		t.Fatal(err)
	}
	var gone *box
	for _, b := range s.boxes {
		if b.name != v.LeaderName && b != full {
			gone = b
		}
	}
	gone.kill()
	full.sees(gone, "failed")
	if out, errs, code := full.hostmesh("node", "remove", gone.name, "--yes", "-m", "sold"); code != 0 {
		t.Fatalf("%d %s%s", code, out, errs)
	}
	s.voters(full, 1)
	s.mirrored(full)
}
