package rest

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"

	"hostmesh/hostdb"
)

// The most bytes of a body. In a form every byte of a value may take three.
const (
	maxFormBody    = 3*hostdb.MaxData + 64<<10
	maxMembersBody = 8 << 20 // 100,000 members of 80 bytes
)

// body is the value that a write sends as the body itself.
type body struct {
	given bool
	json  bool
	text  string
}

// readForm reads the body into params, or into body when its type says that it is a value; then the query into params.
// A body without a type is a form, as the Go client sends it.
func (c *call) readForm(limit int64) error {
	defer func() { c.params.parse(c.r.URL.RawQuery) }()
	if c.r.Body == nil || c.r.Body == http.NoBody {
		return nil
	}
	if e := c.r.Header.Get("Content-Encoding"); e != "" && !strings.EqualFold(e, "identity") {
		return fail(codeMediaType, "Content-Encoding "+e+" is not understood: send the body as it is")
	}
	isValue, isJSON := false, false
	media, _, _ := strings.Cut(c.r.Header.Get("Content-Type"), ";")
	switch media = strings.ToLower(strings.TrimSpace(media)); media {
	case "", "application/x-www-form-urlencoded":
	case "application/json":
		isValue, isJSON = true, true
	case "application/yaml", "application/x-yaml", "text/yaml", "text/x-yaml", "text/plain":
		isValue = true
	default:
		return fail(codeMediaType, "Content-Type "+media+
			" is not understood: expected application/x-www-form-urlencoded, application/yaml, application/json or text/plain")
	}
	if c.r.ContentLength > limit {
		c.w.Header()["Connection"] = closing // what is left of the body is not read
		return tooLarge(limit)
	}
	text, err := io.ReadAll(http.MaxBytesReader(c.w, c.r.Body, limit))
	var over *http.MaxBytesError
	switch {
	case errors.As(err, &over):
		return tooLarge(limit)
	case err != nil:
		return fail(codeInvalid, "The body could not be read to its end")
	case isValue:
		c.body = body{given: true, json: isJSON, text: string(text)}
		return nil
	}
	c.params.parse(string(text))
	return c.checkForm(len(text))
}

var closing = []string{"close"}

func tooLarge(limit int64) error {
	return fail(codeTooLarge, fmt.Sprintf("The body is too large: at most %d bytes are taken here", limit))
}

// checkForm refuses a body that was sent as a form and is none, as curl --data-binary does with a file of YAML. Taken as
// a form without a value it would empty the key.
func (c *call) checkForm(size int) error {
	if size == 0 {
		return nil
	}
	for _, p := range c.params.list {
		switch p.name {
		case "value", "log", "session", "newname", "username", "password", "acks":
			return nil
		}
	}
	return fail(codeInvalid, "The body is no form with a value: send value=..., or the value itself with Content-Type application/yaml")
}

// value is the text of a PUT's value with newlines as newlines, and whether it came as JSON.
func (c *call) value() (text string, isJSON bool) {
	if c.body.given {
		text, isJSON = c.body.text, c.body.json
	} else {
		text = c.params.get("value")
	}
	if strings.IndexByte(text, '\r') >= 0 {
		text = strings.ReplaceAll(strings.ReplaceAll(text, "\r\n", "\n"), "\r", "\n")
	}
	return text, isJSON
}

// document is the PUT's value as data.
func (c *call) document() (hostdb.Document, error) {
	text, isJSON := c.value()
	if isJSON {
		var err error
		if text, err = yamlOfJSON(text); err != nil {
			return hostdb.Document{}, err
		}
	}
	return hostdb.ParseDocument([]byte(text))
}

// members is the PUT's value as a member list; in JSON that is an array of names.
func (c *call) members() ([]hostdb.Member, error) {
	text, isJSON := c.value()
	if isJSON {
		var names []string
		if err := json.Unmarshal([]byte(text), &names); err != nil {
			return nil, fail(codeInvalid, "A member list in JSON is an array of names: "+err.Error())
		}
		for _, name := range names { // in the text a newline would begin another, and # a comment
			if err := hostdb.CheckName(strings.TrimPrefix(name, "@")); err != nil {
				return nil, err
			}
		}
		text = strings.Join(names, "\n")
	}
	return hostdb.ParseMembers(text)
}

// acl is the PUT's value as an access list.
func (c *call) acl() (hostdb.ACL, error) {
	text, isJSON := c.value()
	if isJSON {
		var err error
		if text, err = yamlOfJSON(text); err != nil {
			return hostdb.ACL{}, err
		}
	}
	return hostdb.ParseACL([]byte(text))
}

// yamlOfJSON writes JSON in the part of it that YAML reads alike: YAML has no surrogate pairs and no escaped slash.
// Numbers keep their spelling.
func yamlOfJSON(text string) (string, error) {
	dec := json.NewDecoder(strings.NewReader(text))
	dec.UseNumber()
	var value any
	if err := dec.Decode(&value); err != nil {
		return "", fail(codeInvalid, "Invalid JSON: "+err.Error())
	}
	if _, err := dec.Token(); err != io.EOF {
		return "", fail(codeInvalid, "Invalid JSON: more than one value")
	}
	var out bytes.Buffer
	enc := json.NewEncoder(&out)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(value); err != nil {
		return "", fail(codeInvalid, "Invalid JSON: "+err.Error())
	}
	return out.String(), nil
}
