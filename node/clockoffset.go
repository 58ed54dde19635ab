package node

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
	"sync"
	"time"
)

// offsetClock is the system's clock set wrong by what a file says: a Go duration such as -90s, or nothing. The boxes of a test share one
// clock, so --dev has this to set one of them wrong while it runs. The file is read again when it changes.
type offsetClock struct {
	file string

	mu     sync.Mutex // guards the fields below
	looked time.Time
	stat   os.FileInfo
	offset time.Duration
}

// offsetEvery is how often the file is looked at.
const offsetEvery = 100 * time.Millisecond

// newOffsetClock refuses a file that it cannot understand; one that is not there yet means no offset.
func newOffsetClock(file string) (*offsetClock, error) {
	c := &offsetClock{file: file}
	_, err := c.read()
	if errors.Is(err, fs.ErrNotExist) {
		err = nil
	}
	return c, err
}

func (c *offsetClock) read() (time.Duration, error) {
	text, err := os.ReadFile(c.file)
	if err != nil {
		return 0, fmt.Errorf("clock offset: %w", err)
	}
	word := strings.TrimSpace(string(text))
	if word == "" {
		return 0, nil
	}
	d, err := time.ParseDuration(word)
	if err != nil {
		return 0, fmt.Errorf("clock offset: %s holds %q: want a duration, such as -90s", c.file, word)
	}
	return d, nil
}

// Now implements hostdb.Clock. While the file cannot be read or understood the offset stays as it was.
func (c *offsetClock) Now() time.Time {
	now := time.Now()
	c.mu.Lock()
	defer c.mu.Unlock()
	if now.Sub(c.looked) >= offsetEvery {
		c.looked = now
		if stat, err := os.Stat(c.file); err == nil && (c.stat == nil || stat.ModTime() != c.stat.ModTime() || stat.Size() != c.stat.Size()) {
			if d, err := c.read(); err == nil {
				c.offset, c.stat = d, stat
			}
		}
	}
	return now.Add(c.offset)
}
