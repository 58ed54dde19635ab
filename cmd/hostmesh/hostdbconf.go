package main

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strings"

	"go.yaml.in/yaml/v4"

	"hostmesh/node/api"
)

// hostdbConfigFile is where Flipkart's clients look.
const hostdbConfigFile = "/etc/hostdb/client_conf.yaml"

// hostdbConfig is the format of Flipkart's clients, with hostdb_ca added.
type hostdbConfig struct {
	RW string `yaml:"hostdb_rw"` // HOST[:PORT] to write to
	RO string `yaml:"hostdb_ro"` // HOST[:PORT] to read from; "" = as RW
	CA string `yaml:"hostdb_ca"` // path of the authority's certificate; "" = the system's
}

// readHostdbConfig reads a file. Fields that it does not know belong to other clients.
func readHostdbConfig(name string) (hostdbConfig, error) {
	var cfg hostdbConfig
	text, err := os.ReadFile(name)
	if err != nil {
		return cfg, fmt.Errorf("read the configuration: %w", err)
	}
	if err := yaml.Unmarshal(text, &cfg); err != nil {
		return cfg, fmt.Errorf("%s: expected hostdb_rw: HOST[:PORT] and the like: %w", name, err)
	}
	if cfg.RO == "" {
		cfg.RO = cfg.RW
	}
	if cfg.RW == "" {
		return cfg, fmt.Errorf("%s: hostdb_rw is missing: the HOST or HOST:PORT of a server", name)
	}
	if cfg.CA != "" && !filepath.IsAbs(cfg.CA) {
		cfg.CA = filepath.Join(filepath.Dir(name), cfg.CA)
	}
	return cfg, nil
}

// serverURL is the URL of a HOST[:PORT].
func serverURL(name, host string) (string, error) {
	u, err := url.Parse("https://" + strings.TrimPrefix(host, "https://"))
	if err != nil || u.Host == "" || u.User != nil || strings.Trim(u.Path, "/")+u.RawQuery+u.Fragment != "" {
		return "", fmt.Errorf("%s: %q is not of the form HOST or HOST:PORT", name, host)
	}
	return "https://" + u.Host, nil
}

// connect makes the clients. It does not talk to anybody yet.
func (h *hostdbRun) connect() error {
	name := h.config
	if name == "" {
		name = h.getenv("HOSTDB_CONFIG")
	}
	socket := h.getenv("HOSTMESH_SOCKET")
	if name == "" && socket == "" {
		found, err := existing(hostdbConfigFile)
		if err != nil {
			return err
		}
		name = found
	}
	if name == "" {
		if socket == "" {
			socket = h.defaultSocket()
		}
		c, err := api.NewClient(api.ClientConfig{Socket: socket})
		h.reads, h.writes = c, c
		return err
	}
	cfg, err := readHostdbConfig(name)
	if err != nil {
		return err
	}
	if h.ca == "" {
		h.ca = cfg.CA
	}
	var roots *x509.CertPool
	if h.ca != "" {
		if roots, err = readCA(h.ca); err != nil {
			return fmt.Errorf("the authority (--ca or hostdb_ca): %w", err)
		}
	}
	home := h.getenv("HOME")
	if !filepath.IsAbs(home) {
		return errors.New("HOME is not set: the session is kept in it")
	}
	h.session = sessionFile(filepath.Join(home, ".hostdb_session"))
	if h.writes, err = hostdbClient(name, cfg.RW, "", roots); err != nil {
		return err
	}
	h.reads, err = hostdbClient(name, cfg.RO, "", roots)
	h.withToken = func(token string) (*api.Client, error) { return hostdbClient(name, cfg.RW, token, roots) }
	return err
}

func hostdbClient(name, host, token string, roots *x509.CertPool) (*api.Client, error) {
	server, err := serverURL(name, host)
	if err != nil {
		return nil, err
	}
	return api.NewClient(api.ClientConfig{Server: server, Token: token, RootCAs: roots})
}

func (h *hostdbRun) close() {
	_ = errors.Join(h.reads.Close(), h.writes.Close()) // they only free what ends with the program
}

// maxTries is how often a password is asked for.
const maxTries = 3

// login makes sure that writes have a session: the kept one, or a new one. Over the socket there is none.
func (h *hostdbRun) login(ctx context.Context) error {
	if h.session == "" {
		return nil
	}
	token, err := h.session.read()
	if err != nil {
		return err
	}
	if token != "" {
		c, err := h.withToken(token)
		if err != nil {
			return err
		}
		_, err = within(h, ctx, c.WhoAmI)
		if err == nil {
			h.writes = c
			return nil
		}
		var refused *api.Error
		if !errors.As(err, &refused) || refused.Status >= 500 || refused.Status == 429 {
			return err
		}
		fmt.Fprintf(h.stderr, "log in again: %v\n", err)
	}
	return h.newSession(ctx)
}

func (h *hostdbRun) newSession(ctx context.Context) error {
	for try := 1; ; try++ {
		user, err := h.ask.line(ctx, "Username: ")
		if err != nil {
			return fmt.Errorf("log in: %w", err)
		}
		password, err := h.ask.secret(ctx, "Password: ")
		if err != nil {
			return fmt.Errorf("log in: %w", err)
		}
		token, err := within(h, ctx, func(ctx context.Context) (string, error) { return h.writes.Login(ctx, user, password) })
		var refused *api.Error
		switch {
		case err == nil:
			if h.writes, err = h.withToken(token); err != nil {
				return err
			}
			return h.session.write(token)
		case !errors.As(err, &refused) || refused.Code != "4011" || try == maxTries:
			return explainLogin(err, user)
		}
		fmt.Fprintf(h.stderr, "%v\n", err)
	}
}

// within makes one request, bounded in time.
func within[T any](h *hostdbRun, ctx context.Context, f func(context.Context) (T, error)) (T, error) {
	ctx, cancel := h.withTimeout(ctx)
	defer cancel()
	return f(ctx)
}

// notThere reports whether the server says that there is no such thing.
func notThere(err error) bool { return errors.Is(err, api.ErrNotFound) }
