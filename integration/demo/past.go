package main

import (
	"context"
	"fmt"
	"strings"
	"time"
)

// lookBack asks one agent what another accepted, and takes it back at a third.
func (d *demo) lookBack(ctx context.Context) error {
	title(5, "What happened is known everywhere, and can be taken back anywhere")
	second, third := d.agents[1], d.agents[2]
	const address = "hosts/" + host + "/Network/IP"
	log, err := second.hostmesh(ctx, "hostdb", "revisions", "hosts/"+host, "-l", "3")
	if err != nil {
		return err
	}
	lines := strings.Split(strings.TrimSpace(log), "\n")
	fact("hostdb revisions hosts/%s, at %s:", host, second.name)
	for _, line := range lines {
		fact("  %s", line)
	}
	if len(lines) != 3 {
		return fmt.Errorf("%d revisions were given, 3 asked for", len(lines))
	}
	newest, _, _ := strings.Cut(lines[0], " ")
	before, _, _ := strings.Cut(lines[1], " ")
	then, err := third.curl(ctx, "/v1/"+address+"?revision="+before)
	if err != nil {
		return err
	}
	fact("before the last it was  %s", strings.TrimSpace(then))
	began := time.Now()
	if _, err := third.hostmesh(ctx, "db", "undo", newest, "-m", "that one was taken"); err != nil {
		return err
	}
	for _, a := range d.agents {
		err := a.until(ctx, 10*time.Second, "answer what was there before", func() (bool, error) {
			got, err := a.get(address)
			return got == strings.TrimSpace(then), err
		})
		if err != nil {
			return err
		}
	}
	timed(time.Since(began), "hostmesh db undo at %s; all three answer it", third.name)

	const expr = `"web" in tags and Network.IP startsWith "10.1."`
	found, err := second.hostmesh(ctx, "query", expr, "--select", "name,Network.IP", "--limit", "3")
	if err != nil {
		return err
	}
	fact("hostmesh query '%s':", expr)
	for line := range strings.Lines(found) {
		fact("  %s", strings.TrimSuffix(line, "\n"))
	}
	if !strings.Contains(found, "10.1.") {
		return fmt.Errorf("the query found %q", found)
	}
	verdict, err := third.hostmesh(ctx, "doctor", "--skip", "node")
	if err != nil {
		return fmt.Errorf("hostmesh doctor at %s: %w", third.name, err)
	}
	last := strings.Split(strings.TrimSpace(verdict), "\n")
	fact("hostmesh doctor: %s", last[len(last)-1])
	return nil
}
