package main

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"time"
)

// conn is an HTTP/1.1 client that costs next to nothing, so that what is measured is the server. It is used by one
// goroutine.
type conn struct {
	c    net.Conn
	r    *bufio.Reader
	body []byte
}

func dial(ctx context.Context, addr string) (*conn, error) {
	c, err := (&net.Dialer{Timeout: 5 * time.Second}).DialContext(ctx, "tcp", addr)
	if err != nil {
		return nil, err
	}
	return &conn{c: c, r: bufio.NewReaderSize(c, 32<<10)}, nil
}

func (c *conn) close() { _ = c.c.Close() }

// do sends a request as it is and reads the answer, whose length must be given. The body is valid until the next call.
func (c *conn) do(request string) (status int, body []byte, err error) {
	if err := c.c.SetDeadline(time.Now().Add(30 * time.Second)); err != nil {
		return 0, nil, err
	}
	if _, err := io.WriteString(c.c, request); err != nil {
		return 0, nil, err
	}
	line, err := c.r.ReadSlice('\n')
	if err != nil {
		return 0, nil, err
	}
	if len(line) < len("HTTP/1.1 200") {
		return 0, nil, fmt.Errorf("status line %q", line)
	}
	if status, err = strconv.Atoi(string(line[9:12])); err != nil {
		return 0, nil, fmt.Errorf("status line %q", line)
	}
	length := -1
	for {
		if line, err = c.r.ReadSlice('\n'); err != nil {
			return status, nil, err
		}
		if len(line) <= 2 {
			break
		}
		const name = "content-length:"
		if len(line) > len(name) && strings.EqualFold(string(line[:len(name)]), name) {
			if length, err = strconv.Atoi(strings.TrimSpace(string(line[len(name):]))); err != nil {
				return status, nil, fmt.Errorf("header %q", line)
			}
		}
	}
	if length < 0 {
		return status, nil, fmt.Errorf("an answer %d without Content-Length", status)
	}
	if cap(c.body) < length {
		c.body = make([]byte, length)
	}
	_, err = io.ReadFull(c.r, c.body[:length])
	return status, c.body[:length], err
}

func getRequest(path string) string {
	return "GET " + path + " HTTP/1.1\r\nHost: bench\r\nUser-Agent: bench\r\nAccept: */*\r\n\r\n"
}

func bodyRequest(method, path, contentType, body string) string {
	return method + " " + path + " HTTP/1.1\r\nHost: bench\r\nUser-Agent: bench\r\nAccept: */*\r\nContent-Type: " + contentType +
		"\r\nContent-Length: " + strconv.Itoa(len(body)) + "\r\n\r\n" + body
}

// turn is what some clients got done in a while.
type turn struct {
	done  int
	took  time.Duration
	waits []time.Duration // of each request
}

func (t turn) rate() float64 { return float64(t.done) / t.took.Seconds() }

// load has clients ask one after the other for d, each over its own connection. request gives the n-th request of a
// client; want is the status that each must be answered with.
func load(ctx context.Context, addr string, clients int, d time.Duration, want int, request func(client, n int) string) (turn, error) {
	conns := make([]*conn, clients)
	for i := range conns {
		c, err := dial(ctx, addr)
		if err != nil {
			return turn{}, err
		}
		defer c.close()
		conns[i] = c
	}
	waits, errs := make([][]time.Duration, clients), make([]error, clients)
	begin := time.Now()
	var wg sync.WaitGroup
	for i, c := range conns {
		wg.Go(func() {
			for n := 0; time.Since(begin) < d && ctx.Err() == nil; n++ {
				asked := time.Now()
				status, body, err := c.do(request(i, n))
				if err == nil && status != want {
					err = fmt.Errorf("answered with %d instead of %d: %.200s", status, want, body)
				}
				if err != nil {
					errs[i] = err
					return
				}
				waits[i] = append(waits[i], time.Since(asked))
			}
		})
	}
	wg.Wait()
	t := turn{took: time.Since(begin)}
	for i := range waits {
		if errs[i] != nil {
			return turn{}, errs[i]
		}
		t.done += len(waits[i])
		t.waits = append(t.waits, waits[i]...)
	}
	if t.done == 0 {
		return turn{}, fmt.Errorf("nothing was answered within %s", d)
	}
	return t, ctx.Err()
}

// putRequest is a write as every client of HostDB sends it.
func (m *mesh) putRequest(id, value string) string {
	form := url.Values{"value": {value}, "log": {"bench"}, "session": {m.token}}
	return bodyRequest("PUT", "/v1/"+id, "application/x-www-form-urlencoded", form.Encode())
}

func (m *mesh) put(c *conn, id, value string) error {
	status, body, err := c.do(m.putRequest(id, value))
	if err == nil && status != http.StatusCreated {
		err = fmt.Errorf("answered with %d: %.200s", status, body)
	}
	if err != nil {
		return fmt.Errorf("PUT %s: %w", id, err)
	}
	return nil
}
