package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"

	"hostmesh/node/api"
)

// exportUnreplicated writes the operations that nobody else is known to hold into a new file, whole or not at all.
func (a *app) exportUnreplicated(ctx context.Context, c *api.Client, name string) (err error) {
	stream, err := c.ExportUnreplicated(ctx)
	if err != nil {
		return explain(err)
	}
	defer stream.Close()
	f, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600) // it may hold what is sealed
	if err != nil {
		return fmt.Errorf("export: %w; name a file that does not exist yet", err)
	}
	defer func() {
		if err != nil {
			f.Close()
			os.Remove(name)
		}
	}()
	dec := json.NewDecoder(io.TeeReader(stream, f))
	var last api.ExportedOperation
	for !last.End {
		last = api.ExportedOperation{}
		if err := dec.Decode(&last); err != nil {
			return fmt.Errorf("export: the answer broke off: %w", err)
		}
	}
	if err := f.Sync(); err != nil {
		return fmt.Errorf("export: %w", err)
	}
	if err := f.Close(); err != nil {
		return fmt.Errorf("export: %w", err)
	}
	fmt.Fprintf(a.stdout, "%s that nobody else is known to hold, in %s\n", plural(last.Count, "operation", "operations"), name)
	return nil
}
