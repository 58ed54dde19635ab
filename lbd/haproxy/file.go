package haproxy

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"hostmesh/lbd/plan"
)

func (b *Balancer) path(name string) string { return filepath.Join(b.cfg.Dir, name) }

func (b *Balancer) settings(socket string) Settings {
	set := Settings{Socket: socket, TLSDir: b.cfg.TLSDir, Timeouts: b.cfg.Timeouts, Files: DefaultFiles, Prints: map[string]string{}}
	if os.Geteuid() == 0 {
		set.Root = b.path("root")
		set.User, set.Group = b.cfg.User, b.group
	}
	names, err := filepath.Glob(filepath.Join(b.cfg.TLSDir, "*.pem"))
	if err != nil {
		return set
	}
	for _, name := range names {
		if info, err := os.Stat(name); err == nil {
			set.Prints[strings.TrimSuffix(filepath.Base(name), ".pem")] = fmt.Sprintf("%d bytes of %s", info.Size(), info.ModTime().UTC().Format(time.RFC3339Nano))
		}
	}
	return set
}

// certificate says what is wrong with that of a service, as far as a look at the file tells.
func (b *Balancer) certificate(s *plan.Service) error {
	if s.TLS == "" {
		return nil
	}
	if !plainName(s.TLS) {
		return fmt.Errorf("%w tags/%s: LB/TLS %q is no plain name", ErrRefused, s.Tag, s.TLS)
	}
	name := filepath.Join(b.cfg.TLSDir, s.TLS+".pem")
	f, err := os.Open(name)
	if err != nil {
		return fmt.Errorf("%w tags/%s: its certificate: %w: put the chain and the key there, in one file", ErrRefused, s.Tag, err)
	}
	defer f.Close()
	info, err := f.Stat()
	switch {
	case err != nil:
		return fmt.Errorf("%w tags/%s: its certificate: %w", ErrRefused, s.Tag, err)
	case !info.Mode().IsRegular():
		return fmt.Errorf("%w tags/%s: its certificate %s is no file", ErrRefused, s.Tag, name)
	case info.Mode().Perm()&0o077 != 0:
		return fmt.Errorf("%w tags/%s: its certificate %s has mode %04o, and the key in it is for nobody else: chmod 0600 %s", ErrRefused, s.Tag, name, info.Mode().Perm(), name)
	}
	return nil
}

// writeFile replaces a file at once: whoever reads it sees the old or the new one.
func writeFile(name, text string) error {
	f, err := os.OpenFile(name+".new", os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o600)
	if err != nil {
		return fmt.Errorf("haproxy's file: %w", err)
	}
	_, err = f.WriteString(text)
	if err := errors.Join(err, f.Close()); err != nil {
		return fmt.Errorf("haproxy's file: %w", err)
	}
	if err := os.Rename(name+".new", name); err != nil {
		return fmt.Errorf("haproxy's file: %w", err)
	}
	return nil
}
