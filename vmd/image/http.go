package image

import (
	"context"
	"errors"
	"fmt"
	"io"
	"mime"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strconv"
	"strings"
	"syscall"
	"time"
)

const (
	maxRedirects = 5
	// urlTries is how often a URL is asked without a byte coming, before it is given up.
	urlTries = 4
	copySize = 256 << 10
)

// newHTTPClient is a client for files: no compression, because ranges are of what is stored, and bounded redirects that never
// lead from https to http. Unless local, no connection is made to an address that localAddress names, whatever a URL, a
// redirect or DNS says; that of a proxy in the environment is the box's own affair, and so is where the proxy leads.
func newHTTPClient(local bool) *http.Client {
	t := http.DefaultTransport.(*http.Transport).Clone()
	t.DisableCompression = true
	t.ResponseHeaderTimeout = time.Minute
	if !local {
		dialer := &net.Dialer{Timeout: 30 * time.Second, KeepAlive: 30 * time.Second, Control: refuseLocal}
		proxies := proxyHosts()
		t.DialContext = func(ctx context.Context, network, address string) (net.Conn, error) {
			d := dialer
			if proxies[address] {
				d = &net.Dialer{Timeout: dialer.Timeout, KeepAlive: dialer.KeepAlive}
			}
			return d.DialContext(ctx, network, address)
		}
	}
	return &http.Client{Transport: t, CheckRedirect: checkRedirect}
}

// proxyHosts are the proxies that the environment names, as they are dialled.
func proxyHosts() map[string]bool {
	out := map[string]bool{}
	for _, text := range []string{"http://example.com/", "https://example.com/"} {
		req, err := http.NewRequest(http.MethodGet, text, nil)
		if err != nil {
			continue
		}
		if p, err := http.ProxyFromEnvironment(req); err == nil && p != nil {
			port := p.Port()
			if port == "" {
				port = map[string]string{"http": "80", "https": "443", "socks5": "1080", "socks5h": "1080"}[p.Scheme]
			}
			out[net.JoinHostPort(p.Hostname(), port)] = true
		}
	}
	return out
}

// localAddress says what an address is that leads to the box itself, or to another thing on each box; "" = neither.
func localAddress(a netip.Addr) string {
	a = a.Unmap()
	switch {
	case a.IsLoopback():
		return "a loopback address"
	case a.IsUnspecified(), a.Is4() && a.As4()[0] == 0: // RFC 1122, 3.2.1.3: this host on this network
		return "an unspecified address"
	case a.IsLinkLocalUnicast():
		return "a link-local address"
	case a.IsMulticast(), a == netip.AddrFrom4([4]byte{255, 255, 255, 255}):
		return "a multicast address"
	}
	return ""
}

// localRemedy ends what is said of a URL that is refused for its address.
const localRemedy = "images are not fetched from there; name another server, or set vm.local_urls where boxes serve images themselves"

// refuseLocal is net.Dialer.Control: it sees the address that is about to be connected to, after DNS.
func refuseLocal(_, address string, _ syscall.RawConn) error {
	ap, err := netip.ParseAddrPort(address)
	if err != nil {
		return finalf("its server has the address %q, which is none", clip(address))
	}
	if what := localAddress(ap.Addr()); what != "" {
		return finalf("its server has %s, %s: %s", what, ap.Addr(), localRemedy)
	}
	return nil
}

func checkRedirect(req *http.Request, via []*http.Request) error {
	switch {
	case len(via) > maxRedirects:
		return fmt.Errorf("it redirects more than %d times", maxRedirects)
	case req.URL.Scheme != "http" && req.URL.Scheme != "https":
		return fmt.Errorf("it redirects to %s:, which is not fetched", req.URL.Scheme)
	case via[len(via)-1].URL.Scheme == "https" && req.URL.Scheme == "http":
		return errors.New("it redirects from https to http")
	}
	return nil
}

// urlSource is a web server.
type urlSource struct {
	s    *Store
	url  string
	size int64 // -1 = not known

	// tag is what tells that the file is still the one it was: ETag or Last-Modified of the first answer.
	tag string
}

func (u *urlSource) name() string { return showURL(u.url) }

// errFinal marks an error that asking again does not help against.
type errFinal struct{ error }

func (e errFinal) Unwrap() error { return e.error }

func finalf(format string, args ...any) error { return errFinal{fmt.Errorf(format, args...)} }

func (u *urlSource) copy(ctx context.Context, p *part) error {
	for try := 1; ; try++ {
		before := p.size
		err := u.once(ctx, p)
		if err == nil {
			return nil
		}
		var final errFinal
		if errors.As(err, &final) || isFull(err) || ctx.Err() != nil {
			return err
		}
		if p.size > before {
			try = 1
		}
		if try == urlTries {
			return err
		}
		if err := u.s.pause(ctx, try); err != nil {
			return err
		}
	}
}

// once makes one request for the rest of the file.
func (u *urlSource) once(ctx context.Context, p *part) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	stall := errors.New("it sends nothing for " + u.s.cfg.Stall.String())
	watch := time.AfterFunc(u.s.cfg.Stall, func() { cancel(stall) })
	defer watch.Stop()

	req, err := http.NewRequestWithContext(ctx, http.MethodGet, u.url, nil)
	if err != nil {
		return finalf("it is no URL")
	}
	req.Header.Set("Accept-Encoding", "identity")
	req.Header.Set("User-Agent", "hostmesh")
	if p.size > 0 {
		req.Header.Set("Range", fmt.Sprintf("bytes=%d-", p.size))
		if u.tag != "" {
			req.Header.Set("If-Range", u.tag)
		}
	}
	resp, err := u.s.cfg.HTTP.Do(req)
	if err != nil {
		return plainURLError(ctx, err)
	}
	defer resp.Body.Close()
	if err := u.accept(resp, p); err != nil {
		return err
	}
	buf := make([]byte, copySize)
	for {
		n, err := resp.Body.Read(buf)
		if n > 0 {
			watch.Reset(u.s.cfg.Stall)
			u.s.count.url.Add(int64(n))
			if _, werr := p.Write(buf[:n]); werr != nil {
				return errFinal{werr}
			}
		}
		switch {
		case errors.Is(err, io.EOF):
			if u.size >= 0 && p.size < u.size {
				return fmt.Errorf("it ends after %d of %d bytes", p.size, u.size)
			}
			return nil
		case err != nil:
			return plainURLError(ctx, err)
		}
	}
}

// accept judges the head of an answer, and makes p ready for its body.
func (u *urlSource) accept(resp *http.Response, p *part) error {
	switch {
	case resp.StatusCode == http.StatusOK, resp.StatusCode == http.StatusPartialContent:
	case resp.StatusCode == http.StatusRequestedRangeNotSatisfiable && p.size > 0:
		if err := p.reset(); err != nil {
			return errFinal{err}
		}
		return errors.New("it has no more bytes than came already") // asked again, from the beginning
	case resp.StatusCode >= 500 || resp.StatusCode == http.StatusTooManyRequests || resp.StatusCode == http.StatusRequestTimeout:
		return fmt.Errorf("it answers %s", statusText(resp.StatusCode))
	default:
		return finalf("it answers %s", statusText(resp.StatusCode))
	}
	if t, _, err := mime.ParseMediaType(resp.Header.Get("Content-Type")); err == nil && (t == "text/html" || t == "application/xhtml+xml") {
		return finalf("%w: it answers with a web page, not with a file: take the address of the file itself", ErrBadImage)
	}
	if e := resp.Header.Get("Content-Encoding"); e != "" && e != "identity" {
		return finalf("%w: it answers with the encoding %q, which was not asked for", ErrBadImage, clip(e))
	}
	tag := resp.Header.Get("ETag")
	if tag == "" || strings.HasPrefix(tag, "W/") { // RFC 9110, 13.1.5: a weak one does not do
		tag = resp.Header.Get("Last-Modified")
	}
	total, begin := resp.ContentLength, int64(0)
	if resp.StatusCode == http.StatusPartialContent {
		var ok bool
		if begin, total, ok = contentRange(resp.Header.Get("Content-Range")); !ok || begin != p.size {
			if err := p.reset(); err != nil {
				return errFinal{err}
			}
			return errors.New("it answers with another part than was asked for")
		}
		if u.tag != "" && tag != "" && tag != u.tag {
			if err := p.reset(); err != nil {
				return errFinal{err}
			}
			u.tag = ""
			return errors.New("it has changed meanwhile")
		}
	}
	if u.size >= 0 && total >= 0 && total != u.size {
		return finalf("%w: it has %d bytes, the catalogue says %d", ErrChecksum, total, u.size)
	}
	if total > MaxSize {
		return finalf("%w: it has %d bytes; the most is %d", ErrBadImage, total, int64(MaxSize))
	}
	u.tag = tag
	if begin == 0 && p.size > 0 { // it sends all of it, because it cannot else or because it changed
		if err := p.reset(); err != nil {
			return errFinal{err}
		}
	}
	if p.limit < 0 && total >= 0 {
		p.limit = total
		u.size = total
		if err := p.reserve(); err != nil {
			return errFinal{err}
		}
	}
	return nil
}

// contentRange reads a Content-Range such as "bytes 10-99/100". total is -1 for "*".
func contentRange(text string) (begin, total int64, ok bool) {
	text, is := strings.CutPrefix(text, "bytes ")
	span, all, found := strings.Cut(text, "/")
	first, last, dash := strings.Cut(span, "-")
	if !is || !found || !dash {
		return 0, 0, false
	}
	begin, err := strconv.ParseInt(first, 10, 64)
	end, err2 := strconv.ParseInt(last, 10, 64)
	if err != nil || err2 != nil || begin < 0 || end < begin {
		return 0, 0, false
	}
	if all == "*" {
		return begin, -1, true
	}
	total, err = strconv.ParseInt(all, 10, 64)
	return begin, total, err == nil && total > end
}

func statusText(code int) string {
	return strings.TrimSpace(strconv.Itoa(code) + " " + http.StatusText(code))
}

// plainURLError is an error of a request without its URL, in which secrets may stand.
func plainURLError(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		if cause := context.Cause(ctx); cause != nil {
			return cause
		}
	}
	var u *url.Error
	if errors.As(err, &u) {
		err = u.Err
	}
	return fmt.Errorf("it breaks off: %w", err)
}

// pause waits before a source is asked again: longer each time.
func (s *Store) pause(ctx context.Context, try int) error {
	t := time.NewTimer(s.cfg.Retry << (try - 1))
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
