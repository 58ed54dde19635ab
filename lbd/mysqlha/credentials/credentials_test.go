package credentials

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"go.yaml.in/yaml/v4"
)

const full = `
admin:       {user: hostmesh, password: 0755}
replication: {user: hostmesh_repl, password: 'it''s "quoted" #1'}
backup:      {user: hostmesh_backup, password: b}
tls: {ca: /etc/ca.pem, cert: /etc/cert.pem, key: /etc/key.pem, verify: ca}
server:
  port: 3307
  socket: /run/mysqld/mysqld.sock
  datadir: /var/lib/mysql
  pid_file: /run/mysqld/mysqld.pid
  start: [/usr/sbin/mariadbd, --defaults-file=/etc/mysql/shop.cnf]
  user: db
  log: /var/log/mysql/error.log
`

var equalSecrets = cmp.Comparer(func(a, b Secret) bool { return a.text == b.text })

func TestParse(t *testing.T) {
	got, err := Parse([]byte(full))
	if err != nil {
		t.Fatal(err)
	}
	want := File{
		Admin: Account{"hostmesh", NewSecret("0755")}, Replication: Account{"hostmesh_repl", NewSecret(`it's "quoted" #1`)},
		Backup: Account{"hostmesh_backup", NewSecret("b")},
		TLS:    &TLS{CA: "/etc/ca.pem", Cert: "/etc/cert.pem", Key: "/etc/key.pem", Verify: VerifyCA},
		Server: &Server{
			Port: 3307, Socket: "/run/mysqld/mysqld.sock", Datadir: "/var/lib/mysql", PIDFile: "/run/mysqld/mysqld.pid", Log: "/var/log/mysql/error.log",
			Start: []string{"/usr/sbin/mariadbd", "--defaults-file=/etc/mysql/shop.cnf"}, User: "db",
		},
	}
	if d := cmp.Diff(want, got, equalSecrets); d != "" {
		t.Error(d)
	}
	got, err = Parse([]byte("admin: {user: a, password: x}\nreplication: {user: r, password: y}\ntls: {}\nserver: {datadir: /d, pid_file: /p, start: [/s]}\n"))
	if err != nil {
		t.Fatal(err)
	}
	want = File{
		Admin: Account{"a", NewSecret("x")}, Replication: Account{"r", NewSecret("y")}, Backup: Account{"a", NewSecret("x")},
		TLS: &TLS{Verify: VerifyIdentity}, Server: &Server{Port: 3306, User: "mysql", Datadir: "/d", PIDFile: "/p", Start: []string{"/s"}},
	}
	if d := cmp.Diff(want, got, equalSecrets); d != "" {
		t.Error("defaults:", d)
	}
}

func TestParseRefuses(t *testing.T) {
	const accounts = "admin: {user: a, password: hunter2}\nreplication: {user: r, password: hunter2}\n"
	for name, c := range map[string]struct {
		text string
		want []string
	}{
		"nothing":           {"", []string{"empty", "admin"}},
		"no YAML":           {"admin: {user: a, password: hunter2: [}\n", []string{"line 1", "not YAML"}},
		"an anchor":         {"admin: {user: a, password: *hunter2}\n", []string{"not YAML"}},
		"two documents":     {accounts + "---\n" + accounts, []string{"more than one document"}},
		"a list":            {"- admin\n", []string{"line 1", "mapping of admin, backup, replication, server, tls"}},
		"unknown":           {accounts + "hunter2: x\n", []string{"line 3", "not known"}},
		"twice":             {accounts + "admin: {user: b, password: hunter2}\n", []string{"line 3", "admin twice"}},
		"user twice":        {"admin: {user: a, user: b, password: hunter2}\n", []string{"line 1", "user twice"}},
		"no replication":    {"admin: {user: a, password: hunter2}\n", []string{"replication is missing"}},
		"no password":       {"admin: {user: a}\n", []string{"line 1", "user and password"}},
		"empty password":    {"admin: {user: a, password: ''}\n", []string{"admin.password", "not empty"}},
		"null password":     {"admin: {user: a, password: }\n", []string{"admin.password", "not empty"}},
		"list password":     {"admin: {user: a, password: [hunter2]}\n", []string{"admin.password"}},
		"alias password":    {"admin: {user: &x hunter2, password: *x}\n", []string{"admin.password"}},
		"line's end":        {"admin: {user: a, password: \"hunter2\\n\"}\n", []string{"admin.password", "does not print"}},
		"bad user":          {"admin: {user: \"a'b\", password: hunter2}\n", []string{"admin.user", "plainer"}},
		"long user":         {"admin: {user: " + strings.Repeat("u", 81) + ", password: hunter2}\n", []string{"81 bytes"}},
		"one account":       {"admin: {user: a, password: hunter2}\nreplication: {user: a, password: hunter2}\n", []string{"of their own"}},
		"cert alone":        {accounts + "tls: {cert: /c}\n", []string{"either both tls.cert and tls.key"}},
		"verify":            {accounts + "tls: {verify: none}\n", []string{"identity or ca"}},
		"verify any":        {accounts + "tls: {verify: ca}\n", []string{"needs tls.ca"}},
		"relative":          {accounts + "tls: {ca: ca.pem}\n", []string{"tls.ca", `must begin with /`}},
		"port":              {accounts + "server: {port: 70000}\n", []string{"server.port", "65535"}},
		"no datadir":        {accounts + "server: {pid_file: /p, start: [/s]}\n", []string{"needs datadir"}},
		"datadir /":         {accounts + "server: {datadir: //, pid_file: /p, start: [/s]}\n", []string{"datadir is /"}},
		"start, a text":     {accounts + "server: {datadir: /d, pid_file: /p, start: /s}\n", []string{"expected a list"}},
		"start, relative":   {accounts + "server: {datadir: /d, pid_file: /p, start: [s]}\n", []string{"begin with /"}},
		"start, role":       {accounts + "server: {datadir: /d, pid_file: /p, start: [/s, --init_rpl_role=MASTER]}\n", []string{"--init-rpl-role", "leave it out"}},
		"start, read-only":  {accounts + "server: {datadir: /d, pid_file: /p, start: [/s, --read-only]}\n", []string{"--read-only", "leave it out"}},
		"unknown of tls":    {accounts + "tls: {hunter2: 1}\n", []string{"tls", "ca, cert, key, verify"}},
		"unknown of server": {accounts + "server: {hunter2: 1}\n", []string{"server", "datadir"}},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := Parse([]byte(c.text))
			if !errors.Is(err, ErrBad) {
				t.Fatalf("error is %v", err)
			}
			for _, want := range c.want {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("%q does not say %q", err, want)
				}
			}
			if strings.Contains(err.Error(), "hunter2") {
				t.Errorf("%q has the password", err)
			}
		})
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte(full))
	f.Add([]byte("admin: &a {user: x, password: y}\nreplication: *a\n"))
	f.Add([]byte("? [a]\n: b\n"))
	f.Fuzz(func(t *testing.T, text []byte) {
		got, err := Parse(text)
		if err != nil {
			if !errors.Is(err, ErrBad) {
				t.Errorf("error is %v", err)
			}
			return
		}
		for _, a := range []Account{got.Admin, got.Replication, got.Backup} {
			if a.User == "" || a.Password.IsZero() {
				t.Errorf("accepted without user or password: %+v", got)
			}
		}
	})
}

func TestLoad(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "shop.yaml")
	if _, err := Load(dir, "shop"); !errors.Is(err, ErrNone) || !strings.Contains(err.Error(), file) {
		t.Errorf("without a file: %v", err)
	}
	if err := os.WriteFile(file, []byte(full), 0o600); err != nil {
		t.Fatal(err)
	}
	if f, err := Load(dir, "shop"); err != nil || f.Admin.Password.Reveal() != "0755" {
		t.Errorf("0600: %v", err)
	}
	for _, mode := range []os.FileMode{0o640, 0o604, 0o620, 0o602, 0o644} {
		if err := os.Chmod(file, mode); err != nil {
			t.Fatal(err)
		}
		if _, err := Load(dir, "shop"); !errors.Is(err, ErrReadable) || !strings.Contains(err.Error(), "chmod 0600 "+file) {
			t.Errorf("%o: %v", mode, err)
		}
	}
	if err := os.Chmod(file, 0o400); err != nil {
		t.Fatal(err)
	}
	if _, err := Load(dir, "shop"); err != nil {
		t.Errorf("0400: %v", err)
	}
	for _, name := range []string{"", "../shop", "a/b", ".shop", "a\x00b", strings.Repeat("x", 300)} {
		if _, err := Load(dir, name); !errors.Is(err, ErrBad) {
			t.Errorf("name %q: %v", name, err)
		}
	}
	if err := os.Mkdir(filepath.Join(dir, "d.yaml"), 0o700); err != nil {
		t.Fatal(err)
	}
	if _, err := Load(dir, "d"); !errors.Is(err, ErrBad) {
		t.Errorf("a directory: %v", err)
	}
	if err := os.WriteFile(filepath.Join(dir, "big.yaml"), bytes.Repeat([]byte("#\n"), maxSize), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Load(dir, "big"); !errors.Is(err, ErrBad) {
		t.Errorf("a large one: %v", err)
	}
}

func TestSecretsAreNotShown(t *testing.T) {
	f, err := Parse([]byte("admin: {user: a, password: hunter2}\nreplication: {user: r, password: hunter2}\n"))
	if err != nil {
		t.Fatal(err)
	}
	var log bytes.Buffer
	slog.New(slog.NewJSONHandler(&log, nil)).Info("x", "file", f, "secret", f.Admin.Password)
	slog.New(slog.NewTextHandler(&log, nil)).Info("x", "file", f, "secret", f.Admin.Password)
	inJSON, err := json.Marshal(f)
	if err != nil {
		t.Fatal(err)
	}
	inYAML, err := yaml.Marshal(f.Admin)
	if err != nil {
		t.Fatal(err)
	}
	all := log.String() + string(inJSON) + string(inYAML) + f.Admin.Password.String() + fmt.Sprint(f) +
		fmt.Sprintf("%v %+v %#v %s %q %x %d", f, f, f, f.Admin, f.Admin.Password, f.Admin.Password, f.Admin.Password)
	if strings.Contains(all, "hunter2") || strings.Contains(all, fmt.Sprintf("%x", "hunter2")) || !strings.Contains(all, hidden) {
		t.Error(all)
	}
}
