package main

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"hostmesh/node"
	"hostmesh/node/api"
)

// Exit codes.
const (
	exitDone   = 0
	exitFailed = 1 // refused or failed
	exitUsage  = 2 // not understood: nothing was tried
)

const socketName = "agent.sock"

// errSilent fails without a message: all there is to say was printed.
var errSilent = errors.New("failed")

// app is one call of the program.
type app struct {
	environ        []string
	stdin          io.Reader
	stdout, stderr io.Writer

	socket, server, tokenFile, caFile string
	timeout                           time.Duration
	output                            string

	started bool // whether the arguments were understood and the command began
}

func (a *app) run(ctx context.Context, args []string) int {
	root := a.rootCommand()
	root.SetArgs(args)
	root.SetIn(a.stdin)
	root.SetOut(a.stdout)
	root.SetErr(a.stderr)
	cmd, err := root.ExecuteContextC(ctx)
	var usage *usageError
	switch {
	case err == nil:
		return exitDone
	case errors.Is(err, errSilent):
		return exitFailed
	case errors.As(err, &usage) || !a.started:
		fmt.Fprintf(a.stderr, "hostmesh: %v\nSee: %s --help\n", err, cmd.CommandPath())
		return exitUsage
	}
	fmt.Fprintf(a.stderr, "hostmesh: %v\n", err)
	return exitFailed
}

// usageError is a mistake in the arguments that only the command itself could see.
type usageError struct{ text string }

func (e *usageError) Error() string { return e.text }

func usagef(format string, args ...any) error { return &usageError{fmt.Sprintf(format, args...)} }

func (a *app) rootCommand() *cobra.Command {
	root := a.group(&cobra.Command{
		Use:   "hostmesh",
		Short: "The agent of a private cloud's boxes, and the command line to it",
		Long: `hostmesh runs one agent on every box of a private cloud. The agents find each
other and each keeps a whole copy of the host database: the one truth about
every host and what it is for. Each answers DNS and HTTP from its own copy.

This program is both the agent ("hostmesh agent") and the command line to it.
A command talks to the agent of the box it runs on, through the agent's
socket. The socket is found by --socket, else HOSTMESH_SOCKET, else as
agent.sock in the data directory (HOSTMESH_DATA_DIR, else /var/lib/hostmesh).
--server or HOSTMESH_SERVER talks to an agent elsewhere, to which "hostmesh
login" logs in; --ca or HOSTMESH_CA names the authority that vouches for it.

Exit codes: 0 done, 1 refused or failed, 2 the command was not understood.`,
		Example: `  # A mesh of one, to try it
  hostmesh agent --dev --data-dir /tmp/hostmesh

  # What is wrong? Who is there?
  hostmesh status
  hostmesh members

  # Look at a host, and change it
  hostmesh db get hosts/web1.dc1.example.com
  hostmesh db set hosts/web1.dc1.example.com/Status maintenance -m "fan is loud"`,
		SilenceErrors: true,
		SilenceUsage:  true,
	})
	flags := root.PersistentFlags()
	flags.SortFlags = false
	flags.StringVar(&a.socket, "socket", "", "`PATH` of the agent's socket on this box")
	flags.StringVar(&a.server, "server", "", "`URL` of an agent elsewhere, such as https://10.1.0.12:7951")
	flags.StringVar(&a.caFile, "ca", "", "`FILE` with the authority that vouches for --server (default: HOSTMESH_CA, else the system's; the agents' own is web-ca.crt in a data directory)")
	flags.StringVar(&a.tokenFile, "token-file", "", "`FILE` with the token of a session for --server (default: what hostmesh login has kept)")
	flags.DurationVar(&a.timeout, "timeout", 30*time.Second, "how long to wait for an answer: `DURATION`, such as 5s")
	// Groups are runnable only to say what is missing.
	root.SetUsageTemplate(strings.Replace(root.UsageTemplate(), "{{if .Runnable}}", "{{if and .Runnable (not .HasAvailableSubCommands)}}", 1))
	root.MarkFlagsMutuallyExclusive("socket", "server")
	root.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return &usageError{err.Error()} })
	root.AddCommand(
		a.initCommand(), a.keygenCommand(), a.passwdCommand(), a.userCommand(), a.agentCommand(),
		a.statusCommand(), a.membersCommand(), a.nodeCommand(), a.dutiesCommand(), a.doctorCommand(), a.explainCommand(),
		a.dbCommand(), a.queryCommand(), a.watchCommand(), a.tagCommand(), a.imageCommand(), a.vmCommand(), a.approveCommand(), a.lbCommand(), a.mysqlCommand(), a.dnsCommand(), a.schemaCommand(),
		a.loginCommand(), a.logoutCommand(), a.whoamiCommand(), a.hostdbCommand(),
		a.versionCommand(),
	)
	return root
}

// group makes a command that only holds others. Without one of them it is not understood.
func (a *app) group(cmd *cobra.Command) *cobra.Command {
	cmd.Args = cobra.ArbitraryArgs
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if len(args) == 0 {
			cmd.SetOut(a.stderr)
			_ = cmd.Help() // it only fails where nothing can be printed
			return usagef("a command is missing")
		}
		near := ""
		if cmd.SuggestionsMinimumDistance == 0 {
			cmd.SuggestionsMinimumDistance = 2
		}
		if list := cmd.SuggestionsFor(args[0]); len(list) > 0 {
			near = "; did you mean " + strings.Join(list, " or ") + "?"
		}
		return usagef("there is no command %q%s", args[0], near)
	}
	return cmd
}

// action is what a command does once its arguments are understood.
type action func(ctx context.Context, cmd *cobra.Command, args []string) error

// do marks the point from which an error is no longer one of usage.
func (a *app) do(f action) func(*cobra.Command, []string) error {
	return func(cmd *cobra.Command, args []string) error {
		a.started = true
		return f(cmd.Context(), cmd, args)
	}
}

// ask is do for commands that need an agent and get one answer.
func (a *app) ask(f func(ctx context.Context, c *api.Client, args []string) error) func(*cobra.Command, []string) error {
	return a.do(func(ctx context.Context, _ *cobra.Command, args []string) error {
		c, err := a.client()
		if err != nil {
			return err
		}
		defer c.Close()
		ctx, cancel := a.withTimeout(ctx)
		defer cancel()
		return explain(f(ctx, c, args))
	})
}

// withTimeout bounds one answer.
func (a *app) withTimeout(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeoutCause(ctx, a.timeout, fmt.Errorf("it took longer than %s (--timeout)", a.timeout))
}

// client is a client of the agent that flags and environment name, with a session if there is one.
func (a *app) client() (*api.Client, error) {
	cfg, err := a.clientConfig()
	if err != nil {
		return nil, err
	}
	switch {
	case a.tokenFile != "":
		token, err := os.ReadFile(a.tokenFile)
		if err != nil {
			return nil, fmt.Errorf("--token-file: %w", err)
		}
		cfg.Token = strings.TrimSpace(string(token))
	case cfg.Server != "" && a.getenv("HOME")+a.getenv("XDG_STATE_HOME") != "": // without a home nobody has logged in
		file, err := a.sessionFile()
		if err != nil {
			return nil, err
		}
		if file != "" {
			if cfg.Token, err = file.read(); err != nil {
				return nil, err
			}
		}
	}
	c, err := api.NewClient(cfg)
	if err != nil {
		return nil, &usageError{err.Error()}
	}
	return c, nil
}

// clientConfig is where the agent is that flags and environment name, and what to believe of it.
func (a *app) clientConfig() (api.ClientConfig, error) {
	cfg := api.ClientConfig{Socket: a.socket, Server: a.server}
	if cfg.Socket == "" && cfg.Server == "" {
		cfg.Socket, cfg.Server = a.getenv("HOSTMESH_SOCKET"), a.getenv("HOSTMESH_SERVER")
		if cfg.Socket != "" && cfg.Server != "" {
			return cfg, usagef("HOSTMESH_SOCKET and HOSTMESH_SERVER are both set: set one of them")
		}
	}
	if cfg.Socket == "" && cfg.Server == "" {
		cfg.Socket = a.defaultSocket()
	}
	name, from := a.caFile, "--ca"
	if name == "" && cfg.Server != "" {
		name, from = a.getenv("HOSTMESH_CA"), "HOSTMESH_CA"
	}
	var err error
	if name != "" {
		if cfg.RootCAs, err = readCA(name); err != nil {
			err = fmt.Errorf("%s: %w", from, err)
		}
	}
	return cfg, err
}

// defaultSocket is the socket of the agent of this box.
func (a *app) defaultSocket() string {
	dir := a.getenv("HOSTMESH_DATA_DIR")
	if dir == "" {
		dir = node.DefaultConfig().DataDir
	}
	return filepath.Join(dir, socketName)
}

// readCA reads the certificates of authorities.
func readCA(name string) (*x509.CertPool, error) {
	pem, err := os.ReadFile(name)
	if err != nil {
		return nil, err
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("%s holds no certificate in PEM form", name)
	}
	return pool, nil
}

// explain adds to an error of an agent what only the command line knows.
func explain(err error) error {
	var refused *api.Error
	switch {
	case errors.As(err, &refused) && (refused.Code == "4034" || refused.Code == "4031"):
		return err // it is about where from, or when, not about what
	case errors.Is(err, api.ErrUnauthenticated):
		return fmt.Errorf("%w (on its own box the agent knows who asks by the socket; from elsewhere log in with hostmesh login --server, or give --token-file)", err)
	case errors.Is(err, api.ErrProtected):
		return fmt.Errorf("%w (an override is --override REASON)", err)
	case errors.Is(err, api.ErrDenied):
		return fmt.Errorf("%w (who may is in the access list: hostmesh db get NAMESPACE/KEY/perms, or NAMESPACE/.default/perms)", err)
	}
	return err
}

func (a *app) getenv(name string) string {
	for i := len(a.environ) - 1; i >= 0; i-- {
		if value, ok := strings.CutPrefix(a.environ[i], name+"="); ok {
			return value
		}
	}
	return ""
}
