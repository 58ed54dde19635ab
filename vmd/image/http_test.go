package image

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// fileServer serves one file, with what can go wrong.
type fileServer struct {
	b    []byte
	etag string
	// cutAt ends an answer before this byte of the file, once each; ranges false answers with all of it whatever is asked.
	cutAt  []int64
	ranges bool
	alter  func(w http.ResponseWriter, r *http.Request) bool // answers itself

	mu     sync.Mutex
	asked  []string // Range of each request
	ifs    []string // If-Range
	agents []string
}

func (f *fileServer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	f.mu.Lock()
	f.asked = append(f.asked, r.Header.Get("Range"))
	f.ifs = append(f.ifs, r.Header.Get("If-Range"))
	f.agents = append(f.agents, r.UserAgent())
	cut := int64(-1)
	if len(f.cutAt) > 0 {
		cut, f.cutAt = f.cutAt[0], f.cutAt[1:]
	}
	f.mu.Unlock()
	if f.alter != nil && f.alter(w, r) {
		return
	}
	f.mu.Lock()
	etag, b := f.etag, f.b
	f.mu.Unlock()
	if cut >= 0 {
		w = &cutWriter{ResponseWriter: w, at: cut, from: rangeStart(r)}
	}
	w.Header().Set("ETag", etag)
	w.Header().Set("Content-Type", "application/octet-stream")
	if !f.ranges {
		w.Header().Set("Content-Length", strconv.Itoa(len(b)))
		_, _ = w.Write(b)
		return
	}
	http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(b))
}

func rangeStart(r *http.Request) int64 {
	n, _ := strconv.ParseInt(strings.TrimSuffix(strings.TrimPrefix(r.Header.Get("Range"), "bytes="), "-"), 10, 64)
	return n
}

// cutWriter breaks the connection before a byte of the file.
type cutWriter struct {
	http.ResponseWriter
	at, from int64
}

func (c *cutWriter) Write(b []byte) (int, error) {
	if left := c.at - c.from; int64(len(b)) > left {
		_, _ = c.ResponseWriter.Write(b[:max(left, 0)])
		_ = http.NewResponseController(c.ResponseWriter).Flush()
		panic(http.ErrAbortHandler)
	}
	n, err := c.ResponseWriter.Write(b)
	c.from += int64(n)
	return n, err
}

func TestFetchFromURL(t *testing.T) {
	b := content(40, 3<<20)
	size := int64(len(b))
	other := content(41, 3<<20)
	for _, c := range []struct {
		name  string
		set   func(f *fileServer)
		asked []string
		want  error // nil = it succeeds
		text  string
	}{
		{name: "whole", asked: []string{""}},
		{name: "breaks in the middle", set: func(f *fileServer) { f.cutAt = []int64{1 << 20, 2 << 20} },
			asked: []string{"", "bytes=1048576-", "bytes=2097152-"}},
		{name: "breaks, and cannot go on in the middle", set: func(f *fileServer) { f.cutAt = []int64{1 << 20}; f.ranges = false },
			asked: []string{"", "bytes=1048576-"}},
		{name: "breaks, and is another file then", set: func(f *fileServer) {
			f.b = other
			f.cutAt = []int64{1 << 20}
			n := 0
			f.alter = func(http.ResponseWriter, *http.Request) bool {
				if n++; n == 2 {
					f.b, f.etag = b, `"two"`
				}
				return false
			}
		}, asked: []string{"", "bytes=1048576-"}},
		{name: "breaks for ever", set: func(f *fileServer) { f.cutAt = slices.Repeat([]int64{1 << 20}, 20) },
			want: ErrNoSource, text: "it breaks off", asked: []string{"", "bytes=1048576-", "bytes=1048576-", "bytes=1048576-"}},
		{name: "is busy for a while", set: func(f *fileServer) {
			n := 0
			f.alter = func(w http.ResponseWriter, _ *http.Request) bool {
				n++
				if n < 3 {
					w.WriteHeader(http.StatusServiceUnavailable)
				}
				return n < 3
			}
		}, asked: []string{"", "", ""}},
		{name: "not found", set: func(f *fileServer) {
			f.alter = func(w http.ResponseWriter, r *http.Request) bool { http.NotFound(w, r); return true }
		}, want: ErrNoSource, text: "it answers 404 Not Found", asked: []string{""}},
		{name: "web page", set: func(f *fileServer) {
			f.alter = func(w http.ResponseWriter, _ *http.Request) bool {
				w.Header().Set("Content-Type", "text/html; charset=utf-8")
				fmt.Fprint(w, "<html>please log in</html>")
				return true
			}
		}, want: ErrBadImage, text: "a web page, not with a file", asked: []string{""}},
		{name: "wrong length", set: func(f *fileServer) { f.b = b[:1000] }, want: ErrChecksum, text: fmt.Sprintf("it has 1000 bytes, the catalogue says %d", size), asked: []string{""}},
		{name: "too long, and does not say", set: func(f *fileServer) {
			f.alter = func(w http.ResponseWriter, _ *http.Request) bool {
				_, _ = w.Write(other)
				_ = http.NewResponseController(w).Flush()
				_, _ = w.Write([]byte("more"))
				return true
			}
		}, want: ErrChecksum, text: "more than the", asked: []string{""}},
		{name: "wrong bytes", set: func(f *fileServer) { f.b = other }, want: ErrChecksum, text: "expected " + sum(b) + ", got " + sum(other), asked: []string{""}},
		{name: "wrong part", set: func(f *fileServer) {
			f.cutAt = []int64{1 << 20}
			n := 0
			f.alter = func(w http.ResponseWriter, _ *http.Request) bool {
				n++
				if n == 2 {
					w.Header().Set("Content-Range", fmt.Sprintf("bytes 5-9/%d", size))
					w.WriteHeader(http.StatusPartialContent)
					_, _ = w.Write(b[5:10])
				}
				return n == 2
			}
		}, asked: []string{"", "bytes=1048576-", ""}},
		{name: "encoded", set: func(f *fileServer) {
			f.alter = func(w http.ResponseWriter, _ *http.Request) bool {
				w.Header().Set("Content-Encoding", "gzip")
				_, _ = w.Write(b)
				return true
			}
		}, want: ErrBadImage, text: "encoding", asked: []string{""}},
	} {
		t.Run(c.name, func(t *testing.T) {
			f := &fileServer{b: b, etag: `"one"`, ranges: true}
			if c.set != nil {
				c.set(f)
			}
			srv := httptest.NewServer(f)
			defer srv.Close()
			s := openStore(t, nil)
			img := rawImage("x", b, srv.URL+"/x.img?token=s3cret")
			files, err := s.Ensure(t.Context(), img)
			if c.want == nil {
				if err != nil {
					t.Fatal(err)
				}
				checkFile(t, files.Disk, b)
			} else if !errors.Is(err, c.want) || !strings.Contains(err.Error(), c.text) || !strings.Contains(err.Error(), srv.URL+"/x.img") {
				t.Fatalf("got %v, want %v with %q and the URL", err, c.want, c.text)
			} else if strings.Contains(err.Error(), "s3cret") {
				t.Fatalf("%v has the secret of the URL", err)
			}
			if !slices.Equal(f.asked, c.asked) {
				t.Errorf("it was asked for %q, want %q", f.asked, c.asked)
			}
			for i, r := range f.asked {
				if r != "" && f.ifs[i] != `"one"` {
					t.Errorf("a part was asked for with If-Range %q", f.ifs[i])
				}
			}
		})
	}
}

func TestURLThatStalls(t *testing.T) {
	b := content(42, 100_000)
	free := make(chan struct{})
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Length", strconv.Itoa(len(b)))
		_, _ = w.Write(b[:1000])
		_ = http.NewResponseController(w).Flush()
		select {
		case <-free:
		case <-r.Context().Done():
		}
	}))
	defer srv.Close()
	defer close(free)
	s := openStore(t, func(c *Config) { c.Stall = 50 * time.Millisecond })
	_, err := s.Ensure(t.Context(), rawImage("x", b, srv.URL))
	if !errors.Is(err, ErrNoSource) || !strings.Contains(err.Error(), "it sends nothing for 50ms") {
		t.Fatalf("got %v", err)
	}
}

func TestSlowURLIsWaitedFor(t *testing.T) {
	b := content(43, 50)
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Length", strconv.Itoa(len(b)))
		for i := range b {
			_, _ = w.Write(b[i : i+1])
			_ = http.NewResponseController(w).Flush()
			time.Sleep(5 * time.Millisecond) // all of it takes longer than what a source may be silent
		}
	}))
	defer srv.Close()
	s := openStore(t, func(c *Config) { c.Stall = 200 * time.Millisecond })
	files, err := s.Ensure(t.Context(), rawImage("x", b, srv.URL))
	if err != nil {
		t.Fatal(err)
	}
	checkFile(t, files.Disk, b)
}

func TestRedirects(t *testing.T) {
	b := content(44, 1000)
	plain := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case strings.HasPrefix(r.URL.Path, "/loop"):
			http.Redirect(w, r, "/loop", http.StatusFound)
		case r.URL.Path == "/file":
			http.Redirect(w, r, "file:///etc/passwd", http.StatusFound)
		case r.URL.Path == "/once":
			http.Redirect(w, r, "/x", http.StatusFound)
		default:
			_, _ = w.Write(b)
		}
	}))
	defer plain.Close()
	secure := httptest.NewTLSServer(http.RedirectHandler(plain.URL, http.StatusFound))
	defer secure.Close()
	client := newHTTPClient(true)
	client.Transport.(*http.Transport).TLSClientConfig = secure.Client().Transport.(*http.Transport).TLSClientConfig
	for _, c := range []struct{ url, text string }{
		{plain.URL + "/once", ""},
		{plain.URL + "/loop", "redirects more than 5 times"},
		{plain.URL + "/file", "redirects to file:"},
		{secure.URL, "from https to http"},
	} {
		s := openStore(t, func(cfg *Config) { cfg.HTTP = client })
		_, err := s.Ensure(t.Context(), rawImage("x", b, c.url))
		if c.text == "" && err != nil || c.text != "" && (err == nil || !strings.Contains(err.Error(), c.text)) {
			t.Errorf("%s: got %v, want %q", c.url, err, c.text)
		}
	}
}

func TestPeerThenURL(t *testing.T) {
	b := content(45, MaxPiece+5000)
	f := &fileServer{b: b, etag: `"one"`, ranges: true}
	srv := httptest.NewServer(f)
	defer srv.Close()
	p := newFakePeers(map[string][]byte{"a": b})
	p.before = func(_ string, q ReadRequest) error {
		if q.Offset > 0 {
			return errors.New("gone")
		}
		return nil
	}
	s := openStore(t, func(c *Config) { c.Peers = p })
	files, err := s.Ensure(t.Context(), rawImage("x", b, srv.URL))
	if err != nil {
		t.Fatal(err)
	}
	checkFile(t, files.Disk, b)
	if want := []string{fmt.Sprintf("bytes=%d-", MaxPiece)}; !slices.Equal(f.asked, want) {
		t.Errorf("the URL was asked for %q, want %q: what the peer sent counts", f.asked, want)
	}
}

func TestLearn(t *testing.T) {
	b := content(46, 2<<20)
	f := &fileServer{b: b, etag: `"one"`, ranges: true, cutAt: []int64{1 << 20}}
	srv := httptest.NewServer(f)
	defer srv.Close()
	s := openStore(t, nil)
	var total int64
	taken, err := s.Learn(t.Context(), srv.URL+"/x", Incoming{Format: Raw, Progress: func(_, of int64) { total = of }})
	if err != nil {
		t.Fatal(err)
	}
	if want := (File{sum(b), int64(len(b)), srv.URL + "/x"}); taken.File != want || total != int64(len(b)) {
		t.Errorf("learned %+v, of %d", taken, total)
	}
	if _, err := s.Learn(t.Context(), srv.URL+"/x", Incoming{Format: Raw, SHA256: sum([]byte("no"))}); !errors.Is(err, ErrChecksum) || !strings.Contains(err.Error(), srv.URL+"/x") {
		t.Errorf("a wrong checksum: %v", err)
	}
	for _, u := range []string{"ftp://x/y", "http://", "http://u:p@x/y", "/etc/passwd", "file:///etc/passwd", "http://x/#y"} {
		if _, err := s.Learn(t.Context(), u, Incoming{Format: Raw}); !errors.Is(err, ErrBadImage) || strings.Contains(err.Error(), "u:p") {
			t.Errorf("%s: %v", u, err)
		}
	}
}

// TestAbandonedFetchResumes stops a store in the middle of a fetch, as a kill would, and lets the next one go on.
func TestAbandonedFetchResumes(t *testing.T) {
	b := content(47, 3<<20)
	half := make(chan struct{})
	var once sync.Once
	f := &fileServer{b: b, etag: `"one"`, ranges: true}
	f.alter = func(w http.ResponseWriter, r *http.Request) bool {
		if r.Header.Get("Range") != "" {
			return false
		}
		w.Header().Set("Content-Length", strconv.Itoa(len(b)))
		_, _ = w.Write(b[:1<<20])
		_ = http.NewResponseController(w).Flush()
		once.Do(func() { close(half) })
		<-r.Context().Done()
		return true
	}
	srv := httptest.NewServer(f)
	defer srv.Close()
	first := openStore(t, nil)
	img := rawImage("x", b, srv.URL)
	errs := make(chan error, 1)
	go func() {
		_, err := first.Ensure(context.Background(), img)
		errs <- err
	}()
	<-half
	for first.Progress()[0].Done < 1<<20 {
		time.Sleep(time.Millisecond)
	}
	first.Close()
	if err := <-errs; !errors.Is(err, ErrClosed) {
		t.Fatalf("got %v", err)
	}
	s := openStore(t, func(c *Config) { c.Dir = first.dir })
	files, err := s.Ensure(t.Context(), img)
	if err != nil {
		t.Fatal(err)
	}
	checkFile(t, files.Disk, b)
	if want := []string{"", "bytes=1048576-"}; !slices.Equal(f.asked, want) {
		t.Errorf("it was asked for %q, want %q", f.asked, want)
	}
}

// TestDamagedRestIsFetchedAnew: what is left of an earlier fetch may be wrong, and then nobody else is to blame.
func TestDamagedRestIsFetchedAnew(t *testing.T) {
	b := content(48, 1<<20)
	f := &fileServer{b: b, etag: `"one"`, ranges: true}
	srv := httptest.NewServer(f)
	defer srv.Close()
	p := newFakePeers(map[string][]byte{"a": b})
	for _, name := range []string{"peer", "url"} {
		s := openStore(t, func(c *Config) {
			if name == "peer" {
				c.Peers = p
			}
		})
		pt, err := s.openPart(t.Context(), sum(b), int64(len(b)))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := pt.Write(content(49, 1000)); err != nil {
			t.Fatal(err)
		}
		pt.close()
		files, err := s.Ensure(t.Context(), rawImage("x", b, srv.URL))
		if err != nil {
			t.Fatal(err)
		}
		checkFile(t, files.Disk, b)
		if s.count.lies.Load() != 0 {
			t.Errorf("%s is blamed for what an earlier fetch has left", name)
		}
	}
}
