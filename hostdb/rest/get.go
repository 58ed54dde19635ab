package rest

import (
	"encoding/json"
	"io"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"hostmesh/hostdb"
)

// format says how the text of an answer is to be understood.
type format uint8

const (
	asText  format = iota
	asYAML         // a document, ended by a newline
	asLines        // a list, without a newline at the end
	asBlame        // lines, each ended by a newline; items say in JSON what they do
)

// answer is what a GET says.
type answer struct {
	text   string
	format format
	mtime  time.Time // zero is an empty Mtime
	etag   string    // "" is none
	exact  bool      // equal ETags are equal answers: not so where others' writes show, as in inherited members
	sorted bool      // a list that can be had in pages
	items  []any     // in JSON, one for each line; nil where the text itself says all
}

// get serves GET and HEAD of ids.
func (c *call) get() error {
	if c.r.URL.RawQuery != "" {
		c.params.parse(c.r.URL.RawQuery)
	}
	if err := c.lookBack(); err != nil {
		return err
	}
	var a answer
	var err error
	switch meta := c.params.get("meta"); meta {
	case "":
		if list := c.params.get("foreach"); list != "" {
			a, err = c.foreach(list)
		} else {
			a, err = c.read()
		}
	case "parents", "parent", "derived": // the Go client asks for "parent"
		a, err = c.hostMeta(meta)
	case "revisions":
		a, err = c.revisions()
	case "blame":
		a, err = c.blame()
	default:
		err = fail(codeInvalid, "Unknown meta="+meta+": expected parents, derived, revisions or blame")
	}
	if err != nil {
		return err
	}
	if c.past() {
		a.etag = "" // of another state: no If-Match could mean it
	}
	return c.answer(a)
}

// read is the answer to a plain GET.
func (c *call) read() (answer, error) {
	t, v := &c.target, c.view
	switch t.kind {
	case kindRoot:
		return c.list("", namespaces), nil
	case kindNamespace:
		if !v.HasNamespace(t.ns) {
			return answer{}, notThere(t)
		}
		return c.list(t.ns, keys), nil
	case kindPerms:
		return c.perms()
	}
	item, ok := v.Get(t.ns, t.key)
	if !ok {
		return answer{}, notThere(t)
	}
	switch t.kind {
	case kindKey:
		return answer{text: item.YAML(), format: asYAML, mtime: item.Modified(), etag: item.ETag(hostdb.Data), exact: true}, nil
	case kindPath:
		sub, err := at(item, t)
		if err != nil {
			return answer{}, err
		}
		return answer{text: sub.YAML(), format: asYAML, mtime: item.Modified(), etag: item.ETag(hostdb.Data), exact: true}, nil
	case kindMember:
		if !hasMember(v, t) {
			return answer{}, notThere(t)
		}
		return answer{text: t.member, format: asText, mtime: item.MembersModified(), etag: item.ETag(hostdb.Members), exact: !isAll(t)}, nil
	}
	a := answer{format: asLines, mtime: item.MembersModified(), etag: item.ETag(hostdb.Members)}
	if c.params.isSet("raw") && !isAll(t) {
		a.text, a.exact = v.RawMembers(t.ns, t.key), true
	} else {
		return c.keep(listKey{"members", t.ns, t.key}, func() answer {
			a.text, a.sorted = strings.Join(v.Members(t.ns, t.key), "\n"), true
			return a
		}), nil
	}
	return a, nil
}

// list is a list of the root or of a namespace. Those of the newest state are kept.
func (c *call) list(ns string, build func(v hostdb.View, ns string) answer) answer {
	return c.keep(listKey{what: "keys", ns: ns}, func() answer { return build(c.view, ns) })
}

// keep is an answer that is made once for each state of the replica.
func (c *call) keep(k listKey, build func() answer) answer {
	if c.past() {
		return build()
	}
	return c.lists.get(c.view, k, build)
}

func notThere(t *target) error { return fail(codeNotFound, "Resource "+t.String()+" does not exist") }

// at is what stands at the path of t.
func at(item hostdb.Item, t *target) (hostdb.Document, error) {
	doc := item.Data()
	if !doc.IsMapping() {
		return hostdb.Document{}, fail(codeNotMapping, "The data of "+t.ns+"/"+t.key+" is not a mapping")
	}
	sub := doc.At(t.path...)
	if !sub.Exists() {
		return hostdb.Document{}, notThere(t)
	}
	return sub, nil
}

// isAll reports whether t is about tags/all, whose members nobody wrote.
func isAll(t *target) bool { return t.ns == hostdb.Tags && t.key == hostdb.AllTag }

func hasMember(v hostdb.View, t *target) bool {
	if isAll(t) {
		_, ok := slices.BinarySearch(v.Members(t.ns, t.key), t.member)
		return ok
	}
	return v.HasMember(t.ns, t.key, t.member)
}

// perms is the access list of a key that exists, maybe empty, or that of a namespace if it was written.
func (c *call) perms() (answer, error) {
	t := &c.target
	a := answer{format: asYAML, mtime: c.view.PermsModified(t.ns, t.key)}
	item, exists := c.view.Get(t.ns, t.key)
	if exists {
		a.etag, a.exact = item.ETag(hostdb.Perms), true
	}
	acl, written := c.view.Perms(t.ns, t.key)
	if !exists && !written {
		return answer{}, notThere(t)
	}
	a.text = acl.YAML()
	return a, nil
}

// hostMeta is what the member lists of a namespace say of a host.
func (c *call) hostMeta(meta string) (answer, error) {
	t, from := &c.target, c.params.get("from")
	switch {
	case from == "":
		return answer{}, fail(codeMissing, "Missing parameter: from")
	case t.ns != hostdb.Hosts:
		return answer{}, fail(codeNotAllowed, "Only hosts have "+meta+": the namespace must be hosts")
	case t.key == "":
		return answer{}, fail(codeMissing, "Missing host in the id")
	}
	if err := hostdb.CheckName(from); err != nil {
		return answer{}, err
	}
	if !c.view.HasNamespace(from) {
		return answer{}, fail(codeNotFound, "Resource "+from+" does not exist")
	}
	return c.keep(listKey{meta, from, t.key}, func() answer {
		host, _ := c.view.Get(hostdb.Hosts, t.key)
		parents := c.view.Parents(t.key, from)
		if meta != "derived" {
			return answer{text: strings.Join(parents, "\n"), format: asLines, mtime: host.Modified()}
		}
		var m mapping
		for _, key := range parents {
			m.set(key, c.view.Data(from, key))
		}
		return answer{text: m.yaml(), format: asYAML, mtime: host.Modified()}
	}), nil
}

// mapping gathers documents under names.
type mapping struct{ leaves []hostdb.Leaf }

func (m *mapping) set(name string, doc hostdb.Document) {
	if !doc.Exists() {
		m.leaves = append(m.leaves, hostdb.Leaf{Path: hostdb.PathOf(name), Value: hostdb.Null})
		return
	}
	for path, value := range doc.Leaves() {
		full := hostdb.PathOf(name)
		if path != "" {
			full = hostdb.PathOf(name, string(path))
		}
		m.leaves = append(m.leaves, hostdb.Leaf{Path: full, Value: value})
	}
}

func (m *mapping) yaml() string {
	if len(m.leaves) == 0 {
		return "{}\n"
	}
	return hostdb.NewDocument(m.leaves...).YAML()
}

var (
	plainType = []string{"text/plain; charset=utf-8"}
	jsonType  = []string{"application/json"}
	noSniff   = []string{"nosniff"}
	noMtime   = []string{""}
)

// answer sends a, after search and in the form that the client wants.
func (c *call) answer(a answer) error {
	h := c.w.Header()
	contentType := plainType
	if a.exact && a.etag != "" && c.has(a.etag) {
		h["Etag"], h["Mtime"] = []string{a.etag}, mtime(a.mtime)
		c.w.WriteHeader(http.StatusNotModified)
		return nil
	}
	var err error
	if search := c.params.get("search"); search != "" {
		if a.text, a.items, err = matching(a.text, search, a.items); err != nil {
			return err
		}
		if a.format == asYAML {
			a.format = asText // some lines of a document are no document
		}
	}
	if a.sorted {
		if a.text, err = c.page(a.text); err != nil {
			return err
		}
	}
	if a.format != asText && wantsJSON(c.r.Header["Accept"]) {
		text, err := toJSON(a)
		if err != nil {
			return err
		}
		a.text, contentType = text, jsonType
	}
	h["Content-Type"] = contentType
	h["X-Content-Type-Options"] = noSniff
	// One allocation for the headers that differ from answer to answer.
	values := []string{strconv.Itoa(len(a.text)), mtimeText(a.mtime), a.etag}
	h["Content-Length"], h["Mtime"] = values[0:1:1], values[1:2:2]
	if a.etag != "" {
		h["Etag"] = values[2:3:3]
	}
	c.w.WriteHeader(http.StatusOK)
	if c.r.Method != http.MethodHead {
		writeText(c.w, a.text)
	}
	return nil
}

// largeText is above what net/http gathers before it writes. A longer string would go through that buffer piece by piece,
// with a system call for every other; bytes go out at once.
const largeText = 2 << 10

// writeText writes a body. An error is the client's, who is gone.
func writeText(w http.ResponseWriter, text string) {
	if len(text) > largeText {
		_, _ = w.Write([]byte(text))
		return
	}
	_, _ = io.WriteString(w, text)
}

func mtime(t time.Time) []string { return []string{mtimeText(t)} }

func mtimeText(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return strconv.FormatInt(t.Unix(), 10)
}

// wantsJSON reports whether JSON is named in an Accept header.
func wantsJSON(accept []string) bool {
	for _, line := range accept {
		for part := range strings.SplitSeq(line, ",") {
			media, _, _ := strings.Cut(part, ";")
			if strings.EqualFold(strings.TrimSpace(media), "application/json") {
				return true
			}
		}
	}
	return false
}

func toJSON(a answer) (string, error) {
	var value any
	if a.items != nil {
		value = a.items
	} else if a.format == asLines {
		list := []string{}
		if a.text != "" {
			list = strings.Split(a.text, "\n")
		}
		value = list
	} else {
		doc, err := hostdb.ParseDocument([]byte(a.text))
		if err != nil {
			return "", err
		}
		value = doc.Any()
	}
	b, err := json.Marshal(value)
	return string(b) + "\n", err
}
