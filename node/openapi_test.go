package node

import (
	"encoding/json"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// TestOpenAPI holds the description that an agent gives of itself against what OpenAPI 3.1 asks for, and against what
// clients need: each operation has an id, a summary, and says how it refuses.
func TestOpenAPI(t *testing.T) {
	cfg := testConfig(t, "box1")
	cfg.Dev = true
	a := runAgent(t, cfg)
	status, text := a.do("GET", "/openapi.json", nil)
	if status != 200 {
		t.Fatalf("%d: %s", status, text)
	}
	var doc map[string]any
	if err := json.Unmarshal([]byte(text), &doc); err != nil {
		t.Fatal(err)
	}
	o := openAPI{t: t, doc: doc}
	if v, _ := doc["openapi"].(string); !strings.HasPrefix(v, "3.1.") {
		t.Errorf("openapi: %q", v)
	}
	for _, field := range []string{"title", "version"} {
		if v, _ := o.at("info", field).(string); v == "" {
			t.Errorf("info/%s is missing", field)
		}
	}
	ids := map[string]string{}
	for path, item := range o.mapping("paths") {
		for method, op := range item.(map[string]any) {
			where := strings.ToUpper(method) + " " + path
			if !slices.Contains([]string{"get", "put", "post", "delete", "patch"}, method) {
				t.Errorf("%s: no method of ours", where)
			}
			o.operation(where, path, op.(map[string]any), ids)
		}
	}
	for _, known := range []string{"get-object", "put-object", "patch-object", "delete-object", "rename-object", "put-members", "list-keys",
		"list-namespaces", "create-namespace", "transaction", "watch", "import"} {
		if ids[known] == "" {
			t.Errorf("there is no operation %s", known)
		}
	}
	o.refs("", doc)
}

type openAPI struct {
	t   *testing.T
	doc map[string]any
}

func (o openAPI) at(keys ...string) any {
	var v any = o.doc
	for _, k := range keys {
		m, _ := v.(map[string]any)
		v = m[k]
	}
	return v
}

func (o openAPI) mapping(keys ...string) map[string]any {
	o.t.Helper()
	m, ok := o.at(keys...).(map[string]any)
	if !ok || len(m) == 0 {
		o.t.Fatalf("%s is missing", strings.Join(keys, "/"))
	}
	return m
}

// operation checks one operation; ids are those seen.
func (o openAPI) operation(where, path string, op map[string]any, ids map[string]string) {
	o.t.Helper()
	id, _ := op["operationId"].(string)
	if id == "" || ids[id] != "" {
		o.t.Errorf("%s: operationId %q is missing or that of %s too", where, id, ids[id])
	}
	ids[id] = where
	if s, _ := op["summary"].(string); s == "" {
		o.t.Errorf("%s: there is no summary", where)
	}
	responses, _ := op["responses"].(map[string]any)
	good, refuses := false, false
	for code, r := range responses {
		if !regexp.MustCompile(`^([1-5]\d\d|default)$`).MatchString(code) {
			o.t.Errorf("%s: response %q", where, code)
		}
		good, refuses = good || code[0] == '2', refuses || code[0] == '4'
		if d, _ := r.(map[string]any)["description"].(string); d == "" {
			o.t.Errorf("%s: response %s has no description", where, code)
		}
	}
	if !good || !refuses {
		o.t.Errorf("%s: it must say how it answers when it does (2xx) and when it refuses (4xx)", where)
	}
	named := map[string]bool{}
	params, _ := op["parameters"].([]any)
	for _, p := range params {
		p := p.(map[string]any)
		key := fmt.Sprint(p["in"], " ", p["name"])
		if named[key] || p["schema"] == nil {
			o.t.Errorf("%s: parameter %s stands twice or has no schema", where, key)
		}
		named[key] = true
		if p["in"] == "path" && p["required"] != true {
			o.t.Errorf("%s: parameter %s of the path is not required", where, key)
		}
	}
	for _, m := range regexp.MustCompile(`\{([^}]+)\}`).FindAllStringSubmatch(path, -1) {
		if !named["path "+m[1]] {
			o.t.Errorf("%s: {%s} is no parameter", where, m[1])
		}
		delete(named, "path "+m[1])
	}
	for key := range named {
		if strings.HasPrefix(key, "path ") {
			o.t.Errorf("%s: %s is not in the path", where, key)
		}
	}
	security, _ := op["security"].([]any)
	for _, s := range security {
		for scheme := range s.(map[string]any) {
			if o.at("components", "securitySchemes", scheme) == nil {
				o.t.Errorf("%s: there is no security scheme %s", where, scheme)
			}
		}
	}
}

// refs checks that every reference leads somewhere and every type is one of JSON.
func (o openAPI) refs(where string, v any) {
	switch v := v.(type) {
	case map[string]any:
		if ref, ok := v["$ref"].(string); ok {
			parts := strings.Split(ref, "/")
			if parts[0] != "#" || o.at(parts[1:]...) == nil {
				o.t.Errorf("%s: %s leads nowhere", where, ref)
			}
		}
		if name, ok := v["type"].(string); ok && strings.Contains(where, "schema") && !strings.HasSuffix(where, "/properties") && !strings.Contains(where, "securitySchemes") &&
			!slices.Contains([]string{"object", "array", "string", "number", "integer", "boolean", "null"}, name) {
			o.t.Errorf("%s: type %q", where, name)
		}
		for k, sub := range v {
			o.refs(where+"/"+k, sub)
		}
	case []any:
		for i, sub := range v {
			o.refs(fmt.Sprint(where, "/", i), sub)
		}
	}
}
