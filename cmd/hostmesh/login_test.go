package main

import (
	"bytes"
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// loginServer takes one password, and answers everything else as an agent does that does not know who asks.
func loginServer(t *testing.T) (url string) {
	t.Helper()
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodPost && r.URL.Path == "/v1/auth/session" && r.PostFormValue("username") == "alice" && r.PostFormValue("password") == "correct horse" {
			fmt.Fprint(w, "a.token")
			return
		}
		w.Header()["CallTrace"] = []string{"4290: Too many logins failed"}
		w.WriteHeader(http.StatusTooManyRequests)
	}))
	t.Cleanup(srv.Close)
	return srv.URL
}

func TestLoginOnTerminal(t *testing.T) {
	server := loginServer(t)
	for _, c := range []struct {
		name, password string
		code           int
		says           string
	}{
		{"the right password", "correct horse\n", exitDone, ""},
		{"held back", "correct house\n", exitFailed, "(too many logins failed: wait, then try again)"},
		{"the end instead", "\x04", exitFailed, "no password was given"},
	} {
		t.Run(c.name, func(t *testing.T) {
			tty, home := newTerminal(t), t.TempDir()
			code := make(chan int, 1)
			go func() {
				code <- run(context.Background(), []string{"login", "--server", server}, []string{"HOME=" + home}, tty.device, &bytes.Buffer{}, tty.device)
			}()
			tty.answer("Username: ", "alice\n")
			tty.answer("Password: ", c.password)
			if got := <-code; got != c.code {
				t.Errorf("exit code %d, want %d: %q", got, c.code, tty.screen())
			}
			fmt.Fprint(tty.device, "end of the test")
			tty.answer("end of the test", "")
			if s := tty.screen(); strings.Contains(s, "correct") || !strings.Contains(s, "alice") || !strings.Contains(s, c.says) || !tty.shows() {
				t.Errorf("the person sees %q, shows input again: %v", s, tty.shows())
			}
			kept, err := filepath.Glob(filepath.Join(home, ".local/state/hostmesh/sessions/*"))
			if err != nil || (len(kept) == 1) != (c.code == exitDone) {
				t.Errorf("kept are %v (%v)", kept, err)
			}
		})
	}
}

// Whoever interrupts a question need not answer it.
func TestQuestionInterrupted(t *testing.T) {
	tty := newTerminal(t)
	ctx, interrupt := context.WithCancel(context.Background())
	defer interrupt()
	code := make(chan int, 1)
	go func() {
		code <- run(ctx, []string{"login", "--server", loginServer(t)}, []string{"HOME=" + t.TempDir()}, tty.device, &bytes.Buffer{}, tty.device)
	}()
	tty.answer("Username: ", "")
	interrupt()
	if got := <-code; got != exitFailed || !strings.Contains(tty.screen(), "Username: ") {
		t.Errorf("exit code %d: %q", got, tty.screen())
	}
	tty.answer("", "\n") // ends the read that is still under way
}

func TestSessionFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "deep", "session")
	f := sessionFile(path)
	if token, err := f.read(); token != "" || err != nil {
		t.Fatalf("before the first: %q, %v", token, err)
	}
	for _, token := range []string{"first.token", "second.token"} {
		if err := f.write(token); err != nil {
			t.Fatal(err)
		}
		st, err := os.Stat(path)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := f.read(); got != token || err != nil || st.Mode().Perm() != 0o600 {
			t.Errorf("%q, %v, mode %v; want %q", got, err, st.Mode(), token)
		}
	}
	left, err := os.ReadDir(filepath.Dir(path))
	if err != nil || len(left) != 1 {
		t.Errorf("beside it lies %v (%v)", left, err)
	}
	for _, mode := range []os.FileMode{0o640, 0o604, 0o620, 0o602} {
		if err := os.Chmod(path, mode); err != nil {
			t.Fatal(err)
		}
		if token, err := f.read(); token != "" || err == nil || !strings.Contains(err.Error(), "open to others") {
			t.Errorf("mode %v: %q, %v", mode, token, err)
		}
	}
	if there, err := f.remove(); !there || err != nil {
		t.Errorf("remove: %v, %v", there, err)
	}
	if there, err := f.remove(); there || err != nil {
		t.Errorf("remove again: %v, %v", there, err)
	}
}

// Each server has a session of its own, however its URL is written; another scheme is another server.
func TestSessionFileOfServer(t *testing.T) {
	of := func(server string) sessionFile {
		a := &app{server: server, environ: []string{"HOME=/home/alice"}}
		f, err := a.sessionFile()
		if err != nil {
			t.Fatal(err)
		}
		return f
	}
	if got, want := of("https://HM.example.com/"), sessionFile("/home/alice/.local/state/hostmesh/sessions/https_hm.example.com:443"); got != want {
		t.Errorf("%s, want %s", got, want)
	}
	if a, b := of("https://hm.example.com"), of("https://hm.example.com:443"); a != b {
		t.Errorf("%s and %s differ", a, b)
	}
	for _, other := range []string{"http://hm.example.com:443", "https://hm.example.com:7951", "https://[2001:db8::1]", "https://../../x"} {
		if f := of(other); f == of("https://hm.example.com") || filepath.Dir(string(f)) != "/home/alice/.local/state/hostmesh/sessions" {
			t.Errorf("%s: %s", other, f)
		}
	}
}
