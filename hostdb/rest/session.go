package rest

import (
	"io"
	"net/http"
	"strconv"
	"strings"

	"hostmesh/hostdb"
	"hostmesh/hostdb/auth"
)

const (
	cookieName   = "HostDB"
	cookieMaxAge = 24 * 60 * 60 // seconds
)

// login answers username and password with a session token.
func (c *call) login() error {
	if err := c.readForm(maxFormBody); err != nil {
		return err
	}
	name, hasName := c.params.lookup("username")
	password, hasPassword := c.params.lookup("password")
	if !hasName || !hasPassword {
		return fail(codeMissing, "Missing username or password")
	}
	addr := c.clientAddr()
	token, err := c.Auth.Login(c.r.Context(), name, password, addr)
	if err != nil {
		c.Logger.Warn("login refused", "user", oneLine(name, hostdb.MaxName), "addr", addr, "err", err)
		return err
	}
	c.Logger.Info("login", "user", name, "addr", addr)
	http.SetCookie(c.w, &http.Cookie{Name: cookieName, Value: token, Path: "/", MaxAge: cookieMaxAge,
		Secure: true, HttpOnly: true, SameSite: http.SameSiteStrictMode})
	c.w.Header()["Cache-Control"] = noStore
	return c.say(token)
}

var noStore = []string{"no-store"}

// whoami answers with the user of a token in the path, else of the connection, else of the cookie.
func (c *call) whoami() error {
	if c.target.token == "" {
		if id, ok := auth.FromContext(c.r.Context()); ok {
			return c.say(id.User)
		}
		c.target.token = c.cookie()
	}
	id, err := c.Auth.Identify(c.target.token, c.clientAddr())
	if err != nil {
		return err
	}
	return c.say(id.User)
}

// canModify answers whether a user may write an id: 1 or 0.
func (c *call) canModify() error {
	c.params.parse(c.r.URL.RawQuery)
	user, hasUser := c.params.lookup("user")
	id, hasID := c.params.lookup("id")
	if !hasUser || !hasID || strings.TrimSpace(user) == "" {
		return fail(codeMissing, "Missing user or id")
	}
	t, err := parseID(id, verbatim)
	if err != nil {
		return err
	}
	switch t.kind {
	case kindRoot:
		return fail(codeNotAllowed, "Permissions are of a namespace or what is in it: the id is empty")
	case kindNamespace:
		t.key = hostdb.DefaultKey
	}
	allowed := c.view.HasNamespace(t.ns) && c.view.Permits(t.ns, t.key, t.resource(), user, c.Auth.Groups(user)).Allowed
	if allowed {
		return c.say("1")
	}
	return c.say("0")
}

// say answers with a bare text.
func (c *call) say(text string) error {
	h := c.w.Header()
	h["Content-Type"] = plainType
	h["X-Content-Type-Options"] = noSniff
	h["Content-Length"] = []string{strconv.Itoa(len(text))}
	c.w.WriteHeader(http.StatusOK)
	if c.r.Method != http.MethodHead {
		_, _ = io.WriteString(c.w, text) // an error is the client's, who is gone
	}
	return nil
}
