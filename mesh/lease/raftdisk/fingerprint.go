package raftdisk

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"strings"
)

const (
	fingerprintFile    = "fingerprint.json"
	fingerprintVersion = 1
)

// fingerprint names the raft state and tells whether it still is where it was made. It is written once, with the state.
type fingerprint struct {
	Version int    `json:"version"`
	RaftID  string `json:"raft_id"`
	Node    string `json:"node"`
	Machine string `json:"machine,omitempty"` // a digest of the machine's id
	// See FS.Identity. A copy has a directory and files of its own; tools that write back only what changed replace the vote file.
	Directory string `json:"directory"`
	File      string `json:"file"`
	Vote      string `json:"vote"`
}

// measure is the fingerprint as it would be now. file is the fingerprint's own file.
func measure(fsys FS, dir, node, file string) (f fingerprint, err error) {
	machine, err := fsys.MachineID()
	if err != nil {
		return f, fmt.Errorf("read the machine's id: %w", err)
	}
	if machine != "" { // which is not to be shown to others
		sum := sha256.Sum256([]byte("hostmesh raft directory\x00" + machine))
		machine = hex.EncodeToString(sum[:16])
	}
	f = fingerprint{Version: fingerprintVersion, Node: node, Machine: machine}
	for _, of := range []struct {
		into *string
		path string
	}{{&f.Directory, dir}, {&f.File, file}, {&f.Vote, filepath.Join(dir, stateDir, voteFile)}} {
		if *of.into, err = fsys.Identity(of.path); err != nil {
			return f, err
		}
	}
	return f, nil
}

// differs says why state with one fingerprint must not be used where the other was measured; "" when it may.
func (f fingerprint) differs(now fingerprint) string {
	var why []string
	if f.Node != now.Node {
		why = append(why, fmt.Sprintf("it was made by node %s", f.Node))
	}
	if f.Machine != now.Machine {
		why = append(why, "it was made on another machine, or this one has a new machine-id")
	}
	if f.Directory != now.Directory || f.File != now.File || f.Vote != now.Vote {
		why = append(why, "it is a copy or was restored")
	}
	return strings.Join(why, "; ")
}

// readFingerprint returns nil when there is none.
func readFingerprint(fsys FS, dir string) (*fingerprint, error) {
	path := filepath.Join(dir, fingerprintFile)
	text, err := readFile(fsys, path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var f fingerprint
	if err := decodeFile(path, text, fingerprintVersion, &f, func() int { return f.Version }); err != nil {
		return nil, err
	}
	if f.RaftID == "" || f.Node == "" {
		return nil, damaged(path, 0, "it names no raft id")
	}
	return &f, nil
}

// createState makes new raft state. Its fingerprint comes last: without it there is no state.
func createState(fsys FS, dir, node string, segment int64) error {
	state := filepath.Join(dir, stateDir)
	snapshots := filepath.Join(state, snapshotDir)
	for _, name := range []string{state, snapshots} {
		if err := fsys.Mkdir(name); err != nil {
			return err
		}
	}
	if err := createVotes(fsys, filepath.Join(state, voteFile)); err != nil {
		return err
	}
	if err := createLog(fsys, state, segment); err != nil {
		return err
	}
	for _, name := range []string{state, dir} {
		if err := fsys.SyncDir(name); err != nil {
			return err
		}
	}
	var id [8]byte
	if _, err := rand.Read(id[:]); err != nil {
		return err
	}
	return replaceFile(fsys, filepath.Join(dir, fingerprintFile), func(tmp string) ([]byte, error) {
		f, err := measure(fsys, dir, node, tmp)
		if err != nil {
			return nil, err
		}
		f.RaftID = node + "." + hex.EncodeToString(id[:])
		return encodeJSON(f)
	})
}

const (
	asideDir   = "aside"
	reasonFile = "reason"

	lostFingerprint = "its fingerprint is gone"
)

// discard puts all that is there aside, where it stays until the next time, for whoever wants to know what happened. The fingerprint
// goes first: what is found without one is not used.
func discard(fsys FS, dir, reason string) error {
	aside := filepath.Join(dir, asideDir)
	if err := removeTree(fsys, aside); err != nil {
		return err
	}
	if err := fsys.Mkdir(aside); err != nil {
		return err
	}
	err := replaceFile(fsys, filepath.Join(aside, reasonFile), func(string) ([]byte, error) { return []byte(reason + "\n"), nil })
	if err != nil {
		return err
	}
	if err := fsys.SyncDir(dir); err != nil {
		return err
	}
	for _, name := range []string{fingerprintFile, groupFile, stateDir} {
		err := fsys.Rename(filepath.Join(dir, name), filepath.Join(aside, name))
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		if err := fsys.SyncDir(dir); err != nil {
			return err
		}
	}
	return fsys.SyncDir(aside)
}

// interrupted is the reason of a discard that did not come to its end, or of state that lost its fingerprint; "" when there is nothing.
func interrupted(fsys FS, dir string) (string, error) {
	names, err := fsys.ReadDir(dir)
	if err != nil {
		return "", err
	}
	found := map[string]bool{}
	for _, name := range names {
		found[name] = true
	}
	text, err := readFile(fsys, filepath.Join(dir, asideDir, reasonFile))
	switch {
	case err == nil && len(text) > 0:
		return strings.TrimSpace(string(text)), nil
	case err != nil && !errors.Is(err, fs.ErrNotExist):
		return "", err
	case found[groupFile]:
		return lostFingerprint, nil
	case !found[stateDir]:
		return "", nil
	}
	// State that was begun and never named holds nothing.
	votes, err := readFile(fsys, filepath.Join(dir, stateDir, voteFile))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return "", err
	}
	for at := 0; at+slotSize <= len(votes); at += slotSize {
		if _, values, _, err := decodeSlot(votes[at : at+slotSize]); err != nil || len(values) > 0 {
			return lostFingerprint, err
		}
	}
	return "", nil
}
