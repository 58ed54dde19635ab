package badgerdb

import (
	"fmt"
	"log/slog"
	"strings"
)

// badgerLogger passes on Badger's warnings and errors. Its two lower levels tell of every compaction.
type badgerLogger struct{ log *slog.Logger }

func (l badgerLogger) Errorf(format string, args ...any) {
	l.log.Error("badger: " + text(format, args))
}

func (l badgerLogger) Warningf(format string, args ...any) {
	// The caches are small on purpose: a scan overruns them each time, and Badger says so each minute.
	if strings.Contains(format, "might be too small") || strings.HasPrefix(format, "Cache life expectancy") {
		return
	}
	l.log.Warn("badger: " + text(format, args))
}

func (badgerLogger) Infof(string, ...any)  {}
func (badgerLogger) Debugf(string, ...any) {}

func text(format string, args []any) string { return strings.TrimSpace(fmt.Sprintf(format, args...)) }
