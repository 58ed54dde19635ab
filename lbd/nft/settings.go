package nft

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// settings are the kernel's, below /proc/sys, in the network namespace of the thread that opens them.
type settings struct{ root string }

// forwarding is what has to be 1 before packets of a family are sent on.
func forwarding(f family) string {
	if f == ip4 {
		return "net/ipv4/ip_forward"
	}
	return "net/ipv6/conf/all/forwarding"
}

func (s settings) get(name string) (string, error) {
	b, err := os.ReadFile(filepath.Join(s.root, name))
	return strings.TrimSpace(string(b)), err
}

func (s settings) set(name, value string) error {
	return os.WriteFile(filepath.Join(s.root, name), []byte(value), 0o644)
}

// need sets what forwarding of a family needs, and returns what was changed. Nothing is set back, ever: others may have come to need it. A box that
// forwards IPv6 no longer listens to routers, so interfaces that did are told to go on.
func (s settings) need(f family) (changed []string, err error) {
	name := forwarding(f)
	is, err := s.get(name)
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", dotted(name), err)
	}
	if is == "1" {
		return nil, nil
	}
	set := func(name, value string) error {
		if err := s.set(name, value); err != nil {
			return fmt.Errorf("set %s to %s, without which nothing can be passed on: %w", dotted(name), value, err)
		}
		changed = append(changed, dotted(name)+"="+value)
		return nil
	}
	if f == ip6 {
		list, err := filepath.Glob(filepath.Join(s.root, "net/ipv6/conf/*/accept_ra"))
		if err != nil {
			return nil, fmt.Errorf("list interfaces: %w", err)
		}
		for _, path := range list {
			rel := strings.TrimPrefix(path, s.root+"/")
			if is, err := s.get(rel); err == nil && is == "1" { // an interface may have gone
				if err := set(rel, "2"); err != nil {
					return changed, err
				}
			}
		}
	}
	return changed, set(name, "1")
}

// can says whether need would succeed.
func (s settings) can(f family) error {
	name := forwarding(f)
	if is, err := s.get(name); err == nil && is == "1" {
		return nil
	}
	file, err := os.OpenFile(filepath.Join(s.root, name), os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	return file.Close()
}

func dotted(name string) string { return strings.ReplaceAll(name, "/", ".") }
