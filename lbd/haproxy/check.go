package haproxy

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"regexp"
	"strconv"
	"time"
)

// ErrUnfit is wrapped by what says why this box cannot run HAProxy.
var ErrUnfit = errors.New("haproxy cannot be run here")

// Version is that of a program.
type Version struct{ Major, Minor int }

// String is as in 2.6.
func (v Version) String() string { return fmt.Sprintf("%d.%d", v.Major, v.Minor) }

// Oldest is the first version whose servers can be added and deleted while it runs.
var Oldest = Version{2, 6}

func (v Version) less(o Version) bool {
	return v.Major < o.Major || v.Major == o.Major && v.Minor < o.Minor
}

var versionLine = regexp.MustCompile(`(?m)^HA-?Proxy version (\d+)\.(\d+)`)

// Check reports which HAProxy a program is ("" = haproxy of the path), or why it cannot be used: the error wraps ErrUnfit and says
// what to do.
func Check(ctx context.Context, program string) (Version, error) {
	if program == "" {
		program = "haproxy"
	}
	path, err := exec.LookPath(program)
	if err != nil {
		return Version{}, fmt.Errorf("%w: there is no %s: install it (apt-get install haproxy), or balance with Mode nat", ErrUnfit, program)
	}
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	out, err := exec.CommandContext(ctx, path, "-v").Output()
	if err != nil {
		return Version{}, fmt.Errorf("%w: %s -v: %w", ErrUnfit, path, err)
	}
	v, ok := readVersion(string(out))
	switch {
	case !ok:
		return Version{}, fmt.Errorf("%w: %s -v says %q, which names no version", ErrUnfit, path, short(string(out)))
	case v.less(Oldest):
		return v, fmt.Errorf("%w: %s is version %s, and %s or newer is needed: upgrade it, or balance with Mode nat", ErrUnfit, path, v, Oldest)
	}
	return v, nil
}

func readVersion(text string) (Version, bool) {
	m := versionLine.FindStringSubmatch(text)
	if m == nil {
		return Version{}, false
	}
	major, err1 := strconv.Atoi(m[1])
	minor, err2 := strconv.Atoi(m[2])
	return Version{major, minor}, err1 == nil && err2 == nil
}
