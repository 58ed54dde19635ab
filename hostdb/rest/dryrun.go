package rest

import (
	"encoding/json"
	"io"
	"strconv"

	"hostmesh/hostdb"
)

// effectItem is a change that a write would make, in JSON.
type effectItem struct {
	Kind   string          `json:"kind"`
	ID     string          `json:"id"` // of what changes: a key, its members or its perms
	Path   []string        `json:"path,omitempty"`
	Value  json.RawMessage `json:"value,omitempty"`
	Member string          `json:"member,omitempty"`
	Text   string          `json:"text,omitempty"` // comments before the member
	From   string          `json:"from,omitempty"` // the old name in a rename
}

// kindNames are what the kinds of effects are called in JSON.
var kindNames = map[hostdb.Kind]string{
	hostdb.CreateKey: "create", hostdb.DeleteKey: "delete", hostdb.SetLeaf: "set", hostdb.UnsetLeaf: "unset",
	hostdb.PutMember: "put-member", hostdb.RemoveMember: "remove-member", hostdb.SetPerms: "set-perms",
}

// readDryRun takes few spellings, unlike raw=: who writes dry_run=false means it.
func (w *write) readDryRun() error {
	switch text := w.params.get("dry_run"); text {
	case "", "0", "false":
	case "1", "true":
		w.dryRun = true
	default:
		return fail(codeInvalid, "Bad dry_run="+text+": expected true or false")
	}
	return nil
}

// answerDry tells what the write would do: with the status of the write, and in JSON with its effects.
func (w *write) answerDry(commit hostdb.Commit) error {
	h := w.w.Header()
	h["Hostmesh-Dry-Run"] = []string{"yes"}
	text := ""
	if wantsJSON(w.r.Header["Accept"]) {
		effects, err := effectItems(commit.Effects)
		if err != nil {
			return err
		}
		b, err := json.Marshal(effects)
		if err != nil {
			return err
		}
		text = string(b) + "\n"
		h["Content-Type"] = jsonType
		h["X-Content-Type-Options"] = noSniff
	}
	h["Content-Length"] = []string{strconv.Itoa(len(text))}
	w.done()
	_, _ = io.WriteString(w.w, text) // an error is the client's, who is gone
	return nil
}

func effectItems(effects []hostdb.Effect) ([]effectItem, error) {
	items := make([]effectItem, 0, len(effects))
	for _, e := range effects {
		if e.NS == hostdb.System {
			continue
		}
		item := effectItem{Kind: kindNames[e.Kind], ID: e.NS, Path: e.Path, Member: e.Member, Text: e.Text, From: e.From}
		if e.Key != "" {
			item.ID += "/" + e.Key
		}
		doc := hostdb.NewDocument(hostdb.Leaf{Value: e.Value})
		switch e.Kind {
		case hostdb.PutMember, hostdb.RemoveMember:
			item.ID += "/members"
		case hostdb.SetPerms:
			item.ID += "/perms"
			var err error
			if doc, err = hostdb.ParseDocument([]byte(e.Value.Scalar())); err != nil {
				return nil, err
			}
		}
		if e.Kind == hostdb.SetLeaf || e.Kind == hostdb.SetPerms {
			var err error
			if item.Value, err = json.Marshal(doc); err != nil {
				return nil, err
			}
		}
		items = append(items, item)
	}
	return items, nil
}
