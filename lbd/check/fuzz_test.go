package check

import (
	"net"
	"testing"
	"time"
)

// FuzzDNSAnswer: whatever a member sends, judging it ends without a panic, and nothing is an answer that does not have the query's number.
func FuzzDNSAnswer(f *testing.F) {
	q, err := dnsQuery(7)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(q)
	q[2] |= 0x80
	f.Add(q)
	f.Fuzz(func(t *testing.T, b []byte) {
		err, stray := dnsAnswer(7, b)
		if err == nil && (stray || len(b) < 12 || b[0] != 0 || b[1] != 7) {
			t.Errorf("%x is taken for an answer", b)
		}
	})
}

// FuzzMySQL: whatever a member says, the check ends, and is good only after a greeting or too many connections.
func FuzzMySQL(f *testing.F) {
	f.Add([]byte("\x05\x00\x00\x00\x0a10.1"))
	f.Add([]byte("\x05\x00\x00\x00\xff\x10\x04xx"))
	f.Add([]byte("\x01\x00\x00\x00\xff"))
	f.Fuzz(func(t *testing.T, b []byte) {
		here, there := net.Pipe()
		go func() {
			_ = there.SetDeadline(time.Now().Add(50 * time.Millisecond))
			_, _ = there.Write(b)
			there.Close()
		}()
		defer here.Close()
		_ = here.SetDeadline(time.Now().Add(50 * time.Millisecond))
		err := mysqlTalk(here)
		if err == nil && (len(b) < 5 || b[4] != 10) {
			t.Errorf("%q is good", b)
		}
	})
}
