// Package resttest holds a transcript of /v1: what clients ask, and what they must be answered, in the form that they see.
//
// It owns the transcript (testdata/transcript.txt, which explains itself) and the runner that plays it against servers. It
// leaves starting them to the tests that do so: one handler in hostdb/rest, a mesh of processes in integration, where every
// request goes to another node than the one before.
package resttest

import (
	_ "embed"
	"net/http"
	"regexp"
	"strings"
	"testing"
)

//go:embed testdata/transcript.txt
var transcript string

const (
	secret = "'$argon2id$v=19$m=19456,t=2,p=1$KHq19+zprv4UGbmEExrzGQ$BgpA1whfw+oi2LRrXt1JWVjm/SuTrjvip6iOp2VZjhc'"

	// Users is the users file that every node must have been started with. alice is in ops, bob in nothing; far may log
	// in from an address only that no test has. All have the password "secret".
	Users = "alice: {password: " + secret + ", allow: [127.0.0.0/8], groups: [ops]}\n" +
		"bob: {password: " + secret + ", allow: [127.0.0.0/8]}\n" +
		"far: {password: " + secret + ", allow: [192.0.2.1]}\n"
)

// Perms are the access lists, by id, that an administrator must have put before. Nothing else may be in HostDB.
var Perms = map[string]string{
	"hosts/.default/perms": "{ops: {data: RW, members: RW, perms: RW}}",
	"tags/.default/perms":  "{ops: {data: RW, members: RW, perms: RW}, bob: {data/DNS: RW}}",
}

// Mesh is what the transcript is played against.
type Mesh struct {
	// Node is where the i-th request goes, counted from 0: the URL without a path, and a client for it. A client must
	// not follow redirects, and its transport must be a *http.Transport or nil. Required.
	Node func(i int) (baseURL string, client *http.Client)
	// WaitEqual returns when every node holds what any node holds. It is called after each write; nil is for one node.
	WaitEqual func()
	// ReadOnly switches read-only mode on or off, on every node before it returns. Required.
	ReadOnly func(on bool, why string)
}

// Run plays the transcript. Each block is a subtest; they stand on those before them.
func Run(t *testing.T, m Mesh) {
	t.Helper()
	blocks, err := parse(transcript)
	if err != nil {
		t.Fatal(err)
	}
	if m.WaitEqual == nil {
		m.WaitEqual = func() {}
	}
	p := &player{Mesh: m, vars: map[string]string{}}
	for _, b := range blocks {
		t.Run(b.title, func(t *testing.T) {
			for _, s := range b.steps {
				p.play(t, s)
			}
		})
	}
}

// player plays the steps of a transcript one after the other.
type player struct {
	Mesh
	asked int
	vars  map[string]string // what {{name}} stands for
}

var revision = regexp.MustCompile(`^[0-9a-f]{16}\.[0-9a-f]{16}$`)

func (p *player) play(t *testing.T, s step) {
	t.Helper()
	if s.readOnly != "" {
		how, why, _ := strings.Cut(s.readOnly, " ")
		p.ReadOnly(how == "on", why)
		return
	}
	r, err := p.send(s)
	if err != nil {
		t.Fatalf("line %d: %v", s.line, err)
	}
	problems := append(p.differences(s, r), malformed(r)...)
	for _, problem := range problems {
		t.Errorf("line %d: %s %s\n  %s", s.line, s.method, s.target, problem)
	}
	if s.isWrite() && r.StatusCode < 300 {
		p.WaitEqual()
	}
}

// malformed says what is wrong with an answer that no answer may have.
func malformed(r answer) (problems []string) {
	trace := r.Header.Get("CallTrace")
	if trace != r.Header.Get("Error") {
		problems = append(problems, "CallTrace is "+trace+", Error is "+r.Header.Get("Error"))
	}
	if (r.StatusCode >= 400) != (trace != "") {
		problems = append(problems, r.Status+" has CallTrace "+trace)
	}
	if trace != "" {
		code, message, _ := strings.Cut(trace, ": ")
		if !strings.HasPrefix(r.Status, code[:3]+" ") || r.Status[4:] != message || r.body != "" {
			problems = append(problems, "the status line says "+r.Status+", CallTrace "+trace+", the body "+r.body)
		}
	}
	if r.Header.Get("Hostmesh-Version") == "" {
		problems = append(problems, "no Hostmesh-Version")
	}
	if id, ok := r.Header["Hostmesh-Revision"]; ok && !revision.MatchString(id[0]) {
		problems = append(problems, "Hostmesh-Revision is "+id[0])
	}
	return problems
}
