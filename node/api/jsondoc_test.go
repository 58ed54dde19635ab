package api

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"hostmesh/hostdb"
)

func mustYAML(t testing.TB, text string) hostdb.Document {
	t.Helper()
	d, err := hostdb.ParseDocument([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func TestDocumentOfJSON(t *testing.T) {
	for _, c := range []struct{ in, want string }{
		{`{"a": 1.10, "b": 1e3, "c": "0755", "d": true, "e": null}`, "a: 1.10\nb: 1e3\nc: '0755'\nd: true\ne: null\n"},
		{`{"53/udp": 53, "x": {"": 1}}`, ""},
		{`{"a": 1, "a": 2}`, ""},
		{`[1, "a", {"b": []}]`, "- 1\n- a\n- b: []\n"},
		{`"\ud83d\ude00 \/ \u0007 ` + "\u007f\u0085\u2028" + `"`, ""},
		{`"line\nbreak"`, ""},
		{`12345678901234567890.123`, "12345678901234567890.123\n"},
		{`{"a"`, ""}, {`1 2`, ""}, {``, ""}, {strings.Repeat("[", 70) + strings.Repeat("]", 70), ""},
	} {
		d, err := documentOfJSON([]byte(c.in))
		if err == nil && c.want != "" && d.YAML() != c.want {
			t.Errorf("%s: %q, want %q", c.in, d.YAML(), c.want)
		}
		// What is taken comes back as JSON that means the same; what is refused is so for a reason.
		if err != nil {
			if bad := c.want == "" && (!json.Valid([]byte(c.in)) || strings.Contains(c.in, `"": 1`) || strings.Contains(c.in, `"a": 2`) || strings.Contains(c.in, "[[[[")); !bad {
				t.Errorf("%s: %v", c.in, err)
			}
			continue
		}
		back, err := jsonOf(d)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(decoded(t, []byte(c.in)), decoded(t, back)); diff != "" {
			t.Errorf("%s comes back as %s:\n%s", c.in, back, diff)
		}
	}
}

func decoded(t interface{ Fatal(...any) }, text []byte) any {
	dec := json.NewDecoder(strings.NewReader(string(text)))
	dec.UseNumber()
	var v any
	if err := dec.Decode(&v); err != nil {
		t.Fatal(err)
	}
	return v
}

// merged is the algorithm of RFC 7396, section 2.
func merged(target, patch any) any {
	p, ok := patch.(map[string]any)
	if !ok {
		return patch
	}
	out := map[string]any{}
	if t, ok := target.(map[string]any); ok {
		for k, v := range t {
			out[k] = v
		}
	}
	for k, v := range p {
		if v == nil {
			delete(out, k)
		} else {
			out[k] = merged(out[k], v)
		}
	}
	return out
}

func TestMergePatchIsThatOfTheRFC(t *testing.T) {
	keys := rapid.SampledFrom([]string{"a", "b", "c", "a b", "53/udp"})
	var value func(depth int) *rapid.Generator[any]
	value = func(depth int) *rapid.Generator[any] {
		return rapid.Custom(func(t *rapid.T) any {
			kind := rapid.IntRange(0, 6).Draw(t, "kind")
			if depth == 0 {
				kind %= 4
			}
			switch kind {
			case 0:
				return nil
			case 1:
				return json.Number(rapid.SampledFrom([]string{"1", "1.10", "1e3"}).Draw(t, "number"))
			case 2:
				return rapid.SampledFrom([]string{"x", "0755", "yes", ""}).Draw(t, "text")
			case 3:
				return []any{"x", nil, map[string]any{"a": nil}}
			}
			m := map[string]any{}
			for range rapid.IntRange(0, 3).Draw(t, "n") {
				m[keys.Draw(t, "key")] = value(depth-1).Draw(t, "value")
			}
			return m
		})
	}
	rapid.Check(t, func(t *rapid.T) {
		target, patch := value(3).Draw(t, "target"), value(3).Draw(t, "patch")
		parse := func(v any) hostdb.Document {
			text, err := json.Marshal(v)
			if err != nil {
				t.Fatal(err)
			}
			d, err := documentOfJSON(text)
			if err != nil {
				t.Fatal(err)
			}
			return d
		}
		got := mergePatch(parse(target), parse(patch))
		if diff := cmp.Diff(merged(target, patch), got.Any()); diff != "" {
			t.Fatalf("(-want +got):\n%s", diff)
		}
	})
}

func TestMergePatchKeepsSpelling(t *testing.T) {
	got := mergePatch(mustYAML(t, "Mode: 0755\nDate: 2024-01-01\nN: {a: yes, b: 010}\n"), mustYAML(t, "{N: {b: null, c: x}}"))
	if want := "Date: 2024-01-01\nMode: 0755\nN:\n  a: yes\n  c: x\n"; got.YAML() != want {
		t.Errorf("got\n%s\nwant\n%s", got.YAML(), want)
	}
}
