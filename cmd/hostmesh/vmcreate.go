package main

import (
	"context"
	"fmt"
	"strings"
	"sync"

	"github.com/spf13/cobra"

	"hostmesh/node/api"
)

const (
	// createsAtOnce is how many machines one command enters at a time: each waits for a disk.
	createsAtOnce = 16
	maxCreates    = 1000
)

func (a *app) vmCreateCommand() *cobra.Command {
	var w api.VMWish
	var count, first int
	var wait bool
	cmd := &cobra.Command{
		Use:   "create NAME --image IMAGE --subnet TAG",
		Short: "Make a virtual machine",
		Long: `Enters a virtual machine: its host, and its place in tags, in one write. A box
that has room is found, gives it an address of the subnet's Pool, and makes and
starts it. NAME is the key of the host and its name in DNS.

It may be run again: the same machine again is left as it is, and another one
under a name that is taken is refused. -n 20 makes twenty at once: NAME has a
%d, which becomes a number from 1, or from --first.

Without --wait it returns when the machine is entered, which is when nothing can
lose it any more. With --wait it tells each step, until the machine runs, and
ends with exit code 1 if it failed; --timeout says for how long to wait, 5m when
it is not given. The machine is being made whether somebody waits or not.`,
		Example: `  hostmesh vm create web7 --image debian-12 --subnet prod --tag web --wait
  hostmesh vm create web7 --image debian-12 --subnet prod --cpus 4 --memory 8GiB --disk 40GiB
  hostmesh vm create web%d -n 20 --image debian-12 --subnet prod --tag web`,
		Args: cobra.ExactArgs(1),
		PreRunE: func(cmd *cobra.Command, args []string) error {
			many := cmd.Flags().Changed("count")
			switch n := strings.Count(args[0], "%d"); {
			case many && n != 1:
				return usagef("-n %d: the name must have one %%d, for the number, as in web%%d", count)
			case !many && n > 0:
				return usagef("%s: -n says how many there shall be", args[0])
			case many && (count < 1 || count > maxCreates):
				return usagef("-n %d: it must be from 1 to %d", count, maxCreates)
			case first < 0:
				return usagef("--first %d: it must not be negative", first)
			case many && w.IP != "":
				return usagef("--ip gives one machine its address, and -n makes several: leave --ip out")
			}
			return nil
		},
		RunE: a.vmDo(func(ctx context.Context, c *api.Client, cmd *cobra.Command, args []string) error {
			names := []string{args[0]}
			if cmd.Flags().Changed("count") {
				names = names[:0]
				for i := range count {
					names = append(names, strings.Replace(args[0], "%d", fmt.Sprint(first+i), 1))
				}
			}
			entered, failed := a.enterVMs(ctx, c, names, w)
			if wait && len(entered) > 0 {
				var left []string
				uuids := map[string]string{}
				for _, e := range entered {
					left = append(left, e.Name)
					uuids[e.Name] = e.UUID
				}
				goal := "running"
				if w.Off {
					goal = "stopped"
				}
				if err := a.waitVMs(ctx, c, goal, left, uuids, a.vmTime(cmd)); err != nil {
					return err
				}
			}
			if len(names) == 1 && len(failed) == 1 {
				return failed[0]
			}
			if len(failed) > 0 {
				return fmt.Errorf("%d of %s not entered", len(failed), plural(len(names), "machine was", "machines were"))
			}
			return nil
		}),
	}
	flags := cmd.Flags()
	flags.SortFlags = false
	flags.StringVar(&w.Image, "image", "", "base `IMAGE` that its disk grows from (hostmesh image list)")
	flags.StringVar(&w.Subnet, "subnet", "", "`TAG` with the network that it is connected to")
	flags.IntVar(&w.CPUs, "cpus", 1, "virtual processors: `N`")
	flags.StringVar(&w.Memory, "memory", "1GiB", "`SIZE` of the memory")
	flags.StringVar(&w.Disk, "disk", "", "`SIZE` of the disk (default: that of the image)")
	flags.StringArrayVar(&w.Tags, "tag", nil, "`TAG` that it becomes a member of; may be given more than once")
	flags.StringVar(&w.IP, "ip", "", "`ADDRESS` outside the Pool of the subnet (default: its box gives it one of the Pool)")
	flags.BoolVar(&w.Protected, "protected", false, "refuse to destroy, reboot or shrink it without an override")
	flags.StringVar(&w.Owner, "owner", "", "group or `PERSON` to ask")
	flags.StringVar(&w.Expires, "expires", "", "`DAY` to whose end it is needed, such as 2031-12-31")
	flags.BoolVar(&w.Off, "off", false, "make it, and do not start it")
	flags.IntVarP(&count, "count", "n", 1, "how many: `N`; the name must have a %d")
	flags.IntVar(&first, "first", 1, "first `NUMBER` with -n")
	flags.BoolVar(&wait, "wait", false, "wait until it runs, and tell each step")
	messageFlag(cmd, &w.Log, "why, for those who read the history (default: the command)")
	return cmd
}

// enterVMs enters machines, several at a time, and tells of each. failed are the errors, in no order.
func (a *app) enterVMs(ctx context.Context, c *api.Client, names []string, wish api.VMWish) (entered []api.VMWritten, failed []error) {
	var mu sync.Mutex // guards what is printed and returned
	var wg sync.WaitGroup
	turn := make(chan struct{}, createsAtOnce)
	for _, name := range names {
		wg.Go(func() {
			turn <- struct{}{}
			defer func() { <-turn }()
			one := wish
			one.Name, one.Log = name, orDefault(wish.Log, "hostmesh vm create "+name)
			ask, cancel := a.withTimeout(ctx)
			defer cancel()
			w, err := c.CreateVM(ask, one)
			mu.Lock()
			defer mu.Unlock()
			if err != nil {
				failed = append(failed, err)
				if len(names) > 1 {
					a.stepLine(name, strings.TrimPrefix(explain(err).Error(), name+": "))
				}
				return
			}
			entered = append(entered, w)
			a.vmWritten(w, "entered")
		})
	}
	wg.Wait()
	return entered, failed
}

// vmWritten tells what became of a write.
func (a *app) vmWritten(w api.VMWritten, what string) {
	for _, text := range w.Warnings {
		fmt.Fprintf(a.stderr, "warning: %s\n", visible(text))
	}
	if !w.Changed {
		what = "unchanged"
	}
	fmt.Fprintf(a.stdout, "%s: %s\n", visible(w.Name), what)
}
