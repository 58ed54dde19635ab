package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"hostmesh/node/api"
)

func (a *app) loginCommand() *cobra.Command {
	var user string
	var fromStdin bool
	cmd := &cobra.Command{
		Use:   "login --server URL",
		Short: "Log in to an agent elsewhere",
		Long: `Asks for name and password, and keeps the session that the agent makes of them
in a file that only you can read. From then on commands with the same --server
use it; it is valid at every node of the mesh, from this machine, and kept for
each server by itself. --token-file goes before it.

On its own box an agent knows who asks by its socket: there is nothing to log
in to. The password is no argument, because everybody on the box can read
those.`,
		Example: `  hostmesh login --server https://10.1.0.12:7951 --ca web-ca.crt
  hostmesh login --server https://10.1.0.12:7951 --user alice --password-stdin < password`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, args []string) error {
			file, err := a.sessionFile()
			switch {
			case err != nil:
				a.started = true
				return err
			case file == "":
				return usagef("the server is missing: name it with --server or HOSTMESH_SERVER (on its own box an agent knows who asks without a login)")
			case fromStdin && user == "":
				return usagef("--password-stdin needs --user: the input is the password")
			}
			return a.do(func(ctx context.Context, _ *cobra.Command, _ []string) error {
				return a.login(ctx, file, user, fromStdin)
			})(cmd, args)
		},
	}
	cmd.Flags().StringVar(&user, "user", "", "log in as `NAME`, without asking for it")
	cmd.Flags().BoolVar(&fromStdin, "password-stdin", false, "the first line of the standard input is the password")
	return cmd
}

func (a *app) login(ctx context.Context, file sessionFile, user string, fromStdin bool) error {
	cfg, err := a.clientConfig()
	if err != nil {
		return err
	}
	c, err := api.NewClient(cfg)
	if err != nil {
		return &usageError{err.Error()}
	}
	defer c.Close()
	if err := checkPrivate(cfg.Server); err != nil {
		return err
	}
	ask := a.prompter()
	if user == "" {
		if user, err = ask.line(ctx, "Username: "); err != nil {
			return err
		}
	}
	var password string
	if fromStdin {
		password, err = readLine(bufio.NewReader(a.stdin))
	} else {
		password, err = ask.secret(ctx, "Password: ")
	}
	if err != nil {
		return err
	}
	ctx, cancel := a.withTimeout(ctx)
	defer cancel()
	token, err := c.Login(ctx, user, password)
	if err != nil {
		return explainLogin(err, user)
	}
	if err := file.write(token); err != nil {
		return err
	}
	_, err = fmt.Fprintf(a.stdout, "logged in to %s as %s; the session is in %s\n", c.Where(), user, file)
	return err
}

func (a *app) logoutCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "logout --server URL",
		Short: "Forget the session of an agent elsewhere",
		Long: `Removes the file that "hostmesh login" keeps the session in. The agent is not
asked: the session itself stays valid for whoever has copied it.`,
		Example: `  hostmesh logout --server https://10.1.0.12:7951`,
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, args []string) error {
			file, err := a.sessionFile()
			if err != nil {
				a.started = true
				return err
			}
			if file == "" {
				return usagef("the server is missing: name it with --server or HOSTMESH_SERVER")
			}
			return a.do(func(context.Context, *cobra.Command, []string) error {
				there, err := file.remove()
				if err == nil && !there {
					fmt.Fprintf(a.stderr, "there is no session for this server: %s does not exist\n", file)
				}
				return err
			})(cmd, args)
		},
	}
}

func (a *app) whoamiCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "whoami",
		Short: "Print as whom the agent knows you",
		Long: `Prints the user the agent takes you for: that of the session when it is
elsewhere (--server), else that of this process.`,
		Example: `  hostmesh whoami
  hostmesh whoami --server https://10.1.0.12:7951 --ca web-ca.crt`,
		Args: cobra.NoArgs,
		RunE: a.ask(func(ctx context.Context, c *api.Client, _ []string) error {
			who, err := c.WhoAmI(ctx)
			if err != nil {
				return err
			}
			_, err = fmt.Fprintln(a.stdout, visible(who))
			return err
		}),
	}
}

// sessionFile is where the session of the server is kept that flags and environment name; "" when they name none.
func (a *app) sessionFile() (sessionFile, error) {
	server := a.server
	if server == "" && a.socket == "" && a.getenv("HOSTMESH_SOCKET") == "" {
		server = a.getenv("HOSTMESH_SERVER")
	}
	if server == "" {
		return "", nil
	}
	u, err := url.Parse(server)
	if err != nil || u.Hostname() == "" {
		return "", usagef("server %q is not of the form https://HOST:PORT", server)
	}
	dir := a.getenv("XDG_STATE_HOME")
	if !filepath.IsAbs(dir) { // as the specification of that variable has it
		home := a.getenv("HOME")
		if !filepath.IsAbs(home) {
			return "", errors.New("HOME is not set: sessions are kept below it, or below XDG_STATE_HOME")
		}
		dir = filepath.Join(home, ".local", "state")
	}
	port := u.Port()
	if port == "" {
		port = map[string]string{"https": "443", "http": "80"}[u.Scheme]
	}
	name := u.Scheme + "_" + net.JoinHostPort(strings.ToLower(u.Hostname()), port)
	return sessionFile(filepath.Join(dir, "hostmesh", "sessions", url.PathEscape(name))), nil
}

// checkPrivate refuses to send a password in plain text over a network.
func checkPrivate(server string) error {
	u, err := url.Parse(server)
	if err != nil || u.Scheme != "http" || u.Hostname() == "localhost" {
		return err
	}
	if addr, err := netip.ParseAddr(u.Hostname()); err == nil && addr.Unmap().IsLoopback() {
		return nil
	}
	return fmt.Errorf("%s is not encrypted: whoever listens would have the password; use https, which agents serve on port 7951", server)
}

// explainLogin says what a refused login means for a person. The password was not wrong in all of them.
func explainLogin(err error, user string) error {
	var e *api.Error
	if !errors.As(err, &e) {
		return err
	}
	switch {
	case e.Code == "4011":
		return fmt.Errorf("log in %s: %w (no such user here, or another password)", user, err)
	case e.Code == "4034":
		return fmt.Errorf("log in %s: %w (the password is right; an administrator can add this address to the networks the user may log in from)", user, err)
	case e.Code == "4031":
		return fmt.Errorf("log in %s: %w (while HostDB is read-only nobody logs in; sessions made before stay valid)", user, err)
	case e.Status == 429:
		return fmt.Errorf("log in %s: %w (too many logins failed: wait, then try again)", user, err)
	}
	return fmt.Errorf("log in %s: %w", user, err)
}
