package main

import (
	"context"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"hostmesh/node/api"
)

func (a *app) imagePushCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "push NAME [BOX...]",
		Short: "Have boxes fetch an image now",
		Long: `Has boxes fetch a base image before a machine needs it, and waits until each of
them has it, verified. Without a BOX all live nodes that keep images fetch it.
Interrupting the command ends the fetches; the next one goes on where they were.`,
		Example: `  hostmesh image push debian-12
  hostmesh image push debian-12 box30 box31`,
		Args: cobra.MinimumNArgs(1),
	}
	cmd.RunE = a.do(func(ctx context.Context, _ *cobra.Command, args []string) error {
		c, err := a.client()
		if err != nil {
			return err
		}
		defer c.Close()
		bar := newProgress(a.stderr)
		defer bar.end()
		ends := []api.ImagePush{}
		way := map[string]api.ImagePush{} // of those that are under way
		failed := 0
		err = c.PushImage(ctx, args[0], args[1:], func(p api.ImagePush) {
			if !p.Here && !p.None && p.Error == "" {
				way[p.Node] = p
				var done, total int64
				for _, x := range way {
					done, total = done+x.Done, total+x.Total
				}
				bar.bytes("fetching at "+plural(len(way), "box", "boxes")+":", done, total)
				return
			}
			delete(way, p.Node)
			if p.Error != "" {
				failed++
			}
			ends = append(ends, p)
			if a.output == formTable && !p.None {
				bar.end()
				text := "has it"
				if p.Error != "" {
					text = p.Error
				}
				fmt.Fprintf(a.stdout, "%s: %s\n", visible(p.Node), visible(text))
			}
		})
		bar.end()
		if err != nil {
			return explain(err)
		}
		if err := a.print(ends, func(io.Writer) {}); err != nil {
			return err
		}
		none := 0
		for _, p := range ends {
			if p.None {
				none++
			}
		}
		switch {
		case failed > 0:
			return fmt.Errorf("%s not have the image", plural(failed, "box does", "boxes do"))
		case none == len(ends):
			return fmt.Errorf("none of %s keeps images: set vm.dir or libvirt there", plural(len(ends), "node", "nodes"))
		}
		return nil
	})
	a.outputFlag(cmd)
	return cmd
}
