package auth

import (
	"context"
	"fmt"
	"net/netip"
	"runtime"
	"sync"
	"testing"
)

// A wrong password costs an argon2id whoever it is tried for, so that time does not tell which names are there.
func TestWrongPasswordsCostTheSame(t *testing.T) {
	a := open(t, "alice: {password: "+md5Secret+", allow: [10.0.0.0/8]}\n", testKey, nil)
	for _, name := range []string{"alice", "nobody"} {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		if _, err := a.Login(t.Context(), name, "wrong", netip.MustParseAddr("10.1.0.1")); err == nil {
			t.Fatalf("%s: logged in", name)
		}
		runtime.ReadMemStats(&after)
		if took := after.TotalAlloc - before.TotalAlloc; took < argonMemory<<10 {
			t.Errorf("%s: %d bytes of work, an argon2id takes %d", name, took, argonMemory<<10)
		}
	}
}

// slowGroups answers questions for groups when it is let, and logins at once.
type slowGroups struct {
	fakeDirectory
	asked, let chan struct{}
}

func (d slowGroups) Groups(ctx context.Context, name string) ([]string, error) {
	d.asked <- struct{}{}
	<-d.let
	return d.fakeDirectory.Groups(ctx, name)
}

// Anybody can have groups asked for, of any name, as often as they like: that keeps nobody from logging in.
func TestQuestionsForGroupsHoldUpNoLogin(t *testing.T) {
	d := slowGroups{fakeDirectory{"bob": {"secret", nil}}, make(chan struct{}), make(chan struct{})}
	b := newBox(t, "", d)
	var wg sync.WaitGroup
	for i := range maxAsking {
		wg.Go(func() { b.Groups(fmt.Sprint("user", i)) })
	}
	for range maxWondered {
		<-d.asked
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	if len(b.directory.asking) > 0 {
		cancel() // it would wait for ever
	}
	if _, err := b.Login(ctx, "bob", "secret", inside); err != nil {
		t.Errorf("log in while groups are asked for: %v", err)
	}
	close(d.let)
	for range maxAsking - maxWondered {
		<-d.asked
	}
	wg.Wait()
}
