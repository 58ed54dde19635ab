package node

import (
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"hostmesh/hostdb"
	"hostmesh/mesh"
	"hostmesh/mesh/lease"
)

var (
	// ErrNoMesh is returned when a data directory holds no mesh and nothing says which to join.
	ErrNoMesh = errors.New("the data directory holds no mesh")
	// ErrHasMesh is returned by Init for a data directory that holds a mesh.
	ErrHasMesh = errors.New("the data directory holds a mesh already")
	// ErrInUse is returned when another agent has the data directory, in this process or another.
	ErrInUse = errors.New("the data directory is in use")
	// ErrNewerFormat is returned for a data directory of a newer hostmesh.
	ErrNewerFormat = errors.New("the data directory has a newer format")
)

// dataFormat is the version of the directory's layout. It only grows; the replica in it has a format of its own.
const dataFormat = 1

// What lies in a data directory.
const (
	formatName = "format"    // version of the layout
	nodeIDName = "node-id"   // this node's permanent id
	meshName   = "mesh.json" // which mesh it belongs to
	lockName   = "LOCK"      // flock; holds the owner's pid
	keyName    = "mesh.key"  // the mesh key, where key_file names no other
	replicaDir = "hostdb"
	leaseDir   = "lease" // raft's files: of this node on this box alone, in no backup
	socketName = "agent.sock"
	webCAName  = "web-ca.crt" // for clients to trust; public
)

// MeshRecord says which mesh a data directory belongs to.
type MeshRecord struct {
	ID      string    `json:"mesh_id"`
	Founder bool      `json:"founder"` // whether this directory founded it; exactly one did
	Name    string    `json:"name,omitempty"`
	Created time.Time `json:"created"` // when this record was made
}

// dataDir is an open data directory.
type dataDir struct {
	path   string
	nodeID string
	mesh   MeshRecord // zero while a joiner does not know
	lock   *os.File
}

func (d *dataDir) file(name string) string { return filepath.Join(d.path, name) }

// InitConfig says where a mesh is founded.
type InitConfig struct {
	DataDir string
	// KeyFile is the mesh key. It is made if it is missing. Empty: mesh.key in the data directory.
	KeyFile string
	// Name of the founder, for people who look at the record. Empty: the box's host name.
	Name string
	// Datacenter is the founder's, where it is known already; the agent corrects it when it first starts.
	Datacenter string
}

// InitResult is what Init made.
type InitResult struct {
	MeshID, NodeID string
	KeyFile        string
	KeyMade        bool // false when the key was there
}

// Init founds a mesh: its id, its key if there is none, and the founder's record. It is done once for a mesh, on one
// node; the others join. A directory that holds a mesh is refused with ErrHasMesh.
func Init(cfg InitConfig) (InitResult, error) {
	res, err := foundMesh(cfg)
	if err != nil {
		return InitResult{}, fmt.Errorf("init: %w", err)
	}
	return res, nil
}

// foundMesh is Init for a caller that tells what it was about.
func foundMesh(cfg InitConfig) (InitResult, error) {
	if cfg.DataDir == "" {
		return InitResult{}, errors.New("set --data-dir to the data directory to make")
	}
	d, err := openDataDir(cfg.DataDir)
	if err != nil {
		return InitResult{}, err
	}
	defer d.close()
	if d.mesh.ID != "" {
		return InitResult{}, fmt.Errorf("%w: %s belongs to mesh %s; found another one in another directory", ErrHasMesh, cfg.DataDir, d.mesh.ID)
	}
	res := InitResult{NodeID: d.nodeID, KeyFile: cfg.KeyFile}
	if res.KeyFile == "" {
		res.KeyFile = d.file(keyName)
	}
	if res.KeyMade, err = makeKeyFile(res.KeyFile); err != nil {
		return InitResult{}, err
	}
	if cfg.Name == "" {
		cfg.Name, _ = os.Hostname() // only a note
	}
	res.MeshID = newID()
	// The record is what makes the directory a founder's. Should the rest not come about, the agent does it when it starts.
	if err := d.setMesh(MeshRecord{ID: res.MeshID, Founder: true, Name: cfg.Name, Created: time.Now().UTC()}); err != nil {
		return InitResult{}, err
	}
	if err := lease.Found(d.file(leaseDir), d.nodeID, cfg.Datacenter); err != nil {
		return InitResult{}, fmt.Errorf("mesh %s is founded; the group that grants its duties is not yet: %w; the agent founds it when it starts", res.MeshID, err)
	}
	return res, nil
}

// makeKeyFile makes a key file if there is none, and checks the one that is there.
func makeKeyFile(path string) (made bool, err error) {
	if _, err := mesh.LoadKeyFile(path); err == nil || !errors.Is(err, fs.ErrNotExist) {
		return false, err
	}
	key, err := mesh.NewKey()
	if err != nil {
		return false, err
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return false, fmt.Errorf("make key file: %w", err)
	}
	return true, writeFile(path, key.Text(), 0o600)
}

// newID is 32 random hex digits.
func newID() string {
	var b [16]byte
	rand.Read(b[:])
	return hex.EncodeToString(b[:])
}

// dirContents is what a look at a data directory finds.
type dirContents struct {
	Format int // 0: nothing there yet
	NodeID string
	Mesh   MeshRecord
}

// inspectDataDir reads a data directory and changes nothing. One that does not exist is an empty one.
func inspectDataDir(path string) (dirContents, error) {
	var c dirContents
	read := func(name string) (string, error) {
		b, err := os.ReadFile(filepath.Join(path, name))
		if errors.Is(err, fs.ErrNotExist) {
			return "", nil
		}
		return strings.TrimSpace(string(b)), err
	}
	text, err := read(formatName)
	if err != nil {
		return c, fmt.Errorf("data directory: %w", err)
	}
	if text != "" {
		if c.Format, err = strconv.Atoi(text); err != nil || c.Format < 1 {
			return c, fmt.Errorf("data directory %s: file %s holds %q: this is no data directory of hostmesh; set --data-dir to one", path, formatName, text)
		}
	}
	if c.Format > dataFormat {
		return c, fmt.Errorf("%w: %s has format %d, this hostmesh knows up to %d: install the newer hostmesh again", ErrNewerFormat, path, c.Format, dataFormat)
	}
	if c.NodeID, err = read(nodeIDName); err != nil {
		return c, fmt.Errorf("data directory: %w", err)
	}
	if c.NodeID != "" && !validID(c.NodeID) {
		return c, fmt.Errorf("data directory %s: file %s is damaged: want 32 hex digits; restore it, or start with an empty directory", path, nodeIDName)
	}
	if text, err = read(meshName); err != nil {
		return c, fmt.Errorf("data directory: %w", err)
	}
	if text != "" {
		if err := json.Unmarshal([]byte(text), &c.Mesh); err != nil || !validID(c.Mesh.ID) {
			return c, fmt.Errorf("data directory %s: file %s is damaged; restore it, or start with an empty directory", path, meshName)
		}
	}
	return c, nil
}

func validID(id string) bool {
	b, err := hex.DecodeString(id)
	return err == nil && len(b) == 16 && strings.ToLower(id) == id
}

// openDataDir locks a data directory, and makes what is missing: the directory, its format, the node's id.
func openDataDir(path string) (*dataDir, error) {
	if _, err := inspectDataDir(path); err != nil { // before anything is written into it
		return nil, err
	}
	// Others may reach the socket inside, and nothing else: every other file is for the owner only.
	if err := os.MkdirAll(path, 0o711); err != nil {
		return nil, fmt.Errorf("data directory: %w; create it for the agent's user, or set --data-dir", err)
	}
	d := &dataDir{path: path}
	if err := d.flock(); err != nil {
		return nil, err
	}
	// Whoever had the lock a moment ago may have changed it.
	c, err := inspectDataDir(path)
	if err == nil {
		err = d.fill(c)
	}
	if err != nil {
		d.close()
		return nil, err
	}
	return d, nil
}

func (d *dataDir) fill(c dirContents) error {
	if c.Format == 0 {
		if err := writeFile(d.file(formatName), fmt.Appendf(nil, "%d\n", dataFormat), 0o600); err != nil {
			return err
		}
	}
	if c.NodeID == "" {
		c.NodeID = newID()
		if err := writeFile(d.file(nodeIDName), []byte(c.NodeID+"\n"), 0o600); err != nil {
			return err
		}
	}
	d.nodeID, d.mesh = c.NodeID, c.Mesh
	return nil
}

// flock takes the lock. It ends with the process, so a killed agent leaves none behind.
func (d *dataDir) flock() error {
	f, err := os.OpenFile(d.file(lockName), os.O_RDWR|os.O_CREATE, 0o600)
	if errors.Is(err, unix.EROFS) {
		return fmt.Errorf("lock data directory: %w", readOnlyDisk(d.path))
	}
	if err != nil {
		return fmt.Errorf("lock data directory: %w", err)
	}
	err = unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
	if errors.Is(err, unix.EWOULDBLOCK) {
		who := "another agent"
		if b, err := os.ReadFile(d.file(lockName)); err == nil {
			if pid, err := strconv.Atoi(strings.TrimSpace(string(b))); err == nil {
				who = fmt.Sprintf("another agent, process %d", pid)
			}
		}
		f.Close()
		return fmt.Errorf("%w: %s is held by %s; stop that, or set --data-dir to a directory of its own", ErrInUse, d.path, who)
	}
	if err == nil {
		if err = f.Truncate(0); err == nil {
			_, err = f.WriteAt(fmt.Appendf(nil, "%d\n", os.Getpid()), 0)
		}
	}
	if err != nil {
		f.Close()
		return fmt.Errorf("lock data directory: %w", err)
	}
	d.lock = f
	return nil
}

// setMesh writes down which mesh the directory belongs to, for good.
func (d *dataDir) setMesh(r MeshRecord) error {
	text, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return fmt.Errorf("keep the mesh's id: %w", err)
	}
	if err := writeFile(d.file(meshName), append(text, '\n'), 0o600); err != nil {
		return fmt.Errorf("keep the mesh's id: %w", err)
	}
	d.mesh = r
	return nil
}

// close gives the lock back. The file stays: removing it could remove the next owner's.
func (d *dataDir) close() {
	// A child that is just being started has the file open too, and with it the lock, until its program begins.
	_ = unix.Flock(int(d.lock.Fd()), unix.LOCK_UN)
	_ = d.lock.Close()
}

// writeFile replaces a file durably: all of the new content or all of the old is there after a power cut.
func writeFile(path string, content []byte, mode fs.FileMode) (err error) {
	f, err := os.CreateTemp(filepath.Dir(path), filepath.Base(path)+".new-*")
	if err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	defer func() {
		if err != nil {
			f.Close()
			os.Remove(f.Name())
			err = fmt.Errorf("write %s: %w", path, err)
		}
	}()
	if err = f.Chmod(mode); err != nil {
		return err
	}
	if _, err = f.Write(content); err != nil {
		return err
	}
	if err = f.Sync(); err != nil {
		return err
	}
	if err = f.Close(); err != nil {
		return err
	}
	if err = os.Rename(f.Name(), path); err != nil {
		return err
	}
	dir, err := os.Open(filepath.Dir(path))
	if err != nil {
		return err
	}
	defer dir.Close()
	return dir.Sync()
}

// freeSpace tells how much of a file system is free for the agent, and below how much writes are refused.
func freeSpace(path string) (free, floor int64, err error) {
	free, floor, _, err = lookAtDisk(path)
	return free, floor, err
}

// lookAtDisk is freeSpace that also tells whether the file system is read-only. The kernel makes it so after errors of the
// disk, too, and what is written through a memory map then ends the process (SIGBUS).
func lookAtDisk(path string) (free, floor int64, readOnly bool, err error) {
	var st unix.Statfs_t
	if err := unix.Statfs(path, &st); err != nil {
		return 0, 0, false, fmt.Errorf("look at the file system of %s: %w", path, err)
	}
	size := int64(st.Blocks) * int64(st.Bsize)
	return int64(st.Bavail) * int64(st.Bsize), max(minFree, size/50), st.Flags&unix.ST_RDONLY != 0, nil
}

// readOnlyDisk is the refusal to write to a read-only file system.
func readOnlyDisk(path string) error {
	return fmt.Errorf("the file system of %s is read-only, by its mount or because the kernel found errors (dmesg says which): "+
		"mount it read-write, or move data_dir", path)
}

// minFree and 2 % of the file system: enough for what is under way, for the logs of others, and for a person to clean up.
const minFree = 256 << 20

// checkSpace is the rule for refusing writes.
func checkSpace(path string) error {
	free, floor, readOnly, err := lookAtDisk(path)
	if err != nil {
		return err
	}
	if readOnly {
		return readOnlyDisk(path)
	}
	if free < floor {
		return fmt.Errorf("%w: %d MiB are free on the file system of %s, writes need %d MiB: free some space, or move data_dir",
			hostdb.ErrStorageFull, free>>20, path, floor>>20)
	}
	return nil
}
