package main

import (
	"context"
	"errors"
	"io"
	"runtime"
	"runtime/debug"

	"github.com/spf13/cobra"

	"hostmesh/node/api"
	"hostmesh/vmd/libvirt"
)

// version is the release. It is set by the linker: -ldflags "-X main.version=1.2.3".
var version string

// build is what this executable was made from.
func build() api.Build {
	_, noLibvirt := libvirtHere()
	b := api.Build{Version: version, Go: runtime.Version(), Libvirt: noLibvirt == nil}
	info, ok := debug.ReadBuildInfo()
	if !ok {
		info = &debug.BuildInfo{}
	}
	var changed bool
	for _, s := range info.Settings {
		switch s.Key {
		case "vcs.revision":
			b.Revision = s.Value
		case "vcs.time":
			b.Time = s.Value
		case "vcs.modified":
			changed = s.Value == "true"
		}
	}
	if b.Revision != "" && changed {
		b.Revision += "+"
	}
	if b.Version == "" {
		b.Version = "devel"
	}
	return b
}

func (a *app) versionCommand() *cobra.Command {
	var agent bool
	cmd := &cobra.Command{
		Use:   "version",
		Short: "Show which hostmesh this is",
		Long: `Shows what this program was built from, and whether it can run virtual
machines (libvirt). With --agent, the same of the agent that runs.`,
		Example: `  hostmesh version
  hostmesh version --agent`,
		Args: cobra.NoArgs,
	}
	show := func(b api.Build, libvirt string) error {
		return a.print(b, func(w io.Writer) {
			row(w, "hostmesh", b.Version)
			if b.Revision != "" {
				row(w, "revision", b.Revision)
				row(w, "time", orDash(b.Time))
			}
			row(w, "go", b.Go)
			row(w, "libvirt", libvirt)
		})
	}
	local := a.do(func(context.Context, *cobra.Command, []string) error {
		library, err := libvirtHere()
		if err != nil {
			library = "no: " + err.Error()
		}
		return show(build(), library)
	})
	remote := a.ask(func(ctx context.Context, c *api.Client, _ []string) error {
		b, err := c.Version(ctx)
		if err != nil {
			return err
		}
		return show(b, yesNo(b.Libvirt))
	})
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if agent {
			return remote(cmd, args)
		}
		return local(cmd, args)
	}
	cmd.Flags().BoolVar(&agent, "agent", false, "show the version of the running agent")
	a.outputFlag(cmd)
	return cmd
}

// libvirtHere is the version of libvirt's library on this box, in words. The error is for a build that cannot use it.
func libvirtHere() (string, error) {
	v, err := libvirt.LibraryVersion()
	switch {
	case err == nil:
		return "yes, library " + v, nil
	case errors.Is(err, libvirt.ErrNoLibvirt):
		return "", err
	}
	return "yes, but " + err.Error(), nil
}

func yesNo(b bool) string {
	if b {
		return "yes"
	}
	return "no"
}
