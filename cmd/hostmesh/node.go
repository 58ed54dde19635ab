package main

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"hostmesh/node/api"
)

func (a *app) nodeCommand() *cobra.Command {
	cmd := a.group(&cobra.Command{
		Use:   "node",
		Short: "Take duties off a node, or a node off the mesh",
		Long: `Takes all duties off nodes for a while, or nodes off the mesh for good. Who is
in it is shown by "hostmesh members".`,
	})
	cmd.AddCommand(a.nodeDrainCommand(), a.nodeUndrainCommand(), a.nodeRemoveCommand())
	return cmd
}

func (a *app) nodeRemoveCommand() *cobra.Command {
	var how api.RemoveNode
	var yes bool
	cmd := &cobra.Command{
		Use:   "remove NODE",
		Short: "Remove a node for good",
		Long: `Removes a node, named by its name or id, for good. Its id is fenced for ever: no
member lets it in again, also none that is away now and hears of it later. It
no longer holds up what waits for every member.

The mesh key is not revoked: whoever has it can join as a new node. If the box
was stolen, change the key. The box itself returns only with an empty data
directory, as a new node; what nobody else has of it is saved before with
"hostmesh db export --unreplicated" there.

A member that is alive is refused: stop its agent first, or cut it off with
--force. Only an administrator may. On a terminal you are asked; elsewhere --yes
is needed.`,
		Example: `  hostmesh node remove box12.dc1.example.com -m "sold"
  hostmesh node remove 0123456789abcdef0123456789abcdef --yes`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			f, terminal := a.stdin.(*os.File)
			if !yes && !(terminal && isTerminal(f)) {
				return usagef("there is no terminal to ask at: --yes says that %s shall be removed for good", args[0])
			}
			return a.ask(func(ctx context.Context, c *api.Client, args []string) error {
				if !yes && !a.confirm(fmt.Sprintf("Remove %s for good? Its id is never let in again, and the mesh key is not revoked.", visible(args[0]))) {
					return fmt.Errorf("nothing was done")
				}
				done, err := c.RemoveNode(ctx, args[0], how)
				if err != nil {
					return err
				}
				name := done.ID
				if done.Name != "" {
					name = done.Name + " (" + done.ID + ")"
				}
				if done.Revision == "" {
					fmt.Fprintf(a.stdout, "%s was removed before\n", visible(name))
					return nil
				}
				fmt.Fprintf(a.stdout, "%s is removed; held by %s\n", visible(name), plural(max(done.Acks, 1), "box", "boxes"))
				return nil
			})(cmd, args)
		},
	}
	messageFlag(cmd, &how.Reason, "why, for those who read the history")
	cmd.Flags().BoolVar(&how.Force, "force", false, "remove it although it is alive")
	cmd.Flags().BoolVar(&yes, "yes", false, "do not ask")
	return cmd
}

// confirm asks a person.
func (a *app) confirm(question string) bool {
	fmt.Fprint(a.stderr, question+" [y/N] ")
	line, _ := bufio.NewReader(a.stdin).ReadString('\n') // no answer is no
	switch strings.ToLower(strings.TrimSpace(line)) {
	case "y", "yes":
		return true
	}
	return false
}
