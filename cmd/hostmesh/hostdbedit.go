package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"hostmesh/hostdb"
	"hostmesh/hostdb/textdiff"
	"hostmesh/node/api"
)

// idKind is what an id names, as far as its text is concerned.
type idKind uint8

const (
	aDocument idKind = iota // data, or a value inside it
	aList                   // a member list
	aMember                 // one member, which has no text
	anACL                   // an access list
)

func kindOf(id string) idKind {
	parts := strings.Split(strings.Trim(id, "/"), "/")
	switch {
	case len(parts) == 3 && parts[2] == "members":
		return aList
	case len(parts) > 3 && parts[2] == "members":
		return aMember
	case len(parts) == 3 && parts[2] == "perms":
		return anACL
	}
	return aDocument
}

// check reads a text as the server will. What the rules of sections say, only the server knows.
func (k idKind) check(text string) error {
	var err error
	switch k {
	case aList:
		_, err = hostdb.ParseMembers(text)
	case anACL:
		_, err = hostdb.ParseACL([]byte(text))
	default:
		_, err = hostdb.ParseDocument([]byte(text))
	}
	return err
}

// add makes what is not there yet. That it is not is looked at first, as Flipkart's command does.
func (h *hostdbRun) add(ctx context.Context, id string) error {
	_, err := h.current(ctx, id, "")
	switch {
	case err == nil:
		return fmt.Errorf("%s exists already: change it with hostdb edit", id)
	case !notThere(err):
		return err
	}
	if err := h.login(ctx); err != nil {
		return err
	}
	switch {
	case kindOf(id) == aMember:
		log, err := h.message(ctx)
		if err != nil {
			return err
		}
		return h.create(ctx, id, "", log)
	case h.file != "":
		return h.fromFile(ctx, id, func(text, log string) error { return h.create(ctx, id, text, log) })
	}
	return h.inEditor(ctx, id, api.Text{}, "add")
}

func (h *hostdbRun) edit(ctx context.Context, id string) error {
	if kindOf(id) == aMember {
		return fmt.Errorf("%s is one member, which has no text: use add, rename or delete, or edit the list", id)
	}
	if err := h.login(ctx); err != nil {
		return err
	}
	if h.file != "" {
		return h.fromFile(ctx, id, func(text, log string) error { return h.put(ctx, id, text, log, "") })
	}
	now, err := h.current(ctx, id, "")
	if err != nil {
		return err
	}
	return h.inEditor(ctx, id, now, "edit")
}

// fromFile writes what a file says, without a look at what is there.
func (h *hostdbRun) fromFile(ctx context.Context, id string, write func(text, log string) error) error {
	text, err := os.ReadFile(h.file)
	if err != nil {
		return fmt.Errorf("read the source: %w", err)
	}
	if err := kindOf(id).check(string(text)); err != nil {
		fmt.Fprintf(h.stderr, "%s: %v\n", h.file, err)
		if err := h.confirm(ctx, "The source is not valid. Continue?"); err != nil {
			return err
		}
	}
	log, err := h.message(ctx)
	if err != nil {
		return err
	}
	return write(string(text), log)
}

// editing is a text that a person is changing.
type editing struct {
	*hostdbRun
	id      string
	command string   // add or edit
	base    api.Text // what is there; its text ends in a newline
	path    string   // the file that the editor is given
}

// inEditor has a person change a text until it is saved or given up. A text that was changed and not saved stays in its file.
func (h *hostdbRun) inEditor(ctx context.Context, id string, base api.Text, command string) error {
	dir, err := os.MkdirTemp("", "hostdb-") // 0700
	if err != nil {
		return fmt.Errorf("make a file for the editor: %w", err)
	}
	base.Text = ended(base.Text)
	suffix := ".yaml"
	if kindOf(id) == aList {
		suffix = ".txt"
	}
	e := &editing{hostdbRun: h, id: id, command: command, base: base,
		path: filepath.Join(dir, strings.ReplaceAll(strings.Trim(id, "/"), "/", "_")+suffix)}
	if err = os.WriteFile(e.path, []byte(base.Text), 0o600); err != nil {
		err = fmt.Errorf("make a file for the editor: %w", err)
	} else {
		err = e.loop(ctx)
	}
	if text, readErr := os.ReadFile(e.path); err != nil && readErr == nil && string(text) != base.Text {
		return fmt.Errorf("%w\nyour text is in %s; hostdb %s -f %s %s sends it", err, e.path, e.command, e.path, id)
	}
	return errors.Join(err, os.RemoveAll(dir))
}

// loop lets the text be edited again for as long as something is wrong with it and the person wants to.
func (e *editing) loop(ctx context.Context) error {
	for {
		text, err := e.runEditor()
		if err != nil {
			return err
		}
		if text == e.base.Text && e.command == "edit" {
			_, err := fmt.Fprintln(e.stdout, "No changes made.")
			return err
		}
		err = kindOf(e.id).check(text)
		if err == nil || e.sure { // whoever is sure has the server decide
			if err = e.save(ctx, text); err == nil {
				return nil
			}
		}
		var refused *api.Error
		switch {
		case e.sure, errors.Is(err, errAborted), errors.Is(err, errNoAnswer):
			return err
		case api.Changed(err):
			if moved := e.rebase(ctx); moved != nil {
				return errors.Join(err, moved)
			}
		case errors.As(err, &refused) && !ofText(refused):
			return err
		case errors.As(err, &refused), kindOf(e.id).check(text) != nil:
			fmt.Fprintf(e.stderr, "%v\n", err)
		default:
			return err
		}
		if again, asked := e.ask.yes(ctx, "Edit again?", false); asked != nil || !again {
			return errors.Join(err, asked)
		}
	}
}

// ofText reports whether a refusal may be about what was written, so that another text may do.
func ofText(refused *api.Error) bool {
	switch refused.Status {
	case 400, 404, 413, 422:
		return true
	}
	return false
}

// save shows the difference, asks, and writes.
func (e *editing) save(ctx context.Context, text string) error {
	if !e.sure {
		if _, err := fmt.Fprint(e.stdout, textdiff.Unified(e.id, e.id+" (new)", e.base.Text, text, textdiff.Context)); err != nil {
			return err
		}
	}
	question := "Save " + e.id + "?"
	if e.command == "add" {
		question = "Add " + e.id + "?"
	}
	if strings.TrimSpace(text) == "" {
		question = "The text is empty. " + question
	}
	if err := e.confirm(ctx, question); err != nil {
		return err
	}
	log, err := e.message(ctx)
	if err != nil {
		return err
	}
	if e.command == "add" {
		return e.create(ctx, e.id, text, log)
	}
	return e.put(ctx, e.id, text, log, e.base.ETag)
}

// rebase shows what somebody else has written since, and takes it for what is there.
func (e *editing) rebase(ctx context.Context) error {
	now, err := e.current(ctx, e.id, "")
	if err != nil {
		return err
	}
	now.Text = ended(now.Text)
	e.command = "edit" // what was to be added is there now
	fmt.Fprintf(e.stderr, "somebody else has changed %s since; this is their change, which your text undoes where it lacks it:\n", e.id)
	if _, err := fmt.Fprint(e.stdout, textdiff.Unified(e.id, e.id+" (theirs)", e.base.Text, now.Text, textdiff.Context)); err != nil {
		return err
	}
	e.base = now
	return nil
}

// runEditor runs the person's editor on the file, and returns what is in it then.
func (e *editing) runEditor() (string, error) {
	editor := e.getenv("VISUAL")
	if editor == "" {
		editor = e.getenv("EDITOR")
	}
	if editor == "" {
		editor = "vi"
		if _, err := exec.LookPath("vim"); err == nil { // as Flipkart's command
			editor = "vim"
		}
	}
	// An editor may have arguments, which the shell takes apart.
	cmd := exec.Command("sh", "-c", editor+` "$@"`, editor, e.path)
	cmd.Stdin, cmd.Stdout, cmd.Stderr, cmd.Env = e.stdin, e.stdout, e.stderr, e.environ
	if err := cmd.Run(); err != nil {
		return "", fmt.Errorf("the editor %q: %w", editor, err)
	}
	text, err := os.ReadFile(e.path)
	if err != nil {
		return "", fmt.Errorf("read what was edited: %w", err)
	}
	return string(text), nil
}
