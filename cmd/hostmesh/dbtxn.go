package main

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"hostmesh/hostdb"
	"hostmesh/node/api"
)

func (a *app) dbTxnCommand() *cobra.Command {
	var file, log string
	var dryRun bool
	var override string
	var acks int
	cmd := &cobra.Command{
		Use:   "txn -f FILE",
		Short: "Change several keys at once, if things are as you saw them",
		Long: `Makes one change of several: first all that stands under "compare" must hold,
then all that stands under "effects" is done, in order, as one revision that
becomes visible as a whole. When something does not hold, nothing is done, and
each key that is not as said is named.

The file is YAML or JSON; - is the standard input:

  log: web9 takes over from web8
  compare:
    - {id: hosts/web9.dc1.example.com, exists: true}
    - {id: tags/web/DNS/TTL, equals: 30}       # or etag:, or revision:
  effects:
    - {op: put_path, id: hosts/web9.dc1.example.com/Status, value: active}
    - {op: rename_member, id: tags/web/members/web8.dc1.example.com,
       newname: web9.dc1.example.com}

Operations: put, put_path, delete, delete_path, rename, rename_path,
set_members, add_member, remove_member, rename_member, set_perms. A mapping key
with a slash goes into a path of its own: path: [LB, Ports, 53/udp].

Compares hold on the agent that takes the write: two that are cut off from each
other may both accept.`,
		Example: `  hostmesh db txn -f takeover.yaml --dry-run
  hostmesh db txn -f takeover.yaml -m "web9 takes over"`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, args []string) error {
			text, err := a.value(nil, file)
			if err != nil {
				return err
			}
			a.started = true
			t, err := parseTxn(text)
			if err != nil {
				return fmt.Errorf("%s: %w", file, err)
			}
			t.Log, t.DryRun, t.Override = orDefault(log, t.Log), dryRun || t.DryRun, cmp.Or(override, t.Override)
			return a.ask(func(ctx context.Context, c *api.Client, _ []string) error {
				done, err := c.Txn(ctx, t, acks)
				var answer *api.Error
				if errors.As(err, &answer) {
					for _, x := range answer.Current {
						fmt.Fprintf(a.stderr, "compare %d: %s\n", x.Compare+1, visible(currentText(x)))
					}
				}
				if err != nil {
					return err
				}
				return a.print(done, func(w io.Writer) { txnText(w, done) })
			})(cmd, args)
		},
	}
	cmd.Flags().StringVarP(&file, "file", "f", "", "take the transaction from `FILE` (required)")
	messageFlag(cmd, &log, "why, for those who read the history (default: log of the file)")
	cmd.Flags().BoolVar(&dryRun, "dry-run", false, "make all checks, print what would change, and write nothing")
	overrideFlag(cmd, &override)
	cmd.Flags().IntVar(&acks, "acks", 0, "`NUMBER` of boxes that must hold the write; exit code 1 when they do not in time (the write stands)")
	_ = cmd.MarkFlagRequired("file")
	a.outputFlag(cmd)
	return cmd
}

// parseTxn reads a transaction. Values of YAML keep their spelling; JSON is sent as it is.
func parseTxn(text []byte) (t api.Txn, err error) {
	if json.Valid(text) {
		return decodeTxn(text)
	}
	doc, err := hostdb.ParseDocument(text)
	if err != nil {
		return t, err
	}
	if !doc.IsMapping() {
		return t, errors.New("not a transaction: expected log, compare and effects")
	}
	// The values go as text, what is left as JSON.
	rest, err := json.Marshal(doc)
	if err != nil {
		return t, err
	}
	if t, err = decodeTxn(rest); err != nil {
		return t, err
	}
	for i, effect := range doc.At("effects").Items() {
		if value := effect.At("value"); value.Exists() {
			spelt := value.YAML()
			t.Effects[i].Value, t.Effects[i].YAML = nil, &spelt
		}
	}
	return t, nil
}

func decodeTxn(text []byte) (t api.Txn, err error) {
	dec := json.NewDecoder(bytes.NewReader(text))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&t); err != nil {
		return t, fmt.Errorf("not a transaction: %s", strings.TrimPrefix(err.Error(), "json: "))
	}
	return t, nil
}

func txnText(w io.Writer, done api.WriteResult) {
	for _, x := range done.Warnings {
		row(w, "warning: "+x)
	}
	for _, c := range done.Changes {
		row(w, changeText(c))
	}
	if done.More > 0 {
		row(w, "and "+plural(done.More, "more change", "more changes"))
	}
	switch {
	case done.DryRun:
		row(w, "nothing was written: this was a dry run")
	case done.Revision == "":
		row(w, "everything was so already")
	default:
		row(w, "revision "+done.Revision+", held by "+plural(done.Acks, "box", "boxes"))
	}
}

// currentText is how a key stands that is not as a compare says.
func currentText(c api.Current) string {
	if !c.Exists {
		return c.ID + " does not exist"
	}
	text := fmt.Sprintf("%s has etag %s and members_etag %s", c.ID, c.ETag, c.MembersETag)
	if c.Revision != "" {
		text += ", its data was last written by " + c.Revision
	}
	return text
}
