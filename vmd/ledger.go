package vmd

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"hostmesh/vmd/plan"
)

// ledgerFormat is the version of the files of a ledger.
const ledgerFormat = 1

// Stage is how far a machine is in this box's ledger.
type Stage string

// The stages of an Entry.
const (
	Reserving  Stage = "reserving"  // its place is kept, but the record may not say yet that this box took it
	Held       Stage = "held"       // it is this box's to make and run
	Leaving    Stage = "leaving"    // it could not be made: what there is of it goes, and another box may try
	Destroying Stage = "destroying" // it may be destroyed: its ticket was taken
	Kept       Stage = "kept"       // it is destroyed; its disks stay until Until
	Purging    Stage = "purging"    // all of it goes
)

// Entry is what a box wrote down of a machine. Steps of making it are not in it: those the world shows.
type Entry struct {
	Format int    `json:"format"` // ledgerFormat
	UUID   string `json:"uuid"`
	Name   string `json:"name"` // key in hosts, to which the name in the lease log belongs
	Stage  Stage  `json:"stage"`
	// Group and Fence are of the placer that offered it, Expires of the offer and At when it was taken down, Unix milliseconds.
	Group   string `json:"group,omitempty"`
	Fence   uint64 `json:"fence,omitempty"`
	Expires int64  `json:"expires_ms,omitempty"`
	At      int64  `json:"at_ms,omitempty"`
	// CPUs, Memory and Disk are reserved; bytes.
	CPUs   int    `json:"cpus"`
	Memory int64  `json:"memory"`
	Disk   int64  `json:"disk"`
	Subnet string `json:"subnet,omitempty"` // tag that IP is of
	// IP and MAC are its own for as long as the entry stands. ByHand: IP was entered by a person.
	IP     netip.Addr `json:"ip,omitzero"`
	MAC    string     `json:"mac,omitempty"`
	ByHand bool       `json:"by_hand,omitempty"`
	// Seen: its entry in HostDB was seen here, so that its absence means that it was deleted.
	Seen bool `json:"seen,omitempty"`
	// Domain is what was defined last, written down before it is.
	Domain *plan.Domain `json:"domain,omitempty"`
	// Ran: it was started, or is about to be: its disk may hold something.
	Ran    bool   `json:"ran,omitempty"`
	Reason string `json:"reason,omitempty"`   // why it leaves
	Until  int64  `json:"until_ms,omitempty"` // when its disks go, Unix milliseconds
}

// rested is an address that was freed.
type rested struct {
	Subnet string     `json:"subnet"`
	IP     netip.Addr `json:"ip"`
	At     int64      `json:"at_ms"`
}

// fences are the highest fencing numbers that were seen, by lease group, and the freed addresses.
type around struct {
	Format int               `json:"format"`
	Fences map[string]uint64 `json:"fences,omitempty"`
	Rests  []rested          `json:"rests,omitempty"`
}

// ErrDamaged is wrapped by what is wrong with a file of the ledger.
var ErrDamaged = errors.New("a file of the ledger is damaged")

// ledger keeps entries on disk, a file each, so that a damaged one costs one machine. Its owner serialises calls.
type ledger struct {
	dir string
	// after is called when something was written, before the caller hears of it: tests of crashes hook in here.
	before, after func(what string) error
}

const (
	entrySuffix = ".vm"
	aroundFile  = "box.state"
	ledgerMagic = "hostmesh-vm-ledger 1 "
)

// openLedger makes the directory and reads what is there. damaged names what cannot be read, with the remedy: the box takes
// nothing new until that was looked at, because it does not know what it promised.
func openLedger(dir string) (l *ledger, entries map[string]Entry, a around, damaged []error, err error) {
	none := func(string) error { return nil }
	l = &ledger{dir: dir, before: none, after: none}
	entries, a = map[string]Entry{}, around{Format: ledgerFormat, Fences: map[string]uint64{}}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, nil, a, nil, fmt.Errorf("open ledger: %w", err)
	}
	files, err := os.ReadDir(dir)
	if err != nil {
		return nil, nil, a, nil, fmt.Errorf("open ledger: %w", err)
	}
	for _, f := range files {
		path := filepath.Join(dir, f.Name())
		switch uuid, isEntry := strings.CutSuffix(f.Name(), entrySuffix); {
		case f.IsDir():
		case strings.HasPrefix(f.Name(), "."): // a write that a crash ended
			if err := os.Remove(path); err != nil {
				return nil, nil, a, nil, fmt.Errorf("open ledger: %w", err)
			}
		case isEntry:
			var e Entry
			if err := readFile(path, &e); err != nil {
				damaged = append(damaged, err)
			} else if e.Format > ledgerFormat {
				damaged = append(damaged, fmt.Errorf("%s: %w: %w", path, ErrDamaged, ErrNewer))
			} else if e.UUID != uuid || !uuidShape.MatchString(uuid) {
				damaged = append(damaged, fmt.Errorf("%s: %w: it is of machine %q; move it away", path, ErrDamaged, e.UUID))
			} else {
				entries[uuid] = e
			}
		case f.Name() == aroundFile:
			var read around
			if err := readFile(path, &read); err != nil {
				damaged = append(damaged, err)
			} else if read.Format > ledgerFormat {
				damaged = append(damaged, fmt.Errorf("%s: %w: %w", path, ErrDamaged, ErrNewer))
			} else {
				a.Rests = read.Rests
				maps.Copy(a.Fences, read.Fences)
			}
		}
	}
	for _, e := range entries {
		a.Fences[e.Group] = max(a.Fences[e.Group], e.Fence)
	}
	return l, entries, a, damaged, nil
}

// readFile reads a file that writeFile made.
func readFile(path string, into any) error {
	text, err := os.ReadFile(path)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrDamaged, err)
	}
	const remedy = "restore it from a backup of the data directory, or move it away if the machine is gone, then restart the agent"
	head, body, _ := strings.Cut(string(text), "\n")
	sum, ours := strings.CutPrefix(head, ledgerMagic)
	if !ours {
		return fmt.Errorf("%s: %w: its first line is not that of a ledger; %s", path, ErrDamaged, remedy)
	}
	if is := sha256.Sum256([]byte(body)); hex.EncodeToString(is[:]) != sum {
		return fmt.Errorf("%s: %w: its checksum is wrong; %s", path, ErrDamaged, remedy)
	}
	if err := json.Unmarshal([]byte(body), into); err != nil {
		return fmt.Errorf("%s: %w: %w; %s", path, ErrDamaged, err, remedy)
	}
	return nil
}

// save writes an entry durably.
func (l *ledger) save(e Entry) error {
	e.Format = ledgerFormat
	return l.write(e.UUID+entrySuffix, e)
}

// saveAround writes down what belongs to no machine.
func (l *ledger) saveAround(a around) error {
	a.Format = ledgerFormat
	return l.write(aroundFile, a)
}

func (l *ledger) write(name string, v any) error {
	if err := l.before("save " + name); err != nil {
		return err
	}
	body, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		return fmt.Errorf("write ledger: %w", err)
	}
	body = append(body, '\n')
	sum := sha256.Sum256(body)
	text := slices.Concat([]byte(ledgerMagic+hex.EncodeToString(sum[:])+"\n"), body)
	if err := l.replace(name, text); err != nil {
		return fmt.Errorf("write ledger: %w", err)
	}
	return l.after("save " + name)
}

func (l *ledger) replace(name string, text []byte) (err error) {
	f, err := os.CreateTemp(l.dir, "."+name+".*")
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			os.Remove(f.Name())
		}
	}()
	_, err = f.Write(text)
	if err == nil {
		err = f.Sync()
	}
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	if err == nil {
		err = os.Rename(f.Name(), filepath.Join(l.dir, name))
	}
	if err != nil {
		return err
	}
	return l.syncDir()
}

// remove forgets a machine durably. One that is not there is no error.
func (l *ledger) remove(uuid string) error {
	if err := l.before("remove " + uuid); err != nil {
		return err
	}
	err := os.Remove(filepath.Join(l.dir, uuid+entrySuffix))
	if err == nil {
		err = l.syncDir()
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("write ledger: %w", err)
	}
	return l.after("remove " + uuid)
}

func (l *ledger) syncDir() error {
	d, err := os.Open(l.dir)
	if err != nil {
		return err
	}
	defer d.Close()
	return d.Sync()
}

// rest adds a freed address, and drops those that rested long enough to be nothing special any more.
func rest(list []rested, subnet string, ip netip.Addr, now time.Time) []rested {
	kept := list[:0:0]
	for _, r := range list {
		if (r.Subnet != subnet || r.IP != ip) && now.Sub(time.UnixMilli(r.At)) < plan.Rest {
			kept = append(kept, r)
		}
	}
	return append(kept, rested{subnet, ip, now.UnixMilli()})
}
