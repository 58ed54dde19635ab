package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/spf13/cobra"

	"hostmesh/node/api"
)

func (a *app) dnsCheckCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "check [ZONE]",
		Short: "Find what cannot be served as it was written",
		Long: `Shows what stands in the host database and is not, or not quite, in DNS: names
that DNS does not take, records that cannot be read, an alias beside other data,
names that point to nothing, loops of aliases.

An error is something that is not answered, or leads nowhere; of a warning all
is answered. The exit code is 1 when there is an error.`,
		Example: `  hostmesh dns check
  hostmesh dns check dc1.example.com`,
		Args: cobra.MaximumNArgs(1),
		RunE: a.ask(func(ctx context.Context, c *api.Client, args []string) error {
			zone := ""
			if len(args) > 0 {
				zone = args[0]
			}
			r, err := c.DNSProblems(ctx, zone)
			if err != nil {
				return err
			}
			if err := a.print(r, func(w io.Writer) { dnsProblems(w, r) }); err != nil {
				return err
			}
			if r.Failed() {
				return errSilent
			}
			return nil
		}),
	}
	a.outputFlag(cmd)
	return cmd
}

func dnsProblems(w io.Writer, r api.DNSCheck) {
	failures := 0
	zone := "\x00"
	for _, p := range r.Problems {
		if p.Zone != zone {
			zone = p.Zone
			if zone == "" {
				fmt.Fprintln(w, "in no zone:")
			} else {
				fmt.Fprintln(w, visible(zone)+":")
			}
		}
		if p.Severity == api.SeverityError {
			failures++
		}
		name := ""
		if p.Name != "" {
			name = " " + p.Name
		}
		fmt.Fprintf(w, "  %s %s%s: %s\n", p.Severity, visible(p.Key), visible(name), visible(p.Reason))
	}
	fmt.Fprintf(w, "%s, %s in %s (version %s)\n", plural(failures, "error", "errors"), plural(len(r.Problems)-failures, "warning", "warnings"),
		plural(r.Zones, "zone", "zones"), r.Version)
}

func (a *app) dnsDiffCommand() *cobra.Command {
	var against, key string
	cmd := &cobra.Command{
		Use:   "diff ZONE REV1 [REV2] | diff --against SERVER ZONE",
		Short: "Show how a zone differs from another time, or another server",
		Long: `Shows the records of a zone that came and went between two revisions or times;
without REV2 it is the present. They are compiled anew from the history.

With --against, the agent transfers the zone from another server (AXFR) and
shows what only that has (-), what only this one has (+), and what has another
time to live (~). That tells before a migration whether all is there. The SOA
does not count, nor do DNSSEC's records. The other server must let the agent's
box transfer the zone, or take a TSIG key of the mesh (--key). Only an
administrator may.

The exit code is 1 when there is a difference from the other server.`,
		Example: `  hostmesh dns diff dc1.example.com 24h
  hostmesh dns diff dc1.example.com 24h 019a0c1f2b3c0000.5f1e2d3c4b5a6978
  hostmesh dns diff --against 10.1.0.53 dc1.example.com
  hostmesh dns diff --against ns1.example.com:5353 --key old dc1.example.com`,
	}
	cmd.Args = func(cmd *cobra.Command, args []string) error {
		switch {
		case against != "" && len(args) != 1:
			return usagef("with --against one zone is named, and no revision")
		case against == "" && key != "":
			return usagef("--key is for --against")
		case against == "" && (len(args) < 2 || len(args) > 3):
			return usagef("a zone and one or two revisions or times are needed, or --against and a zone")
		}
		return nil
	}
	cmd.RunE = a.ask(func(ctx context.Context, c *api.Client, args []string) error {
		var d api.DNSDiff
		var err error
		switch {
		case against != "":
			d, err = c.DNSCompare(ctx, api.DNSCompareQuery{Zone: args[0], Server: against, Key: key})
		case len(args) == 2:
			d, err = c.DNSDiff(ctx, args[0], args[1], "")
		default:
			d, err = c.DNSDiff(ctx, args[0], args[1], args[2])
		}
		if err != nil {
			return err
		}
		if err := a.print(d, func(w io.Writer) { dnsDiff(w, d) }); err != nil {
			return err
		}
		if d.Settled != nil && !*d.Settled {
			fmt.Fprintln(a.stderr, "warning: writes of before that moment may still arrive from members that are away")
		}
		if against != "" && !d.Same() {
			return errSilent
		}
		return nil
	})
	cmd.Flags().StringVar(&against, "against", "", "compare with what `SERVER` has: an address or name, with a port where it is not 53")
	cmd.Flags().StringVar(&key, "key", "", "sign the transfer from --against with this TSIG key of the mesh: its `NAME`")
	a.outputFlag(cmd)
	return cmd
}

func dnsDiff(w io.Writer, d api.DNSDiff) {
	for _, rr := range d.Removed {
		fmt.Fprintln(w, "- "+visible(rr))
	}
	for _, rr := range d.Added {
		fmt.Fprintln(w, "+ "+visible(rr))
	}
	for _, rr := range d.TTLs {
		fmt.Fprintln(w, "~ "+visible(rr))
	}
	if d.Same() {
		fmt.Fprintf(w, "no difference in %s\n", plural(d.Compared, "record", "records"))
	}
	if d.LeftOut > 0 {
		fmt.Fprintf(w, "(%s of DNSSEC not compared)\n", plural(d.LeftOut, "record", "records"))
	}
}

func (a *app) dnsImportCommand() *cobra.Command {
	var opts api.DNSImportOptions
	cmd := &cobra.Command{
		Use:   "import FILE",
		Short: "Make hosts and a tag of a zone file",
		Long: `Reads a zone file of another name server and makes of it what gives the same
zone: a host of each name with one address, its aliases, and a tag with a
section DNS that has everything else. All of it is one revision. FILE may be -,
the standard input.

Hosts that are there with the same addresses become members of the tag; others
of the same name are left as they are, and the records stand in the tag. What
cannot be taken is listed. $ORIGIN, $TTL and $GENERATE are understood, and
$INCLUDE is refused: import that file by itself.`,
		Example: `  hostmesh dns import db.lab.test --zone lab.test --dry-run
  hostmesh dns import db.lab.test --zone lab.test --tag lab -m "from ns1" && hostmesh dns check lab.test
  hostmesh dns import /etc/bind/db.10.1 --zone 1.10.in-addr.arpa --dry-run`,
		Args: cobra.ExactArgs(1),
	}
	cmd.RunE = a.ask(func(ctx context.Context, c *api.Client, args []string) error {
		text, err := a.readZoneFile(args[0])
		if err != nil {
			return err
		}
		r, err := c.DNSImport(ctx, text, opts)
		if err != nil {
			return err
		}
		return a.print(r, func(w io.Writer) { dnsImport(w, r) })
	})
	flags := cmd.Flags()
	flags.StringVar(&opts.Zone, "zone", "", "`NAME` of the zone (default: that of the file's SOA)")
	flags.StringVar(&opts.Tag, "tag", "", "`NAME` of the tag to make (default: the zone's)")
	flags.BoolVar(&opts.DryRun, "dry-run", false, "only tell what would be done")
	messageFlag(cmd, &opts.Log, "why, for those who read the history (default: the zone's name)")
	a.outputFlag(cmd)
	return cmd
}

func (a *app) readZoneFile(name string) ([]byte, error) {
	const most = 16 << 20
	in := a.stdin
	if name != "-" {
		f, err := os.Open(name)
		if err != nil {
			return nil, err
		}
		defer f.Close()
		in = f
	}
	text, err := io.ReadAll(io.LimitReader(in, most+1))
	if err == nil && len(text) > most {
		err = errors.New("it is larger than 16 MiB: divide it")
	}
	if err != nil {
		return nil, fmt.Errorf("read the zone file %s: %w", name, err)
	}
	return text, nil
}

func dnsImport(w io.Writer, r api.DNSImportReport) {
	for _, p := range r.Problems {
		fmt.Fprintln(w, "note: "+visible(p))
	}
	verb := "made"
	if r.DryRun {
		verb = "would be made"
	}
	fmt.Fprintf(w, "zone %s of tag %s: %s, %s %s, %s known, records of %s in the section\n", visible(r.Zone), visible(r.Tag),
		plural(r.Records, "record", "records"), plural(len(r.Hosts), "host", "hosts"), verb, plural(len(r.Known), "host", "hosts"), plural(r.Names, "name", "names"))
	switch {
	case r.DryRun:
		fmt.Fprintln(w, "nothing was written (--dry-run)")
	case r.Revision != "":
		fmt.Fprintf(w, "revision %s, held by %s\n", r.Revision, plural(r.Acks, "box", "boxes"))
	}
}
