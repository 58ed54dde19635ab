package main

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"hostmesh/hostdb/textdiff"
	"hostmesh/node/api"
)

var errAborted = errors.New("aborted: nothing was changed")

// confirm asks unless -y was given.
func (h *hostdbRun) confirm(ctx context.Context, question string) error {
	ok, err := h.ask.yes(ctx, question, h.sure)
	if err == nil && !ok {
		err = errAborted
	}
	return err
}

// message is that of the options, else what is answered.
func (h *hostdbRun) message(ctx context.Context) (string, error) {
	if strings.TrimSpace(h.log) != "" {
		return h.log, nil
	}
	log, err := h.ask.line(ctx, "Message for the history: ")
	if err != nil {
		return "", fmt.Errorf("the message is missing (-m): %w", err)
	}
	h.log = log // it is asked for once
	return log, nil
}

// change carries a write out, and says what deserves a look.
func (h *hostdbRun) change(ctx context.Context, f func(context.Context) (api.Written, error)) error {
	done, err := within(h, ctx, f)
	for _, w := range done.Warnings {
		fmt.Fprintf(h.stderr, "warning: %s\n", visible(w))
	}
	return err
}

// create writes what must not be there yet.
func (h *hostdbRun) create(ctx context.Context, id, text, log string) error {
	return h.change(ctx, func(ctx context.Context) (api.Written, error) {
		return h.writes.PutNew(ctx, id, []byte(text), log)
	})
}

// put writes an id that is still as etag names it; "" = however it is.
func (h *hostdbRun) put(ctx context.Context, id, text, log, etag string) error {
	return h.change(ctx, func(ctx context.Context) (api.Written, error) {
		return h.writes.PutIf(ctx, id, []byte(text), log, etag)
	})
}

// current is what an id is now, as it would be edited. It is read where it will be written.
func (h *hostdbRun) current(ctx context.Context, id, revision string) (api.Text, error) {
	return within(h, ctx, func(ctx context.Context) (api.Text, error) {
		return h.writes.Lookup(ctx, id, api.Lookup{Raw: true, Revision: revision})
	})
}

func (h *hostdbRun) delete(ctx context.Context, id string) error {
	if err := h.login(ctx); err != nil {
		return err
	}
	if err := h.confirm(ctx, "Delete "+id+"?"); err != nil {
		return err
	}
	log, err := h.message(ctx)
	if err != nil {
		return err
	}
	return h.change(ctx, func(ctx context.Context) (api.Written, error) { return h.writes.Delete(ctx, id, log) })
}

func (h *hostdbRun) rename(ctx context.Context, id string) error {
	if err := h.login(ctx); err != nil {
		return err
	}
	before := strings.TrimRight(id, "/")
	after := before[:strings.LastIndexByte(before, '/')+1] + h.name
	if err := h.confirm(ctx, "Rename "+id+" to "+after+"?"); err != nil {
		return err
	}
	log, err := h.message(ctx)
	if err != nil {
		return err
	}
	return h.change(ctx, func(ctx context.Context) (api.Written, error) { return h.writes.Rename(ctx, id, h.name, log) })
}

// rollback writes what an id was. What was deleted since comes back.
func (h *hostdbRun) rollback(ctx context.Context, id string) error {
	if err := h.login(ctx); err != nil {
		return err
	}
	now, err := h.current(ctx, id, "")
	gone := notThere(err)
	switch {
	case gone:
		fmt.Fprintf(h.stderr, "%s does not exist now: it would be made anew\n", id)
	case err != nil:
		return err
	}
	then, err := h.current(ctx, id, h.rev)
	if err != nil {
		return err
	}
	if !gone && now.Text == then.Text {
		_, err := fmt.Fprintln(h.stdout, "No changes made.")
		return err
	}
	if _, err := fmt.Fprint(h.stdout, plainDiff(ended(now.Text), ended(then.Text))); err != nil {
		return err
	}
	if err := h.confirm(ctx, "Rollback "+id+"?"); err != nil {
		return err
	}
	log, err := h.message(ctx)
	if err != nil {
		return err
	}
	if gone {
		err = h.create(ctx, id, then.Text, log)
	} else {
		err = h.put(ctx, id, then.Text, log, now.ETag)
	}
	if api.Changed(err) {
		return fmt.Errorf("%w (somebody has changed it since it was shown: run the rollback again)", err)
	}
	return err
}

// ended is a text whose last line ends.
func ended(text string) string {
	if text == "" || strings.HasSuffix(text, "\n") {
		return text
	}
	return text + "\n"
}

// plainDiff is a difference in the form of diff without options, which Flipkart's command shows.
func plainDiff(from, to string) string {
	var b, removed, added strings.Builder
	flush := func() {
		b.WriteString(removed.String())
		if removed.Len() > 0 && added.Len() > 0 {
			b.WriteString("---\n")
		}
		b.WriteString(added.String())
		removed.Reset()
		added.Reset()
	}
	n := 0
	for line := range strings.Lines(textdiff.Unified("", "", from, to, 0)) {
		if n++; n <= 2 { // the names of the two
			continue
		}
		switch line[0] {
		case '@':
			flush()
			b.WriteString(plainHeader(line))
		case '-':
			removed.WriteString("< " + line[1:])
		case '+':
			added.WriteString("> " + line[1:])
		}
	}
	flush()
	return b.String()
}

// plainHeader is the header of a hunk, such as 3,4c5 of "@@ -3,2 +5 @@".
func plainHeader(header string) string {
	fields := strings.Fields(header)
	old, oldEmpty := plainRange(fields[1])
	now, nowEmpty := plainRange(fields[2])
	kind := "c"
	if oldEmpty {
		kind = "a"
	} else if nowEmpty {
		kind = "d"
	}
	return old + kind + now + "\n"
}

// plainRange is -3,2 as 3,4. An empty range is the line before it.
func plainRange(field string) (text string, empty bool) {
	first, count, several := strings.Cut(field[1:], ",")
	if !several || count == "0" {
		return first, several
	}
	from, _ := strconv.Atoi(first) // textdiff writes numbers
	n, _ := strconv.Atoi(count)
	return fmt.Sprintf("%d,%d", from, from+n-1), false
}
