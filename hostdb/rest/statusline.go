package rest

import (
	"context"
	"crypto/tls"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"unicode/utf8"
)

// maxPhrase bounds a reason phrase in bytes.
const maxPhrase = 512

// Listener gives the connections of ln the means to carry a handler's own reason phrase, which net/http lacks and
// HostDB's clients show to people. The server must have [ConnContext] as its ConnContext. Without the two, the
// handler answers with the standard phrases.
//
// For HTTPS ln must be the listener of the TLS connections (tls.NewListener), served by http.Server.Serve: a phrase is
// written before it is encrypted. Such connections speak HTTP/1.1 only, make their handshake at the first read (bounded
// by the server's ReadHeaderTimeout), and Request.TLS is not nil.
func Listener(ln net.Listener) net.Listener { return &listener{ln} }

type listener struct{ net.Listener }

func (l *listener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	if _, ok := c.(interface{ ConnectionState() tls.ConnectionState }); ok {
		return &tlsConn{conn{Conn: c}}, nil
	}
	return &conn{Conn: c}, nil
}

// conn replaces the reason phrase of the next status line with the one that was asked for.
//
// net/http answers the requests of a connection one after the other and flushes its buffer after each answer, so a
// status line stands at the beginning of a Write.
type conn struct {
	net.Conn
	phrase atomic.Pointer[phrase] // for the next final status line; nil for none
}

type phrase struct {
	status int
	text   string
}

// tlsConn lets net/http see that the connection is encrypted.
type tlsConn struct{ conn }

// ConnectionState implements what net/http fills Request.TLS from.
func (c *tlsConn) ConnectionState() tls.ConnectionState {
	return c.Conn.(interface{ ConnectionState() tls.ConnectionState }).ConnectionState()
}

// NetConn is the connection below, for those who look for its peer.
func (c *conn) NetConn() net.Conn { return c.Conn }

// CloseWrite lets net/http end an answer to a client that is still sending without cutting it off.
func (c *conn) CloseWrite() error {
	if w, ok := c.Conn.(interface{ CloseWrite() error }); ok {
		return w.CloseWrite()
	}
	return nil
}

// Write writes b, with another reason phrase if b begins with the status line that one was asked for.
func (c *conn) Write(b []byte) (int, error) {
	p := c.phrase.Load()
	if p == nil {
		return c.Conn.Write(b)
	}
	// "HTTP/1.1 201 Created\r\n": the phrase begins at 13.
	const at = len("HTTP/1.1 201 ")
	if len(b) < at || string(b[:7]) != "HTTP/1." || b[9] == '1' {
		return c.Conn.Write(b) // not a status line, or that of an interim answer such as 100 Continue
	}
	c.phrase.Store(nil) // whatever this status line is, the phrase was for no later one
	end := at
	for end < len(b) && b[end] != '\r' {
		end++
	}
	if end == len(b) || string(b[at-4:at-1]) != itoa3(p.status) {
		return c.Conn.Write(b)
	}
	out := make([]byte, 0, len(b)+len(p.text))
	out = append(out, b[:at]...)
	out = append(out, p.text...)
	out = append(out, b[end:]...)
	n, err := c.Conn.Write(out)
	switch { // net/http counts in bytes of b
	case n == len(out):
		return len(b), err
	case n >= at+len(p.text):
		return n - len(p.text) + end - at, err
	default:
		return min(n, end), err
	}
}

func itoa3(n int) string {
	return string([]byte{byte('0' + n/100%10), byte('0' + n/10%10), byte('0' + n%10)})
}

type connKey struct{}

// ConnContext makes the connections of a [Listener] known to the handler. It is a value for http.Server.ConnContext.
func ConnContext(ctx context.Context, c net.Conn) context.Context {
	switch c := c.(type) {
	case *conn:
		return context.WithValue(ctx, connKey{}, c)
	case *tlsConn:
		return context.WithValue(ctx, connKey{}, &c.conn)
	}
	return ctx
}

// writeHeader is w.WriteHeader with a reason phrase. text must be one line; see oneLine.
func writeHeader(w http.ResponseWriter, r *http.Request, status int, text string) {
	if c, ok := r.Context().Value(connKey{}).(*conn); ok && text != "" {
		c.phrase.Store(&phrase{status, text})
	}
	w.WriteHeader(status)
}

// oneLine makes text fit for a status line or a header: one line of at most limit bytes, no control characters, no
// blanks at its ends.
func oneLine(text string, limit int) string {
	text = strings.Join(strings.FieldsFunc(strings.ToValidUTF8(text, "?"), func(r rune) bool {
		return r < ' ' || r >= 0x7f && r < 0xa0 || r == '\u2028' || r == '\u2029'
	}), " ")
	if len(text) > limit {
		cut := limit
		for cut > 0 && !utf8.RuneStart(text[cut]) {
			cut--
		}
		text = text[:cut]
	}
	return strings.TrimSpace(text)
}
