package api

import (
	"net/http/httptest"
	"testing"
	"time"
)

// deadlines records what a handler asks of the connection.
type deadlines struct {
	*httptest.ResponseRecorder
	reads []time.Time
}

func (d *deadlines) SetReadDeadline(t time.Time) error {
	d.reads = append(d.reads, t)
	return nil
}

// A long export is not ended by the deadline within which its request had to be read: a server that meets it on a
// connection takes the client for gone.
func TestExportsOutliveTheDeadlineOfTheirRequest(t *testing.T) {
	h := NewHandler(Config{Git: &gitFake{}, Identify: identify})
	for _, path := range []string{"/api/v1/export/git", "/api/v1/export"} {
		w := &deadlines{ResponseRecorder: httptest.NewRecorder()}
		r := httptest.NewRequest("GET", path, nil)
		r.RemoteAddr = near
		h.ServeHTTP(w, r)
		if w.Code != 200 || len(w.reads) != 1 || !w.reads[0].IsZero() {
			t.Errorf("%s: %d, read deadlines %v", path, w.Code, w.reads)
		}
	}
}
