package main

import (
	"context"
	"errors"
	"io"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/spf13/cobra"

	"hostmesh/node/api"
)

const (
	consoleTail = 64 << 10         // bytes that are shown when nobody asks for all
	consoleWait = 20 * time.Second // of one question while a console is followed
)

func (a *app) vmConsoleCommand() *cobra.Command {
	var follow, all, raw bool
	cmd := &cobra.Command{
		Use:   "console NAME",
		Short: "Show what a virtual machine wrote to its serial console",
		Long: `Shows the last 64 KiB of what a virtual machine wrote to its serial console, or
with --all everything that its box keeps. With --follow it goes on with what is
written from now on, until it is stopped. Control characters, which could move
the cursor of a terminal, are left out unless --raw is given.`,
		Example: `  hostmesh vm console web7
  hostmesh vm console web7 --follow`,
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: a.completeVMs,
		RunE: a.vmDo(func(ctx context.Context, c *api.Client, _ *cobra.Command, args []string) error {
			out := io.Writer(a.stdout)
			if !raw {
				out = &plainWriter{to: a.stdout}
			}
			from, wait := int64(-consoleTail), time.Duration(0)
			if all {
				from = 0
			}
			for {
				ask, cancel := context.WithTimeoutCause(ctx, a.timeout+wait, errors.New("the console was not read in time (--timeout)"))
				part, err := c.VMConsole(ask, args[0], from, wait)
				cancel()
				switch {
				case ctx.Err() != nil && follow:
					return nil // it was stopped
				case err != nil:
					return err
				}
				if _, err := out.Write(part.Data); err != nil {
					return err
				}
				from = part.Next
				switch {
				case len(part.Data) > 0:
				case !follow:
					return nil
				default:
					wait = consoleWait
				}
			}
		}),
	}
	cmd.Flags().BoolVar(&follow, "follow", false, "go on with what is written")
	cmd.Flags().BoolVar(&all, "all", false, "from the beginning")
	cmd.Flags().BoolVar(&raw, "raw", false, "as it is, with control characters")
	return cmd
}

// plainWriter leaves out what could move a terminal's cursor. A letter that is cut at the end of a write is kept for the next.
type plainWriter struct {
	to   io.Writer
	rest []byte
}

func (p *plainWriter) Write(text []byte) (int, error) {
	in := append(p.rest, text...)
	p.rest = nil
	out := make([]byte, 0, len(in))
	for len(in) > 0 {
		if !utf8.FullRune(in) {
			p.rest = append([]byte(nil), in...)
			break
		}
		r, n := utf8.DecodeRune(in)
		in = in[n:]
		if r == '\n' || r == '\t' || !unicode.IsControl(r) {
			out = utf8.AppendRune(out, r)
		}
	}
	if _, err := p.to.Write(out); err != nil {
		return 0, err
	}
	return len(text), nil
}
