package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"
)

// client speaks to the agent through its socket, where root may write.
type client struct {
	socket string
	http   http.Client
}

func newClient(socket string) *client {
	c := &client{socket: socket}
	c.http.Transport = &http.Transport{MaxIdleConnsPerHost: writers, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", socket)
	}}
	return c
}

// ready waits until the agent says that it is.
func (c *client) ready(ended <-chan error) error {
	for {
		if _, err := c.get("/readyz"); err == nil {
			return nil
		}
		select {
		case err := <-ended:
			return err
		case <-time.After(50 * time.Millisecond):
		}
	}
}

func (c *client) get(path string) (string, error) {
	resp, err := c.http.Get("http://socket" + path)
	if err != nil {
		return "", err
	}
	text, _, err := answer(resp, http.StatusOK)
	return text, err
}

// put returns the revision when the write was acknowledged.
func (c *client) put(path, value string) (revision string, err error) {
	form := url.Values{"value": {value}, "log": {"power cut"}}
	req, err := http.NewRequest(http.MethodPut, "http://socket"+path, strings.NewReader(form.Encode()))
	if err != nil {
		return "", err
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	resp, err := c.http.Do(req)
	if err != nil {
		return "", err
	}
	_, h, err := answer(resp, http.StatusCreated)
	if err == nil && h.Get("Hostmesh-Revision") == "" {
		err = errors.New("an acknowledgement without a revision")
	}
	return h.Get("Hostmesh-Revision"), err
}

func answer(resp *http.Response, want int) (string, http.Header, error) {
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode != want {
		err = fmt.Errorf("%s %s: %s %s", resp.Request.Method, resp.Request.URL.Path, resp.Status, resp.Header.Get("Error"))
	}
	return string(body), resp.Header, err
}
