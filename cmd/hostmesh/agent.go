package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"runtime/debug"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"hostmesh/node"
)

// configFile is read where --config names no other.
const configFile = "/etc/hostmesh/agent.yaml"

func (a *app) initCommand() *cobra.Command {
	var cfg node.InitConfig
	cmd := &cobra.Command{
		Use:   "init",
		Short: "Found a mesh, once, on its first box",
		Long: `Founds a mesh: gives it an id, makes its key if there is none, and prepares
the data directory of the first member. Do this once, on one box. The others
are started with --join and the same key file; they never found a mesh.

A data directory that belongs to a mesh is left as it is, and the command
fails.`,
		Example: `  hostmesh init --data-dir /var/lib/hostmesh --key-file /etc/hostmesh/mesh.key`,
		Args:    cobra.NoArgs,
		RunE: a.do(func(context.Context, *cobra.Command, []string) error {
			res, err := node.Init(cfg)
			if err != nil {
				return err
			}
			key := "the key that is in"
			if res.KeyMade {
				key = "a new key, in"
			}
			fmt.Fprintf(a.stdout, `Mesh %s is founded, with %s %s
Node %s keeps its data in %s

Next: start this box's agent
  hostmesh agent --data-dir %s --key-file %s --addr ADDRESS-OF-THIS-BOX
then copy the key to the other boxes, and start theirs with --join ADDRESS-OF-THIS-BOX
`, res.MeshID, key, res.KeyFile, res.NodeID, cfg.DataDir, cfg.DataDir, res.KeyFile)
			return nil
		}),
	}
	cmd.Flags().StringVar(&cfg.DataDir, "data-dir", node.DefaultConfig().DataDir, "data directory `DIR` of this box's agent")
	cmd.Flags().StringVar(&cfg.KeyFile, "key-file", "", "mesh key `FILE`; made if it is missing (default: mesh.key in the data directory)")
	cmd.Flags().StringVar(&cfg.Name, "name", "", "`NAME` of this node (default: the host name)")
	return cmd
}

func (a *app) agentCommand() *cobra.Command {
	var (
		file, level string
		check       bool
		given       = map[string]string{}
	)
	cmd := &cobra.Command{
		Use:   "agent",
		Short: "Run this box's agent",
		Long: fmt.Sprintf(`Runs the agent of this box until it is told to stop (SIGINT or SIGTERM); then
it says goodbye to the mesh. What it logs goes to the standard error.

It is configured by a file (--config, else %s if that
exists), by HOSTMESH_* variables, and by flags; flags beat variables beat the
file. A variable is named as its flag is: HOSTMESH_DATA_DIR is --data-dir.

An empty data directory needs --join, to join a mesh, or "hostmesh init"
first, to found one. --dev needs neither: it makes a mesh of one, on the
loopback, to try things.

--check validates all of it, prints the configuration that would be used, and
does not start. --observe starts, but only shows what it would do.`, configFile),
		Example: `  # To try it
  hostmesh agent --dev --data-dir /tmp/hostmesh

  # The first box of a mesh, after hostmesh init
  hostmesh agent --addr 10.1.0.11 --key-file /etc/hostmesh/mesh.key

  # Every other box
  hostmesh agent --addr 10.1.0.12 --join 10.1.0.11 --key-file /etc/hostmesh/mesh.key

  # Is the configuration right?
  hostmesh agent --check`,
		Args: cobra.NoArgs,
		RunE: a.do(func(ctx context.Context, cmd *cobra.Command, _ []string) error {
			logLevel, err := parseLevel(level)
			if err != nil {
				return err
			}
			if !cmd.Flags().Changed("config") {
				if file, err = existing(configFile); err != nil {
					return err
				}
			}
			cfg, err := node.LoadConfig(file, a.environ, given)
			if err != nil {
				return err
			}
			if check {
				if err := cfg.Check(); err != nil {
					return err
				}
				return cfg.WriteEffective(a.stdout)
			}
			cfg.Build = build()
			cfg.Logger = slog.New(slog.NewTextHandler(a.stderr, &slog.HandlerOptions{Level: logLevel}))
			return runAgent(ctx, cfg)
		}),
	}
	flags := cmd.Flags()
	flags.SortFlags = false
	flags.StringVar(&file, "config", "", "configuration `FILE` (default: "+configFile+", if it exists)")
	for _, f := range node.Flags() {
		flags.Var(&knobValue{given: given, name: f.Name, kind: f.Value}, f.Name, f.Usage)
		if f.Value == "" {
			flags.Lookup(f.Name).NoOptDefVal = "true"
		}
	}
	flags.BoolVar(&check, "check", false, "validate, print the effective configuration, and do not start")
	flags.StringVar(&level, "log-level", "info", "least `LEVEL` of what is logged: debug, info, warn or error")
	return cmd
}

// collectSooner trades a little processor time for memory: the agent shares its box with guests, and what a burst of
// writes takes is given back sooner. GOGC, when set, says otherwise.
func collectSooner() {
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(50)
	}
}

func runAgent(ctx context.Context, cfg node.Config) error {
	agent, err := node.Open(cfg)
	if err != nil {
		return err
	}
	collectSooner() // not before: loading a large replica is faster so, and gives its garbage back at its end
	err = agent.Run(ctx)
	if closeErr := agent.Close(); err == nil {
		err = closeErr
	}
	return err
}

// existing is path if there is such a file, else "".
func existing(path string) (string, error) {
	switch _, err := os.Stat(path); {
	case err == nil:
		return path, nil
	case errors.Is(err, fs.ErrNotExist):
		return "", nil
	default:
		return "", fmt.Errorf("look for a configuration: %w", err)
	}
}

func parseLevel(text string) (slog.Level, error) {
	var l slog.Level
	if err := l.UnmarshalText([]byte(text)); err != nil {
		return 0, usagef("--log-level %s: the levels are debug, info, warn and error", text)
	}
	return l, nil
}

// knobValue hands the text of a flag to node, which knows what it means.
type knobValue struct {
	given      map[string]string
	name, kind string
	text       string
}

var _ pflag.Value = (*knobValue)(nil)

func (v *knobValue) String() string { return v.text }

func (v *knobValue) Set(text string) error {
	v.text = text
	v.given[v.name] = text
	return nil
}

func (v *knobValue) Type() string {
	if v.kind == "" {
		return "bool"
	}
	return v.kind
}
