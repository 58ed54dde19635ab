package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"hostmesh/node/api"
)

// lbLook is how often a watch asks: holders are asked each time, so it is not done faster than people read.
const lbLook = 500 * time.Millisecond

func (a *app) lbWatchCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "watch [TAG]",
		Short: "Print each change of who holds VIPs and who gets connections",
		Long: `Prints how balanced tags stand, all or one, and then a line for each change: of
the holder of a VIP, of backends, of problems; until it is stopped. It looks
twice a second: what comes and goes between is not seen. While the agent does
not answer it says so, and goes on when it does.

With -o json each line is an object.`,
		Example: `  hostmesh lb watch
  hostmesh lb watch warehouse-web-dc1 -o json`,
		Args:              cobra.MaximumNArgs(1),
		ValidArgsFunction: a.completeLBTags,
		RunE: a.vmDo(func(ctx context.Context, c *api.Client, _ *cobra.Command, args []string) error {
			tag := ""
			if len(args) > 0 {
				tag = args[0]
			}
			return a.watchLB(ctx, c, tag)
		}),
	}
	a.outputFlag(cmd)
	form := cmd.PreRunE
	cmd.PreRunE = func(cmd *cobra.Command, args []string) error {
		if a.output == formYAML {
			return usagef("-o yaml: changes are printed as table or json")
		}
		return form(cmd, args)
	}
	return cmd
}

// lbChange is a line of a watch.
type lbChange struct {
	At   time.Time `json:"at"`
	Tag  string    `json:"tag"`
	Host string    `json:"host,omitempty"` // of a backend
	// Version is that of HostDB of the table.
	Version string `json:"version,omitempty"`
	Text    string `json:"text"`
}

func (a *app) watchLB(ctx context.Context, c *api.Client, tag string) error {
	was := map[string]api.LBService{}
	broken := false
	for first := true; ; {
		ask, cancel := a.withTimeout(ctx)
		now, err := lbNow(ask, c, tag, first)
		cancel()
		switch {
		case ctx.Err() != nil:
			return nil
		case err != nil && (first || !errors.Is(err, api.ErrUnavailable)):
			return err
		case err != nil && !broken:
			broken = true
			fmt.Fprintf(a.stderr, "hostmesh: %s; trying again\n", visible(err.Error()))
		case err == nil:
			first, broken = false, false
			for _, x := range lbChanges(was, now) {
				x.At = time.Now().UTC()
				if err := a.printLBChange(x); err != nil {
					return err
				}
			}
			was = map[string]api.LBService{}
			for _, s := range now {
				was[s.Tag] = s
			}
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(lbLook):
		}
	}
}

// lbNow are the services to be watched. One that is named must be there at first; later it may go.
func lbNow(ctx context.Context, c *api.Client, tag string, first bool) ([]api.LBService, error) {
	if tag == "" {
		list, err := c.LBServices(ctx)
		return list.Services, err
	}
	s, err := c.LBService(ctx, tag)
	if !first && errors.Is(err, api.ErrNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	return []api.LBService{s}, nil
}

func (a *app) printLBChange(x lbChange) error {
	if a.output == formJSON {
		text, err := json.Marshal(x)
		if err == nil {
			_, err = fmt.Fprintf(a.stdout, "%s\n", text)
		}
		return err
	}
	who := "tags/" + x.Tag
	if x.Host != "" {
		who += " " + x.Host
	}
	_, err := fmt.Fprintln(a.stdout, visible(x.At.Local().Format("15:04:05")+" "+who+": "+x.Text))
	return err
}

// lbChanges are the lines that lead from one look to the next, by tag; those that are not there any more come last.
func lbChanges(was map[string]api.LBService, now []api.LBService) (out []lbChange) {
	there := map[string]bool{}
	for _, s := range now {
		there[s.Tag] = true
		out = append(out, lbServiceChanges(was[s.Tag], s)...)
	}
	for _, tag := range slices.Sorted(maps.Keys(was)) {
		if !there[tag] {
			out = append(out, lbChange{Tag: tag, Text: "is not balanced any more"})
		}
	}
	return out
}

func lbServiceChanges(was, now api.LBService) (out []lbChange) {
	say := func(host, text string) {
		out = append(out, lbChange{Tag: now.Tag, Host: host, Version: now.Version, Text: text})
	}
	if a, b := lbHolderText(was), lbHolderText(now); a != b {
		say("", b)
	}
	if a, b := was.NotHeld, now.NotHeld; a != b && now.Holder != nil {
		say("", orDefault(b, "the table is the holder's again"))
	}
	if a, b := was.Error, now.Error; a != b {
		say("", orDefault(b, "the table is in force again"))
	}
	type seat struct{ host, addr string }
	before := map[seat]api.LBBackend{}
	for _, b := range was.Backends {
		before[seat{b.Host, b.Addr}] = b
	}
	for _, b := range now.Backends {
		k := seat{b.Host, b.Addr}
		old, had := before[k]
		delete(before, k)
		if had && lbBackendText(old) == lbBackendText(b) {
			continue
		}
		say(b.Host, lbBackendText(b))
	}
	for _, b := range was.Backends { // in their order
		if _, gone := before[seat{b.Host, b.Addr}]; gone {
			say(b.Host, "no backend any more at "+b.Addr)
		}
	}
	known := map[api.LBProblem]bool{}
	for _, p := range was.Problems {
		known[p] = true
	}
	for _, p := range now.Problems {
		if !known[p] {
			say("", p.Name+": "+p.Text)
		}
		delete(known, p)
	}
	for _, p := range was.Problems {
		if known[p] {
			say("", p.Name+": no more")
		}
	}
	return out
}

func lbHolderText(s api.LBService) string {
	switch h := s.Holder; {
	case s.Tag == "":
		return ""
	case !s.Balanced:
		return "not balanced"
	case h == nil:
		return "nobody holds " + s.VIP
	default:
		text := fmt.Sprintf("%s holds %s, fence %d", either(h.Name, h.ID), s.VIP, h.Fence)
		if h.Phase != "" && h.Phase != "held" {
			text += ", " + h.Phase
		}
		if h.Why != "" {
			text += ": " + h.Why
		}
		return text
	}
}

func lbBackendText(b api.LBBackend) string {
	text := lbBackendState(b) + " at " + b.Addr
	if b.Why != "" {
		text += ": " + b.Why
	}
	return text
}
