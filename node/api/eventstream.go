package api

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"
)

// Server-sent events, both sides: what a stream is like, whatever it tells of.

const (
	// writeStall is how long one event may take to leave. Then the connection is cut without a word: none would get through.
	writeStall = 10 * time.Second
	// keepAlive is how often something is sent when nothing happens, so that proxies and both ends know of each other.
	keepAlive = 15 * time.Second
	// silence ends a connection on which nothing comes, not even what keeps it alive.
	silence = 3 * keepAlive
	// maxEvent bounds one line of an event.
	maxEvent = 64 << 20

	// The pauses between two attempts to connect, before chance makes them longer or shorter by half.
	firstPause = 500 * time.Millisecond
	maxPause   = 30 * time.Second
)

// aliveLine keeps a connection alive on which nothing happens.
const aliveLine = ": alive\n\n"

// startStream begins a stream, and returns what writes to it at once, by one caller at a time. It returns false where nothing is
// to be sent: to who asks for the head alone, and to who is gone.
func startStream(rw http.ResponseWriter, r *http.Request) (write func(text string) error, ok bool) {
	rc := http.NewResponseController(rw)
	rw.Header().Set("Content-Type", "text/event-stream")
	rw.Header().Set("Cache-Control", "no-store")
	if r.Method == http.MethodHead {
		return nil, false
	}
	// The server watches the connection by reading on; the deadline of the request would end the stream.
	_ = rc.SetReadDeadline(time.Time{})
	var mu sync.Mutex
	write = func(text string) error {
		mu.Lock()
		defer mu.Unlock()
		_ = rc.SetWriteDeadline(time.Now().Add(writeStall)) // an error means that the server has no deadline
		if _, err := io.WriteString(rw, text); err != nil {
			return err
		}
		return rc.Flush()
	}
	return write, write(": hostmesh\n\n") == nil
}

// frame is one event as it crosses. One without data only moves the cursor, id.
type frame struct{ kind, id, data string }

// readFrame reads the next. beat is called for each line.
func readFrame(in *bufio.Reader, beat func()) (frame, error) {
	var f frame
	var data strings.Builder
	for {
		line, err := readLine(in)
		if err != nil {
			return frame{}, err
		}
		beat()
		if line == "" {
			if f.data = data.String(); f.data != "" || f.id != "" {
				return f, nil
			}
			f = frame{}
			continue
		}
		name, value, _ := strings.Cut(line, ":")
		value = strings.TrimPrefix(value, " ")
		switch name {
		case "id":
			f.id = value
		case "event":
			f.kind = value
		case "data":
			data.WriteString(value)
		}
	}
}

func readLine(in *bufio.Reader) (string, error) {
	var b strings.Builder
	for {
		part, err := in.ReadSlice('\n')
		b.Write(part)
		switch {
		case b.Len() > maxEvent:
			return "", fmt.Errorf("an event of more than %d MiB", maxEvent>>20)
		case errors.Is(err, bufio.ErrBufferFull):
			continue
		case err != nil:
			return "", err
		}
		return strings.TrimRight(b.String(), "\r\n"), nil
	}
}

// errEnded is why a connection ended on which nobody said why.
var errEnded = errors.New("the connection ended")

// refused reports whether asking again would give the same answer.
func refused(err error) bool {
	var e *Error
	return errors.As(err, &e) && e.Status >= 400 && e.Status < 500 && e.Status != http.StatusConflict && e.Status != http.StatusTooManyRequests
}

// events follows one connection. each is given what comes; its error ends the connection, and false the loop behind it. heard says
// that something came; more is false when the loop was left. The error is why the connection ended.
func (c *Client) events(ctx context.Context, path string, q url.Values, each func(frame) (more bool, err error)) (heard, more bool, err error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	resp, err := c.doWith(ctx, http.MethodGet, path, q, "", nil, http.Header{"Accept": {"text/event-stream"}})
	if err != nil {
		return false, true, err
	}
	defer resp.Body.Close()
	quiet := time.AfterFunc(silence, func() { cancel(fmt.Errorf("nothing was heard for %s", silence)) })
	defer quiet.Stop()
	in := bufio.NewReader(resp.Body)
	for {
		f, err := readFrame(in, func() { quiet.Reset(silence) })
		switch {
		case err != nil && ctx.Err() != nil:
			return heard, true, context.Cause(ctx)
		case errors.Is(err, io.EOF):
			return heard, true, fmt.Errorf("%s: %w", c.Where(), errEnded)
		case err != nil:
			return heard, true, fmt.Errorf("read events of %s: %w", c.Where(), err)
		}
		heard = true
		quiet.Stop() // the loop's body may take its time
		more, err := each(f)
		if err != nil {
			return heard, true, fmt.Errorf("%s: %w", c.Where(), err)
		}
		if !more {
			return heard, false, nil
		}
		quiet.Reset(silence)
	}
}

// again calls once, which follows one connection as events does, until ctx ends, the loop is left, or it is refused: then it returns
// why. Between two connections it waits; reconnecting, when it is not nil, is told why, and for how long.
func again(ctx context.Context, once func() (heard, more bool, err error), reconnecting func(why error, pause time.Duration)) error {
	for pause := firstPause; ; pause = min(2*pause, maxPause) {
		heard, more, err := once()
		switch {
		case !more || ctx.Err() != nil:
			return nil
		case err != nil && refused(err):
			return err
		case heard:
			pause = firstPause
		}
		wait := pause/2 + rand.N(pause)
		if reconnecting != nil {
			reconnecting(err, wait)
		}
		timer := time.NewTimer(wait)
		select {
		case <-ctx.Done():
			timer.Stop()
			return nil
		case <-timer.C:
		}
	}
}
