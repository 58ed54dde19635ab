package hostdb

import (
	"strings"
	"testing"

	"pgregory.net/rapid"
)

func TestSpellingIsKept(t *testing.T) {
	const text = `Network:
  FQDN: web1.example.com
  IP: 10.1.0.5
  MAC: 00:11:22:33:44:55
date: 2024-01-01
empty: {}
flag: yes
list:
  - 10 mail1
  - 0755
  - k: v
    l:
      - a
      - - b
        - c
mode: 0755
none: null
num: 1e3
script: |
  #!/bin/sh
  echo hi
str: '0755'
str2: 'yes'
tilde: ~
version: 1.10
void: []
`
	d, err := ParseDocument([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	if got := d.YAML(); got != text {
		t.Errorf("got:\n%s\nwant:\n%s", got, text)
	}
	if got := d.Text("Network", "MAC"); got != "00:11:22:33:44:55" {
		t.Errorf("MAC = %q", got)
	}
	if got := d.At("list").Items()[2].Text("k"); got != "v" {
		t.Errorf("list[2].k = %q", got)
	}
	if got := d.At("Network").YAML(); got != "FQDN: web1.example.com\nIP: 10.1.0.5\nMAC: 00:11:22:33:44:55\n" {
		t.Errorf("Network = %q", got)
	}
	for _, k := range []string{"Net", "Network2", "lis", "m"} {
		if d.At(k).Exists() {
			t.Errorf("%s exists", k)
		}
	}
	var keys []string
	for k := range d.Keys() {
		keys = append(keys, k)
	}
	if got := strings.Join(keys, " "); got != "Network date empty flag list mode none num script str str2 tilde version void" {
		t.Errorf("keys = %s", got)
	}
}

func TestParseDocumentRefuses(t *testing.T) {
	for name, c := range map[string]struct{ text, want string }{
		"two documents": {"a: 1\n---\nb: 2\n", "second document"},
		"duplicate":     {"a: 1\nb: 2\na: 3\n", `line 3: key "a" stands already on line 1`},
		"bad syntax":    {"a: 1\n b: 2\n", "line"},
		"tag":           {"a: !!python/object x\n", "not supported"},
		"merge":         {"a: &x {b: 1}\nc:\n  <<: *x\n", "merge keys"},
		"complex key":   {"? [a, b]\n: 1\n", "must be a scalar"},
		"not UTF-8":     {"a: \xff\n", "UTF-8"},
		"deep":          {strings.Repeat("[", 65) + strings.Repeat("]", 65), "deeper"},
		"bomb": {"a: &a [x,x,x,x,x,x,x,x,x,x]\nb: &b [*a,*a,*a,*a,*a,*a,*a,*a,*a,*a]\nc: &c [*b,*b,*b,*b,*b,*b,*b,*b,*b,*b]\n" +
			"d: &d [*c,*c,*c,*c,*c,*c,*c,*c,*c,*c]\ne: &e [*d,*d,*d,*d,*d,*d,*d,*d,*d,*d]\nf: [*e,*e,*e,*e,*e]\n", ""},
	} {
		if _, err := ParseDocument([]byte(c.text)); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: error %v, want one with %q", name, err, c.want)
		}
	}
}

// anyText draws strings that are hard on a writer of YAML.
func anyText() *rapid.Generator[string] {
	return rapid.OneOf(
		rapid.SampledFrom([]string{"", " ", "yes", "~", "null", "0755", "1e3", "- a", "a: b", "a #b", "#", "'", "\"", "\n", "a\nb", "a\nb\n", " a\nb",
			"a\n\n", "\t", "a\tb\nc", ":", "a:", "?", "? a", "-", "--- a", "...", "<<", "=", "@x", "%a", "é", "\u0085", "\u2028", "\ufeff", "a\n \nb", "!!str", "*a", "&a", "{a", "a, b", "[x]"}),
		rapid.StringN(0, 12, 40),
		rapid.StringOfN(rapid.RuneFrom([]rune("ab01:-#'\"\n \t.,{}[]&*!|>%@`?_+eExy")), 0, 10, -1),
	)
}

func anyValue(depth int) *rapid.Generator[Value] {
	return rapid.Custom(func(t *rapid.T) Value {
		kind := 0
		if depth > 0 {
			kind = rapid.IntRange(0, 4).Draw(t, "kind")
		}
		switch kind {
		default:
			return Text(anyText().Draw(t, "text"))
		case 2:
			return Value("p" + rapid.SampledFrom([]string{"0755", "1e3", "yes", "~", "null", "2024-01-01", "00:11:22", "1.10", ".inf", "-0", "+1", "true", "1_000", "0x1F"}).Draw(t, "plain"))
		case 3:
			b := []byte{'l'}
			for range rapid.IntRange(0, 3).Draw(t, "n") {
				b = appendPart(b, string(anyValue(depth-1).Draw(t, "item")))
			}
			return Value(b)
		case 4:
			b := []byte{'m'}
			for _, k := range []string{"a", "b b", "yes"}[:rapid.IntRange(0, 3).Draw(t, "n")] {
				b = appendPart(appendPart(b, k), string(anyValue(depth-1).Draw(t, "item")))
			}
			return Value(b)
		}
	})
}

func anyDocument() *rapid.Generator[Document] {
	return rapid.Custom(func(t *rapid.T) Document {
		v := anyValue(3).Draw(t, "root")
		d := v.document()
		for range rapid.IntRange(0, 4).Draw(t, "more") {
			path := PathOf(rapid.SampledFrom([]string{"a", "b b", "c", "@", "53/udp"}).Draw(t, "key"))
			if n, err := d.With(path, anyValue(2).Draw(t, "v").document()); err == nil {
				d = n
			}
		}
		return d
	})
}

// What is written is read back as it was, and writing it again gives the same bytes.
func TestYAMLRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		d := anyDocument().Draw(t, "doc")
		text := d.YAML()
		back, err := ParseDocument([]byte(text))
		if err != nil {
			t.Fatalf("%v in:\n%s", err, text)
		}
		if !back.Equal(d) {
			t.Fatalf("%q\ncame back as\n%q\nthrough\n%s", d.leaves, back.leaves, text)
		}
	})
}

// The shortcuts before the regular expression change no answer.
func TestAmbiguousShortcuts(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		text := rapid.OneOf(
			rapid.StringOfN(rapid.RuneFrom([]rune("0123456789+-._,:xoeEfFTZ =iInNaAb\t")), 1, 14, -1),
			rapid.SampledFrom([]string{"10.1.0.5", "1.2.3.4", "1.2.3", "00:11:22:33:44:55", "2024-01-01", "2024-01-01 10:00:00 +01:00", "0x1F", "0o17", "1_000", ".inf", "-.INF", ".NaN", "6 x 600GB SAS"}),
		).Draw(t, "text")
		if !strings.ContainsRune("0123456789+-.", rune(text[0])) || text == "-" || text == "+" || text == "." {
			return
		}
		if got, want := ambiguous(text), plainScalar.MatchString(text); got != want {
			t.Fatalf("%q: %v, the expression says %v", text, got, want)
		}
	})
}
