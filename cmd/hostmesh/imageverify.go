package main

import (
	"context"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"hostmesh/node/api"
)

// imageChecked is one reading that ended.
type imageChecked struct {
	Image string `json:"image"`
	api.ImageCheck
}

// text is what is told of it; "" = nothing, for nothing was read.
func (c imageChecked) text() string {
	switch {
	case c.Good:
		return "good, " + byteSize(c.Total) + " read"
	case c.Error != "":
		return c.Error
	case c.Missing:
		return "is not there"
	}
	return ""
}

// imageVerifier is one image verify.
type imageVerifier struct {
	*app
	order api.ImageCheckOrder
	ends  []imageChecked
}

func (a *app) imageVerifyCommand() *cobra.Command {
	x := imageVerifier{app: a}
	cmd := &cobra.Command{
		Use:   "verify [NAME...]",
		Short: "Read stored images through, and compare their checksums",
		Long: `Reads every byte of the files of base images, and compares their checksums with
the catalogue; of all images when no NAME is given. The agent that the command
talks to reads its own; --node names others, --all-nodes means all live ones.

A file that is not what it should be is named, and no machine is made from it
any more: "hostmesh image push NAME NODE" has it fetched again. Machines that
were made from it before may have read what is wrong. The exit code is 1 then,
and when an image that is named is on none of the nodes.`,
		Example: `  hostmesh image verify
  hostmesh image verify debian-12 --all-nodes`,
	}
	cmd.Flags().StringArrayVar(&x.order.Nodes, "node", nil, "`NODE` that reads its files, by name or id; may be given more than once")
	cmd.Flags().BoolVar(&x.order.All, "all-nodes", false, "all live nodes read theirs")
	cmd.MarkFlagsMutuallyExclusive("node", "all-nodes")
	a.outputFlag(cmd)
	cmd.RunE = a.do(func(ctx context.Context, _ *cobra.Command, args []string) error { return x.run(ctx, args) })
	return cmd
}

func (x *imageVerifier) run(ctx context.Context, names []string) error {
	c, err := x.client()
	if err != nil {
		return err
	}
	defer c.Close()
	named := len(names) > 0
	broken := 0
	if !named {
		list, err := c.Images(ctx)
		if err != nil {
			return explain(err)
		}
		for _, i := range list {
			if i.Broken != "" {
				broken++
				fmt.Fprintf(x.stderr, "%s\n", visible(i.Broken))
				continue
			}
			names = append(names, i.Name)
		}
	}
	x.ends = []imageChecked{}
	for _, name := range names {
		if err := x.read(ctx, c, name, named); err != nil {
			return explain(err)
		}
	}
	if err := x.print(x.ends, func(io.Writer) {}); err != nil {
		return err
	}
	return x.verdict(names, named, broken)
}

// read has one image read through.
func (x *imageVerifier) read(ctx context.Context, c *api.Client, name string, named bool) error {
	bar := newProgress(x.stderr)
	defer bar.end()
	way := map[string]api.ImageCheck{} // of those that are under way
	return c.VerifyImage(ctx, name, x.order, func(k api.ImageCheck) {
		if !k.Over() {
			way[k.Node] = k
			var done, total int64
			for _, w := range way {
				done, total = done+w.Done, total+w.Total
			}
			bar.bytes("reading "+name+" at "+plural(len(way), "node", "nodes")+":", done, total)
			return
		}
		delete(way, k.Node)
		end := imageChecked{name, k}
		x.ends = append(x.ends, end)
		if text := end.text(); x.output == formTable && text != "" && (named || !k.Missing) {
			bar.end()
			fmt.Fprintf(x.stdout, "%s at %s: %s\n", visible(name), visible(k.Node), visible(text))
		}
	})
}

// verdict is nil when all that was read is good.
func (x *imageVerifier) verdict(names []string, named bool, broken int) error {
	bad, keeps := 0, false
	good := map[string]bool{}
	var first imageChecked
	for _, e := range x.ends {
		keeps = keeps || !e.None
		switch {
		case e.Good:
			good[e.Image] = true
		case e.Error != "":
			if bad++; bad == 1 {
				first = e
			}
			good[e.Image] = true // it is told already
		}
	}
	switch {
	case bad > 0:
		return fmt.Errorf("%s not what the catalogue says, or cannot be read: hostmesh image push %s %s fetches it again", plural(bad, "stored image is", "stored images are"),
			visible(first.Image), visible(first.Node))
	case broken > 0:
		return fmt.Errorf("%s of the catalogue cannot be used: correct them, or add the images again with --replace", plural(broken, "entry", "entries"))
	case len(x.ends) > 0 && !keeps:
		return fmt.Errorf("no images are kept there: set vm.dir or libvirt, or name another node with --node")
	}
	for _, name := range names {
		if named && !good[name] {
			return fmt.Errorf("image %s is not there: hostmesh image list says where it is, and hostmesh image push %s NODE brings it", visible(name), visible(name))
		}
	}
	return nil
}
