package auth

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/go-ldap/ldap/v3"

	"hostmesh/hostdb"
)

// maxGroups bounds the groups that are taken of one user.
const maxGroups = 1000

// LDAPConfig says where a directory is and how it is laid out. Begin with DefaultLDAPConfig.
type LDAPConfig struct {
	// URL is ldaps://host[:port], ldap://host[:port], or ldapi:// with the escaped path of a socket. Required.
	URL string
	// UsersDN is the entry right above those of the users. Required.
	UsersDN string
	// GroupsDN is the entry below which the groups are. Empty: users of the directory have no groups.
	GroupsDN string
	// UserAttribute names users in their DN.
	UserAttribute string
	// GroupAttribute is the one whose value is a group's name.
	GroupAttribute string
	// StartTLS encrypts an ldap:// connection before anything is said.
	StartTLS bool
	// CAFile has the authorities that may vouch for the server, in PEM. Empty: the system's. It is read at OpenLDAP.
	CAFile string
	// Insecure allows that passwords go to another box in clear.
	Insecure bool
	// Timeout bounds one question to the directory, everything included.
	Timeout time.Duration
}

// DefaultLDAPConfig returns the defaults. The caller sets at least URL and UsersDN.
func DefaultLDAPConfig() LDAPConfig {
	return LDAPConfig{
		UserAttribute:  "uid",           // as RFC 2307 and inetOrgPerson have it
		GroupAttribute: "cn",            // the name of a posixGroup and of a groupOfNames
		Timeout:        5 * time.Second, // a person waits for it
	}
}

// LDAP is a Directory behind LDAP v3. Each question has a connection of its own: logins are few, and a connection that was
// open for hours is the one that turns out to be dead. It holds nothing that would have to be closed.
type LDAP struct {
	cfg     LDAPConfig
	network string // tcp or unix
	address string
	tls     *tls.Config // nil: in clear
}

// OpenLDAP checks the configuration and reads CAFile. It does not connect: a directory that is down keeps no agent from
// starting. Errors name the setting below auth.ldap.
func OpenLDAP(cfg LDAPConfig) (*LDAP, error) {
	l, err := cfg.parse()
	if err != nil {
		return nil, err
	}
	if l.tls != nil && cfg.CAFile != "" {
		if l.tls.RootCAs, err = readCA(cfg.CAFile); err != nil {
			return nil, err
		}
	}
	return l, nil
}

// Check finds what is wrong with a configuration without reading a file.
func (cfg LDAPConfig) Check() error {
	_, err := cfg.parse()
	return err
}

func (cfg LDAPConfig) parse() (*LDAP, error) {
	l := &LDAP{cfg: cfg, network: "tcp"}
	u, err := parseLDAPURL(cfg.URL)
	if err != nil {
		return nil, err
	}
	host, port := u.Hostname(), u.Port()
	switch u.Scheme {
	case "ldapi":
		l.network, l.address = "unix", u.Path
	case "ldap":
		l.address = net.JoinHostPort(host, orText(port, ldap.DefaultLdapPort))
	case "ldaps":
		l.address = net.JoinHostPort(host, orText(port, ldap.DefaultLdapsPort))
	}
	encrypted := u.Scheme == "ldaps" || cfg.StartTLS
	switch {
	case cfg.StartTLS && u.Scheme != "ldap":
		return nil, fmt.Errorf("auth.ldap.start_tls is for ldap://, and the url is %s", cfg.URL)
	case !encrypted && u.Scheme == "ldap" && !isLoopback(host) && !cfg.Insecure:
		return nil, fmt.Errorf("auth.ldap.url %s: passwords would cross the network in clear: use ldaps://, or set auth.ldap.start_tls; "+
			"auth.ldap.insecure allows it all the same", cfg.URL)
	case !encrypted && cfg.CAFile != "":
		return nil, fmt.Errorf("auth.ldap.ca is for ldaps:// or auth.ldap.start_tls, and %s is in clear", cfg.URL)
	}
	for _, dn := range []struct{ knob, text string }{{"users_dn", cfg.UsersDN}, {"groups_dn", cfg.GroupsDN}} {
		if dn.text == "" && dn.knob == "users_dn" {
			return nil, errors.New("auth.ldap.users_dn: set it to where the users are, such as ou=people,dc=example,dc=com")
		}
		if _, err := ldap.ParseDN(dn.text); err != nil {
			return nil, fmt.Errorf("auth.ldap.%s %q is no distinguished name, such as ou=people,dc=example,dc=com", dn.knob, dn.text)
		}
	}
	for _, attr := range []struct{ knob, text string }{{"user_attribute", cfg.UserAttribute}, {"group_attribute", cfg.GroupAttribute}} {
		if !isAttribute(attr.text) {
			return nil, fmt.Errorf("auth.ldap.%s %q is no name of an attribute, such as cn", attr.knob, attr.text)
		}
	}
	if cfg.Timeout <= 0 {
		return nil, fmt.Errorf("auth.ldap.timeout %s: want more than nothing, such as 5s", cfg.Timeout)
	}
	if encrypted {
		l.tls = &tls.Config{MinVersion: tls.VersionTLS12, ServerName: host}
	}
	return l, nil
}

func orText(text, other string) string {
	if text == "" {
		return other
	}
	return text
}

func parseLDAPURL(text string) (*url.URL, error) {
	// The path of a socket stands where the host does, escaped (draft-chu-ldap-ldapi): net/url does not read that.
	if rest, ok := strings.CutPrefix(text, "ldapi://"); ok {
		path, err := url.PathUnescape(rest)
		if err != nil || !strings.HasPrefix(path, "/") {
			return nil, fmt.Errorf("auth.ldap.url %q: want ldapi://%%2Fpath%%2Fto%%2Fsocket", text)
		}
		return &url.URL{Scheme: "ldapi", Path: path}, nil
	}
	u, err := url.Parse(text)
	if err != nil || u.Scheme != "ldaps" && u.Scheme != "ldap" || u.Hostname() == "" || strings.Trim(u.Path, "/") != "" || u.User != nil || u.RawQuery != "" {
		return nil, fmt.Errorf("auth.ldap.url %q: want ldaps://host[:port]; the names in the directory have settings of their own", text)
	}
	return u, nil
}

func isLoopback(host string) bool {
	addr, err := netip.ParseAddr(host)
	return host == "localhost" || err == nil && addr.Unmap().IsLoopback()
}

// isAttribute reports whether text is the short name of an attribute (RFC 4512, section 1.4).
func isAttribute(text string) bool {
	for i, r := range text {
		letter := r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z'
		if !letter && (i == 0 || (r < '0' || r > '9') && r != '-') {
			return false
		}
	}
	return text != ""
}

func readCA(file string) (*x509.CertPool, error) {
	pem, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("auth.ldap.ca: %w", err)
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("auth.ldap.ca: %s holds no certificate in PEM form", file)
	}
	return pool, nil
}

// userDN is the user's entry. Only the name in it is the user's to choose, and it stays one value (RFC 4514).
func (l *LDAP) userDN(name string) string {
	return l.cfg.UserAttribute + "=" + ldap.EscapeDN(name) + "," + l.cfg.UsersDN
}

// Login implements Directory: it binds as the user, and reads the groups as the user too.
func (l *LDAP) Login(ctx context.Context, name, password string) (groups []string, err error) {
	// RFC 4513, section 5.1.2: a bind with a name and no password succeeds, and says nothing of who it is.
	if name == "" || password == "" {
		return nil, ErrCredentials
	}
	err = l.with(ctx, func(c *ldap.Conn) error {
		if err := c.Bind(l.userDN(name), password); err != nil {
			// OpenLDAP answers an unknown user as it does a wrong password; others say that there is no such entry.
			if ldap.IsErrorAnyOf(err, ldap.LDAPResultInvalidCredentials, ldap.LDAPResultNoSuchObject, ldap.LDAPResultInvalidDNSyntax) {
				return ErrCredentials
			}
			return fmt.Errorf("bind as %s: %w", l.userDN(name), err)
		}
		if err := l.checkSpelling(c, name); err != nil {
			return err
		}
		groups, err = l.searchGroups(c, name)
		return err
	})
	return groups, err
}

// checkSpelling refuses a name that the directory writes otherwise. It takes Alice for alice, whom access lists and
// history know, and both would be somebody.
func (l *LDAP) checkSpelling(c *ldap.Conn, name string) error {
	found, err := c.Search(ldap.NewSearchRequest(l.userDN(name), ldap.ScopeBaseObject, ldap.NeverDerefAliases, 1, 0, false,
		"(objectClass=*)", []string{l.cfg.UserAttribute}, nil))
	if err != nil && !ldap.IsErrorAnyOf(err, ldap.LDAPResultNoSuchObject, ldap.LDAPResultInsufficientAccessRights) {
		return fmt.Errorf("read %s: %w", l.userDN(name), err)
	}
	if err == nil && len(found.Entries) == 1 {
		if names := found.Entries[0].GetAttributeValues(l.cfg.UserAttribute); len(names) > 0 {
			if !slices.Contains(names, name) {
				return ErrCredentials
			}
			return nil
		}
	}
	// Users may not see their own entry there. Then there is one spelling that counts.
	if name != strings.Join(strings.Fields(strings.ToLower(name)), " ") {
		return ErrCredentials
	}
	return nil
}

// Groups implements Directory: it asks as nobody in particular. What a directory tells only those who log in is none.
func (l *LDAP) Groups(ctx context.Context, name string) (groups []string, err error) {
	if name == "" {
		return nil, nil
	}
	err = l.with(ctx, func(c *ldap.Conn) error {
		groups, err = l.searchGroups(c, name)
		if ldap.IsErrorAnyOf(err, ldap.LDAPResultInsufficientAccessRights, ldap.LDAPResultNoSuchObject, ldap.LDAPResultOperationsError,
			ldap.LDAPResultInappropriateAuthentication, ldap.LDAPResultStrongAuthRequired, ldap.LDAPResultUnwillingToPerform) {
			return nil
		}
		return err
	})
	return groups, err
}

// searchGroups finds groups by the three ways in which they list members: by name (posixGroup), or by entry.
func (l *LDAP) searchGroups(c *ldap.Conn, name string) ([]string, error) {
	if l.cfg.GroupsDN == "" {
		return nil, nil
	}
	dn := ldap.EscapeFilter(l.userDN(name))
	filter := "(|(memberUid=" + ldap.EscapeFilter(name) + ")(member=" + dn + ")(uniqueMember=" + dn + "))"
	found, err := c.Search(ldap.NewSearchRequest(l.cfg.GroupsDN, ldap.ScopeWholeSubtree, ldap.NeverDerefAliases, maxGroups, 0, false,
		filter, []string{l.cfg.GroupAttribute}, nil))
	if err != nil {
		return nil, fmt.Errorf("search groups below auth.ldap.groups_dn %s: %w", l.cfg.GroupsDN, err)
	}
	var groups []string
	for _, e := range found.Entries {
		if g := e.GetAttributeValue(l.cfg.GroupAttribute); hostdb.CheckName(g) == nil {
			groups = append(groups, g)
		}
	}
	slices.Sort(groups)
	return slices.Compact(groups), nil
}

// with gives fn a connection, encrypted if it shall be, and ends everything after the timeout or with ctx.
func (l *LDAP) with(ctx context.Context, fn func(c *ldap.Conn) error) error {
	ctx, cancel := context.WithTimeoutCause(ctx, l.cfg.Timeout, l.timedOut())
	defer cancel()
	err := l.try(ctx, fn)
	switch {
	case err == nil || errors.Is(err, ErrCredentials):
		return err
	case ctx.Err() == nil && isTimeout(err): // the library's own clock was a moment faster
		err = l.timedOut()
	case ctx.Err() != nil: // what was closed on the way would say less
		err = context.Cause(ctx)
	}
	return fmt.Errorf("directory %s: %w", l.cfg.URL, err)
}

func (l *LDAP) timedOut() error {
	return fmt.Errorf("no answer within %s (auth.ldap.timeout)", l.cfg.Timeout)
}

// isTimeout reports whether the library gave up waiting. It keeps no error value for that, but for an unencrypted
// connection's.
func isTimeout(err error) bool {
	var late net.Error
	return errors.As(err, &late) && late.Timeout() || ldap.IsErrorWithCode(err, ldap.ErrorNetwork) && strings.Contains(err.Error(), "timed out")
}

func (l *LDAP) try(ctx context.Context, fn func(c *ldap.Conn) error) error {
	raw, err := new(net.Dialer).DialContext(ctx, l.network, l.address)
	if err != nil {
		return err
	}
	defer raw.Close()
	stop := context.AfterFunc(ctx, func() { raw.Close() }) // whatever waits for the server stops waiting
	defer stop()
	var served net.Conn = raw
	if l.tls != nil && !l.cfg.StartTLS {
		secured := tls.Client(raw, l.tls)
		if err := secured.HandshakeContext(ctx); err != nil {
			return fmt.Errorf("TLS: %w", err)
		}
		served = secured
	}
	c := ldap.NewConn(served, served != raw)
	c.SetTimeout(l.cfg.Timeout) // of Close, too
	c.Start()
	defer c.Close()
	if l.cfg.StartTLS {
		if err := c.StartTLS(l.tls); err != nil {
			return fmt.Errorf("start_tls: %w", err)
		}
	}
	return fn(c)
}
