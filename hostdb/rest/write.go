package rest

import (
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"strconv"
	"strings"

	"hostmesh/hostdb"
	"hostmesh/hostdb/auth"
)

// The bounds of Hostmesh-Warning.
const (
	maxWarnings = 16
	maxWarning  = 256 // bytes
)

// write is a PUT, POST or DELETE of an id.
type write struct {
	call
	who     auth.Identity
	log     string
	newname string
	acks    int  // what Hostmesh-Acks must reach; 0 is whatever it is
	dryRun  bool // make all checks, and write nothing

	// What is PUT, of the kind that the target takes. contentErr is why it cannot be understood: said only after
	// permission and existence.
	doc        hostdb.Document
	list       []hostdb.Member
	acl        hostdb.ACL
	contentErr error
}

// serve makes the checks of a write in their order: what the target takes, session, log, newname; then hostdb looks at
// permission, existence and content. Read-only mode went before them all.
func (w write) serve() error {
	if err := w.offered(); err != nil {
		return err
	}
	limit := int64(maxFormBody)
	if w.target.kind == kindMembers {
		limit = maxMembersBody
	}
	if err := w.readForm(limit); err != nil {
		return err
	}
	var err error
	if w.who, err = w.identity(); err != nil {
		return err
	}
	if w.log = w.params.get("log"); strings.TrimSpace(w.log) == "" {
		return fail(codeMissing, "Missing parameter: log")
	}
	if err := w.readNewname(); err != nil {
		return err
	}
	if err := w.readAcks(); err != nil {
		return err
	}
	if err := w.readDryRun(); err != nil {
		return err
	}
	if w.r.Method == http.MethodPut {
		w.readContent()
	}
	commit, err := w.Store.Update(w.r.Context(), hostdb.Request{
		User: w.who.User, Log: w.log, Allow: w.allow, Acks: max(0, w.acks-1), DryRun: w.dryRun, Override: w.params.get("override"),
	}, w.apply)
	if err != nil {
		return w.translate(err)
	}
	return w.answer(commit)
}

// offered refuses what no id of this kind takes.
func (w *write) offered() error {
	post, del := w.r.Method == http.MethodPost, w.r.Method == http.MethodDelete
	switch w.target.kind {
	case kindRoot, kindNamespace:
		return fail(codeNotAllowed, "Writes are not allowed on /"+w.target.String())
	case kindMembers, kindPerms:
		if post || del {
			return fail(codeNotAllowed, w.r.Method+" is not allowed on "+w.target.String())
		}
	}
	return nil
}

func (w *write) readNewname() error {
	if w.r.Method != http.MethodPost {
		return nil
	}
	name, ok := w.params.lookup("newname")
	if !ok {
		return fail(codeMissing, "Missing parameter: newname")
	}
	if name == "" {
		return fail(codeExists, "The new name is empty")
	}
	w.newname = name
	return nil
}

func (w *write) readAcks() error {
	text := w.params.get("acks")
	if text == "" {
		return nil
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < 1 || n > 10_000 {
		return fail(codeInvalid, "Bad acks="+text+": expected the number of boxes that must hold the write, this one included")
	}
	w.acks = n
	return nil
}

// readContent understands the value before the store is asked, which takes one writer at a time.
func (w *write) readContent() {
	switch w.target.kind {
	case kindKey, kindPath:
		w.doc, w.contentErr = w.document()
	case kindMembers:
		w.list, w.contentErr = w.members()
	case kindPerms:
		w.acl, w.contentErr = w.call.acl()
	}
}

// apply makes the write. It ends in an error when the content cannot be understood: what hostdb says of the same write
// without content comes first.
func (w *write) apply(tx *hostdb.Tx) error {
	if err := w.matches(tx.View()); err != nil {
		return err
	}
	if err := w.change(tx); err != nil {
		return err
	}
	if w.contentErr != nil && !w.inList(tx.View()) {
		return w.contentErr
	}
	return nil
}

func (w *write) change(tx *hostdb.Tx) error {
	t := &w.target
	switch w.r.Method {
	case http.MethodPut:
		switch t.kind {
		case kindKey:
			return tx.Put(t.ns, t.key, w.doc)
		case kindPath:
			return tx.PutPath(t.ns, t.key, t.path, w.doc)
		case kindMembers:
			return tx.SetMembers(t.ns, t.key, w.list)
		case kindMember:
			return tx.AddMember(t.ns, t.key, t.member)
		case kindPerms:
			return tx.SetPerms(t.ns, t.key, w.acl)
		}
	case http.MethodPost:
		switch t.kind {
		case kindKey:
			return tx.Rename(t.ns, t.key, w.newname)
		case kindPath:
			return tx.RenamePath(t.ns, t.key, t.path, w.newname)
		case kindMember:
			return tx.RenameMember(t.ns, t.key, t.member, w.newname)
		}
	case http.MethodDelete:
		switch t.kind {
		case kindKey:
			return tx.Delete(t.ns, t.key)
		case kindPath:
			return tx.DeletePath(t.ns, t.key, t.path)
		case kindMember:
			return tx.RemoveMember(t.ns, t.key, t.member)
		}
	}
	return fail(codeNotAllowed, w.r.Method+" is not allowed on "+t.String())
}

// inList reports whether the path names an item of a list, whose value is not looked at.
func (w *write) inList(v hostdb.View) bool {
	if w.target.kind != kindPath {
		return false
	}
	path := w.target.path
	value, leaf := v.Data(w.target.ns, w.target.key).At(path[:len(path)-1]...).Value()
	return leaf && value.IsSequence()
}

// translate gives what hostdb says of a missing key the code that its members have.
func (w *write) translate(err error) error {
	if (w.target.kind == kindMembers || w.target.kind == kindMember) && errors.Is(err, hostdb.ErrNoParent) {
		return fail(codeNotFound, err.Error())
	}
	return err
}

// answer tells what became of the write.
func (w *write) answer(commit hostdb.Commit) error {
	h := w.w.Header()
	h["Hostmesh-Version"] = []string{commit.Version.String()}
	for _, warning := range commit.Warnings[:min(len(commit.Warnings), maxWarnings)] {
		h["Hostmesh-Warning"] = append(h["Hostmesh-Warning"], oneLine(warning, maxWarning))
	}
	if w.dryRun {
		return w.answerDry(commit)
	}
	h["Hostmesh-Acks"] = []string{strconv.Itoa(commit.Acks)}
	if commit.Changed() {
		h["Hostmesh-Revision"] = []string{commit.Revision.String()}
	}
	if w.Logger.Enabled(w.r.Context(), slog.LevelDebug) { // else its arguments would cost every write
		w.Logger.Debug("write", "user", w.who.User, "via", w.who.Via, "method", w.r.Method, "id", w.target.String(),
			"revision", commit.Revision, "acks", commit.Acks)
	}
	// Nothing that changed nothing can be waited for: others hold what stands here, or get it with the write that made it.
	if commit.Changed() && commit.Acks < w.acks {
		return fail(codeAcks, fmt.Sprintf("Written as revision %s and held by %d of %d boxes in time; the write stands",
			commit.Revision, commit.Acks, w.acks))
	}
	h["Content-Length"] = zeroLength
	w.done()
	return nil
}

// done writes the status line of a write that was made, or would be.
func (w *write) done() {
	if w.r.Method == http.MethodDelete {
		writeHeader(w.w, w.r, http.StatusOK, "Object deleted")
		return
	}
	w.state(w.w.Header())
	writeHeader(w.w, w.r, http.StatusCreated, "Object created")
}

// state sets the headers that say how the target stands after the write.
func (w *write) state(h http.Header) {
	t, v := &w.target, w.Store.View()
	if t.kind == kindKey && w.r.Method == http.MethodPost {
		h["Mtime"] = noMtime
		return
	}
	item, exists := v.Get(t.ns, t.key)
	var etag string
	switch t.kind {
	case kindMembers, kindMember:
		h["Mtime"], etag = mtime(item.MembersModified()), item.ETag(hostdb.Members)
	case kindPerms:
		h["Mtime"], etag = mtime(v.PermsModified(t.ns, t.key)), item.ETag(hostdb.Perms)
	default:
		h["Mtime"], etag = mtime(item.Modified()), item.ETag(hostdb.Data)
	}
	if exists {
		h["Etag"] = []string{etag}
	}
}

// allow is hostdb.Request.Allow.
func (w *write) allow(v hostdb.View, ns, key string, what hostdb.Resource) error {
	t := &w.target
	if what != hostdb.Data || ns != t.ns || key != t.key {
		return w.who.Allow(v, ns, key, what)
	}
	switch {
	case t.kind == kindPath:
		return w.who.AllowPath(v, ns, key, t.path, w.newname)
	case w.r.Method == http.MethodPost:
		return w.who.Allow(v, ns, key, what)
	}
	return w.who.AllowChange(v, ns, key, v.Data(ns, key), w.doc)
}
