package node

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func TestClockOffset(t *testing.T) {
	file := filepath.Join(t.TempDir(), "offset")
	c, err := newOffsetClock(file)
	if err != nil {
		t.Fatalf("a file that is not there yet: %v", err)
	}
	off := func() time.Duration { return time.Until(c.Now()).Round(time.Second) }
	if d := off(); d != 0 {
		t.Errorf("off by %s without a file", d)
	}
	for _, step := range []struct {
		text string
		want time.Duration
	}{{"1h\n", time.Hour}, {"-90s", -90 * time.Second}, {"soon", -90 * time.Second}, {"", 0}} {
		if err := os.WriteFile(file, []byte(step.text), 0o600); err != nil {
			t.Fatal(err)
		}
		c.looked, c.stat = time.Time{}, nil
		if d := off(); d != step.want {
			t.Errorf("with %q: off by %s, expected %s", step.text, d, step.want)
		}
	}
	if err := os.WriteFile(file, []byte("soon"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := newOffsetClock(file); err == nil || !strings.Contains(err.Error(), "-90s") {
		t.Errorf("a file that says nothing: %v", err)
	}
}
