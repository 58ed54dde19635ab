package lease

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"hostmesh/mesh/meshtest"
)

// moving is a cluster of dc1 whose datacenters a test may change; the last node is in dc2 from the beginning.
func inMoving(t *testing.T, k int, f func(c *cluster, relabel func(i int))) {
	t.Helper()
	moved := map[int]bool{k - 1: true}
	inCluster(t, k, func(c *cluster) {
		f(c, func(i int) {
			c.nodes[i].shut()
			c.mu.Lock()
			moved[i] = true
			c.mu.Unlock()
			c.nodes[i].start()
		})
	}, func(c *cluster) {
		c.dc = func(i int) string {
			c.mu.Lock()
			defer c.mu.Unlock()
			if moved[i] {
				return "dc2"
			}
			return "dc1"
		}
	})
}

func grant(c *cluster, i int, choices ...string) (string, error) {
	return within(func(ctx context.Context) (string, error) { return c.nodes[i].l().Grant(ctx, "blocks", choices) })
}

// owners are the nodes that may use a block by their own word.
func owners(c *cluster, block string) (list []int) {
	for i, n := range c.nodes {
		if got, err := n.l().Granted("blocks"); err == nil && slices.Contains(got, block) {
			list = append(list, i)
		}
	}
	return list
}

func inGroup(c *cluster, i int, datacenter string) {
	c.t.Helper()
	c.eventually(fmt.Sprintf("node %d is in the group of %s", i, datacenter), func() error {
		if g, ok := c.nodes[i].l().Group(); !ok || g.Datacenter != datacenter {
			return fmt.Errorf("%+v", g)
		}
		return nil
	})
}

// TestAnotherGroupHearsWhatANodeOwns: a datacenter is renamed by another group. A node that has a block of the old one tells
// the new one before that grants anything.
func TestAnotherGroupHearsWhatANodeOwns(t *testing.T) {
	inMoving(t, 5, func(c *cluster, relabel func(int)) {
		c.voting(3)
		if b, err := grant(c, 3, "a", "b", "c"); err != nil || b != "a" {
			t.Fatal(b, err)
		}
		relabel(3)
		time.Sleep(10 * time.Second)
		c.kill(3)
		time.Sleep(20 * time.Second)
		if _, err := c.nodes[4].l().Found(context.Background(), false, true); err != nil {
			t.Fatal(err)
		}
		inGroup(c, 4, "dc2")
		time.Sleep(10 * time.Second)
		if b, err := grant(c, 4, "a", "b", "c"); !errors.Is(err, ErrRecovering) {
			t.Errorf("%q is granted while node 3 has not said what it owns: %v", b, err)
		}
		c.revive(3)
		inGroup(c, 3, "dc2")
		c.eventually("blocks are granted", func() error {
			b, err := grant(c, 4, "a", "b", "c")
			if err == nil && b != "b" {
				t.Fatalf("%s is granted, a is node 3's", b)
			}
			return err
		})
		c.eventually("node 3 has its block", func() error {
			if list := owners(c, "a"); !slices.Equal(list, []int{3}) {
				return fmt.Errorf("a is used by %v", list)
			}
			return nil
		})
		if r, err := within(func(ctx context.Context) (Record, error) { return c.nodes[4].l().Get(ctx, grantPrefix+"blocks/a") }); err != nil || string(r.Value) != meshtest.ID(3) {
			t.Errorf("%+v, %v", r, err)
		}
	})
}

// TestWhatAnotherGroupGaveAwayIsNotUsed: a node comes to a group that gave its block to another. Only that one uses it, also after
// another start of both; what is its in both groups stays.
func TestWhatAnotherGroupGaveAwayIsNotUsed(t *testing.T) {
	inMoving(t, 5, func(c *cluster, relabel func(int)) {
		c.voting(3)
		for _, want := range []string{"a", "d"} {
			if b, err := grant(c, 3, want); err != nil || b != want {
				t.Fatal(b, err)
			}
		}
		if _, err := c.nodes[4].l().Found(context.Background(), false, false); err != nil {
			t.Fatal(err)
		}
		c.eventually("the other group grants", func() error {
			b, err := grant(c, 4, "a")
			if err == nil && b != "a" {
				t.Fatal(b)
			}
			return err
		})
		relabel(3)
		inGroup(c, 3, "dc2")
		for range 2 {
			c.eventually("the group has heard of node 3", func() error {
				got, err := c.nodes[3].l().Granted("blocks")
				if err == nil && !slices.Equal(got, []string{"d"}) {
					t.Fatalf("node 3 uses %v", got)
				}
				return err
			})
			if h := c.nodes[3].l().Health(); !strings.Contains(h.OwnedTwo, "blocks/a") || h.Owing {
				t.Errorf("%+v", h)
			}
			if list := owners(c, "a"); !slices.Equal(list, []int{4}) {
				t.Errorf("a is used by %v", list)
			}
			c.nodes[3].shut()
			c.nodes[3].start()
		}
		// The other gives it back: whoever gets it now has it.
		if _, err := within(func(ctx context.Context) (any, error) { return nil, c.nodes[4].l().GiveBack(ctx, "blocks", "a") }); err != nil {
			t.Fatal(err)
		}
		c.eventually("it is granted again", func() error { _, err := grant(c, 3, "a"); return err })
		if list := owners(c, "a"); !slices.Equal(list, []int{3}) {
			t.Errorf("a is used by %v", list)
		}
		if h := c.nodes[3].l().Health(); h.OwnedTwo != "" {
			t.Errorf("%+v", h)
		}
	})
}

// TestARenamedGroupKeepsItsGrants: where all nodes get the new label and nobody founds a group, nothing is claimed and nothing moves.
func TestARenamedGroupKeepsItsGrants(t *testing.T) {
	inMoving(t, 4, func(c *cluster, relabel func(int)) {
		c.voting(3)
		if b, err := grant(c, 2, "a", "b"); err != nil || b != "a" {
			t.Fatal(b, err)
		}
		for _, i := range []int{0, 1, 2} {
			relabel(i)
			time.Sleep(10 * time.Second)
		}
		for i := range c.nodes {
			inGroup(c, i, "dc2")
		}
		c.eventually("it grants", func() error {
			b, err := grant(c, 3, "a", "b")
			if err == nil && b != "b" {
				t.Fatalf("%s is granted, a is node 2's", b)
			}
			return err
		})
		if list := owners(c, "a"); !slices.Equal(list, []int{2}) {
			t.Errorf("a is used by %v", list)
		}
	})
}
