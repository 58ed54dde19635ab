package resttest

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

const small = `== one
> GET /v1/hosts
< 200 OK
<< Hostmesh-Revision: none
<< Etag: {{etag}}
: a
: b
> PUT /v1/hosts/a?etag={{etag}}
+ value=x
< 201
`

// A transcript that passes against any server would prove nothing.
func TestDifferencesAreSeen(t *testing.T) {
	good := map[string]string{"status": "200", "body": "a\nb", "Hostmesh-Version": "1", "Etag": `"x"`}
	for _, c := range []struct{ name, value, want string }{
		{"", "", ""},
		{"status", "404", "got 404"},
		{"body", "a\nb\n", "newline at the end"},
		{"body", "a", "body"},
		{"body", "", "body"},
		{"Hostmesh-Version", "", "no Hostmesh-Version"},
		{"Hostmesh-Revision", "0000000000000001.0000000000000002", "want none"},
		{"Etag", "", "no header Etag"},
		{"CallTrace", "4041: x", "CallTrace"},
	} {
		is := map[string]string{}
		for name, value := range good {
			is[name] = value
		}
		is[c.name] = c.value
		srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			for name, value := range is {
				if name != "status" && name != "body" && name != "" && value != "" {
					w.Header().Set(name, value)
				}
			}
			if is["status"] == "404" {
				w.WriteHeader(http.StatusNotFound)
			}
			_, _ = w.Write([]byte(is["body"]))
		}))
		blocks, err := parse(small)
		if err != nil {
			t.Fatal(err)
		}
		p := &player{Mesh: Mesh{Node: func(int) (string, *http.Client) { return srv.URL, srv.Client() }}, vars: map[string]string{}}
		r, err := p.send(blocks[0].steps[0])
		if err != nil {
			t.Fatal(err)
		}
		problems := strings.Join(append(p.differences(blocks[0].steps[0], r), malformed(r)...), "\n")
		if (problems == "") != (c.want == "") || !strings.Contains(problems, c.want) {
			t.Errorf("%s %q: %q, want %q", c.name, c.value, problems, c.want)
		}
		srv.Close()
	}
}

// What was found in one answer is sent in a later request.
func TestVariables(t *testing.T) {
	p := &player{vars: map[string]string{}}
	if !p.matches("<{{id}}> {{n}} {{*}}", "<abc> 12 and so on") || p.vars["id"] != "abc" {
		t.Errorf("found %v", p.vars)
	}
	if p.matches("{{id}}", "abd") {
		t.Error("a variable that is known matches another text")
	}
	if got, err := p.fill("/v1/{{id}}/{{x*3}}"); err != nil || got != "/v1/abc/xxx" {
		t.Errorf("%q, %v", got, err)
	}
	if _, err := p.fill("{{other}}"); err == nil {
		t.Error("an unknown variable is sent")
	}
}

func TestBadTranscripts(t *testing.T) {
	for _, text := range []string{"> GET /v1\n< 200", "== a\n< 200", "== a\n> GET", "== a\n> GET /v1", "== a\n> GET /v1 with x\n< 200", "== a\n? x", "== a\n! stop"} {
		if _, err := parse(text); err == nil {
			t.Errorf("%q is a transcript", text)
		}
	}
	if _, err := parse(transcript); err != nil {
		t.Error(err)
	}
}
