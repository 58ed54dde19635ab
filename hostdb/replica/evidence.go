package replica

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"time"

	"hostmesh/hostdb"
)

// maxEvidence is how many keys an evidence document names, and maxRows how many bytes of each one's rows.
const (
	maxEvidence = 1000
	maxRows     = 64 << 10
)

// evidence is what is kept for people about replicas that differed.
type evidence struct {
	Time      time.Time         `json:"time"`
	Node      string            `json:"node"`
	Peer      string            `json:"peer"`
	Version   string            `json:"version"`
	Algorithm int               `json:"algorithm"`
	Ours      map[string]string `json:"ours"`
	Theirs    map[string]string `json:"theirs"`
	Refold    map[string]string `json:"refold,omitempty"` // what our own log says
	Voices    int               `json:"voices,omitempty"` // replicas of the same version that were heard, this one included
	Verdict   string            `json:"verdict"`
	Error     string            `json:"error,omitempty"`
	Changed   int               `json:"changed"`
	Keys      []evidenceKey     `json:"keys,omitempty"`
}

// evidenceKey is a key that a repair changed: its rows in hexadecimal, or of what is secret their SHA-256.
type evidenceKey struct {
	NS        string   `json:"namespace"`
	Key       string   `json:"key"`
	Had       []string `json:"had,omitempty"`
	Has       []string `json:"has,omitempty"`
	HadSHA256 []string `json:"had_sha256,omitempty"`
	HasSHA256 []string `json:"has_sha256,omitempty"`
	Truncated bool     `json:"truncated,omitempty"`
}

func (e *evidence) differences(diffs []hostdb.Difference) {
	e.Changed = len(diffs)
	for _, d := range diffs[:min(len(diffs), maxEvidence)] {
		k := evidenceKey{NS: d.NS, Key: d.Key}
		if d.NS == hostdb.System {
			k.HadSHA256, k.HasSHA256 = hashes(d.Had), hashes(d.Has)
		} else {
			k.Had, k.Truncated = texts(d.Had)
			var cut bool
			k.Has, cut = texts(d.Has)
			k.Truncated = k.Truncated || cut
		}
		e.Keys = append(e.Keys, k)
	}
}

// hashes are the SHA-256 of rows; a row that is not there has none.
func hashes(rows [][]byte) []string {
	out := make([]string, len(rows))
	for i, row := range rows {
		if row != nil {
			sum := sha256.Sum256(row)
			out[i] = hex.EncodeToString(sum[:])
		}
	}
	return out
}

// texts are rows in hexadecimal, as many as there is room for.
func texts(rows [][]byte) (out []string, cut bool) {
	room := maxRows
	for _, row := range rows {
		if len(row) > room {
			return out, true
		}
		room -= len(row)
		out = append(out, hex.EncodeToString(row))
	}
	return out, false
}

// keepEvidence hands a document to who keeps it.
func (r *Replica) keepEvidence(e *evidence) {
	if r.cfg.Evidence == nil {
		return
	}
	doc, err := json.MarshalIndent(e, "", "  ")
	if err == nil {
		err = r.cfg.Evidence("mismatch-"+e.Time.UTC().Format("20060102T150405.000Z")+".json", append(doc, '\n'))
	}
	if err != nil {
		r.log.Warn("keep evidence", "err", err)
	}
}
