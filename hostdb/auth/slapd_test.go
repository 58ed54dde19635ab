package auth

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

// slapd is a real OpenLDAP server on the loopback, with a database of its own.
type slapd struct {
	t           *testing.T
	plain, tls  string // HOST:PORT
	ca, otherCA string // files
	cmd         *exec.Cmd
	ended       chan struct{}
}

const baseDN = "dc=example,dc=com"

// people are alice, in ops by name and in web by entry, bob, in no group, and one whose name has to be escaped.
const people = `dn: dc=example,dc=com
objectClass: dcObject
objectClass: organization
o: Example
dc: example

dn: ou=people,dc=example,dc=com
objectClass: organizationalUnit
ou: people

dn: ou=groups,dc=example,dc=com
objectClass: organizationalUnit
ou: groups

dn: uid=alice,ou=people,dc=example,dc=com
objectClass: inetOrgPerson
uid: alice
cn: Alice
sn: Example
userPassword: secret

dn: uid=bob,ou=people,dc=example,dc=com
objectClass: inetOrgPerson
uid: bob
cn: Bob
sn: Example
userPassword: secret

dn: uid=o\2Cne\2B*,ou=people,dc=example,dc=com
objectClass: inetOrgPerson
uid: o,ne+*
cn: One
sn: Example
userPassword: secret

dn: cn=ops,ou=groups,dc=example,dc=com
objectClass: posixGroup
cn: ops
gidNumber: 1001
memberUid: alice
memberUid: o,ne+*

dn: cn=web,ou=groups,dc=example,dc=com
objectClass: groupOfNames
cn: web
member: uid=alice,ou=people,dc=example,dc=com

dn: cn=stars,ou=groups,dc=example,dc=com
objectClass: groupOfUniqueNames
cn: stars
uniqueMember: uid=o\2Cne\2B*,ou=people,dc=example,dc=com

dn: cn=others,ou=groups,dc=example,dc=com
objectClass: posixGroup
cn: others
gidNumber: 1002
memberUid: carol
`

// startSlapd runs a server. extra are lines of its configuration.
func startSlapd(t *testing.T, extra string) *slapd {
	t.Helper()
	dir := t.TempDir()
	s := &slapd{t: t, ca: filepath.Join(dir, "ca.pem"), otherCA: filepath.Join(dir, "other.pem")}
	cert, key := filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	writeCerts(t, s.ca, cert, key)
	writeCerts(t, s.otherCA, filepath.Join(dir, "cert2.pem"), filepath.Join(dir, "key2.pem"))
	conf := fmt.Sprintf(`include /etc/ldap/schema/core.schema
include /etc/ldap/schema/cosine.schema
include /etc/ldap/schema/nis.schema
include /etc/ldap/schema/inetorgperson.schema
modulepath /usr/lib/ldap
moduleload back_mdb
pidfile %[1]s/pid
argsfile %[1]s/args
TLSCertificateFile %[2]s
TLSCertificateKeyFile %[3]s
%[4]s
database mdb
suffix %[5]q
directory %[1]s/db
maxsize 10485760
access to attrs=userPassword by anonymous auth by * none
access to * by * read
`, dir, cert, key, extra, baseDN)
	mustWrite(t, filepath.Join(dir, "slapd.conf"), conf)
	mustWrite(t, filepath.Join(dir, "people.ldif"), people)
	if err := os.Mkdir(filepath.Join(dir, "db"), 0o700); err != nil {
		t.Fatal(err)
	}
	load := exec.Command("/usr/sbin/slapadd", "-q", "-f", filepath.Join(dir, "slapd.conf"), "-l", filepath.Join(dir, "people.ldif"))
	if out, err := load.CombinedOutput(); err != nil {
		t.Fatalf("slapadd: %v (packaging/deps.sh test installs it)\n%s", err, out)
	}
	// Another process may take a port between its choice and its use: then slapd ends at once, and others are chosen.
	for range 5 {
		if s.run(filepath.Join(dir, "slapd.conf")) {
			return s
		}
	}
	t.Fatal("slapd does not start")
	return nil
}

func (s *slapd) run(conf string) bool {
	s.t.Helper()
	s.plain, s.tls = freePort(s.t), freePort(s.t)
	var log bytes.Buffer
	s.cmd = exec.Command("/usr/sbin/slapd", "-d", "0", "-f", conf, "-h", "ldap://"+s.plain+"/ ldaps://"+s.tls+"/")
	s.cmd.Stderr = &log
	if err := s.cmd.Start(); err != nil {
		s.t.Fatal(err)
	}
	cmd, ended := s.cmd, make(chan struct{})
	go func() {
		_ = cmd.Wait()
		close(ended)
	}()
	s.ended = ended
	s.t.Cleanup(s.stop)
	for {
		c, err := net.Dial("tcp", s.plain)
		if err == nil {
			c.Close()
			if c, err = net.Dial("tcp", s.tls); err == nil {
				c.Close()
				return true
			}
		}
		select {
		case <-ended:
			s.t.Logf("slapd ended: %s", log.String())
			return false
		case <-time.After(10 * time.Millisecond): // nothing tells that a port is open but trying
		}
	}
}

// stop ends the server.
func (s *slapd) stop() {
	_ = s.cmd.Process.Kill() // it may have ended
	<-s.ended
}

func freePort(t *testing.T) string {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	return ln.Addr().String()
}

func mustWrite(t *testing.T, name, text string) {
	t.Helper()
	if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// writeCerts makes an authority, and a certificate of it for 127.0.0.1.
func writeCerts(t *testing.T, ca, cert, key string) {
	t.Helper()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	caKey, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(err)
	leafKey, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(err)
	root := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test authority"}, IsCA: true, BasicConstraintsValid: true,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), KeyUsage: x509.KeyUsageCertSign}
	leaf := &x509.Certificate{SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: "directory"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		NotBefore: root.NotBefore, NotAfter: root.NotAfter, KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}}
	rootDER, err := x509.CreateCertificate(rand.Reader, root, root, &caKey.PublicKey, caKey)
	must(err)
	leafDER, err := x509.CreateCertificate(rand.Reader, leaf, root, &leafKey.PublicKey, caKey)
	must(err)
	keyDER, err := x509.MarshalPKCS8PrivateKey(leafKey)
	must(err)
	block := func(kind string, der []byte) string {
		return string(pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}))
	}
	mustWrite(t, ca, block("CERTIFICATE", rootDER))
	mustWrite(t, cert, block("CERTIFICATE", leafDER))
	mustWrite(t, key, block("PRIVATE KEY", keyDER))
}

// config is for url, with people's names.
func ldapConfig(url string) LDAPConfig {
	cfg := DefaultLDAPConfig()
	cfg.URL, cfg.UsersDN, cfg.GroupsDN = url, "ou=people,"+baseDN, "ou=groups,"+baseDN
	cfg.Timeout = time.Minute // the machine that tests may be busy
	return cfg
}

func openLDAP(t *testing.T, cfg LDAPConfig) *LDAP {
	t.Helper()
	l, err := OpenLDAP(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func TestLDAP(t *testing.T) {
	s := startSlapd(t, "")
	plain, secure, start := ldapConfig("ldap://"+s.plain), ldapConfig("ldaps://"+s.tls), ldapConfig("ldap://"+s.plain)
	secure.CAFile, start.CAFile, start.StartTLS = s.ca, s.ca, true
	for name, cfg := range map[string]LDAPConfig{"plain": plain, "ldaps": secure, "StartTLS": start} {
		t.Run(name, func(t *testing.T) { testDirectory(t, openLDAP(t, cfg)) })
	}
	t.Run("escaped name", func(t *testing.T) {
		l := openLDAP(t, plain)
		if groups, err := l.Login(t.Context(), "o,ne+*", "secret"); err != nil || fmt.Sprint(groups) != "[ops stars]" {
			t.Errorf("%v, %v", groups, err)
		}
	})
	t.Run("no groups", func(t *testing.T) {
		cfg := plain
		cfg.GroupsDN = ""
		if groups, err := openLDAP(t, cfg).Login(t.Context(), "alice", "secret"); err != nil || groups != nil {
			t.Errorf("%v, %v", groups, err)
		}
		cfg.GroupsDN = "ou=nowhere," + baseDN
		if _, err := openLDAP(t, cfg).Login(t.Context(), "alice", "secret"); err == nil || errors.Is(err, ErrCredentials) || !strings.Contains(err.Error(), "auth.ldap.groups_dn") {
			t.Errorf("a groups_dn that is not there: %v", err)
		}
	})
	t.Run("whole way", func(t *testing.T) {
		b := newBox(t, users(t), openLDAP(t, secure))
		b.login("bob", "wrong", inside, WrongPassword)
		b.login("bob", "", inside, WrongPassword)
		id := b.identify(b.login("bob", "secret", inside, 0), 0)
		if id.User != "bob" || id.Admin {
			t.Errorf("bob is %+v", id)
		}
	})
	for name, broken := range map[string]func(c *LDAPConfig){
		"ldaps, another authority":    func(c *LDAPConfig) { *c = secure; c.CAFile = s.otherCA },
		"StartTLS, another authority": func(c *LDAPConfig) { *c = start; c.CAFile = s.otherCA },
		"ldaps, the system's":         func(c *LDAPConfig) { *c = secure; c.CAFile = "" },
		"ldaps, another name":         func(c *LDAPConfig) { *c = secure; c.URL = strings.Replace(c.URL, "127.0.0.1", "localhost", 1) },
		"ldaps to the plain port":     func(c *LDAPConfig) { *c = secure; c.URL = "ldaps://" + s.plain },
		"plain to the port of TLS":    func(c *LDAPConfig) { *c = plain; c.URL = "ldap://" + s.tls },
	} {
		t.Run(name, func(t *testing.T) {
			var cfg LDAPConfig
			broken(&cfg)
			if groups, err := openLDAP(t, cfg).Login(t.Context(), "alice", "secret"); err == nil || errors.Is(err, ErrCredentials) || groups != nil {
				t.Errorf("%v, %v", groups, err)
			}
		})
	}
	t.Run("down", func(t *testing.T) {
		s.stop()
		b := newBox(t, users(t), openLDAP(t, plain))
		b.login("bob", "secret", inside, NoDirectory)
		b.login("alice", "secret", inside, 0)
		if b.Groups("bob") != nil {
			t.Error("groups of a directory that is down")
		}
	})
}

// TestLDAPForbids: a directory that wants TLS, or tells nobody anything, is understood.
func TestLDAPForbids(t *testing.T) {
	s := startSlapd(t, "security simple_bind=128\n")
	plain := ldapConfig("ldap://" + s.plain)
	if _, err := openLDAP(t, plain).Login(t.Context(), "alice", "secret"); err == nil || errors.Is(err, ErrCredentials) || !strings.Contains(err.Error(), "bind as uid=alice") {
		t.Errorf("without TLS: %v", err)
	}
	start := plain
	start.StartTLS, start.CAFile = true, s.ca
	if groups, err := openLDAP(t, start).Login(t.Context(), "alice", "secret"); err != nil || fmt.Sprint(groups) != "[ops web]" {
		t.Errorf("with StartTLS: %v, %v", groups, err)
	}
	shy := startSlapd(t, "require authc\n")
	l := openLDAP(t, ldapConfig("ldap://"+shy.plain))
	if groups, err := l.Groups(t.Context(), "alice"); err != nil || groups != nil {
		t.Errorf("groups for nobody: %v, %v", groups, err)
	}
	if groups, err := l.Login(t.Context(), "alice", "secret"); err != nil || fmt.Sprint(groups) != "[ops web]" {
		t.Errorf("groups for the user: %v, %v", groups, err)
	}
}

// TestLDAPHangs: a server that takes connections and says nothing holds nobody up, at whatever step.
func TestLDAPHangs(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var served sync.WaitGroup
	served.Go(func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			served.Go(func() { _, _ = io.Copy(io.Discard, c); c.Close() }) // until the client gives up
		}
	})
	t.Cleanup(func() { ln.Close(); served.Wait() })
	for name, cfg := range map[string]LDAPConfig{"plain": {URL: "ldap://"}, "StartTLS": {URL: "ldap://", StartTLS: true}, "ldaps": {URL: "ldaps://"}} {
		t.Run(name, func(t *testing.T) {
			full := ldapConfig(cfg.URL + ln.Addr().String())
			full.StartTLS, full.Timeout = cfg.StartTLS, 50*time.Millisecond
			if _, err := openLDAP(t, full).Login(t.Context(), "alice", "secret"); err == nil || !strings.Contains(err.Error(), "no answer within 50ms (auth.ldap.timeout)") {
				t.Errorf("%v", err)
			}
			full.Timeout = time.Hour
			ctx, cancel := context.WithCancel(t.Context())
			cancel()
			if _, err := openLDAP(t, full).Login(ctx, "alice", "secret"); !errors.Is(err, context.Canceled) {
				t.Errorf("a client that went away: %v", err)
			}
		})
	}
}

func TestLDAPConfig(t *testing.T) {
	base := ldapConfig("ldaps://ldap.example.com")
	for name, c := range map[string]struct {
		change func(c *LDAPConfig)
		want   string // of the error; "" for none
	}{
		"as it is":            {func(*LDAPConfig) {}, ""},
		"ldapi":               {func(c *LDAPConfig) { c.URL = "ldapi://%2Frun%2Fslapd%2Fldapi" }, ""},
		"loopback":            {func(c *LDAPConfig) { c.URL = "ldap://[::1]:389" }, ""},
		"localhost":           {func(c *LDAPConfig) { c.URL = "ldap://localhost" }, ""},
		"StartTLS":            {func(c *LDAPConfig) { c.URL, c.StartTLS = "ldap://ldap.example.com", true }, ""},
		"insecure":            {func(c *LDAPConfig) { c.URL, c.Insecure = "ldap://ldap.example.com", true }, ""},
		"in clear":            {func(c *LDAPConfig) { c.URL = "ldap://ldap.example.com" }, "auth.ldap.start_tls"},
		"StartTLS over ldaps": {func(c *LDAPConfig) { c.StartTLS = true }, "auth.ldap.start_tls is for ldap://"},
		"no scheme":           {func(c *LDAPConfig) { c.URL = "ldap.example.com" }, "want ldaps://host[:port]"},
		"a path":              {func(c *LDAPConfig) { c.URL += "/dc=example,dc=com" }, "want ldaps://host[:port]"},
		"a password":          {func(c *LDAPConfig) { c.URL = "ldaps://a:b@ldap.example.com" }, "want ldaps://host[:port]"},
		"ldapi without path":  {func(c *LDAPConfig) { c.URL = "ldapi://x" }, "want ldapi://"},
		"no users":            {func(c *LDAPConfig) { c.UsersDN = "" }, "auth.ldap.users_dn"},
		"users":               {func(c *LDAPConfig) { c.UsersDN = "people" }, "auth.ldap.users_dn"},
		"groups":              {func(c *LDAPConfig) { c.GroupsDN = "groups" }, "auth.ldap.groups_dn"},
		"attribute":           {func(c *LDAPConfig) { c.GroupAttribute = "c n)" }, "auth.ldap.group_attribute"},
		"user attribute":      {func(c *LDAPConfig) { c.UserAttribute = "" }, "auth.ldap.user_attribute"},
		"timeout":             {func(c *LDAPConfig) { c.Timeout = 0 }, "auth.ldap.timeout"},
		"no such file":        {func(c *LDAPConfig) { c.CAFile = "/nowhere" }, "auth.ldap.ca"},
		"no certificate":      {func(c *LDAPConfig) { c.CAFile = "slapd_test.go" }, "auth.ldap.ca"},
		"ca in clear":         {func(c *LDAPConfig) { c.URL, c.CAFile = "ldap://localhost", "x" }, "auth.ldap.ca is for"},
	} {
		t.Run(name, func(t *testing.T) {
			cfg := base
			c.change(&cfg)
			_, err := OpenLDAP(cfg)
			if (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
				t.Errorf("%v, want %q", err, c.want)
			}
		})
	}
}
