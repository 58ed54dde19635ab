package api

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"unicode"

	"hostmesh/hostdb"
)

// documentOfJSON reads JSON as a document. Numbers keep their spelling; a key that stands twice in one object is refused.
// Errors wrap hostdb's sentinels.
func documentOfJSON(text []byte) (hostdb.Document, error) {
	yaml, err := yamlOfJSON(text)
	if err != nil {
		return hostdb.Document{}, fmt.Errorf("%w: %w", hostdb.ErrInvalid, err)
	}
	return hostdb.ParseDocument(yaml)
}

// yamlOfJSON writes JSON in the part of it that YAML reads alike: YAML has no surrogate pairs, no escaped slash, and
// wants more characters escaped. It goes by tokens, so that depth costs no stack and nothing is lost.
func yamlOfJSON(text []byte) ([]byte, error) {
	dec := json.NewDecoder(bytes.NewReader(text))
	dec.UseNumber()
	var out bytes.Buffer
	// What stands open, outermost first; an object's entries count its keys, too.
	type level struct {
		object bool
		n      int
	}
	var open []level
	for {
		tok, err := dec.Token()
		if err == io.EOF && out.Len() > 0 && len(open) == 0 {
			return out.Bytes(), nil
		}
		if err != nil {
			return nil, fmt.Errorf("invalid JSON: %w", err)
		}
		if len(open) == 0 && out.Len() > 0 {
			return nil, fmt.Errorf("invalid JSON: more than one value")
		}
		if d, ok := tok.(json.Delim); ok && (d == '}' || d == ']') {
			out.WriteByte(byte(d))
			open = open[:len(open)-1]
			continue
		}
		if len(open) > 0 {
			top := &open[len(open)-1]
			switch {
			case top.object && top.n%2 == 1:
				out.WriteString(": ")
			case top.n > 0:
				out.WriteString(", ")
			}
			top.n++
		}
		switch v := tok.(type) {
		case json.Delim:
			out.WriteByte(byte(v))
			open = append(open, level{object: v == '{'})
		case string:
			quote(&out, v)
		case json.Number:
			out.WriteString(v.String())
		case bool:
			out.WriteString(strconv.FormatBool(v))
		case nil:
			out.WriteString("null")
		}
	}
}

// quote writes text as a double-quoted scalar.
func quote(out *bytes.Buffer, text string) {
	out.WriteByte('"')
	for _, r := range text {
		switch {
		case r == '"' || r == '\\':
			out.WriteByte('\\')
			out.WriteRune(r)
		case r == ' ' || unicode.IsPrint(r):
			out.WriteRune(r)
		case r > 0xffff:
			fmt.Fprintf(out, `\U%08x`, r)
		default:
			fmt.Fprintf(out, `\u%04x`, r)
		}
	}
	out.WriteByte('"')
}

// jsonOf is a document as JSON; null when it is not there.
func jsonOf(d hostdb.Document) (json.RawMessage, error) {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(d.Any()); err != nil {
		return nil, fmt.Errorf("write the data as JSON: %w", err)
	}
	return bytes.TrimSuffix(b.Bytes(), []byte("\n")), nil
}

// mergePatch is doc changed as a JSON merge patch says (RFC 7396). What the patch does not name keeps its spelling.
func mergePatch(doc, patch hostdb.Document) hostdb.Document {
	if !patch.IsMapping() {
		return patch
	}
	type leaf struct {
		value hostdb.Value
		merge bool // an object in which nothing changes: what is there stays if it is one
	}
	patched := map[hostdb.Path]leaf{}
	through := map[hostdb.Path]bool{} // what must be an object for the patch to go on below it
	for p, v := range patch.Leaves() {
		object := v == emptyObject
		patched[p] = leaf{v, object && doc.At(p.Segments()...).IsMapping()}
		if object {
			through[p] = true
		}
		for up := range ancestors(p) {
			through[up] = true
		}
	}
	var out []hostdb.Leaf
	for p, v := range doc.Leaves() {
		if through[p] {
			continue // it is no object, or an empty one
		}
		keep := true
		for up := range ancestors(p) {
			if x, ok := patched[up]; ok && !x.merge {
				keep = false
				break
			}
		}
		if _, ok := patched[p]; keep && !ok {
			out = append(out, hostdb.Leaf{Path: p, Value: v})
		}
	}
	for p, x := range patched {
		if !x.merge && !x.value.IsNull() && x.value != emptyObject {
			out = append(out, hostdb.Leaf{Path: p, Value: x.value})
		}
	}
	// Objects that nothing stands in any more are still there.
	full := map[hostdb.Path]bool{}
	fill := func(p hostdb.Path) {
		full[p] = true
		for up := range ancestors(p) {
			full[up] = true
		}
	}
	for _, l := range out {
		fill(l.Path)
	}
	objects := make([]hostdb.Path, 0, len(through))
	for p := range through {
		objects = append(objects, p)
	}
	slices.SortFunc(objects, func(a, b hostdb.Path) int { return len(b) - len(a) })
	for _, p := range objects {
		if !full[p] {
			out = append(out, hostdb.Leaf{Path: p, Value: emptyObject})
			fill(p)
		}
	}
	return hostdb.NewDocument(out...)
}

// emptyObject is the value of {}.
var emptyObject = func() hostdb.Value {
	d, err := hostdb.ParseDocument([]byte("{}"))
	if err != nil {
		panic(err)
	}
	v, _ := d.Value()
	return v
}()

// ancestors yields the paths above p, the root last.
func ancestors(p hostdb.Path) func(yield func(hostdb.Path) bool) {
	return func(yield func(hostdb.Path) bool) {
		for p != "" {
			p = p[:max(0, strings.LastIndexByte(string(p), 0))]
			if !yield(p) {
				return
			}
		}
	}
}
