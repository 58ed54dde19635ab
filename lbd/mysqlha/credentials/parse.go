package credentials

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"go.yaml.in/yaml/v4"
)

// Parse reads a file's text: ErrBad. Errors name the line and quote no secret.
func Parse(text []byte) (File, error) {
	f, err := parse(text)
	if err != nil {
		return File{}, fmt.Errorf("%w: %w", ErrBad, err)
	}
	return f, nil
}

func parse(text []byte) (File, error) {
	dec := yaml.NewDecoder(bytes.NewReader(text))
	var root, more yaml.Node
	if err := dec.Decode(&root); err != nil && !errors.Is(err, io.EOF) {
		return File{}, notYAML(err)
	}
	if err := dec.Decode(&more); !errors.Is(err, io.EOF) {
		return File{}, errors.New("there is more than one document: keep one")
	}
	if len(root.Content) == 0 {
		return File{}, errors.New("it is empty: it needs admin and replication, each with user and password")
	}
	var f File
	var backup *Account
	err := fields(root.Content[0], "the file", map[string]func(*yaml.Node) error{
		"admin":       func(n *yaml.Node) error { return account(n, "admin", &f.Admin) },
		"replication": func(n *yaml.Node) error { return account(n, "replication", &f.Replication) },
		"backup":      func(n *yaml.Node) error { backup = new(Account); return account(n, "backup", backup) },
		"tls":         func(n *yaml.Node) error { f.TLS = &TLS{Verify: VerifyIdentity}; return f.TLS.parse(n) },
		"server":      func(n *yaml.Node) error { f.Server = &Server{Port: 3306, User: "mysql"}; return f.Server.parse(n) },
	})
	if err != nil {
		return File{}, err
	}
	for name, a := range map[string]Account{"admin": f.Admin, "replication": f.Replication} {
		if a.User == "" {
			return File{}, fmt.Errorf("%s is missing: give it user and password", name)
		}
	}
	f.Backup = f.Admin
	if backup != nil {
		f.Backup = *backup
	}
	if f.Admin.User == f.Replication.User {
		return File{}, fmt.Errorf("admin and replication are both %q: give replicas an account of their own, which may do less", f.Admin.User)
	}
	return f, nil
}

var lineOf = regexp.MustCompile(`line (\d+)`)

// notYAML says where, and not what: a parser's error may quote a part of a password, such as the name of an anchor.
func notYAML(err error) error {
	const why = `not YAML: put passwords between ' and ', and write ' in them twice`
	if m := lineOf.FindStringSubmatch(err.Error()); m != nil {
		return fmt.Errorf("line %s: %s", m[1], why)
	}
	return errors.New(why)
}

// fields hands out the fields of a mapping, each at most once.
func fields(n *yaml.Node, what string, known map[string]func(*yaml.Node) error) error {
	var names []string
	for name := range known {
		names = append(names, name)
	}
	slices.Sort(names)
	if n.Kind != yaml.MappingNode {
		return fmt.Errorf("line %d: %s: expected a mapping of %s", n.Line, what, strings.Join(names, ", "))
	}
	seen := map[string]bool{}
	for i := 0; i+1 < len(n.Content); i += 2 {
		key, value := n.Content[i], n.Content[i+1]
		set, ok := known[key.Value]
		switch {
		case key.Kind != yaml.ScalarNode || !ok:
			// A password in the wrong place could be taken for a key, so it is not quoted.
			return fmt.Errorf("line %d: %s has a field that is not known: expected %s", key.Line, what, strings.Join(names, ", "))
		case seen[key.Value]:
			return fmt.Errorf("line %d: %s has %s twice: keep one", key.Line, what, key.Value)
		}
		seen[key.Value] = true
		if err := set(value); err != nil {
			return err
		}
	}
	return nil
}

// text reads a scalar as it is spelled. It may not be empty, nor have what ends a line.
func text(n *yaml.Node, what string, to *string) error {
	switch {
	case n.Kind != yaml.ScalarNode || n.ShortTag() == "!!null" || n.Value == "":
		return fmt.Errorf("line %d: %s: expected a text that is not empty", n.Line, what)
	case !utf8.ValidString(n.Value) || strings.ContainsFunc(n.Value, unicode.IsControl):
		return fmt.Errorf("line %d: %s has a character that does not print: a line's end, a tab, or another", n.Line, what)
	}
	*to = n.Value
	return nil
}

func path(n *yaml.Node, what string, to *string) error {
	if err := text(n, what, to); err != nil {
		return err
	}
	if !filepath.IsAbs(*to) {
		return fmt.Errorf("line %d: %s: %q must begin with /", n.Line, what, *to)
	}
	return nil
}

func account(n *yaml.Node, what string, a *Account) error {
	err := fields(n, what, map[string]func(*yaml.Node) error{
		"user":     func(n *yaml.Node) error { return text(n, what+".user", &a.User) },
		"password": func(n *yaml.Node) error { return text(n, what+".password", &a.Password.text) },
	})
	switch {
	case err != nil:
		return err
	case a.User == "" || a.Password.IsZero():
		return fmt.Errorf("line %d: %s needs user and password", n.Line, what)
	case strings.ContainsAny(a.User, "'\"`\\@"):
		return fmt.Errorf("line %d: %s.user: %q has a quote, a backslash or @: choose a plainer name", n.Line, what, a.User)
	case len(a.User) > 80:
		return fmt.Errorf("line %d: %s.user has %d bytes, a server takes 80 at most", n.Line, what, len(a.User))
	}
	return nil
}

func (s *Server) parse(n *yaml.Node) error {
	err := fields(n, "server", map[string]func(*yaml.Node) error{
		"port": func(n *yaml.Node) error {
			port, err := strconv.ParseUint(n.Value, 10, 16)
			if err != nil || port == 0 || n.Kind != yaml.ScalarNode {
				return fmt.Errorf("line %d: server.port: expected a number from 1 to 65535", n.Line)
			}
			s.Port = uint16(port)
			return nil
		},
		"socket":   func(n *yaml.Node) error { return path(n, "server.socket", &s.Socket) },
		"datadir":  func(n *yaml.Node) error { return path(n, "server.datadir", &s.Datadir) },
		"pid_file": func(n *yaml.Node) error { return path(n, "server.pid_file", &s.PIDFile) },
		"log":      func(n *yaml.Node) error { return path(n, "server.log", &s.Log) },
		"user":     func(n *yaml.Node) error { return text(n, "server.user", &s.User) },
		"start":    s.parseStart,
	})
	switch {
	case err != nil:
		return err
	case s.Datadir == "" || s.PIDFile == "" || len(s.Start) == 0:
		return fmt.Errorf("line %d: server needs datadir, pid_file and start", n.Line)
	case filepath.Clean(s.Datadir) == "/":
		return fmt.Errorf("line %d: server.datadir is /: a clone replaces what is in it", n.Line)
	}
	return nil
}

// decidedElsewhere are options of a server that the agent gives at each start.
var decidedElsewhere = []string{"init-rpl-role", "read-only", "skip-slave-start", "skip-replica-start"}

func (s *Server) parseStart(n *yaml.Node) error {
	if n.Kind != yaml.SequenceNode || len(n.Content) == 0 {
		return fmt.Errorf("line %d: server.start: expected a list, the program first: [/usr/sbin/mariadbd, --defaults-file=...]", n.Line)
	}
	for i, item := range n.Content {
		read := text
		if i == 0 {
			read = path
		}
		var arg string
		if err := read(item, "server.start", &arg); err != nil {
			return err
		}
		option, _, _ := strings.Cut(strings.ReplaceAll(strings.TrimLeft(arg, "-"), "_", "-"), "=")
		if i > 0 && slices.Contains(decidedElsewhere, strings.ToLower(option)) {
			return fmt.Errorf("line %d: server.start: --%s is decided at each start, by the cluster's record: leave it out", item.Line, option)
		}
		s.Start = append(s.Start, arg)
	}
	return nil
}
