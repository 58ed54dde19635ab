package local

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// A clone puts one directory in another's place. What the server has elsewhere would be that of the former data, beside new ones that do not fit it, and would be written to by both: what is InnoDB's or Aria's must
// lie in the datadir. A binary log elsewhere may: the first start on the new data removes it.

// inDatadir are settings whose directory must be the datadir itself: the files of a copy lie there.
var inDatadir = []string{"innodb_data_home_dir", "innodb_log_group_home_dir", "innodb_undo_directory", "aria_log_dir_path"}

// askDefaults bounds asking a program what it would be started with.
const askDefaults = 10 * time.Second

// refuseOutside refuses to replace data of which a part lies elsewhere.
func (s *server) refuseOutside(ctx context.Context, d dirs) error {
	m := s.get()
	settings, err := s.h.defaults(ctx, m.Server.Start)
	if err != nil {
		s.h.cfg.Logger.Warn("whether files of a database server lie outside of its datadir is not known", "tag", s.tag, "err", err)
	}
	for _, name := range inDatadir {
		if at := settings[name]; !d.is(at) {
			return fmt.Errorf("%w: %s = %s, and a copy has everything in the datadir, %s: stop the server in order, move what is in %[3]s there, and take the setting out of its file", ErrClone, name, at, d.data)
		}
	}
	for file := range strings.SplitSeq(settings["innodb_data_file_path"], ";") {
		name, _, _ := strings.Cut(strings.TrimSpace(file), ":")
		if at := filepath.Dir(name); !d.is(at) {
			return fmt.Errorf("%w: innodb_data_file_path has %s, and a copy has everything in the datadir, %s: stop the server in order, move that file there, and name it without a directory", ErrClone, name, d.data)
		}
	}
	return refuseLinks(d.data)
}

// refuseLinks refuses data with tables that lie elsewhere (DATA DIRECTORY): each is named by a file beside where it would lie.
func refuseLinks(dir string) error {
	links, err := filepath.Glob(filepath.Join(dir, "*", "*.isl"))
	if err != nil || len(links) == 0 {
		return err
	}
	slices.Sort(links)
	return fmt.Errorf("%w: %d tables lie outside of the datadir, as the one of %s does (DATA DIRECTORY): make each anew without that on the primary: CREATE TABLE ... LIKE, INSERT ... SELECT, RENAME TABLE", ErrClone, len(links), links[0])
}

// is reports whether a directory that a setting names is the datadir; "" stands for that.
func (d dirs) is(at string) bool {
	if !filepath.IsAbs(at) {
		at = filepath.Join(d.data, at)
	}
	if filepath.Clean(at) == d.data {
		return true
	}
	a, err := os.Stat(at)
	if err != nil {
		return false
	}
	b, err := os.Stat(d.data)
	return err == nil && os.SameFile(a, b)
}

// defaults are the settings with which a command would start a server: of its files, and of its arguments.
func (h *Host) defaults(ctx context.Context, start []string) (map[string]string, error) {
	program, err := serverProgram(start)
	if err != nil {
		return nil, err
	}
	var args []string
	own := start[slices.Index(start, program)+1:]
	for _, option := range []string{"--defaults-file=", "--defaults-extra-file=", "--no-defaults"} { // which come first
		for _, arg := range own {
			if strings.HasPrefix(arg, option) {
				args = append(args, arg)
			}
		}
	}
	args = append(args, "--print-defaults")
	for _, arg := range own {
		if !slices.Contains(args, arg) {
			args = append(args, arg)
		}
	}
	ctx, cancel := context.WithTimeout(ctx, askDefaults)
	defer cancel()
	out, err := h.gently(ctx, program, args...).Output()
	if err != nil {
		return nil, fmt.Errorf("%s --print-defaults: %w", program, err)
	}
	return parseDefaults(string(out)), nil
}

// parseDefaults reads what --print-defaults says: options on one line, of which the last of a name counts.
func parseDefaults(text string) map[string]string {
	settings := map[string]string{}
	for option := range strings.SplitSeq(strings.ReplaceAll(text, "\n", " "), " --") {
		name, value, _ := strings.Cut(strings.TrimSpace(option), "=")
		name = strings.TrimPrefix(strings.ReplaceAll(name, "-", "_"), "loose_")
		settings[name] = value
	}
	return settings
}
