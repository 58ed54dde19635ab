package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"

	"github.com/spf13/cobra"

	"hostmesh/mesh"
)

func (a *app) keygenCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "keygen [FILE]",
		Short: "Make a mesh key",
		Long: `Makes a mesh key: 32 random bytes, as one line of base64. Whoever holds it is
trusted by every member, so it belongs on the boxes of the mesh and nowhere
else. "hostmesh init" makes one too, where it finds none.

With FILE, the key is written there, readable by its owner only; a file that
exists is never replaced. Without, the key is printed.`,
		Example: `  hostmesh keygen /etc/hostmesh/mesh.key
  hostmesh keygen | ssh box2 'umask 077; cat > /etc/hostmesh/mesh.key'`,
		Args: cobra.MaximumNArgs(1),
		RunE: a.do(func(_ context.Context, _ *cobra.Command, args []string) error {
			key, err := mesh.NewKey()
			if err != nil {
				return fmt.Errorf("make a mesh key: %w", err)
			}
			if len(args) == 0 {
				_, err := a.stdout.Write(key.Text())
				return err
			}
			return writeKey(args[0], key)
		}),
	}
}

func writeKey(path string, key mesh.Key) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("%s exists and is left as it is: a mesh that uses it would fall apart", path)
	}
	if err != nil {
		return fmt.Errorf("write the mesh key: %w", err)
	}
	_, err = f.Write(key.Text())
	if err == nil {
		err = f.Sync()
	}
	if closeErr := f.Close(); err == nil {
		err = closeErr
	}
	if err != nil {
		os.Remove(path) // half a key is none
		return fmt.Errorf("write the mesh key: %w", err)
	}
	return nil
}
