package api

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"
)

// DNSKeys are the TSIG keys of the mesh. The caller has checked that who is an administrator.
type DNSKeys interface {
	// DNSKeys are sorted by name.
	DNSKeys() []DNSKey
	// AddDNSKey makes a key. Errors wrap hostdb's sentinels and have no secret.
	AddDNSKey(ctx context.Context, who Identity, name string, c DNSKeyChange, log string) (DNSKeyMade, error)
	// RemoveDNSKey removes a key. Errors wrap hostdb's sentinels.
	RemoveDNSKey(ctx context.Context, who Identity, name, log string) (DNSKeyWritten, error)
}

// DNSKey is a TSIG key without its secret, which is shown once: to whom makes the key.
type DNSKey struct {
	Name      string     `json:"name" doc:"As DNS/Transfer/Key of a tag names it"`
	Algorithm string     `json:"algorithm,omitempty" doc:"Absent when the key cannot be opened"`
	Broken    bool       `json:"broken,omitempty" doc:"True when it was sealed with another mesh key: make it anew"`
	Modified  *time.Time `json:"modified,omitempty" doc:"When it was last written"`
}

// DNSKeysBody is the answer of GET /api/v1/dns/keys.
type DNSKeysBody struct {
	Keys []DNSKey `json:"keys" nullable:"false"`
}

// DNSKeyChange is what POST /api/v1/dns/keys/{name} is sent.
type DNSKeyChange struct {
	Algorithm string `json:"algorithm,omitempty" enum:"hmac-sha1,hmac-sha224,hmac-sha256,hmac-sha384,hmac-sha512" doc:"Default: hmac-sha256"`
	Secret    string `json:"secret,omitempty" maxLength:"1024" doc:"In base64; absent: one is made"`
	Replace   bool   `json:"replace,omitempty" doc:"Replace a key that is there"`
}

// DNSKeyMade is a new key. Its secret is told this once.
type DNSKeyMade struct {
	Name      string `json:"name"`
	Algorithm string `json:"algorithm"`
	Secret    string `json:"secret" doc:"In base64, as configurations of name servers have it"`
	Revision  string `json:"revision,omitempty" doc:"Absent when nothing changed"`
	Acks      int    `json:"acks" doc:"Boxes that hold the write, this one included"`
}

// DNSKeyWritten tells what became of a removal.
type DNSKeyWritten struct {
	Name     string `json:"name"`
	Revision string `json:"revision,omitempty" doc:"Absent when nothing changed"`
	Acks     int    `json:"acks" doc:"Boxes that hold the write, this one included"`
}

// addDNSKeyInput refuses what would cross the network in clear: a secret goes one way or the other.
type addDNSKeyInput struct {
	Name string `path:"name" maxLength:"127" doc:"Name of the key" example:"xfer"`
	Log  string `query:"log" maxLength:"4096" doc:"Why, for those who read the history; by default the name alone"`
	Body DNSKeyChange
}

// Resolve implements huma.Resolver.
func (in *addDNSKeyInput) Resolve(ctx huma.Context) []error {
	r, _ := humago.Unwrap(ctx)
	if r.TLS == nil && !isLocal(r) {
		return []error{problem(http.StatusForbidden, "the secret would cross the network in clear: use https or the agent's socket")}
	}
	return nil
}

func registerDNSKeys(a huma.API, k DNSKeys) {
	admin := func(ctx context.Context) error {
		who := identityOf(ctx)
		switch {
		case who.User == "":
			return problem(http.StatusUnauthorized, "nobody is logged in: TSIG keys are for administrators alone")
		case !who.Admin:
			return problem(http.StatusForbidden, fmt.Sprintf("%s is no administrator: only one may see and change TSIG keys", who.User))
		}
		return nil
	}
	reason := func(log, otherwise string) string {
		if strings.TrimSpace(log) == "" {
			return otherwise
		}
		return log
	}
	huma.Register(a, huma.Operation{
		OperationID: "list-dns-keys", Method: http.MethodGet, Path: "/api/v1/dns/keys",
		Summary: "TSIG keys of the mesh", Tags: []string{"dns"}, Security: writeSecurity,
		Description: "Without their secrets. Only an administrator may.",
	}, func(ctx context.Context, _ *struct{}) (*bodyOf[DNSKeysBody], error) {
		if err := admin(ctx); err != nil {
			return nil, err
		}
		list := k.DNSKeys()
		if list == nil {
			list = []DNSKey{}
		}
		return &bodyOf[DNSKeysBody]{Body: DNSKeysBody{Keys: list}}, nil
	})
	huma.Register(a, huma.Operation{
		OperationID: "add-dns-key", Method: http.MethodPost, Path: "/api/v1/dns/keys/{name}",
		Summary: "Make a TSIG key", Tags: []string{"dns"}, Security: writeSecurity, Metadata: secretive,
		Description: "The answer has the secret, this once. Only an administrator may, over the socket, https and the loopback.",
	}, func(ctx context.Context, in *addDNSKeyInput) (*bodyOf[DNSKeyMade], error) {
		if err := admin(ctx); err != nil {
			return nil, err
		}
		out, err := k.AddDNSKey(ctx, identityOf(ctx), in.Name, in.Body, reason(in.Log, "add TSIG key "+in.Name))
		if err != nil {
			return nil, problemOf(err)
		}
		return &bodyOf[DNSKeyMade]{Body: out}, nil
	})
	huma.Register(a, huma.Operation{
		OperationID: "remove-dns-key", Method: http.MethodDelete, Path: "/api/v1/dns/keys/{name}",
		Summary: "Remove a TSIG key", Tags: []string{"dns"}, Security: writeSecurity,
		Description: "Only an administrator may. Zones whose tag names the key are transferred to nobody from then on.",
	}, func(ctx context.Context, in *struct {
		Name string `path:"name" maxLength:"127" doc:"Name of the key" example:"xfer"`
		Log  string `query:"log" maxLength:"4096" doc:"Why, for those who read the history; by default the name alone"`
	}) (*bodyOf[DNSKeyWritten], error) {
		if err := admin(ctx); err != nil {
			return nil, err
		}
		out, err := k.RemoveDNSKey(ctx, identityOf(ctx), in.Name, reason(in.Log, "remove TSIG key "+in.Name))
		if err != nil {
			return nil, problemOf(err)
		}
		return &bodyOf[DNSKeyWritten]{Body: out}, nil
	})
}

// DNSKeys asks for the TSIG keys of the mesh. It takes an administrator.
func (c *Client) DNSKeys(ctx context.Context) ([]DNSKey, error) {
	var out DNSKeysBody
	err := c.getJSON(ctx, "/api/v1/dns/keys", &out)
	return out.Keys, err
}

// AddDNSKey makes a TSIG key, and gets its secret this once. log may be empty. It takes an administrator, and the socket,
// https or the loopback.
func (c *Client) AddDNSKey(ctx context.Context, name string, change DNSKeyChange, log string) (DNSKeyMade, error) {
	var out DNSKeyMade
	if c.inClear() {
		return out, fmt.Errorf("the secret would cross the network in clear from %s: use https", c.Where())
	}
	err := c.writeJSON(ctx, http.MethodPost, dnsKeyPath(name, log), change, &out)
	return out, err
}

// RemoveDNSKey removes a TSIG key. log may be empty. It takes an administrator.
func (c *Client) RemoveDNSKey(ctx context.Context, name, log string) (DNSKeyWritten, error) {
	var out DNSKeyWritten
	body, _, err := c.roundTrip(ctx, http.MethodDelete, dnsKeyPath(name, log), nil, "", nil)
	if err != nil {
		return out, err
	}
	return out, c.decode(body, &out)
}

func dnsKeyPath(name, log string) string {
	path := "/api/v1/dns/keys/" + url.PathEscape(name)
	if log != "" {
		path += "?" + url.Values{"log": {log}}.Encode()
	}
	return path
}
