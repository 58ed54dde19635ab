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

func (a *app) imageCommand() *cobra.Command {
	cmd := a.group(&cobra.Command{
		Use:   "image",
		Short: "Base images that virtual machines grow from",
		Long: `Adds, shows and removes the base images of the mesh, and has boxes fetch them
before they are needed. The catalogue is in the host database, in the namespace
images; the files are on boxes, named by their checksum, and every box takes
what it needs from another or from a URL, and verifies it.`,
	})
	cmd.AddCommand(a.imageAddCommand(), a.imageListCommand(), a.imageShowCommand(), a.imageRemoveCommand(), a.imagePushCommand(), a.imageVerifyCommand())
	return cmd
}

// byteSize is a number of bytes for people.
func byteSize(n int64) string {
	const units = "KMGT"
	if n < 1024 {
		return fmt.Sprintf("%dB", n)
	}
	f, unit := float64(n), byte(0)
	for i := 0; i < len(units) && f >= 1024; i++ {
		f, unit = f/1024, units[i]
	}
	if f < 10 {
		return fmt.Sprintf("%.1f%ciB", f, unit)
	}
	return fmt.Sprintf("%.0f%ciB", f, unit)
}

// imageNodes are where an image is, for a table.
func imageNodes(list []string) string {
	const most = 3
	if len(list) > most {
		return fmt.Sprintf("%s and %d more", strings.Join(list[:most], ", "), len(list)-most)
	}
	return strings.Join(list, ", ")
}

func (a *app) imageListCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "list",
		Short: "List the images",
		Long: `Lists the base images with their format, the size of their files, the size of
the disk that a guest sees, the beginning of their checksum, the live nodes
that have them verified, and how many hosts name them. An entry of the host
database that cannot be used is listed with the reason.`,
		Example: "  hostmesh image list",
		Args:    cobra.NoArgs,
		RunE: a.ask(func(ctx context.Context, c *api.Client, _ []string) error {
			list, err := c.Images(ctx)
			if err != nil {
				return err
			}
			return a.print(list, func(w io.Writer) {
				row(w, "NAME", "FORMAT", "SIZE", "DISK", "CHECKSUM", "HOSTS", "NODES")
				for _, i := range list {
					if i.Broken != "" {
						row(w, i.Name, "broken", "-", "-", "-", fmt.Sprint(i.Hosts), i.Broken)
						continue
					}
					disk := "-"
					if i.VirtualSize > 0 {
						disk = byteSize(i.VirtualSize)
					}
					row(w, i.Name, i.Format, byteSize(i.Size), disk, i.ID[:min(len(i.ID), 12)], fmt.Sprint(i.Hosts), orDash(imageNodes(i.Nodes)))
				}
			})
		}),
	}
	a.outputFlag(cmd)
	return cmd
}

func (a *app) imageShowCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:     "show NAME",
		Short:   "Show an image",
		Long:    `Shows all that is known of a base image: its files, where it is, and how far a fetch of this node is.`,
		Example: "  hostmesh image show debian-12",
		Args:    cobra.ExactArgs(1),
		RunE: a.ask(func(ctx context.Context, c *api.Client, args []string) error {
			i, err := c.Image(ctx, args[0])
			if err != nil {
				return err
			}
			return a.print(i, func(w io.Writer) {
				row(w, "Name", i.Name)
				if i.Broken != "" {
					row(w, "Broken", i.Broken)
					return
				}
				row(w, "Format", i.Format)
				if i.VirtualSize > 0 {
					row(w, "Disk", fmt.Sprintf("%s (%d bytes)", byteSize(i.VirtualSize), i.VirtualSize))
				}
				for _, part := range []struct {
					name string
					f    *api.ImageFile
				}{{"File", i.Disk}, {"Kernel", i.Kernel}, {"Initrd", i.Initrd}} {
					if part.f == nil {
						continue
					}
					row(w, part.name, fmt.Sprintf("%s (%d bytes)", byteSize(part.f.Size), part.f.Size))
					row(w, "  SHA-256", part.f.SHA256)
					if part.f.URL != "" {
						row(w, "  URL", part.f.URL)
					}
				}
				if i.Cmdline != "" {
					row(w, "Command line", i.Cmdline)
				}
				if len(i.Unknown) > 0 {
					row(w, "Not known", strings.Join(i.Unknown, ", "))
				}
				row(w, "Hosts", fmt.Sprint(i.Hosts))
				row(w, "Nodes", orDash(strings.Join(i.Nodes, ", ")))
				if i.Modified != nil {
					row(w, "Changed", i.Modified.UTC().Format(time.RFC3339))
				}
				switch f := i.Fetching; {
				case f == nil:
				case f.Error != "":
					row(w, "Not fetched", f.Error)
				default:
					row(w, "Fetching", fmt.Sprintf("%s of %s from %s", byteSize(f.Done), byteSize(f.Total), orDash(f.From)))
				}
			})
		}),
	}
	a.outputFlag(cmd)
	return cmd
}

func (a *app) imageRemoveCommand() *cobra.Command {
	var log string
	var force bool
	cmd := &cobra.Command{
		Use:   "remove NAME",
		Short: "Remove an image from the catalogue",
		Long: `Takes a base image out of the catalogue. Machines that were made from it go on:
a box deletes the files only when nothing there grows from them any more. An
image that a host or a group names is refused: it could not be made anew.
--force removes it all the same.`,
		Example: `  hostmesh image remove debian-11 -m "nothing uses it"`,
		Args:    cobra.ExactArgs(1),
		RunE: a.ask(func(ctx context.Context, c *api.Client, args []string) error {
			if err := needMessage(log); err != nil {
				return err
			}
			_, err := c.RemoveImage(ctx, args[0], force, log)
			return err
		}),
	}
	cmd.Flags().BoolVar(&force, "force", false, "remove it although hosts or groups name it")
	messageFlag(cmd, &log, "why, for those who read the history")
	return cmd
}
