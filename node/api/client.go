package api

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"
)

// maxAnswer bounds what the client reads into memory: a zone or a list of a large site fits many times.
const maxAnswer = 256 << 20

// ClientConfig says where the agent is.
type ClientConfig struct {
	// Socket is the path of an agent's socket on this box. Either it or Server is set.
	Socket string
	// Server is the URL of an agent: https://HOST:PORT, or http:// on the loopback.
	Server string
	// Token is the token of a session. On a socket it is not needed. Empty = none.
	Token string
	// RootCAs are the authorities that may vouch for an https server. nil = the system's.
	RootCAs *x509.CertPool
	// DialTimeout bounds the way to the agent, not its answer. 0 = 5 s.
	DialTimeout time.Duration
}

// Client talks to one agent. It retries nothing. How long to wait for an answer is the context's matter. It is safe for
// concurrent use.
type Client struct {
	http   *http.Client
	base   string // no final slash
	socket string
	token  string

	override string // of writes on /v1; see WithOverride
}

// NewClient makes a client. It does not connect.
func NewClient(cfg ClientConfig) (*Client, error) {
	if (cfg.Socket == "") == (cfg.Server == "") {
		return nil, errors.New("either a socket or a server must be named")
	}
	if cfg.DialTimeout == 0 {
		cfg.DialTimeout = 5 * time.Second
	}
	dialer := &net.Dialer{Timeout: cfg.DialTimeout}
	t := &http.Transport{
		Proxy:               http.ProxyFromEnvironment,
		DialContext:         dialer.DialContext,
		TLSHandshakeTimeout: cfg.DialTimeout,
		TLSClientConfig:     &tls.Config{RootCAs: cfg.RootCAs, MinVersion: tls.VersionTLS12},
		IdleConnTimeout:     time.Minute,
		MaxIdleConnsPerHost: 16,
	}
	c := &Client{socket: cfg.Socket, token: cfg.Token, http: &http.Client{
		Transport: t,
		// A write must not arrive elsewhere as a read.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}
	if cfg.Socket != "" {
		c.base = "http://hostmesh"
		t.Proxy = nil
		t.DialContext = func(ctx context.Context, _, _ string) (net.Conn, error) {
			return dialer.DialContext(ctx, "unix", cfg.Socket)
		}
		return c, nil
	}
	u, err := url.Parse(cfg.Server)
	if err != nil || u.Host == "" || (u.Scheme != "http" && u.Scheme != "https") || strings.Trim(u.Path, "/") != "" {
		return nil, fmt.Errorf("server %q is not of the form https://HOST:PORT", cfg.Server)
	}
	c.base = u.Scheme + "://" + u.Host
	return c, nil
}

// Close frees idle connections.
func (c *Client) Close() error {
	c.http.CloseIdleConnections()
	return nil
}

// Where is the socket or server the client talks to, for messages.
func (c *Client) Where() string {
	if c.socket != "" {
		return c.socket
	}
	return c.base
}

// do sends a request. The answer is a success; its body is the caller's to close.
func (c *Client) do(ctx context.Context, method, path string, query url.Values, contentType string, body io.Reader) (*http.Response, error) {
	return c.doWith(ctx, method, path, query, contentType, body, nil)
}

// doWith is do with a header of its own, which it keeps.
func (c *Client) doWith(ctx context.Context, method, path string, query url.Values, contentType string, body io.Reader, header http.Header) (*http.Response, error) {
	target := c.base + path
	if len(query) > 0 {
		target += "?" + query.Encode()
	}
	req, err := http.NewRequestWithContext(ctx, method, target, body)
	if err != nil {
		return nil, err
	}
	if header != nil {
		req.Header = header
	}
	if contentType != "" {
		req.Header.Set("Content-Type", contentType)
	}
	// An agent that answers before it has read a whole import closes the connection when it is done.
	req.Close = contentType == tarType || contentType == gitCommitsType || contentType == octetType
	if c.token != "" {
		req.AddCookie(&http.Cookie{Name: SessionCookie, Value: c.token})
	}
	resp, err := c.http.Do(req)
	switch {
	case err == nil:
	case errors.Is(ctx.Err(), context.Canceled):
		return nil, fmt.Errorf("interrupted before %s answered: %w", c.Where(), ctx.Err())
	case ctx.Err() != nil:
		return nil, fmt.Errorf("no answer from %s in time: %w", c.Where(), context.Cause(ctx))
	default:
		return nil, c.unreachable(err)
	}
	if resp.StatusCode < 200 || resp.StatusCode > 299 {
		defer resp.Body.Close()
		text, _ := io.ReadAll(io.LimitReader(resp.Body, 64<<10)) // what could not be read is missing from the message only
		return nil, answerError(resp, text)
	}
	return resp, nil
}

// roundTrip sends a request and reads the whole answer.
func (c *Client) roundTrip(ctx context.Context, method, path string, query url.Values, contentType string, body io.Reader) ([]byte, http.Header, error) {
	resp, err := c.do(ctx, method, path, query, contentType, body)
	if err != nil {
		return nil, nil, err
	}
	return c.readAll(resp)
}

// readAll reads a whole answer, and closes it.
func (c *Client) readAll(resp *http.Response) ([]byte, http.Header, error) {
	defer resp.Body.Close()
	out, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer+1))
	if err == nil && len(out) > maxAnswer {
		err = fmt.Errorf("it is longer than %d MiB", maxAnswer>>20)
	}
	if err != nil {
		return nil, nil, fmt.Errorf("read the answer of %s: %w", c.Where(), err)
	}
	return out, resp.Header, nil
}

func (c *Client) get(ctx context.Context, path string, query url.Values) ([]byte, error) {
	out, _, err := c.roundTrip(ctx, http.MethodGet, path, query, "", nil)
	return out, err
}

func (c *Client) getJSON(ctx context.Context, path string, out any) error {
	body, err := c.get(ctx, path, nil)
	if err != nil {
		return err
	}
	return c.decode(body, out)
}

func (c *Client) postJSON(ctx context.Context, path string, query url.Values, out any) error {
	body, _, err := c.roundTrip(ctx, http.MethodPost, path, query, "", nil)
	if err != nil {
		return err
	}
	return c.decode(body, out)
}

func (c *Client) decode(body []byte, out any) error {
	if err := json.Unmarshal(body, out); err != nil {
		return fmt.Errorf("the answer of %s is not what an agent sends: %w", c.Where(), err)
	}
	return nil
}

// cause is err without the method and address that net/http and net put before it.
func cause(err error) error {
	var u *url.Error
	if errors.As(err, &u) {
		err = u.Err
	}
	var op *net.OpError
	if errors.As(err, &op) {
		err = op.Err
	}
	return err
}
