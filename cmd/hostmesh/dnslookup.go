package main

import (
	"context"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"hostmesh/node/api"
)

func (a *app) dnsLookupCommand() *cobra.Command {
	var at string
	cmd := &cobra.Command{
		Use:   "lookup NAME [TYPE]",
		Short: "Show what a name is answered with, or was",
		Long: `Shows what this node answers to a name and type (A by default), and which
revision last wrote something of which the answer is made. With --at it is what
would have been answered at a revision or time, compiled anew from the history.

What the mesh knew in the past is not kept: of live names the past has all
members that were not retired, and names of nodes are not there.`,
		Example: `  hostmesh dns lookup web1.dc1.example.com
  hostmesh dns lookup dc1.example.com MX --at 019a0c1f2b3c0000.5f1e2d3c4b5a6978
  hostmesh dns lookup www.dc1.example.com AAAA -o json`,
		Args: cobra.RangeArgs(1, 2),
		RunE: a.ask(func(ctx context.Context, c *api.Client, args []string) error {
			typ := ""
			if len(args) > 1 {
				typ = args[1]
			}
			r, err := c.DNSLookup(ctx, args[0], typ, at)
			if err != nil {
				return err
			}
			if err := a.print(r, func(w io.Writer) { dnsAnswer(w, r) }); err != nil {
				return err
			}
			if r.Settled != nil && !*r.Settled {
				fmt.Fprintln(a.stderr, "warning: writes of before that moment may still arrive from members that are away")
			}
			return nil
		}),
	}
	cmd.Flags().StringVar(&at, "at", "", "the answer as of this `TIME` or revision, such as \"2026-01-31 12:00\" or 24h (ago)")
	a.outputFlag(cmd)
	return cmd
}

func dnsAnswer(w io.Writer, r api.DNSLookup) {
	state := r.Rcode
	switch {
	case r.Zone == "":
		state += ": no zone here has the name"
	case !r.Authoritative:
		state += ": delegated to other servers"
	case len(r.Answer) == 0 && r.Rcode == "NOERROR":
		state += ": the name is there, without " + r.Type
	}
	fmt.Fprintln(w, state)
	for _, part := range []struct {
		name    string
		records []string
	}{{"", r.Answer}, {"authority: ", r.Authority}, {"additional: ", r.Additional}} {
		for _, rr := range part.records {
			fmt.Fprintln(w, part.name+visible(rr))
		}
	}
	if r.Changed != nil {
		fmt.Fprintf(w, "last changed by %s, %s, %s: %s\n", visible(r.Changed.User), r.Changed.Time.UTC().Format(time.DateTime), r.Changed.ID, visible(r.Changed.Log))
	}
}

func (a *app) dnsExplainCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "explain NAME",
		Short: "Show why a name is answered as it is",
		Long: `Shows why a name is answered as it is, as this node sees it. Of a live name such
as web.tag.mesh.internal: why each member of the tag is in or out (its agent
failed or left, it is retired, it has no address, too many failed at once). Of
other names: which key of the host database put each record there, and what is
not answered because something else stands before it.`,
		Example: `  hostmesh dns explain web.tag.mesh.internal
  hostmesh dns explain www.dc1.example.com`,
		Args: cobra.ExactArgs(1),
		RunE: a.ask(func(ctx context.Context, c *api.Client, args []string) error {
			e, err := c.DNSExplain(ctx, args[0])
			if err != nil {
				return err
			}
			return a.print(e, func(w io.Writer) { dnsExplanation(w, e) })
		}),
	}
	a.outputFlag(cmd)
	return cmd
}

func dnsExplanation(w io.Writer, e api.DNSExplanation) {
	name := visible(e.Name)
	switch e.Kind {
	case "not-ours":
		fmt.Fprintf(w, "%s: no zone here has the name\n", name)
	case "nothing":
		fmt.Fprintf(w, "%s: nothing has the name in the zone %s\n", name, visible(e.Zone))
	case "empty":
		fmt.Fprintf(w, "%s: it has no records in the zone %s; names below it have\n", name, visible(e.Zone))
	case "delegated":
		fmt.Fprintf(w, "%s: other servers answer for %s\n", name, visible(e.At))
	case "wildcard":
		fmt.Fprintf(w, "%s: answered by %s of the zone %s\n", name, visible(e.At), visible(e.Zone))
	case "live":
		fmt.Fprintf(w, "%s: the members of tag %s that are up\n", name, visible(e.Tag))
	default:
		fmt.Fprintf(w, "%s: in the zone %s\n", name, visible(e.Zone))
	}
	if e.Frozen {
		fmt.Fprintln(w, "too many members failed at once: who is left out stays as it was")
	}
	if e.All {
		fmt.Fprintln(w, "nobody would be left, so all with an address are answered")
	}
	if e.Kind == "live" {
		row(w, "MEMBER", "ADDRESSES", "IN", "WHY")
	}
	for _, m := range e.Members {
		in := "no"
		if m.In {
			in = "yes"
		}
		row(w, visible(m.Host), orDash(strings.Join(m.Addresses, " ")), in, visible(m.Why))
	}
	for _, r := range e.Records {
		beside := ""
		if !r.Answered {
			beside = " (not answered: something else stands before it)"
		}
		fmt.Fprintf(w, "%s from %s%s\n", visible(r.Record), visible(r.Key), beside)
	}
}
